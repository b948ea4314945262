"""What is read from a status and from a Remediation, and how Remediations are named."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from backendhealth.core.diagnosed import diagnosed
from backendhealth.core.reasons import Reason
from backendhealth.core.remediation.deciding import decide
from backendhealth.core.remediation.names import remediation_name, revert_name, toggle_key
from backendhealth.core.remediation.situation import Changed, Situation, Subject
from backendhealth.core.remediation.situations import NEVER, instant, moment, past_of, situation_of
from backendhealth.core.spec.remediation import RemediationStatus
from backendhealth.core.spec.status import BackendHealthStatus, Explained, PartStatus
from backendhealth.core.statusof import status_of, timestamp
from backendhealth.core.verdict import Verdict
from tests.unit.remediating import BH_UID, CALM, INCIDENT, POD, START, UID, by_hand, policy, situation, spec
from tests.unit.support import DENIED, GOOD, REFUSED, RISKY, probe, resource, with_subjects
from tests.unit.test_resourcestate import put, start

KEY = "default/demo"
PARTS = with_subjects(REFUSED, one=Reason.CONNECTION_REFUSED, two=Reason.AUTHENTICATION_FAILED, three=Reason.TIMEOUT)


def status(**findings: object) -> BackendHealthStatus:
    """Of three probes, at 100; all were well at 50."""
    declared = resource(probe("a"), probe("b"), probe("search-ingest"))
    state = put(start(declared), 50.0, a=GOOD, b=GOOD, **{"search-ingest": GOOD})
    first = status_of(state, None, 50.0)
    state = put(state, 100.0, **{name.replace("_", "-"): one for name, one in findings.items()})  # type: ignore[arg-type]
    return status_of(diagnosed(state, {}, 100.0, once=True), first, 100.0)


def of(told: BackendHealthStatus, observed: set[str] | None = None) -> Situation:
    return situation_of(KEY, "uid", told, observed)


@pytest.mark.parametrize(
    ("finding", "verdict"),
    [(GOOD, Verdict.HEALTHY), (RISKY, Verdict.DEGRADED), (DENIED, Verdict.UNKNOWN), (REFUSED, Verdict.UNHEALTHY)],
)
def test_a_component_as_its_condition_tells_it(finding: object, verdict: Verdict):
    found = of(status(search_ingest=finding)).components["search-ingest"]
    assert found.verdict is verdict
    assert found.message == status(search_ingest=finding).conditions[4].message
    assert found.root is (verdict is Verdict.UNHEALTHY)
    assert found.since == (50.0 if verdict in (Verdict.HEALTHY, Verdict.DEGRADED) else 100.0)


def test_all_that_a_status_tells():
    told = status(a=PARTS, b=DENIED)
    found = of(told)
    assert (found.key, found.uid, found.suspended) == (KEY, "uid", False)
    assert told.incident is not None
    assert (found.incident, found.incident_since) == (told.incident.id, 100.0)
    assert list(found.components) == ["a", "b", "search-ingest"]
    assert found.components["a"].reason == "ConnectionRefused"
    # what is Unknown of a part is no reason to act
    assert found.components["a"].subjects == (
        Subject("member/one", "ConnectionRefused"),
        Subject("member/three", "Timeout"),
    )
    assert found.history[0] == Changed(100.0, "b", Verdict.UNKNOWN)
    assert of(status()).incident == ""


def test_what_was_observed():
    told = status(a=REFUSED)
    assert all(one.observed for one in of(told).components.values())
    assert {name for name, one in of(told, {"a"}).components.items() if one.observed} == {"a"}


def test_who_explains_whom():
    told = status(a=REFUSED, b=REFUSED)
    assert told.diagnosis is not None
    causes = [one for one in told.diagnosis.root_causes if one.component == "a"]
    explained = [Explained(name="b", by=["a"], because="it needs a")]
    diagnosis = told.diagnosis.model_copy(update={"root_causes": causes, "explained": explained})
    found = of(told.model_copy(update={"diagnosis": diagnosis}))
    assert (found.components["a"].root, found.components["b"].root) == (True, False)
    assert found.components["b"].explained_by == ("a",)


def test_a_part_speaks_for_another_component():
    told = status(a=REFUSED)
    part = PartStatus(
        name="component/searchIngest", verdict=Verdict.UNHEALTHY, reason="Timeout", message="", since=timestamp(1)
    )
    other = part.model_copy(update={"name": "component/zed"})
    symptom = part.model_copy(update={"name": "symptom/login"})
    probes = [told.probes[0].model_copy(update={"parts": [part, other, symptom]}), *told.probes[1:]]
    condition = told.conditions[2].model_copy(update={"type": "ZedHealthy"})
    found = of(told.model_copy(update={"probes": probes, "conditions": [*told.conditions, condition]}))
    # one that differs in dashes only is the same
    assert list(found.components) == ["a", "b", "search-ingest", "zed"]
    assert found.components["zed"].verdict is Verdict.UNHEALTHY


def test_the_later_time_counts():
    told = status(a=REFUSED)
    assert told.diagnosis is not None
    (cause,) = told.diagnosis.root_causes
    diagnosis = told.diagnosis.model_copy(update={"root_causes": [cause.model_copy(update={"since": timestamp(70)})]})
    assert of(told.model_copy(update={"diagnosis": diagnosis})).components["a"].since == 100.0


def test_a_condition_that_contradicts_itself_tells_nothing():
    told = status(a=REFUSED)
    conditions = [
        one.model_copy(update={"status": "True"}) if one.type == "AHealthy" else one for one in told.conditions
    ]
    assert of(told.model_copy(update={"conditions": conditions})).components["a"].verdict is Verdict.UNKNOWN


def test_a_reason_of_a_newer_version_is_believed_as_the_condition_tells_it():
    told = status(a=REFUSED)
    conditions = [one.model_copy(update={"reason": "FellOver"}) for one in told.conditions]
    assert of(told.model_copy(update={"conditions": conditions})).components["a"].verdict is Verdict.UNHEALTHY


def test_suspended_and_stalled():
    told = status()
    ready = told.conditions[0].model_copy(update={"reason": "Suspended"})
    assert of(told.model_copy(update={"conditions": [ready, *told.conditions[1:]]})).suspended
    assert of(BackendHealthStatus(observed_generation=1, conditions=told.conditions[:2])).components == {}


def test_a_remediation_as_it_is_remembered():
    done = RemediationStatus(
        phase="NotHelpful",
        started_at=timestamp(START),
        effect_at=timestamp(START + 1),
        finished_at=timestamp(START + 60),
    )
    found = past_of("x", spec(), done, START - 5)
    assert (found.policy, found.rule, found.backend_health, found.incident) == (UID, "restart", BH_UID, INCIDENT)
    assert (found.target, found.phase, found.step) == (POD, "NotHelpful", 0)
    assert (found.created, found.began, found.ended) == (START - 5, START, START + 60)
    assert not (found.dry)
    assert not (found.by_hand)
    assert not (found.revert)
    assert past_of("x", spec(policy(mode="DryRun")), RemediationStatus(), 0).dry


def test_one_by_hand_counts_for_the_policy_that_it_names():
    found = past_of("x", by_hand(), RemediationStatus(phase="Running", started_at="who knows"), START)
    assert (found.by_hand, found.policy, found.rule, found.incident) == (True, "placeos", "", "")
    assert found.began == NEVER  # and so it counts for ever
    (ruling,) = decide(policy(limits={"max": 1}), UID, situation(), [found], CALM, START)
    assert [one.guard for one in ruling.holds] == ["LimitReached", "TooManyAtOnce"]


@pytest.mark.parametrize(
    ("text", "at"),
    [
        ("1970-01-01T00:00:10Z", 10.0),
        ("1970-01-01T01:00:10+01:00", 10.0),
        ("1970-01-01T00:00:10", 10.0),
        ("soon", NEVER),
        ("", NEVER),
    ],
)
def test_times_are_read(text: str, at: float):
    assert instant(text) == at


def test_times_are_told():
    assert moment(10.2) == "1970-01-01T00:00:11Z"  # what lets go then has let go then
    assert moment(NEVER) == moment(float("1e20")) == "a time that nobody can tell"


part = st.text("abc-/", max_size=8)
told = st.tuples(part, part, st.integers(0, 3), part, part, st.booleans())


@given(told, told)
def test_names_are_the_same_for_the_same_and_for_no_other(
    one: tuple[str, str, int, str, str, bool], other: tuple[str, str, int, str, str, bool]
):
    names = [remediation_name(*each[:5], dry=each[5]) for each in (one, other)]
    assert (names[0] == names[1]) is (one == other)


@given(st.from_regex(r"\A[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?\Z"), st.text())
def test_names_are_labels_that_begin_with_the_rule(name: str, other: str):
    made = remediation_name(other, name, 0, other, other)
    assert re.fullmatch(r"[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?-[0-9a-f]{16}", made)
    assert len(made) <= 63
    assert made.startswith(name[:46].rstrip("-"))


def test_reverts_are_told_apart_by_what_was_toggled_and_how_often():
    key = toggle_key("uid", "core", 0)
    keys = {key, toggle_key("uid", "core", 1), toggle_key("uid", "cor", 0), toggle_key("other", "core", 0)}
    assert len({revert_name(one, epoch) for one in keys for epoch in range(3)}) == 12
    assert revert_name(key, 0) == revert_name(key, 0)
    assert revert_name(key, 0).startswith("revert-")
