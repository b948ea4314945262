"""The timing in force: a probe's own, else the resource's, else the default."""

from __future__ import annotations

from typing import Any

import pytest

from backendhealth.core.probestate import Thresholds
from backendhealth.core.timing import ProbeTiming, timing_of
from tests.unit.support import probe, resource


def in_force(own: dict[str, Any], spec: dict[str, Any]) -> ProbeTiming:
    declared = resource(probe("a", **own), **spec).spec
    return timing_of(declared, declared.probes[0])


def test_defaults():
    assert in_force({}, {}) == ProbeTiming(
        interval=30, retry_interval=2, timeout=5, initial_delay=0, suspended=False, thresholds=Thresholds(3, 2)
    )


@pytest.mark.parametrize(
    ("field", "attribute", "value", "other"),
    [
        ("interval", "interval", ("60s", 60), ("20s", 20)),
        ("retryInterval", "retry_interval", ("500ms", 0.5), ("1s", 1)),
        ("timeout", "timeout", ("1s", 1), ("2s", 2)),
        ("initialDelay", "initial_delay", ("3s", 3), ("0s", 0)),
        ("suspend", "suspended", (True, True), (False, False)),
    ],
)
def test_a_probes_own_value_goes_before_the_resources(field: str, attribute: str, value: Any, other: Any):
    for (own, expected), (inherited, _) in ((value, other), (other, value)):
        assert getattr(in_force({field: own}, {field: inherited}), attribute) == expected
    assert getattr(in_force({}, {field: value[0]}), attribute) == value[1]


def test_thresholds_are_inherited_one_by_one():
    found = in_force({"failureThreshold": 1}, {"failureThreshold": 9, "successThreshold": 7})
    assert found.thresholds == Thresholds(failure=1, success=7)


def test_facts_about_pods_need_no_second_look_unless_the_probe_says_so():
    pods = {"pods": {"selector": {"matchLabels": {"app": "core"}}}, "name": "core"}
    for own, expected in (({}, (1, 1)), ({"failureThreshold": 4}, (4, 1)), ({"successThreshold": 5}, (1, 5))):
        declared = resource({**pods, **own}, failureThreshold=9, successThreshold=7).spec
        assert timing_of(declared, declared.probes[0]).thresholds == Thresholds(*expected)


def test_an_inherited_retry_interval_is_never_longer_than_the_interval():
    assert in_force({"interval": "1s", "timeout": "1s"}, {}).retry_interval == 1


def test_a_probe_may_go_on_in_a_suspended_resource():
    assert in_force({"suspend": False}, {"suspend": True}).suspended is False
    assert in_force({}, {"suspend": True}).suspended is True
