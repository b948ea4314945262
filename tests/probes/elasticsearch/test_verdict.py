"""Findings about more indices than fit: pure functions."""

from __future__ import annotations

import pytest

from backendhealth.core.observation import MAX_MESSAGE, MAX_SUBJECTS
from backendhealth.core.reasons import Reason
from backendhealth.core.spec.targets import ElasticsearchProbe
from backendhealth.probes.elasticsearch_answers import Health, State
from backendhealth.probes.elasticsearch_verdict import (
    absent,
    blocked,
    coloured,
    coloured_indices,
    index_subjects,
    told,
    worst_first,
)

TARGET = ElasticsearchProbe.model_validate({"urls": ["http://127.0.0.1:9200"], "indices": ["*"]})


def health(*, red: int = 0, green: int = 0, timed_out: bool = False) -> Health:
    """Green indices named a-…, red ones named z-…."""
    colours = {f"a-{number:03}": "green" for number in range(green)} | {
        f"z-{number:03}": "red" for number in range(red)
    }
    return Health.model_validate(
        {
            "cluster_name": "tests",
            "status": "red" if red or timed_out else "green",
            "timed_out": timed_out,
            "number_of_nodes": 1,
            "number_of_data_nodes": 1,
            "active_shards": green,
            "unassigned_shards": red,
            "unassigned_primary_shards": red,
            "indices": {name: {"status": colour} for name, colour in colours.items()},
        }
    )


def test_bad_indices_are_kept_when_there_are_too_many() -> None:
    found = health(red=3, green=200)
    subjects = index_subjects(found, coloured_indices(TARGET, found))
    assert len(subjects) == MAX_SUBJECTS
    assert [each.subject for each in subjects] == sorted(each.subject for each in subjects)
    bad = [(each.subject, each.message) for each in subjects if each.reason is Reason.CLUSTER_RED]
    assert bad == [(f"index/z-{number:03}", f"index z-{number:03} is red") for number in range(3)]


def test_a_message_names_some_and_counts_the_rest() -> None:
    (problem,) = coloured(TARGET, health(red=9))
    assert problem.reason is Reason.CLUSTER_RED
    assert problem.message == (
        "cluster tests is red: 9 primary shards are unassigned (index z-000, z-001, z-002, z-003, z-004 and 4 more)"
    )


def test_a_message_has_an_end() -> None:
    block = {"5": {"description": "index read-only (api)", "levels": ["write"]}}
    state = State.model_validate({"blocks": {"indices": {f"a-{number:03}": block for number in range(100)}}})
    problems = worst_first(blocked(TARGET, health(green=100), state))
    assert len(problems) == 100
    assert {problem.reason for problem in problems} == {Reason.INDEX_BLOCKED}
    assert len(told(problems)) == MAX_MESSAGE


@pytest.mark.parametrize(("timed_out", "colour", "names"), [(True, "green", ["b"]), (False, "red", [])])
def test_red_for_no_other_reason_than_a_missing_index(timed_out: bool, colour: str, names: list[str]) -> None:
    found = health(green=1, timed_out=timed_out) if timed_out else health(red=1)
    target = TARGET.model_copy(update={"indices": ["a-000", "z-*", "b"]})
    assert found.overall == colour
    assert absent(target, found) == names
