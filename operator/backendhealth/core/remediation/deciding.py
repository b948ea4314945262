"""What a policy makes of a BackendHealth: for each rule whether it acts, or what holds it back."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from typing import NamedTuple

from backendhealth.core.remediation import guards
from backendhealth.core.remediation.guards import ORDER, again_at, in_order, recovery_of
from backendhealth.core.remediation.limits import (
    Attempt,
    already_done,
    cooling_down,
    counted,
    in_progress,
    limit_reached,
    step_of,
    too_many_at_once,
)
from backendhealth.core.remediation.planning import plan_of
from backendhealth.core.remediation.plans import Case, Rule
from backendhealth.core.remediation.ruling import Guard, Hold, Ruling
from backendhealth.core.remediation.situation import Component, Past, Situation, World
from backendhealth.core.remediation.situations import moment
from backendhealth.core.spec.remediationpolicy import PolicyRule, RemediationPolicy
from backendhealth.core.verdict import Verdict

_UNHEALTHY = Verdict.UNHEALTHY
_UNRECORDED = "the incident is not written into the status yet: whoever takes over would not know it as the same one"


def decide(  # noqa: PLR0913, PLR0917 - all that decides
    policy: RemediationPolicy, uid: str, situation: Situation, past: Sequence[Past], world: World, now: float
) -> list[Ruling]:
    """A ruling for each rule, in their order; none when the policy does not name the BackendHealth.

    `past` are the Remediations of the namespace, whatever the order, `now` is in seconds since the epoch. A ruling
    that acts says that the rule may; for each target `room` is asked.
    """
    plan = plan_of(policy)
    if situation.key not in plan.keys:
        return []
    ledger = counted(past, (uid, policy.metadata.name), dry=policy.spec.mode == "DryRun")
    here = ledger.incidents.get((situation.uid, situation.incident), ())
    case = Case(plan, situation, ledger, world, now, here)
    wide = _Wide.of(in_order([hold for ask in guards.WIDE if (hold := ask(case)) is not None]))
    standing = tuple(hold for hold in wide.all if hold.guard in (Guard.SWITCHED_OFF, Guard.PAUSED))
    rulings = []
    for rule in plan.rules:
        why = unmatched(rule, situation, now)
        if why:
            rulings.append(Ruling(rule.name, why, standing) if standing else _not_for(rule.name, why))
        else:
            rulings.append(_ruling(case, rule, situation, wide))
    return rulings


class _Wide(NamedTuple):
    """What holds whatever the rule: all of it, what comes before and after a rule's own guards, when it may change."""

    all: tuple[Hold, ...]
    first: tuple[Hold, ...]
    last: tuple[Hold, ...]
    again: float | None

    @classmethod
    def of(cls, holds: tuple[Hold, ...]) -> _Wide:
        first = tuple(hold for hold in holds if ORDER[hold.guard] < ORDER[Guard.NOT_OBSERVED])
        return cls(holds, first, holds[len(first) :], again_at(holds))


@functools.lru_cache(maxsize=4096)
def _not_for(rule: str, why: str) -> Ruling:
    return Ruling(rule, why)


def _ruling(case: Case, rule: Rule, situation: Situation, wide: _Wide) -> Ruling:
    component = situation.components[rule.component]
    own: tuple[Hold, ...] = ()
    for ask in rule.asks:
        hold = ask(case, rule, component)
        if hold is not None:
            own = (*own, hold)
    step, not_before = 0, 0.0
    if rule.waits and case.here:
        step, not_before = step_of(rule.waits, (one for one in case.here if one.rule == rule.name), rule.shown)
    if case.now < not_before:
        waits = f"step {step + 1} waits: the step before it is too short a while ago to know whether it is needed"
        holds = (*wide.first, *own, *wide.last, Hold(Guard.COOLING_DOWN, waits, not_before))
    elif own:
        holds = (*wide.first, *own, *wide.last)
    else:
        return Ruling(rule.name, "", wide.all, step, wide.again) if wide.all or step else rule.free
    return Ruling(rule.name, "", holds, step, again_at(holds))


def unmatched(rule: Rule, situation: Situation, now: float) -> str:
    """Why the diagnosis is not the one that the rule is for; empty when it is."""
    component = situation.components.get(rule.component)
    if component is None:
        return f"no probe speaks for {rule.component}"
    if component.verdict is not _UNHEALTHY:
        never = ", and on that nothing is ever done" if component.verdict is Verdict.UNKNOWN else ""
        return f"{rule.component} is {component.verdict} ({component.reason}){never}"
    if rule.reasons and not _reason_fits(rule, component):
        return f"{rule.component} is Unhealthy for another reason: {component.reason}"
    if not component.root and not rule.symptoms:
        return _no_cause(component)
    if not situation.incident:
        return "no incident is open"
    if not situation.recorded:
        return _UNRECORDED
    return _too_late(rule, situation, now) if rule.after else ""


def _reason_fits(rule: Rule, component: Component) -> bool:
    reasons = rule.reasons
    return component.reason in reasons or any(part.reason in reasons for part in component.subjects)


def _no_cause(component: Component) -> str:
    if component.explained_by:
        return f"{component.name} is no root cause: {', '.join(component.explained_by)} explains it"
    return f"{component.name} is not known to be a root cause (yet)"


def _too_late(rule: Rule, situation: Situation, now: float) -> str:
    """Why there is no recovery to act after; what has not recovered yet may."""
    if rule.after is None:
        return ""
    name = rule.after.component
    other = situation.components.get(name)
    if other is None or other.verdict in (Verdict.UNHEALTHY, Verdict.UNKNOWN):
        return ""
    found = recovery_of(situation, name)
    if found is None:
        return f"{name} is not known to have failed before"
    if now - found[1] > rule.after.within:
        return f"{name} works again since {moment(found[1])}, too long ago to have to do with it"
    return ""


def room(  # noqa: PLR0913, PLR0917 - all that decides
    policy: RemediationPolicy,
    uid: str,
    rule: PolicyRule | None,
    target_id: str,
    past: Sequence[Past],
    now: float,
    *,
    incident: str = "",
    step: int = 0,
) -> tuple[Hold, ...]:
    """What holds a Remediation of the rule (None: by hand) on a target (RemediationTarget.id) back; empty: none does.

    Give the incident and the step of the ruling: with them it is known what was done already, and that a step of an
    escalation does not cool down from the one before.
    """
    dry = rule is not None and policy.spec.mode == "DryRun"
    names = (uid, policy.metadata.name)
    ledger = counted(past, names, dry=dry)
    ledgers = (ledger, counted(past, names, dry=False)) if dry else (ledger,)
    bounds = plan_of(policy).bounds
    attempt = Attempt(rule.name if rule else "", step, incident, target_id)
    asked = (
        in_progress(attempt, ledger, past, begun=False),
        already_done(attempt, ledgers),
        limit_reached(bounds, ledger, now),
        too_many_at_once(bounds, ledger),
        cooling_down(bounds, attempt, ledger, now),
    )
    return in_order([hold for hold in asked if hold is not None])
