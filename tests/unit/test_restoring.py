"""What a written status gives back after a restart, and what of a status is refused."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from backendhealth.core.observation import Finding, SubjectFinding, clip
from backendhealth.core.probestate import Thresholds, observe
from backendhealth.core.reasons import REASONS, Reason
from backendhealth.core.resourcestate import ResourceState, update
from backendhealth.core.restoring import restored_state, written_status
from backendhealth.core.spec.backendhealth import BackendHealth
from backendhealth.core.spec.status import BackendHealthStatus
from backendhealth.core.statusof import status_of, timestamp
from backendhealth.core.verdict import Verdict
from tests.unit.rig import EPOCH
from tests.unit.support import DENIED, GOOD, NO_SECRET, REFUSED, RISKY, SILENT, probe, resource, seen, with_subjects
from tests.unit.world import QUICK, World

NOBODY_SUSPENDED: frozenset[str] = frozenset()
OF_PROBES = [reason for reason in Reason if REASONS[reason].given_by not in ("engine", "operator")]
FLAPPY: dict[str, Any] = {"flapDetection": {"changes": 2, "window": "60s"}}


def written(status: BackendHealthStatus) -> dict[str, Any]:
    """The status as it stands in the cluster."""
    raw = status.model_dump(mode="json", by_alias=True, exclude_none=True)
    return {**raw, "heartbeatTime": timestamp(EPOCH)}


def read(status: BackendHealthStatus) -> BackendHealthStatus:
    again = written_status(written(status))
    assert again is not None
    return again


def after_restart(world: World, now: float, changed: BackendHealth | None = None) -> World:
    """The world of another process that finds the status of this one."""
    anew = World()
    anew.cycle.apply(changed or world.cycle.resource("default/demo"), now, read(world.cycle.status("default/demo")))
    return anew


def restored(declared: BackendHealth, status: BackendHealthStatus, now: float = EPOCH + 1000) -> ResourceState:
    return restored_state(declared, read(status), now, NOBODY_SUSPENDED)


def shown(world: World) -> BackendHealthStatus:
    return world.cycle.status("default/demo")


def believing(finding: Finding, **spec: Any) -> World:
    """A world whose probe `a` is believed to show `finding`."""
    world = World()
    world.cycle.apply(resource(probe("a"), probe("b"), **{**QUICK, **spec}), EPOCH)
    world.see("b", GOOD, EPOCH + 1)
    for start in (10, 20, 30):
        world.see("a", finding, EPOCH + start, EPOCH + start + 0.7)
        world.see("b", GOOD, EPOCH + start + 1)
    return world


# Round trip


@pytest.mark.parametrize("reason", OF_PROBES)
@pytest.mark.parametrize("contact", [True, False])
def test_every_reason_is_believed_again_as_it_was(reason: Reason, contact: bool):
    finding = with_subjects(Finding(reason, "seen", contact=contact), x=Reason.MEMBER_DOWN, y=Reason.PROBE_SUCCEEDED)
    world = believing(finding)
    assert world.reason("a") == reason
    anew = after_restart(world, EPOCH + 5000.5)
    assert shown(anew) == shown(world)
    anew.see("a", finding, EPOCH + 5001)  # the same again, before anybody else was heard
    assert [status for _, status in anew.told] == [shown(world)]


texts = st.text(max_size=12).flatmap(lambda text: st.sampled_from([text, text * 200])).map(clip)
subjects = st.builds(
    SubjectFinding,
    st.sampled_from(["member/x", "member/y"]),
    st.sampled_from([Reason.MEMBER_DOWN, Reason.TIMEOUT]),
    texts,
)
findings = st.one_of(
    st.sampled_from([GOOD, RISKY, REFUSED, SILENT, NO_SECRET, DENIED]),
    st.builds(
        Finding,
        st.sampled_from(OF_PROBES),
        texts,
        st.lists(subjects, max_size=2, unique_by=lambda one: one.subject).map(tuple),
        contact=st.booleans(),
    ),
)
attempts = st.tuples(st.sampled_from("abc"), findings, st.floats(0.01, 30))
RESTART = None


@settings(deadline=None, max_examples=150)
@given(st.lists(st.one_of(attempts, attempts, attempts, st.just(RESTART)), max_size=40), st.sampled_from([QUICK, {}]))
def test_a_restart_at_any_time_changes_nothing_that_is_told(
    steps: list[tuple[str, Finding, float] | None], thresholds: dict[str, Any]
):
    world = World()
    probes = [probe("a"), probe("b", component="db"), probe("c", component="db")]
    world.cycle.apply(resource(*probes, **thresholds, **FLAPPY), EPOCH)
    at = EPOCH
    for step in [*steps, RESTART]:
        if step is RESTART:
            at += 7.3
            anew = after_restart(world, at)
            assert shown(anew) == shown(world)
            world = anew
            continue
        name, finding, pause = step
        at += pause
        world.see(name, finding, at, at)


def test_the_incident_its_id_the_history_and_the_times_go_on():
    world = believing(REFUSED)
    before = shown(world)
    anew = after_restart(world, EPOCH + 9000)
    anew.see("a", REFUSED, EPOCH + 9001)
    assert before.incident is not None
    assert shown(anew).incident == before.incident
    anew.see("a", Finding(Reason.CONNECTION_RESET, "reset"), EPOCH + 9002)
    after = shown(anew)
    assert after.history[1:] == before.history
    assert after.incident == before.incident
    assert after.probes[0].since == before.probes[0].since
    assert [one.last_transition_time for one in after.conditions] == [
        one.last_transition_time for one in before.conditions
    ]
    assert after.diagnosis is not None
    assert before.diagnosis is not None
    assert after.diagnosis.root_causes[0].since == before.diagnosis.root_causes[0].since


def test_a_component_that_has_become_degraded_since_then_keeps_that_time():
    world = World(resource(probe("a"), **QUICK))
    world.see("a", GOOD, EPOCH)
    world.see("a", RISKY, EPOCH + 100)
    state = restored(world.cycle.resource("default/demo"), shown(world))
    assert state.components["a"].since == EPOCH + 100
    assert state.since == EPOCH + 100


def test_an_attempt_that_agrees_is_not_told():
    for finding in (GOOD, RISKY, DENIED, NO_SECRET, REFUSED):
        anew = after_restart(believing(finding), EPOCH + 9000)
        anew.told.clear()
        for start in range(3):
            anew.see("a", finding, EPOCH + 9001 + start)
        assert anew.told == []


@pytest.mark.parametrize("suspended", [True, False])
def test_what_was_suspended_or_pending_is_so_since_then(suspended: bool):
    world = World()
    world.cycle.apply(resource(probe("a"), suspend=suspended), EPOCH)
    anew = after_restart(world, EPOCH + 500)
    assert anew.reason("a") == ("Suspended" if suspended else "Pending")
    assert shown(anew) == shown(world)


# Thresholds


@pytest.mark.parametrize("finding", [REFUSED, SILENT])
def test_a_failure_stays_until_enough_attempts_have_succeeded(finding: Finding):
    anew = after_restart(believing(finding, successThreshold=3), EPOCH + 9000)
    for start in (1, 2):
        anew.see("a", GOOD, EPOCH + 9000 + start)
        assert anew.verdict("a") == "Unhealthy"
    anew.see("a", GOOD, EPOCH + 9003)
    assert anew.verdict("a") == "Healthy"


def test_what_worked_is_not_accused_before_enough_attempts_have_failed():
    anew = after_restart(believing(GOOD, failureThreshold=3), EPOCH + 9000)
    for start in (1, 2):
        anew.see("a", REFUSED, EPOCH + 9000 + start)
        assert anew.verdict("a") == "Healthy"
    anew.see("a", REFUSED, EPOCH + 9003)
    assert anew.verdict("a") == "Unhealthy"


def test_counters_start_again():
    world = believing(GOOD, failureThreshold=3)
    world.see("a", REFUSED, EPOCH + 60)
    world.see("a", REFUSED, EPOCH + 61)
    state = restored(world.cycle.resource("default/demo"), shown(world)).probes["a"]
    assert not state.deciding
    after = observe(state, seen(REFUSED, EPOCH + 70), Thresholds(3, 2), EPOCH)
    assert after.verdict is Verdict.HEALTHY
    assert len(after.recent) == 1


def test_what_is_restored_moves_on_as_ever():
    world = believing(REFUSED)
    state = restored(world.cycle.resource("default/demo"), shown(world))
    probes = {**state.probes, "a": replace(state.probes["a"], verdict=Verdict.HEALTHY, finding=GOOD)}
    after = update(state, probes, ["a"], EPOCH + 2000)
    assert after.incident_since is None
    assert (after.verdict, after.since) == (Verdict.HEALTHY, EPOCH + 2000)


# Silence


def test_a_silent_failure_does_not_become_blind_because_nobody_else_was_heard_yet():
    anew = after_restart(believing(SILENT), EPOCH + 9000)
    anew.told.clear()
    for start in range(0, 30, 10):
        anew.see("a", SILENT, EPOCH + 9000 + start, EPOCH + 9005 + start)
        assert (anew.verdict("a"), anew.reason("a")) == ("Unhealthy", "Timeout")
    assert anew.told == []


def test_it_becomes_blind_once_all_others_are_silent_too():
    anew = after_restart(believing(SILENT), EPOCH + 9000)
    incident = shown(anew).incident
    anew.see("a", SILENT, EPOCH + 9001, EPOCH + 9006)
    anew.see("b", SILENT, EPOCH + 9002, EPOCH + 9007)
    assert anew.reason("b") == "Blind"  # it is accused of nothing
    anew.see("a", SILENT, EPOCH + 9008, EPOCH + 9013)
    assert [anew.reason(name) for name in "ab"] == ["Blind", "Blind"]
    assert shown(anew).incident == incident


def test_it_is_doubted_like_any_other_after_it_was_heard():
    anew = after_restart(believing(SILENT), EPOCH + 9000)
    anew.see("a", REFUSED, EPOCH + 9001)
    assert anew.reason("a") == "ConnectionRefused"
    anew.see("a", SILENT, EPOCH + 9002, EPOCH + 9007)
    assert anew.reason("a") == "Blind"


def test_two_dead_backends_of_a_resource_that_comes_before_the_others_are_not_blind():
    world = World()
    world.cycle.apply(resource(probe("a"), probe("b"), probe("c"), **QUICK), EPOCH)
    for start in (0, 10, 20, 30):
        world.see("c", GOOD, EPOCH + start)
        for name in "ab":
            world.see(name, SILENT, EPOCH + start + 1, EPOCH + start + 6)
    assert [world.verdict(name) for name in "abc"] == ["Unhealthy", "Unhealthy", "Healthy"]
    anew = after_restart(world, EPOCH + 9000)
    for start in (1, 11):
        for name in "ab":
            anew.see(name, SILENT, EPOCH + 9000 + start, EPOCH + 9005 + start)
    assert [anew.verdict(name) for name in "abc"] == ["Unhealthy", "Unhealthy", "Healthy"]
    assert len(anew.told) == 1


def test_silence_of_what_worked_is_blind_until_others_are_heard():
    anew = after_restart(believing(GOOD), EPOCH + 9000)
    anew.see("a", SILENT, EPOCH + 9001, EPOCH + 9006)
    assert anew.reason("a") == "Blind"
    assert shown(anew).incident is None


# Flapping


def flapping() -> World:
    world = World(resource(probe("a"), **QUICK, **FLAPPY))
    for step in range(4):
        world.see("a", REFUSED if step % 2 else GOOD, EPOCH + step)
    assert condition(shown(world), "AHealthy").reason == Reason.FLAPPING
    return world


def condition(status: BackendHealthStatus, kind: str) -> Any:
    return next(one for one in status.conditions if one.type == kind)


def test_flapping_is_held_for_one_window_more():
    anew = after_restart(flapping(), EPOCH + 100)
    anew.see("a", GOOD, EPOCH + 101)
    assert condition(shown(anew), "AHealthy").reason == Reason.FLAPPING
    assert shown(anew).incident is not None
    anew.see("a", GOOD, EPOCH + 159)
    assert condition(shown(anew), "AHealthy").reason == Reason.FLAPPING
    anew.see("a", GOOD, EPOCH + 161)
    assert condition(shown(anew), "AHealthy").reason == Reason.PROBE_SUCCEEDED
    assert shown(anew).incident is None


# What has changed meanwhile


def test_a_changed_spec_starts_the_probes_again_and_nothing_else():
    world = believing(REFUSED)
    before = shown(world)
    changed = resource(probe("a"), probe("b"), probe("d"), generation=2, **QUICK)
    anew = after_restart(world, EPOCH + 9000, changed)
    after = shown(anew)
    assert [row.reason for row in after.probes] == ["Pending"] * 3
    assert {row.since for row in after.probes} == {timestamp(EPOCH + 9000)}
    assert after.incident == before.incident
    assert after.history[-len(before.history) :] == before.history
    assert [(one.component, one.reason) for one in after.history[: -len(before.history)]] == [
        ("b", "Pending"),
        ("a", "Pending"),
    ]
    assert condition(after, "Ready").last_transition_time == condition(before, "Ready").last_transition_time
    assert after.observed_generation == 2


def test_an_incident_ends_when_the_changed_spec_is_seen_to_work():
    anew = after_restart(believing(REFUSED), EPOCH + 9000, resource(probe("a"), generation=2, **QUICK))
    anew.see("a", GOOD, EPOCH + 9001)
    assert shown(anew).incident is None


def test_what_was_suspended_meanwhile_is_suspended_and_the_incident_is_not_over():
    before = shown(believing(REFUSED))
    declared = resource(probe("a"), probe("b"), **QUICK)
    state = restored_state(declared, read(before), EPOCH + 9000, frozenset({"a"}))
    assert state.probes["a"].finding.reason is Reason.SUSPENDED
    assert state.probes["a"].since == EPOCH + 9000
    assert state.probes["b"].verdict is Verdict.HEALTHY
    assert state.incident_since is not None
    assert status_of(state, before, EPOCH + 9000).incident == before.incident


def test_what_is_suspended_no_more_starts_again():
    world = World()
    world.cycle.apply(resource(probe("a"), suspend=True), EPOCH)
    state = restored(resource(probe("a")), shown(world))
    assert state.probes["a"].finding.reason is Reason.PENDING
    assert state.probes["a"].since == EPOCH + 1000


# What a newer version has written


def test_fields_and_reasons_that_only_a_newer_version_knows():
    before = shown(believing(REFUSED))
    raw = written(before)
    raw["forecast"] = {"x": [1]}
    raw["probes"][0] |= {"reason": "EatenByMoths", "verdict": "Unhealthy", "colour": "red"}
    raw["history"][0]["reason"] = "EatenByMoths"
    condition_of_a = next(one for one in raw["conditions"] if one["type"] == "AHealthy")
    condition_of_a["reason"] = "EatenByMoths"
    status = written_status(raw)
    assert status is not None
    declared = resource(probe("a"), probe("b"), **QUICK)
    state = restored_state(declared, status, EPOCH + 9000, NOBODY_SUSPENDED)
    assert state.probes["a"].finding.reason is Reason.PENDING
    assert state.probes["b"].finding.reason is Reason.PROBE_SUCCEEDED
    assert len(state.history) == len(before.history) - 1
    after = status_of(state, status, EPOCH + 9000)
    assert after.incident == before.incident
    assert condition(after, "BHealthy") == condition(before, "BHealthy")


def test_a_reason_that_stands_for_another_verdict_now_starts_again():
    raw = written(shown(believing(RISKY)))
    raw["probes"][0]["verdict"] = "Unhealthy"
    status = written_status(raw)
    assert status is not None
    state = restored_state(resource(probe("a"), probe("b")), status, EPOCH, NOBODY_SUSPENDED)
    assert state.probes["a"].finding.reason is Reason.PENDING


def test_subjects_of_a_newer_version_are_left_out():
    raw = written(shown(believing(with_subjects(REFUSED, x=Reason.MEMBER_DOWN, y=Reason.TIMEOUT))))
    raw["probes"][0]["subjects"][0]["reason"] = "EatenByMoths"
    status = written_status(raw)
    assert status is not None
    state = restored_state(resource(probe("a"), probe("b")), status, EPOCH, NOBODY_SUSPENDED)
    assert [one.subject for one in state.probes["a"].finding.subjects] == ["member/y"]
