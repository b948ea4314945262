"""What holds for every policy, situation and past, whatever they are."""

from __future__ import annotations

import random
from dataclasses import replace
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from backendhealth.core.remediation.deciding import decide, room
from backendhealth.core.remediation.recheck import recheck
from backendhealth.core.remediation.ruling import Ruling
from backendhealth.core.remediation.situation import Component, Past, Situation, World
from backendhealth.core.spec.remediationpolicy import RemediationPolicy
from backendhealth.core.verdict import Verdict
from tests.unit.remediating import (
    CALM,
    HOUR,
    INCIDENT,
    MINUTE,
    POD,
    ROLLOUT,
    START,
    UID,
    component,
    past,
    policy,
    rule,
    situation,
    spec,
)

NAMES = ("core", "etcd", "redis")
PHASES = (
    *("Pending", "AwaitingApproval", "Held", "Running", "Verifying", "Succeeded"),
    *("NotHelpful", "Failed", "Unknown", "Expired", "Rejected"),
)
slow_is_fine = settings(deadline=None)
"""Other work may go on beside it."""
seconds = st.integers(-4 * 3600, 4 * 3600).map(float)
names = st.sampled_from(NAMES)
some = st.lists(names, max_size=2, unique=True)


@st.composite
def rules(draw: st.DrawFn, *, escalate: bool) -> dict[str, Any]:
    more: dict[str, Any] = {}
    if draw(st.booleans()):
        more["after"] = {"recovery": draw(names), "delay": "1m", "within": "1h"}
    if escalate and draw(st.booleans()):
        more["escalation"] = [{"action": ROLLOUT, "after": draw(st.sampled_from(["0s", "20m"]))}]
    return rule(
        component=draw(st.sampled_from(["core", "core", "etcd"])),
        when={"for": draw(st.sampled_from(["0s", "10m"])), "includeSymptoms": draw(st.booleans())},
        unless={"unhealthy": draw(some), "unknown": draw(some)},
        **more,
    )


@st.composite
def policies(draw: st.DrawFn, *, escalate: bool = False) -> RemediationPolicy:
    limits = {
        "max": draw(st.integers(1, 3)),
        "window": draw(st.sampled_from(["10m", "1h"])),
        "maxConcurrent": draw(st.integers(1, 3)),
        "cooldown": draw(st.sampled_from(["0s", "10m", "1h"])),
        "maxCooldown": draw(st.sampled_from(["0s", "30m", "6h"])),
    }
    return policy(draw(rules(escalate=escalate)), limits=limits, mode=draw(st.sampled_from(["Enforce", "DryRun"])))


@st.composite
def components(draw: st.DrawFn, name: str) -> Component:
    verdict = draw(st.sampled_from(Verdict))
    return component(name, verdict, since=draw(seconds), observed=draw(st.booleans()), root=draw(st.booleans()))


@st.composite
def situations(draw: st.DrawFn) -> Situation:
    found = [draw(components(name)) for name in NAMES if draw(st.integers(0, 5))]
    changes = draw(st.lists(st.tuples(seconds, names, st.sampled_from(Verdict)), max_size=5))
    history = tuple(sorted(changes, key=lambda one: -one[0]))
    return situation(*found, history=history)


@st.composite
def pasts(draw: st.DrawFn) -> list[Past]:
    many = draw(st.lists(st.tuples(st.sampled_from(PHASES), seconds, st.integers(0, 3600)), max_size=6))
    return [
        past(
            phase,
            began,
            ended=began + took,
            name=f"{draw(st.integers(0, 10**6))}-{number}",
            rule=draw(st.sampled_from(["restart", "other"])),
            step=draw(st.integers(0, 1)),
            incident=draw(st.sampled_from([INCIDENT, "earlier"])),
            target=draw(st.sampled_from([POD, "Pod/core-0/uid-1/core", "Pod/core-1/uid-2/core"])),
            dry=draw(st.booleans()),
        )
        for number, (phase, began, took) in enumerate(many)
    ]


def ruling(given: RemediationPolicy, on: Situation, before: list[Past], now: float, world: World = CALM) -> Ruling:
    return decide(given, UID, on, before, world, START + now)[0]


def roomy(given: RemediationPolicy, before: list[Past], now: float) -> bool:
    first = given.spec.remediation_rules[0]
    return not room(given, UID, first, POD, before, START + now, incident=INCIDENT)


def allowed(given: RemediationPolicy, on: Situation, before: list[Past], now: float) -> bool:
    return not recheck(given, UID, spec(given), on, before, CALM, START + now)


@slow_is_fine
@given(policies(), situations(), pasts(), seconds, names)
def test_what_becomes_unknown_never_makes_it_act(
    of: RemediationPolicy, on: Situation, before: list[Past], now: float, name: str
):
    if name not in on.components:
        return
    blind = replace(on.components[name], verdict=Verdict.UNKNOWN, reason="Blind")
    darker = replace(on, components={**on.components, name: blind})
    if ruling(of, darker, before, now).acts:
        assert ruling(of, on, before, now).acts or name == on_recovery(of)
        assert name not in acting_on(of)


def acting_on(of: RemediationPolicy) -> set[str]:
    """The components that must not be Unknown for the rule to act."""
    (found,) = of.spec.remediation_rules
    recovery = {found.after.recovery} if found.after else set()
    return {found.when.component, *found.unless.unhealthy, *found.unless.unknown} | recovery


def on_recovery(of: RemediationPolicy) -> str:
    after = of.spec.remediation_rules[0].after
    return after.recovery if after else ""


@slow_is_fine
@given(policies(), situations(), pasts(), seconds, names)
def test_what_was_not_observed_or_is_not_known_never_makes_it_act(
    of: RemediationPolicy, on: Situation, before: list[Past], now: float, name: str
):
    fewer = {key: one for key, one in on.components.items() if key != name}
    restored = {key: replace(one, observed=one.observed and key != name) for key, one in on.components.items()}
    for found in (fewer, restored):
        if ruling(of, replace(on, components=found), before, now).acts:
            assert ruling(of, on, before, now).acts


@slow_is_fine
@given(policies(escalate=True), situations(), pasts(), seconds, st.floats(1, 24 * HOUR))
def test_a_clock_set_back_never_frees_a_limit(
    of: RemediationPolicy, on: Situation, before: list[Past], now: float, back: float
):
    if roomy(of, before, now - back):
        assert roomy(of, before, now)
    plain = situation(component(since=-10 * HOUR))
    held = {one.guard for one in ruling(of, plain, before, now).holds}
    earlier = {one.guard for one in ruling(of, plain, before, now - back).holds}
    assert held & {"LimitReached", "TooManyAtOnce", "CoolingDown"} <= earlier


@slow_is_fine
@given(policies(escalate=True), situations(), pasts(), seconds, st.randoms(use_true_random=False))
def test_the_order_of_the_past_does_not_matter(
    of: RemediationPolicy, on: Situation, before: list[Past], now: float, shuffle: random.Random
):
    other = list(before)
    shuffle.shuffle(other)
    assert ruling(of, on, before, now) == ruling(of, on, other, now)
    first = of.spec.remediation_rules[0]
    args = (of, UID, first, POD)
    rest = {"incident": INCIDENT, "step": 0}
    assert room(*args, before, START + now, **rest) == room(*args, other, START + now, **rest)  # type: ignore[arg-type]
    mine = spec(of)
    assert recheck(of, UID, mine, on, before, CALM, START + now) == recheck(of, UID, mine, on, other, CALM, START + now)


@slow_is_fine
@given(policies(), situations(), pasts(), pasts(), seconds)
def test_more_past_never_allows_more(
    of: RemediationPolicy, on: Situation, before: list[Past], more: list[Past], now: float
):
    both = [*before, *more]
    if ruling(of, on, both, now).acts:
        assert ruling(of, on, before, now).acts
    if roomy(of, both, now):
        assert roomy(of, before, now)
    if allowed(of, on, both, now):
        assert allowed(of, on, before, now)


@slow_is_fine
@given(policies(escalate=True), situations(), pasts(), seconds)
def test_the_same_arguments_give_the_same_answer(of: RemediationPolicy, on: Situation, before: list[Past], now: float):
    again = RemediationPolicy.model_validate(of.model_dump(by_alias=True))
    assert ruling(of, on, before, now) == ruling(again, on, before, now) == ruling(of, on, before, now)


@slow_is_fine
@given(policies(escalate=True), situations(), pasts(), seconds)
def test_what_holds_lets_go_at_the_time_that_was_told_and_nothing_is_told_of_the_past(
    of: RemediationPolicy, on: Situation, before: list[Past], now: float
):
    found = ruling(of, on, before, now)
    assert all(hold.until is None or hold.until > START + now for hold in found.holds)
    until = min((hold.until for hold in found.holds if hold.until is not None), default=None)
    assert found.again_at == until
    if until is None:
        return
    just_before = ruling(of, on, before, until - START - 0.001)
    assert just_before.unmatched or just_before.holds == found.holds  # and nothing of it counts down
    at_last = ruling(of, on, before, until - START)
    first = next(hold for hold in found.holds if hold.until == until)
    assert first not in at_last.holds


@slow_is_fine
@given(policies(), pasts(), st.integers(1, 8), seconds)
def test_however_often_it_is_asked_no_more_than_the_limit_begins(
    of: RemediationPolicy, before: list[Past], steps: int, now: float
):
    window = {"10m": 10 * MINUTE, "1h": HOUR}[of.spec.limits.window]
    done = [one for one in before if one.phase in ("Succeeded", "NotHelpful", "Unknown")][: of.spec.limits.max]
    dry = of.spec.mode == "DryRun"
    done = [replace(one, dry=dry) for one in done]
    first = of.spec.remediation_rules[0]
    for number in range(steps):
        at = now + number * MINUTE
        target = f"Pod/core-{number}/uid/core"
        if not room(of, UID, first, target, done, START + at, incident=INCIDENT):
            done.append(past("NotHelpful", at, name=f"new-{number}", target=target, dry=dry))
        recent = [one for one in done if START + at - one.began < window]
        assert len(recent) <= of.spec.limits.max
