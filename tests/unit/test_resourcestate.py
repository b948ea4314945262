"""What is believed of a resource: components, incident, history, flapping."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from backendhealth.core.observation import Finding
from backendhealth.core.probestate import ProbeState, initial
from backendhealth.core.reasons import Reason
from backendhealth.core.resourcestate import MAX_HISTORY, ResourceState, initial_state, renewed, shown, update
from backendhealth.core.spec.backendhealth import BackendHealth
from backendhealth.core.verdict import Verdict, worst
from tests.unit.support import DENIED, GOOD, REFUSED, RISKY, SILENT, probe, resource

FINDINGS = [GOOD, RISKY, DENIED, REFUSED]


def believed(finding: Finding, since: float = 0.0) -> ProbeState:
    return ProbeState(finding.verdict, finding, since)


def start(declared: BackendHealth, now: float = 0.0) -> ResourceState:
    return initial_state(declared, {p.name: initial(now) for p in declared.spec.probes}, now)


def put(state: ResourceState, now: float, **findings: Finding) -> ResourceState:
    """The state after these probes are believed to show that."""
    probes = {**state.probes, **{name: believed(finding, now) for name, finding in findings.items()}}
    names = {p.name: p.component_name for p in state.resource.spec.probes}
    return update(state, probes, dict.fromkeys(names[name] for name in findings), now)


TWO = resource(probe("a"), probe("b"))


def test_everything_starts_unknown():
    state = start(TWO, 5.0)
    assert state.verdict is Verdict.UNKNOWN
    assert {c.finding.reason for c in state.components.values()} == {Reason.PENDING}
    assert (state.since, state.history, state.incident_since, state.incident_id) == (5.0, (), None, "")


@given(st.lists(st.sampled_from(list(Verdict)), max_size=6))
def test_the_worst_wins_whatever_the_order(verdicts: list[Verdict]):
    found = worst(verdicts)
    assert found is worst(list(reversed(verdicts)))
    if Verdict.UNHEALTHY in verdicts:
        assert found is Verdict.UNHEALTHY
    elif Verdict.UNKNOWN in verdicts or not verdicts:
        assert found is Verdict.UNKNOWN
    else:
        assert found is (Verdict.DEGRADED if Verdict.DEGRADED in verdicts else Verdict.HEALTHY)


@pytest.mark.parametrize("one", FINDINGS)
@pytest.mark.parametrize("two", FINDINGS)
def test_a_component_is_as_bad_as_its_worst_probe(one: Finding, two: Finding):
    declared = resource(probe("a", component="db"), probe("b", component="db"))
    component = put(start(declared), 1.0, a=one, b=two).components["db"]
    assert component.verdict is worst([one.verdict, two.verdict])
    if component.verdict is not Verdict.HEALTHY:
        assert component.finding.message.split(":")[0] in ("a", "b")


def test_a_component_of_one_probe_tells_its_message_as_it_is():
    assert put(start(TWO), 1.0, a=REFUSED).components["a"].finding is REFUSED


def test_since_moves_with_the_verdict():
    state = put(put(start(TWO), 1.0, a=GOOD, b=GOOD), 2.0, a=REFUSED)
    assert (state.since, state.components["a"].since, state.components["b"].since) == (2.0, 2.0, 1.0)
    state = put(state, 3.0, a=Finding(Reason.CONNECTION_RESET, "reset"))
    assert (state.since, state.components["a"].since) == (2.0, 2.0)


def test_the_incident_opens_stays_and_closes():
    state = put(start(TWO), 1.0, a=GOOD, b=GOOD)
    assert state.incident_since is None
    state = put(state, 2.0, a=REFUSED)
    assert state.incident_since == 2.0
    name = state.incident_id
    assert len(name) == 12
    state = put(put(state, 3.0, b=REFUSED), 4.0, a=GOOD)
    assert (state.incident_since, state.incident_id) == (2.0, name)  # b goes on failing
    state = put(state, 5.0, b=DENIED)
    assert state.incident_id == name  # out of sight is not over
    state = put(state, 6.0, b=RISKY)
    assert (state.incident_since, state.incident_id) == (None, "")
    again = put(state, 7.0, b=REFUSED)
    assert again.incident_id not in ("", name)


def test_history_is_the_changes_newest_first():
    state = put(put(put(start(TWO), 1.0, a=GOOD), 2.0, b=REFUSED), 3.0, a=RISKY)
    told = [(change.at, change.component, change.verdict) for change in state.history]
    assert told == [(3.0, "a", Verdict.DEGRADED), (2.0, "b", Verdict.UNHEALTHY), (1.0, "a", Verdict.HEALTHY)]
    assert put(state, 4.0, a=Finding(RISKY.reason, "otherwise")).history == state.history


@given(st.lists(st.tuples(st.sampled_from("ab"), st.sampled_from(FINDINGS)), max_size=60))
def test_laws(steps: list[tuple[str, Finding]]):
    state = start(TWO)
    for now, (name, finding) in enumerate(steps, 1):
        before, state = state, put(state, float(now), **{name: finding})
        assert len(state.history) <= MAX_HISTORY
        assert (state.since == now) is (state.verdict is not before.verdict)
        assert all(one.since <= now for one in state.components.values())
        if state.verdict is Verdict.UNHEALTHY:
            assert state.incident_since is not None
        if state.verdict in (Verdict.HEALTHY, Verdict.DEGRADED):
            assert state.incident_since is None
        for name_, component in state.components.items():
            if not component.flaps.held:
                assert component.verdict is state.probes[name_].verdict


# Flapping: more than 2 changes within 60 s

FLAPPY = resource(probe("a"), flapDetection={"changes": 2, "window": "60s"})


def flapping(until: float = 5.0) -> ResourceState:
    state = start(FLAPPY)
    for at, finding in enumerate((GOOD, REFUSED, GOOD, REFUSED), 1):
        state = put(state, float(at), a=finding)
    return put(state, until, a=GOOD)


def test_a_component_that_changes_too_often_is_held():
    state = flapping()
    assert state.components["a"].verdict is Verdict.UNHEALTHY
    assert state.components["a"].finding.reason is Reason.FLAPPING
    assert "more than 2 times within 60s" in state.components["a"].finding.message
    assert [change.reason for change in state.history].count(Reason.FLAPPING) == 1
    assert state.components["a"].since == 4.0


def test_it_is_let_go_when_it_has_calmed_down():
    state = flapping()  # changes at 2, 3, 4 and 5; the last three are kept
    assert put(state, 63.0, a=GOOD).components["a"].finding.reason is Reason.FLAPPING
    state = put(state, 64.0, a=GOOD)
    assert state.components["a"].verdict is Verdict.HEALTHY
    assert state.components["a"].since == 64.0
    assert state.history[0].reason is Reason.PROBE_SUCCEEDED


def test_its_message_does_not_change_while_old_changes_leave_the_window():
    state = put(flapping(), 6.0, a=GOOD)
    later = put(state, 63.5, a=GOOD)
    assert later.components["a"].flaps != state.components["a"].flaps
    assert later.components["a"].finding == state.components["a"].finding


def test_changes_through_unknown_are_no_flaps():
    state = start(FLAPPY)
    for at in range(1, 60, 4):
        for offset, finding in enumerate((GOOD, DENIED, REFUSED, DENIED)):
            state = put(state, float(at + offset), a=finding)
            assert state.components["a"].verdict is finding.verdict
    assert state.components["a"].flaps.changes == ()


def test_degraded_and_healthy_are_both_working():
    state = start(FLAPPY)
    for at in range(1, 20):
        state = put(state, float(at), a=GOOD if at % 2 else RISKY)
    assert not state.components["a"].flaps.held


def test_what_we_cannot_see_is_not_accused_of_flapping():
    state = put(flapping(), 6.0, a=DENIED)
    assert state.components["a"].verdict is Verdict.UNKNOWN
    assert put(state, 7.0, a=GOOD).components["a"].finding.reason is Reason.FLAPPING


# A changed spec


def test_what_stays_keeps_its_times_and_the_history_goes_on():
    state = put(put(start(TWO), 1.0, a=GOOD), 2.0, b=GOOD)
    changed = resource(probe("a"), probe("b", port=81), generation=2)
    after = renewed(state, changed, {**state.probes, "b": initial(9.0)}, 9.0)
    assert after.resource is changed
    assert (after.components["a"].since, after.components["b"].since) == (1.0, 9.0)
    assert after.components["b"].finding.reason is Reason.PENDING
    assert [change.component for change in after.history] == ["b", "b", "a"]
    assert (after.verdict, after.since) == (Verdict.UNKNOWN, 9.0)


def test_nothing_changes_where_no_probe_changed():
    state = put(start(TWO), 1.0, a=GOOD, b=REFUSED)
    after = renewed(state, resource(probe("a"), probe("b"), generation=2), state.probes, 9.0)
    assert replace(after, resource=state.resource) == state


def test_the_incident_ends_with_the_component_that_failed():
    state = put(start(TWO), 1.0, a=GOOD, b=REFUSED)
    after = renewed(state, resource(probe("a")), {"a": state.probes["a"]}, 9.0)
    assert (after.verdict, after.since, after.incident_since) == (Verdict.HEALTHY, 9.0, None)
    assert set(after.components) == {"a"}


def test_the_incident_outlives_a_change_that_hides_it():
    state = put(start(TWO), 1.0, a=GOOD, b=REFUSED)
    after = renewed(state, resource(probe("a"), probe("b", port=81)), {**state.probes, "b": initial(9.0)}, 9.0)
    assert (after.verdict, after.incident_since) == (Verdict.UNKNOWN, 1.0)


def test_a_component_that_lost_its_failing_probe_tells_of_the_other():
    def declared(*names: str) -> BackendHealth:
        return resource(*(probe(name, component="db") for name in names))

    state = put(start(declared("a", "b")), 1.0, a=REFUSED, b=Finding(Reason.CONNECTION_RESET, "reset"))
    assert state.components["db"].finding.reason is Reason.CONNECTION_REFUSED
    after = renewed(state, declared("b"), {"b": state.probes["b"]}, 9.0)
    assert after.components["db"].finding.message == "reset"
    assert after.components["db"].since == 1.0


# Blind


def test_a_doubted_failure_is_told_as_blind():
    state = replace(believed(SILENT), silent_since=1.0)
    verdict, finding = shown(state)
    assert (verdict, finding.reason) == (Verdict.UNKNOWN, Reason.BLIND)
    assert "nobody answers us" in finding.message
    assert SILENT.message in finding.message
    assert shown(replace(state, confirmed=True)) == (Verdict.UNHEALTHY, SILENT)
