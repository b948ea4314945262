"""What people ask by annotation: suspended for a while, probed now."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from backendhealth.core.annotations import (
    PROBE_REQUESTED_AT,
    SUSPENDED_UNTIL,
    Request,
    notice,
    probe_requested_at,
    suspended_until,
)
from backendhealth.core.spec.backendhealth import BackendHealth
from backendhealth.core.spec.status import BackendHealthStatus
from tests.unit.rig import EPOCH, Rig
from tests.unit.support import REFUSED, probe, resource

EPOCH_TEXT = "2027-01-15T08:00:00Z"
SLOW: dict[str, Any] = {"interval": "60s", "successThreshold": 1}
BOTH = frozenset({"a", "b"})


def annotated(declared: BackendHealth, **annotations: str) -> BackendHealth:
    """`declared` with the annotations `until` and `asked`."""
    names = {"until": SUSPENDED_UNTIL, "asked": PROBE_REQUESTED_AT}
    told = {names[name]: value for name, value in annotations.items()}
    return declared.model_copy(update={"metadata": declared.metadata.model_copy(update={"annotations": told})})


def two(**spec: Any) -> BackendHealth:
    return resource(probe("a"), probe("b"), **{**SLOW, **spec})


def status(rig: Rig) -> BackendHealthStatus:
    return rig.engine.status("default/demo")


def ready(rig: Rig) -> str:
    return next(one.message for one in status(rig).conditions if one.type == "Ready")


def state(rig: Rig) -> str:
    summary = status(rig).summary
    assert summary is not None
    return summary.state


# Reading them


@pytest.mark.parametrize(
    ("text", "at"),
    [
        ("1970-01-01T00:00:10Z", 10),
        ("1970-01-01T01:00:10+01:00", 10),
        ("1970-01-01T00:00:10.5+00:00", 10.5),
        ("9999-12-31T23:59:59-23:59", 253402387139),
        ("0001-01-01T00:00:00+23:59", -62135683140),
    ],
)
def test_a_time_with_its_zone(text: str, at: float):
    assert suspended_until({SUSPENDED_UNTIL: text}) == at
    assert notice({SUSPENDED_UNTIL: text}) == ""


@pytest.mark.parametrize(
    "text",
    [
        "tomorrow",
        "2027-01-15",
        "2027-01-15T08:00:00",
        "08:00Z",
        "1800000000",
        " ",
        "2027-02-30T00:00:00Z",
        "🕗",
        "x" * 99999,
    ],
)
def test_what_is_no_time_with_a_zone_is_ignored_and_said_so(text: str):
    assert suspended_until({SUSPENDED_UNTIL: text}) is None
    told = notice({SUSPENDED_UNTIL: text})
    assert SUSPENDED_UNTIL in told
    assert "ignored" in told
    assert len(told) < 200


def test_nothing_is_asked_for():
    for nothing in ({}, {SUSPENDED_UNTIL: "", PROBE_REQUESTED_AT: ""}, {"other": "x"}):
        assert (suspended_until(nothing), probe_requested_at(nothing), notice(nothing)) == (None, "", "")


def test_a_request_is_any_text_within_the_bound_of_its_echo():
    assert probe_requested_at({PROBE_REQUESTED_AT: "now, please 🙏"}) == "now, please 🙏"
    assert len(probe_requested_at({PROBE_REQUESTED_AT: "x" * 100_000})) == 253
    assert probe_requested_at({PROBE_REQUESTED_AT: "a\nb"}) == "a b"


# A request


def test_it_is_answered_when_each_probe_has_made_an_attempt_that_began_after_it():
    request = Request().asked("x", BOTH, 100.0)
    assert (request.unanswered, request.answered) == (BOTH, "")
    assert request.attempted("a", 99.9) is request
    request = request.attempted("a", 100.0)
    assert (request.unanswered, request.answered) == (frozenset("b"), "")
    assert request.attempted("a", 101.0) is request
    assert request.attempted("stranger", 101.0) is request
    request = request.attempted("b", 101.0)
    assert (request.unanswered, request.answered) == (frozenset(), "x")


def test_the_same_again_is_not_asked_again():
    request = Request().asked("x", BOTH, 1.0).attempted("a", 2.0).attempted("b", 2.0)
    assert request.asked("x", BOTH, 3.0) == request
    assert Request(wanted="x", answered="x").asked("x", BOTH, 3.0).unanswered == frozenset()


def test_another_one_meanwhile_begins_anew():
    request = Request().asked("x", BOTH, 1.0).attempted("a", 2.0).asked("y", BOTH, 3.0)
    assert request.unanswered == BOTH
    request = request.attempted("a", 2.5).attempted("b", 3.5)
    assert (request.unanswered, request.answered) == (frozenset("a"), "")
    assert request.attempted("a", 4.0).answered == "y"


def test_nobody_waits_for_the_suspended_or_removed():
    request = Request().asked("x", BOTH, 1.0).attempted("a", 2.0)
    assert request.asked("x", frozenset({"a"}), 3.0).answered == "x"
    assert Request().asked("x", frozenset(), 1.0).answered == "x"
    assert request.asked("x", BOTH | {"new"}, 3.0).unanswered == {"b"}


def test_removing_the_annotation_asks_for_nothing_and_withdraws_what_is_open():
    answered = Request().asked("x", BOTH, 1.0).attempted("a", 2.0).attempted("b", 2.0)
    removed = answered.asked("", BOTH, 3.0)
    assert (removed.unanswered, removed.answered) == (frozenset(), "x")
    withdrawn = Request().asked("x", BOTH, 1.0).asked("", BOTH, 2.0)
    assert (withdrawn.unanswered, withdrawn.answered) == (frozenset(), "")
    assert withdrawn.asked("x", BOTH, 3.0).unanswered == BOTH
    assert Request(wanted="x", answered="x").asked("", BOTH, 3.0).unanswered == frozenset()  # removed during a restart


# probe-requested-at, in the engine


@pytest.mark.looptime
async def test_a_request_probes_at_once_and_is_echoed_after_the_last_probe(rig: Rig):
    await rig.engine.apply(two())
    await asyncio.sleep(10)
    for prober, took in zip(rig.opened, (1, 3), strict=True):
        prober.took = took
    await rig.engine.apply(annotated(two(), asked="x"))
    await asyncio.sleep(2)
    assert (rig.began(0), rig.began(1)) == ([0, 10], [0, 10])
    assert status(rig).probe_requested_at is None
    await asyncio.sleep(2)
    assert status(rig).probe_requested_at == "x"
    assert [(at, told.probe_requested_at) for at, _, told in rig.told if told.probe_requested_at] == [(13, "x")]
    await asyncio.sleep(50)
    assert rig.began(0) == [0, 10]  # the next is an interval later, at 70


@pytest.mark.looptime
async def test_the_same_request_again_and_its_removal_probe_nothing(rig: Rig):
    await rig.engine.apply(annotated(two(), asked="x"))
    await asyncio.sleep(10)
    told = len(rig.told)
    await rig.engine.apply(annotated(two(), asked="x"))
    await asyncio.sleep(10)
    await rig.engine.apply(two())
    await asyncio.sleep(10)
    assert rig.began(0) == [0]
    assert len(rig.told) == told
    assert status(rig).probe_requested_at == "x"


@pytest.mark.looptime
async def test_an_attempt_under_way_does_not_count_and_is_followed_by_one_more(rig: Rig):
    rig.prepare = lambda prober: setattr(prober, "took", 3)
    await rig.engine.apply(two())
    await asyncio.sleep(1)
    await rig.engine.apply(annotated(two(), asked="x"))
    await asyncio.sleep(4)
    assert rig.began(0) == [0, 3]
    assert status(rig).probe_requested_at is None
    await asyncio.sleep(2)
    assert status(rig).probe_requested_at == "x"
    await asyncio.sleep(30)
    assert rig.began(0) == [0, 3]


@pytest.mark.looptime
async def test_an_attempt_under_way_for_somebody_else_does_not_count_either(rig: Rig):
    rig.prepare = lambda prober: setattr(prober, "took", 3)
    await rig.engine.apply(resource(probe("a"), name="other", **SLOW))
    await asyncio.sleep(1)
    asked = annotated(resource(probe("a", initialDelay="30s"), **SLOW), asked="x")
    await rig.engine.apply(asked)
    await asyncio.sleep(3)
    assert len(rig.opened) == 1
    assert rig.began(0) == [0, 3]
    assert status(rig).probe_requested_at is None
    await asyncio.sleep(3)
    assert status(rig).probe_requested_at == "x"


@pytest.mark.looptime
async def test_a_request_that_changes_while_it_is_answered(rig: Rig):
    await rig.engine.apply(two())
    await asyncio.sleep(10)
    for prober in rig.opened:
        prober.took = 3
    await rig.engine.apply(annotated(two(), asked="x"))
    await asyncio.sleep(1)
    await rig.engine.apply(annotated(two(), asked="y"))
    await asyncio.sleep(10)
    assert rig.began(0) == [0, 10, 13]
    echoed = [(at, told.probe_requested_at) for at, _, told in rig.told if told.probe_requested_at]
    assert echoed == [(16, "y")]


@pytest.mark.looptime
async def test_suspended_probes_are_not_waited_for(rig: Rig):
    declared = resource(probe("a"), probe("b", suspend=True), **SLOW)
    await rig.engine.apply(annotated(declared, asked="x"))
    await asyncio.sleep(1)
    assert status(rig).probe_requested_at == "x"
    assert [prober.declared.name for prober in rig.opened] == ["a"]


@pytest.mark.looptime
async def test_who_is_suspended_while_a_request_is_open_is_not_waited_for(rig: Rig):
    rig.prepare = lambda prober: setattr(prober, "took", 3 if prober.declared.name == "b" else 0)
    await rig.engine.apply(annotated(two(), asked="x"))
    await asyncio.sleep(1)
    assert status(rig).probe_requested_at is None
    suspended = resource(probe("a"), probe("b", suspend=True), **SLOW)
    await rig.engine.apply(annotated(suspended, asked="x"))
    assert status(rig).probe_requested_at == "x"


@pytest.mark.looptime
async def test_a_request_with_a_changed_spec_is_answered_by_the_new_probes(rig: Rig):
    rig.prepare = lambda prober: setattr(prober, "took", 3)
    await rig.engine.apply(two())
    await asyncio.sleep(1)
    changed = resource(probe("a", port=81, initialDelay="30s"), probe("b"), generation=2, **SLOW)
    await rig.engine.apply(annotated(changed, asked="x"))
    await asyncio.sleep(10)
    assert rig.began(2) == [1]
    assert rig.began(1) == [0, 3]
    echoed = [at for at, _, told in rig.told if told.probe_requested_at == "x"]
    assert echoed[0] == 6


# suspended-until


@pytest.mark.looptime
async def test_suspended_until_a_time_to_come(rig: Rig):
    asked = annotated(two(), until="2027-01-15T08:01:00Z")  # a minute after the epoch of the tests
    await rig.engine.apply(asked)
    await asyncio.sleep(59)
    assert rig.opened == []
    assert state(rig) == "Suspended"
    assert {row.reason for row in status(rig).probes} == {"Suspended"}
    assert "Reconciling" not in [one.type for one in status(rig).conditions]
    assert SUSPENDED_UNTIL in status(rig).probes[0].message
    await asyncio.sleep(1)
    await rig.engine.apply(asked)  # as whoever feeds the engine does then
    await asyncio.sleep(1)
    assert rig.began() == [60]
    assert state(rig) == "Healthy"


@pytest.mark.looptime
async def test_it_begins_and_ends_with_the_annotation(rig: Rig):
    rig.prepare = lambda prober: setattr(prober, "took", 3)
    await rig.engine.apply(two())
    await asyncio.sleep(1)
    await rig.engine.apply(annotated(two(), until="2027-01-15T09:00:00Z"))
    assert [(prober.cancelled, prober.closed) for prober in rig.opened] == [(1, 1)] * 2
    assert state(rig) == "Suspended"
    await asyncio.sleep(100)
    await rig.engine.apply(two())
    await asyncio.sleep(5)
    assert rig.began(2) == [101]
    assert state(rig) == "Healthy"


@pytest.mark.looptime
async def test_a_change_of_the_time_alone_changes_nothing_that_is_told(rig: Rig):
    await rig.engine.apply(annotated(two(), until="2027-01-15T09:00:00Z"))
    await asyncio.sleep(10)
    await rig.engine.apply(annotated(two(), until="2027-01-15T10:00:00Z"))
    assert len(rig.told) == 1


@pytest.mark.looptime
async def test_the_annotation_goes_before_what_a_probe_says(rig: Rig):
    declared = resource(probe("a", suspend=False), probe("b"), suspend=True, **SLOW)
    await rig.engine.apply(declared)
    await asyncio.sleep(1)
    assert len(rig.opened) == 1
    await rig.engine.apply(annotated(declared, until="2027-01-15T09:00:00Z"))
    assert {row.reason for row in status(rig).probes} == {"Suspended"}
    assert rig.opened[0].closed == 1


@pytest.mark.looptime
@pytest.mark.parametrize(
    ("until", "ignored"),
    [(EPOCH_TEXT, False), ("2026-12-31T00:00:00Z", False), ("2027-01-15T09:00:00", True), ("in an hour", True)],
)
async def test_the_past_and_the_invalid_suspend_nothing(rig: Rig, until: str, ignored: bool):
    await rig.engine.apply(annotated(two(), until=until))
    await asyncio.sleep(1)
    assert state(rig) == "Healthy"
    assert (SUSPENDED_UNTIL in ready(rig)) is ignored
    assert ready(rig).startswith("2 probes are accepted")
    await rig.engine.apply(two())
    assert ready(rig) == "2 probes are accepted"
    assert rig.began() == [0]


@pytest.mark.looptime
async def test_the_epoch_of_these_tests(rig: Rig):
    assert suspended_until({SUSPENDED_UNTIL: EPOCH_TEXT}) == EPOCH


@pytest.mark.looptime
async def test_a_request_while_all_is_suspended_is_answered_at_once(rig: Rig):
    await rig.engine.apply(annotated(two(), until="2027-01-15T09:00:00Z", asked="x"))
    assert status(rig).probe_requested_at == "x"
    assert rig.opened == []


@pytest.mark.looptime
async def test_an_incident_is_not_over_because_it_is_not_looked_at(rig: Rig):
    rig.prepare = lambda prober: setattr(prober, "finding", REFUSED)
    await rig.engine.apply(two(failureThreshold=1))
    await asyncio.sleep(1)
    incident = status(rig).incident
    assert incident is not None
    await rig.engine.apply(annotated(two(failureThreshold=1), until="2027-01-15T09:00:00Z"))
    assert status(rig).incident == incident
