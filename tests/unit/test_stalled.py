"""The status of an object whose spec can't be used, and what comes after it."""

from __future__ import annotations

from typing import Any

import pytest

from backendhealth.core.reasons import Reason
from backendhealth.core.restoring import written_status
from backendhealth.core.spec.status import BackendHealthStatus, Condition, Summary
from backendhealth.core.stalled import MAX_TOLD, stalled_status
from backendhealth.core.statusof import timestamp
from backendhealth.core.validate import Problem, validate
from tests.unit.rig import EPOCH
from tests.unit.support import GOOD, REFUSED, probe, resource
from tests.unit.world import QUICK, World

NOW = EPOCH + 500


def problems(count: int, message: str = "wrong") -> list[Problem]:
    return [Problem(("spec", "probes", index, "tcp"), "rule", message) for index in range(count)]


def condition(status: BackendHealthStatus, kind: str) -> Condition:
    return next(one for one in status.conditions if one.type == kind)


def summary(status: BackendHealthStatus) -> Summary:
    assert status.summary is not None
    return status.summary


def unhealthy() -> BackendHealthStatus:
    world = World(resource(probe("a"), **QUICK))
    world.see("a", REFUSED, EPOCH)
    return world.cycle.status("default/demo")


def test_what_it_says():
    status = stalled_status(7, problems(2), None, NOW)
    assert [(one.type, one.status, one.reason) for one in status.conditions] == [
        ("Ready", "False", "InvalidSpec"),
        ("Healthy", "Unknown", "InvalidSpec"),
        ("Stalled", "True", "InvalidSpec"),
    ]
    assert {one.observed_generation for one in status.conditions} == {status.observed_generation} == {7}
    assert (summary(status).state, summary(status).reason, summary(status).since) == (
        "Stalled",
        Reason.INVALID_SPEC,
        timestamp(NOW),
    )
    message = condition(status, "Stalled").message
    assert summary(status).message == message
    assert "spec.probes[0].tcp: wrong; spec.probes[1].tcp: wrong" in message
    assert "more" not in message
    assert (status.probes, status.diagnosis, status.incident, status.history) == ([], None, None, [])


def test_the_paths_are_those_of_real_problems():
    raw: dict[str, Any] = {
        "apiVersion": "backendhealth.dev/v1alpha1",
        "kind": "BackendHealth",
        "metadata": {"name": "demo"},
        "spec": {"probes": [{"name": "a", "tcp": {"host": "a", "port": 99999}}], "timeOut": "5s"},
    }
    message = condition(stalled_status(1, validate(raw)[1], None, NOW), "Stalled").message
    assert "spec.probes[0].tcp.port" in message
    assert "spec.timeOut" in message


@pytest.mark.parametrize(("count", "left"), [(MAX_TOLD, 0), (MAX_TOLD + 1, 1), (400, 400 - MAX_TOLD)])
def test_the_first_problems_are_told_and_the_others_counted(count: int, left: int):
    message = condition(stalled_status(1, problems(count), None, NOW), "Stalled").message
    assert message.count("wrong") == MAX_TOLD
    assert f"spec.probes[{MAX_TOLD - 1}].tcp" in message
    assert ("; and " in message) is bool(left)
    if left:
        assert message.endswith(f"; and {left} more")


@pytest.mark.parametrize("text", ["x" * 5000, "🙈" * 5000, "two\nlines\t\x00 " * 500, "\ud800" * 2000])
def test_its_messages_keep_their_bound_whatever_they_quote(text: str):
    status = stalled_status(1, problems(400, text), None, NOW)
    messages = [one.message for one in status.conditions] + [summary(status).message]
    assert all(len(message) <= 1024 and message.isprintable() for message in messages)
    assert written_status(status.model_dump(mode="json", by_alias=True, exclude_none=True)) == status


def test_since_stays_while_it_is_stalled():
    first = stalled_status(1, problems(1), None, NOW)
    second = stalled_status(2, problems(3), first, NOW + 100)
    assert summary(second).since == timestamp(NOW)
    assert {one.last_transition_time for one in second.conditions} == {timestamp(NOW)}
    assert {one.observed_generation for one in second.conditions} == {2}
    assert "spec.probes[2]" in condition(second, "Stalled").message


def test_the_incident_the_history_and_the_answered_request_stay():
    before = unhealthy().model_copy(update={"probe_requested_at": "x"})
    status = stalled_status(2, problems(1), before, NOW)
    assert before.incident is not None
    assert (status.incident, status.history, status.probe_requested_at) == (before.incident, before.history, "x")
    assert summary(status).since == timestamp(NOW)
    assert condition(status, "Ready").last_transition_time == timestamp(NOW)
    assert condition(status, "Healthy").last_transition_time == timestamp(NOW)
    assert [one.type for one in status.conditions] == ["Ready", "Healthy", "Stalled"]


def test_the_same_again_is_an_equal_status():
    first = stalled_status(1, problems(1), unhealthy(), NOW)
    assert stalled_status(1, problems(1), first, NOW + 100) == first


def test_after_it_is_corrected():
    before = unhealthy()
    stalled = stalled_status(2, problems(1), before, NOW)
    read = written_status(stalled.model_dump(mode="json", by_alias=True, exclude_none=True))
    world = World()
    world.cycle.apply(resource(probe("a"), generation=3, **QUICK), NOW + 100, read)
    status = world.cycle.status("default/demo")
    assert [one.type for one in status.conditions] == ["Ready", "Healthy", "AHealthy", "Reconciling"]
    assert (condition(status, "Ready").status, condition(status, "Ready").last_transition_time) == (
        "True",
        timestamp(NOW + 100),
    )
    assert condition(status, "Healthy").last_transition_time == timestamp(NOW)  # Unknown before and after
    assert (summary(status).state, summary(status).since) == ("Unknown", timestamp(NOW + 100))
    assert status.incident == before.incident
    assert status.history == before.history
    world.see("a", GOOD, NOW + 101)
    status = world.cycle.status("default/demo")
    assert [one.type for one in status.conditions] == ["Ready", "Healthy", "AHealthy"]
    assert (summary(status).state, summary(status).since) == ("Healthy", timestamp(NOW + 101.01))
    assert status.incident is None


def test_corrected_and_suspended_since_then():
    stalled = stalled_status(2, problems(1), None, NOW)
    world = World()
    world.cycle.apply(resource(probe("a"), generation=3, suspend=True), NOW + 100, stalled)
    status = world.cycle.status("default/demo")
    assert (summary(status).state, summary(status).since) == ("Suspended", timestamp(NOW + 100))
