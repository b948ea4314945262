"""The status that Kubernetes will hold: its conditions, its bounds, and what moves its times."""

from __future__ import annotations

import datetime as dt
from dataclasses import replace

import pytest
from hypothesis import Phase, given, settings
from hypothesis import strategies as st

from backendhealth.core.annotations import Request
from backendhealth.core.diagnosed import diagnosed
from backendhealth.core.observation import Finding, SubjectFinding
from backendhealth.core.probestate import NOT_PROBED, SUSPENDED, ProbeState
from backendhealth.core.reasons import Reason
from backendhealth.core.resourcestate import ResourceState, update
from backendhealth.core.spec.backendhealth import BackendHealth
from backendhealth.core.spec.status import BackendHealthStatus, Condition
from backendhealth.core.statusof import status_of, timestamp
from tests.unit.support import DENIED, GOOD, REFUSED, RISKY, SILENT, probe, resource
from tests.unit.test_annotations import annotated
from tests.unit.test_resourcestate import believed, put, start

TWO = resource(probe("a"), probe("search-ingest"), generation=7)


def condition(status: BackendHealthStatus, kind: str) -> Condition:
    return next(one for one in status.conditions if one.type == kind)


def told(declared: BackendHealth = TWO, **findings: Finding) -> BackendHealthStatus:
    state = put(start(declared), 1.0, **{k.replace("_", "-"): v for k, v in findings.items()})
    return status_of(diagnosed(state, {}, 1.0, once=True), None, 1.0)


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


# Suspended


ALL_SUSPENDED = {"a": SUSPENDED, "search-ingest": SUSPENDED}


def state_of(status: BackendHealthStatus) -> tuple[str, str | None]:
    assert status.summary is not None
    return status.summary.state, status.summary.since


@pytest.mark.parametrize(
    ("findings", "state"),
    [
        (ALL_SUSPENDED, "Suspended"),
        ({"a": SUSPENDED, "search-ingest": GOOD}, "Unknown"),
        ({"a": SUSPENDED, "search-ingest": DENIED}, "Unknown"),
        ({"a": SUSPENDED, "search-ingest": REFUSED}, "Unhealthy"),
    ],
)
def test_the_state_column_of_what_is_suspended(findings: dict[str, Finding], state: str):
    status = status_of(put(start(TWO), 1.0, **findings), None, 1.0)
    assert state_of(status)[0] == state
    healthy = condition(status, "Healthy")
    assert healthy.status == ("False" if state == "Unhealthy" else "Unknown")
    assert condition(status, "AHealthy").reason == "Suspended"
    assert condition(status, "Ready").status == "True"


def test_suspended_is_a_state_of_its_own_and_has_its_own_since():
    pending = start(TWO, 100.0)
    suspended = put(pending, 200.0, **ALL_SUSPENDED)
    later = put(suspended, 300.0, **{"search-ingest": SUSPENDED})
    again = put(later, 400.0, **{"a": NOT_PROBED, "search-ingest": NOT_PROBED})
    told = [status_of(state, None, 0.0) for state in (pending, suspended, later, again)]
    assert [state_of(status) for status in told] == [
        ("Unknown", timestamp(100.0)),
        ("Suspended", timestamp(200.0)),
        ("Suspended", timestamp(200.0)),
        ("Unknown", timestamp(400.0)),
    ]


# Reconciling


def reconciling(status: BackendHealthStatus) -> str | None:
    found = [one for one in status.conditions if one.type == "Reconciling"]
    assert all((one.status, one.reason) == ("True", "Pending") for one in found)
    return found[0].message if found else None


def test_it_is_reconciling_only_while_something_is_pending():
    """To kstatus Reconciling=True is in progress, and neither it nor Stalled is current, whatever the backends do."""
    state = start(TWO)
    assert reconciling(status_of(state, None, 0.0)) == "not decided yet: a, search-ingest"
    state = put(state, 1.0, a=GOOD)
    assert reconciling(status_of(state, None, 1.0)) == "not decided yet: search-ingest"
    for finding in (GOOD, RISKY, DENIED, REFUSED, SUSPENDED):
        status = status_of(put(state, 2.0, **{"search-ingest": finding}), None, 2.0)
        assert reconciling(status) is None
        assert {one.type for one in status.conditions} & {"Reconciling", "Stalled"} == set()
        assert condition(status, "Ready").status == "True"


def test_since_when_it_is_reconciling():
    first = status_of(start(TWO), None, 100.0)
    second = status_of(put(start(TWO), 200.0, a=GOOD), first, 200.0)
    assert condition(second, "Reconciling").last_transition_time == timestamp(100.0)
    decided = status_of(put(start(TWO), 300.0, **{"a": GOOD, "search-ingest": GOOD}), second, 300.0)
    again = status_of(start(TWO), decided, 400.0)
    assert condition(again, "Reconciling").last_transition_time == timestamp(400.0)


def test_many_pending_ones_are_counted():
    state = start(resource(*(probe(f"p{number}") for number in range(100))))
    assert reconciling(status_of(state, None, 0.0)) == "not decided yet: p0, p1, p2 +97"


# Annotations


def test_an_annotation_that_is_ignored_is_told_without_making_it_less_ready():
    invalid = annotated(TWO, until="tomorrow")
    ready = condition(status_of(start(invalid), None, 0.0), "Ready")
    assert (ready.status, ready.reason) == ("True", "Probing")
    assert ready.message.startswith("2 probes are accepted; ignored: ")
    assert condition(status_of(start(TWO), None, 0.0), "Ready").message == "2 probes are accepted"


def test_the_answered_request_is_echoed():
    state = start(TWO)
    assert status_of(state, None, 0.0).probe_requested_at is None
    open_one = replace(state, request=Request().asked("x", frozenset({"a"}), 1.0))
    assert status_of(open_one, None, 0.0).probe_requested_at is None
    answered = replace(state, request=open_one.request.attempted("a", 2.0))
    assert status_of(answered, None, 0.0).probe_requested_at == "x"


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
