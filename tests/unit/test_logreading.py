"""When logs are read, whose, and what is kept of them."""

from __future__ import annotations

from dataclasses import replace

import pytest

from backendhealth.core import logreading
from backendhealth.core.logreading import Log, Reading, Wrong, chosen, due_at, found_in
from backendhealth.core.pods import Container, Ended, Pod
from backendhealth.core.spec.profile import Signature

NO_LEADER = Signature(name="no-leader", pattern="no leader", implicates=["etcd"], because="etcd has no leader")
NOW = 10_000.0


def wrong(*names: str, unexplained: bool = False) -> Wrong:
    return Wrong(frozenset(names), unexplained)


def pod(name: str, created: float, *, ready: bool = False, ended: float | None = None) -> Pod:
    last = None if ended is None else Ended("Error", 1, ended)
    setup = Container("setup", "x:1", ready=True, restarts=0, init=True)
    main = Container("main", "x:1", ready=ready, restarts=0, last=last)
    return Pod(name, name, "Running", created, ready=ready, containers=(setup, main, replace(main, name="beside")))


@pytest.mark.parametrize(
    ("now", "last", "due"),
    [
        (wrong(), None, None),
        (wrong(), Reading(frozenset("a"), 90.0), None),
        (wrong("a"), None, 100.0),
        (wrong("a", unexplained=True), None, 100.0),
        (wrong("a"), Reading(frozenset("a"), 90.0), None),
        (wrong("a"), Reading(frozenset("ab"), 90.0), None),
        (wrong("a", "b"), Reading(frozenset("a"), 90.0), 90.0 + logreading.SOONEST),
        (wrong("a", unexplained=True), Reading(frozenset("a"), 90.0), 90.0 + logreading.AGAIN),
        (wrong("a"), Reading(frozenset("a"), 90.0, unread=True), 90.0 + logreading.AGAIN),
        (wrong(), Reading(frozenset("a"), 90.0, unread=True), None),
    ],
)
def test_read_once_for_each_change_and_now_and_then_while_unexplained(
    now: Wrong, last: Reading | None, due: float | None
):
    assert due_at(now, last, 100.0) == due


def test_the_pods_in_trouble_first_then_the_newest():
    pods = [pod("good", 9.0, ready=True), *(pod(f"bad-{n}", float(n)) for n in range(4))]
    assert [log.pod for log in chosen(pods, None, NOW)] == ["bad-3", "bad-2", "bad-1", "bad-0", "good"]
    assert len(chosen([pod(f"p-{n}", float(n)) for n in range(9)], None, NOW)) == logreading.MAX_PODS


def test_the_run_before_a_recent_restart_too():
    assert chosen([pod("a", 1.0, ended=NOW - 5)], None, NOW) == [Log("a", "main"), Log("a", "main", previous=True)]
    assert chosen([pod("a", 1.0, ended=NOW - 2 * logreading.RECENTLY)], None, NOW) == [Log("a", "main")]


def test_the_container_that_is_named():
    assert chosen([pod("a", 1.0)], "beside", NOW) == [Log("a", "beside")]
    assert chosen([pod("a", 1.0)], "nowhere", NOW) == []


def test_only_what_matched_is_kept():
    lines = [b"password=planted no leader token=planted", b"password=planted", b"\xff\xfe no leader"]
    assert found_in(lines, [NO_LEADER]) == ("no leader",)


def test_it_is_bounded():
    any_number = NO_LEADER.model_copy(update={"pattern": "n[0-9]+"})
    assert found_in((f"n{n}".encode() for n in range(99)), [any_number]) == tuple(f"n{n}" for n in range(83, 99))
    everything = NO_LEADER.model_copy(update={"pattern": ".+"})
    assert [len(text) for text in found_in([b"x" * 100_000], [everything])] == [logreading.MAX_TEXT]
    assert found_in([b"x" * logreading.MAX_LINE + b"no leader"], [NO_LEADER]) == ()
