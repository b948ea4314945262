from __future__ import annotations

from tests.scenarios.catalogue import FAULTS
from tests.scenarios.score import Row, page
from tests.scenarios.truth import Timing

ROWS = [
    Row("etcd-down", ("etcd-down",), {"etcd-down": 2.0}, 0, ()),
    Row("etcd-down + core-down, at once", ("etcd-down", "core-down"), {"etcd-down": 3.0}, 0, ()),
    Row("redis-down", ("redis-down",), {"redis-down": 1.0}, 2, ("login: told Fails,\ntrue is Works",)),
]


def test_the_page_has_failure_by_right_seconds_and_false_blame():
    lines = page(ROWS, FAULTS.values(), Timing(), 7, "here").splitlines()
    assert "**2 of 3 scenarios right, 2 false blames** (seed 7; here)." in lines
    assert "| etcd-down | 2 | 2 | 2.5 | 3.0 | 0 |" in lines
    assert "| core-down | 1 | 1 | not due | not due | 0 |" in lines
    assert "| redis-down | 1 | 0 | 1.0 | 1.0 | 2 |" in lines
    assert "| redis-down | no: login: told Fails, true is Works | 1.0 | 2 |" in lines
    assert "| etcd-down + core-down, at once | yes | 3.0, not due | 0 |" in lines
    assert not any(line.startswith("| api-down") for line in lines)


def test_the_page_says_the_bound():
    assert "2 + 0.3 x 3 + 1 = 3.9 s" in " ".join(page([], [], Timing(), 1, "here").split())
