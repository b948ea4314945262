"""The status that Kubernetes will hold: its conditions, its bounds, and what moves its times."""

from __future__ import annotations

import datetime as dt
from dataclasses import replace

import pytest
from hypothesis import Phase, given, settings
from hypothesis import strategies as st

from backendhealth.core.observation import Finding, SubjectFinding
from backendhealth.core.probestate import ProbeState
from backendhealth.core.reasons import Reason
from backendhealth.core.resourcestate import ResourceState, update
from backendhealth.core.spec.backendhealth import BackendHealth
from backendhealth.core.spec.status import BackendHealthStatus, Condition
from backendhealth.core.statusof import status_of, timestamp
from tests.unit.support import DENIED, GOOD, REFUSED, RISKY, SILENT, probe, resource
from tests.unit.test_resourcestate import believed, put, start

TWO = resource(probe("a"), probe("search-ingest"), generation=7)


def condition(status: BackendHealthStatus, kind: str) -> Condition:
    return next(one for one in status.conditions if one.type == kind)


def told(declared: BackendHealth = TWO, **findings: Finding) -> BackendHealthStatus:
    return status_of(put(start(declared), 1.0, **{k.replace("_", "-"): v for k, v in findings.items()}), None, 1.0)


@pytest.mark.parametrize(
    ("finding", "healthy", "state", "degraded"),
    [
        (GOOD, "True", "Healthy", False),
        (RISKY, "True", "Degraded", True),
        (DENIED, "Unknown", "Unknown", False),
        (REFUSED, "False", "Unhealthy", False),
    ],
)
def test_conditions(finding: Finding, healthy: str, state: str, degraded: bool):
    status = told(a=finding, search_ingest=GOOD)
    assert [one.type for one in status.conditions][:4] == ["Ready", "Healthy", "AHealthy", "SearchIngestHealthy"]
    assert condition(status, "Ready").status == "True"
    for kind in ("Healthy", "AHealthy"):
        assert (condition(status, kind).status, condition(status, kind).reason) == (healthy, finding.reason)
    assert condition(status, "SearchIngestHealthy").status == "True"
    assert ("Degraded" in [one.type for one in status.conditions]) is degraded
    assert status.summary is not None
    assert status.summary.state == state
    assert status.observed_generation == 7
    assert {one.observed_generation for one in status.conditions} == {7}


def test_the_root_cause_is_what_is_unhealthy():
    status = told(a=REFUSED, search_ingest=DENIED)
    assert status.diagnosis is not None
    assert [(cause.component, cause.reason) for cause in status.diagnosis.root_causes] == [("a", "ConnectionRefused")]
    assert status.summary is not None
    assert (status.summary.root_cause, status.summary.reason) == ("a", "ConnectionRefused")
    assert "connection refused" in status.summary.message
    assert status.incident is not None


def test_without_a_failure_there_is_neither_cause_nor_incident():
    status = told(a=GOOD, search_ingest=RISKY)
    assert status.diagnosis is not None
    assert status.diagnosis.root_causes == []
    assert status.incident is None


def test_last_transition_time_moves_only_with_the_status():
    state = put(start(TWO), 100.0, **{"a": GOOD, "search-ingest": GOOD})
    first = status_of(state, None, 100.0)
    state = put(state, 200.0, a=RISKY)  # Degraded is still Healthy=True
    second = status_of(state, first, 200.0)
    assert {one.last_transition_time for one in second.conditions if one.type != "Degraded"} == {timestamp(100.0)}
    assert condition(second, "AHealthy").reason == "ClusterYellow"
    state = put(state, 300.0, a=REFUSED)
    third = status_of(state, second, 300.0)
    moved = {one.type for one in third.conditions if one.last_transition_time == timestamp(300.0)}
    assert moved == {"Healthy", "AHealthy"}
    state = put(state, 400.0, a=Finding(Reason.CONNECTION_RESET, "reset"))
    fourth = status_of(state, third, 400.0)
    assert condition(fourth, "AHealthy").last_transition_time == timestamp(300.0)


def test_the_same_belief_gives_an_equal_status_later():
    state = put(start(TWO), 100.0, a=REFUSED)
    status = status_of(state, None, 100.0)
    assert status_of(state, status, 9999.0) == status


def test_blind_since_when_it_became_silent():
    state = start(resource(probe("a")))
    doubted = replace(believed(SILENT, since=50.0), silent_since=90.0)
    status = status_of(update(state, {"a": doubted}, ["a"], 95.0), None, 95.0)
    assert (status.probes[0].verdict, status.probes[0].reason) == ("Unknown", "Blind")
    assert status.probes[0].since == timestamp(90.0)
    assert condition(status, "Healthy").status == "Unknown"
    assert status.incident is None


def test_subjects_are_those_that_are_not_healthy():
    reasons = [Reason.PROBE_SUCCEEDED, Reason.MEMBER_DOWN] * 4
    parts = [SubjectFinding(f"member/m{n}", reason, "x") for n, reason in enumerate(reasons)]
    status = told(a=Finding(Reason.MEMBER_DOWN, "some are down", tuple(parts)))
    assert [one.subject for one in status.probes[0].subjects] == ["member/m1", "member/m3", "member/m5", "member/m7"]


def test_times_are_utc_to_the_second():
    assert timestamp(0.999) == "1970-01-01T00:00:00Z"
    assert dt.datetime.fromisoformat(timestamp(1.8e9)).timestamp() == 1.8e9


texts = st.text(max_size=20).flatmap(lambda text: st.sampled_from([text, text * 200]))
reasons = st.sampled_from(list(Reason))
subjects = st.builds(SubjectFinding, texts.map(lambda text: f"member/{text}"), reasons, texts)
findings = st.builds(Finding, reasons, texts, st.lists(subjects, max_size=3).map(tuple))


def _bounded(finding: Finding, count: int) -> None:
    names = [(f"{'n' * 50}-{index:02}", f"{'c' * 50}-{index:02}") for index in range(count)]
    state: ResourceState = start(resource(*(probe(name, host="h", component=component) for name, component in names)))
    probes = {name: ProbeState(finding.verdict, finding, 1.0) for name, _ in names}
    status = status_of(update(state, probes, list(state.components), 2.0), None, 2.0)
    assert BackendHealthStatus.model_validate_json(status.model_dump_json(by_alias=True)) == status
    assert len(status.history) <= 20
    for message in [one.message for one in status.conditions] + [one.message for one in status.probes]:
        assert len(message) <= 1024
        assert "\n" not in message


@settings(max_examples=50, deadline=None, phases=[Phase.explicit, Phase.reuse, Phase.generate])
@given(findings)
def test_whatever_a_probe_says_the_status_keeps_its_bounds(finding: Finding):
    _bounded(finding, 2)


@pytest.mark.parametrize("reason", [Reason.MEMBER_DOWN, Reason.QUORUM_LOST, Reason.PROBE_SUCCEEDED])
def test_the_largest_status(reason: Reason):
    long = "so much to tell\n" * 100
    parts = tuple(SubjectFinding(f"member/{index}" * 50, Reason.MEMBER_DOWN, long) for index in range(200))
    _bounded(Finding(reason, long, parts), 100)
