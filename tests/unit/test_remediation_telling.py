"""What is told of remediation: in the status, by the condition, to people who ask why."""

from __future__ import annotations

from dataclasses import replace

import pytest

from backendhealth.core.remediation.deciding import decide
from backendhealth.core.remediation.explaining import why_lines
from backendhealth.core.remediation.recheck import helped
from backendhealth.core.remediation.ruling import TO_DO, Guard, Hold, Ruling
from backendhealth.core.remediation.situation import Component
from backendhealth.core.remediation.viewing import allowed, view, with_remediation
from backendhealth.core.spec.remediationpolicy import Verify
from backendhealth.core.spec.status import BackendHealthStatus, Condition
from backendhealth.core.statusof import timestamp
from backendhealth.core.writing import fingerprint, rendered
from tests.unit.remediating import (
    BH_UID,
    CALM,
    MINUTE,
    ROLLOUT,
    START,
    UID,
    D,
    H,
    N,
    U,
    component,
    past,
    policy,
    rule,
    situation,
    spec,
)

STORM = Hold(Guard.STORM, "much fails")
COOLING = Hold(Guard.COOLING_DOWN, "a short while ago", START + 60)
FRESH = Hold(Guard.NOT_LONG_ENOUGH, "not yet", START + 30)
BARE = BackendHealthStatus(observed_generation=3)


def condition(status: BackendHealthStatus) -> Condition:
    return next(one for one in status.conditions if one.type == "RemediationAllowed")


def test_the_first_guard_comes_first_and_what_holds_all_rules_is_told_once():
    rulings = {
        "b": [Ruling("one", holds=(STORM, COOLING)), Ruling("two", holds=(FRESH, STORM))],
        "a": [Ruling("one", holds=(STORM,)), Ruling("two", "not for it")],
    }
    told = view(rulings, (), BH_UID)
    assert [(one.policy, one.rule, one.guard, one.until) for one in told.holds] == [
        ("b", "two", "NotLongEnough", timestamp(START + 30)),
        ("a", "", "Storm", None),
        ("b", "", "Storm", None),
        ("b", "one", "CoolingDown", timestamp(START + 60)),
    ]
    assert view(dict(reversed(rulings.items())), (), BH_UID) == told


def test_what_is_not_at_its_end_is_active():
    before = [past("Held", name="b"), past("Running", name="a"), past(name="c"), past("Held", backend_health="other")]
    assert view({}, before, BH_UID).active == ["a", "b"]


def test_however_many_there_are_it_is_bounded():
    rulings = {"a": [Ruling(f"rule-{number}", holds=(FRESH, COOLING)) for number in range(64)]}
    told = view(rulings, [past("Held", name=str(number)) for number in range(99)], BH_UID)
    assert (len(told.holds), len(told.active)) == (64, 64)
    assert {one.guard for one in told.holds} == {"NotLongEnough"}
    long = view({"a": [Ruling("one", holds=(Hold(Guard.PAUSED, "x" * 5000, 1e20),))]}, (), BH_UID).holds[0]
    assert (len(long.message), long.until) == (1024, None)


@pytest.mark.parametrize(
    ("holds", "expected"),
    [
        ((), ("True", "Allowed", "nothing holds the policies back")),
        ((STORM, COOLING), ("False", "Storm", "a: much fails")),
        ((COOLING,), ("False", "CoolingDown", "a/one: a short while ago (until 2026-01-01T00:01:00Z)")),
    ],
)
def test_the_condition_tells_the_first_guard(holds: tuple[Hold, ...], expected: tuple[str, str, str]):
    assert allowed(view({"a": [Ruling("one", holds=holds)]}, (), BH_UID)) == expected


def test_the_condition_is_there_only_when_a_policy_names_the_resource_and_keeps_its_time():
    held, free = (view({"a": [Ruling("one", holds=holds)]}, (), BH_UID) for holds in ((STORM,), ()))
    other = view({"a": [Ruling("one", holds=(COOLING,))]}, (), BH_UID)
    first = with_remediation(BARE, held, None, START)
    assert first.remediation == held
    assert condition(first).last_transition_time == timestamp(START)
    assert condition(first).observed_generation == 3
    again = with_remediation(first, other, first, START + 60)
    assert (condition(again).reason, condition(again).last_transition_time) == ("CoolingDown", timestamp(START))
    freed = with_remediation(again, free, again, START + 90)
    assert (condition(freed).status, condition(freed).last_transition_time) == ("True", timestamp(START + 90))
    assert with_remediation(freed, None, freed, START) == BARE


def test_no_more_conditions_than_there_may_be():
    full = [condition(with_remediation(BARE, view({}, (), ""), None, START))] * 128
    many = BARE.model_copy(update={"conditions": [one.model_copy(update={"type": "X"}) for one in full]})
    assert len(with_remediation(many, view({}, (), ""), None, START).conditions) == 128


def test_nothing_that_is_told_changes_while_nothing_happens():
    given = policy(
        rule("slow", when={"for": "1h"}),
        rule("stepped", escalation=[{"action": ROLLOUT, "after": "1h"}]),
        limits={"max": 1},
    )
    before = [past(rule="stepped", name="x")]
    told = set()
    for now in range(10, 3000, 70):
        rulings = {"a": decide(given, UID, situation(), before, CALM, START + now)}
        status = with_remediation(BARE, view(rulings, before, BH_UID), None, START)
        told.add(fingerprint(rendered(status)))
    assert len(told) == 1


@pytest.mark.parametrize(
    ("found", "healthy", "expected"),
    [
        (component(verdict=H), [], True),
        (component(verdict=D), [], True),
        (component(verdict=U), [], False),
        (component(verdict=N), [], False),
        (component(verdict=H, observed=False), [], False),
        (component("other", H), [], False),
        (component("etcd", H), ["etcd"], True),
        (component(verdict=H), ["core", "etcd"], False),
    ],
)
def test_it_has_helped_when_all_that_must_be_is_seen_healthy(found: Component, healthy: list[str], *, expected: bool):
    assert helped(Verify(healthy=healthy), spec().cause, situation(found)) is expected


def test_where_nothing_must_be_healthy_the_effect_is_enough():
    assert helped(None, spec().cause, None)
    assert helped(Verify(), None, None)
    assert not helped(Verify(), spec().cause, None)


def test_why_is_told_in_plain_words():
    given = policy(
        rule("debug-logs", when={"for": "1h", "reasons": ["CoreNotRegistered"]}),
        rule("restart", component="etcd"),
        rule("again", escalation=[{"action": ROLLOUT}]),
    )
    other = policy(name="another").model_copy(update={"spec": policy(mode="DryRun").spec})
    on = situation(component(), component("etcd", H))
    before = [
        past(began=5, rule="again", name="again-1"),
        past("Succeeded", -600, rule="again", incident="earlier", name="again-0"),
        past("Expired", began=7, rule="", by_hand=True, backend_health="", name="mine"),
        past(rule="again", backend_health="other", name="not-ours"),
        past("Held", began=9, rule="", by_hand=True, revert=True, name="revert-1"),
    ]
    now = START + 10 * MINUTE
    policies, world = {UID: given, "other-uid": other}, replace(CALM, switched_off="off")
    rulings = {uid: decide(one, uid, on, before, world, now) for uid, one in policies.items() if uid == UID}
    assert why_lines(policies, on, rulings, before, now, {"again-1": "restarted, core stayed as it was"}) == [
        "Policy another (DryRun)",
        "  is not for this resource",
        "Policy placeos (Enforce)",
        "  held by SwitchedOff: all remediation is switched off: off",
        f"    what to do: {TO_DO[Guard.SWITCHED_OFF]}",
        "  Rule debug-logs",
        "    seen: core is Unhealthy (CoreNotRegistered) since 2026-01-01T00:00:00Z (10m), a root cause: seen",
        "    matches (one of CoreNotRegistered); step 1 of 1",
        (
            "    held by NotLongEnough, until 2026-01-01T01:00:00Z: core is Unhealthy since 2026-01-01T00:00:00Z,"
            " not yet for 60m"
        ),
        f"      what to do: {TO_DO[Guard.NOT_LONG_ENOUGH]}",
        "  Rule restart",
        "    seen: etcd is Healthy (ProbeSucceeded) since 2026-01-01T00:00:00Z (10m): seen",
        "    does not match: etcd is Healthy (ProbeSucceeded)",
        "  Rule again",
        "    seen: core is Unhealthy (CoreNotRegistered) since 2026-01-01T00:00:00Z (10m), a root cause: seen",
        "    matches; step 2 of 2",
        "    nothing else holds it back",
        "    again-0: Succeeded at 2025-12-31T23:50:00Z, in an earlier incident, step 1 on Pod/core-0",
        ("    again-1: NotHelpful at 2026-01-01T00:00:05Z, step 1 on Pod/core-0: restarted, core stayed as it was"),
        "  By hand",
        "    mine: Expired at 2026-01-01T00:00:07Z, step 1 on Pod/core-0",
        "    revert-1: Held at 2026-01-01T00:00:09Z, takes it back on Pod/core-0",
    ]
    assert why_lines({}, on, {}, (), now) == ["No policy names this resource: nothing is done about it."]
    assert "    nothing holds it back" in why_lines(
        {UID: given}, on, {UID: decide(given, UID, on, (), CALM, now)}, (), now
    )


def test_for_each_guard_there_is_something_to_do():
    assert list(TO_DO) == list(Guard)
