"""The guards of a rule, each a question: what holds it back, or nothing. Every one of them is asked."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterable, Sequence
from typing import NamedTuple

from backendhealth.core.durations import human
from backendhealth.core.remediation.limits import limit_reached, too_many_at_once
from backendhealth.core.remediation.plans import Ask, Case, Rule
from backendhealth.core.remediation.ruling import Guard, Hold
from backendhealth.core.remediation.situation import Component, Situation
from backendhealth.core.remediation.situations import moment
from backendhealth.core.remediation.storm import storm
from backendhealth.core.remediation.windows import standing
from backendhealth.core.verdict import Verdict

_FAILS = (Verdict.UNHEALTHY, Verdict.UNKNOWN)
_UNTOLD = (Verdict.UNKNOWN,)
_WORKS = (Verdict.HEALTHY, Verdict.DEGRADED)
_NOT_SEEN = "no attempt shows it now: it is changing, or has not been probed again since a restart"
ORDER = {guard: at for at, guard in enumerate(Guard)}


def switched_off(case: Case) -> Hold | None:
    """The one switch for all remediation."""
    why = case.world.switched_off
    return Hold(Guard.SWITCHED_OFF, f"all remediation is switched off: {why}") if why else None


def not_served(case: Case) -> Hold | None:
    """The namespace's Lease is not held at this moment."""
    return None if case.world.serves else Hold(Guard.NOT_SERVED, "this operator does not serve the namespace now")


def suspended(case: Case) -> Hold | None:
    """Nothing is probed, on purpose."""
    if case.situation is None or not case.situation.suspended:
        return None
    return Hold(Guard.SUSPENDED, "probing is suspended, and nothing is done about what nobody looks at")


def paused(case: Case) -> Hold | None:
    """Somebody wants the policy to do nothing."""
    requests = case.plan.policy.spec.pause_requests
    if not requests:
        return None
    told = "; ".join(f"{one.by}: {one.reason}" for one in requests)
    return Hold(Guard.PAUSED, f"the policy is paused: {told}")


def in_storm(case: Case) -> Hold | None:
    """Too much fails at once."""
    return storm(case.plan.policy.spec.storm_breaker, case.world, case.now)


def outside_window(case: Case) -> Hold | None:
    """It is not a time to act."""
    windows = case.plan.policy.spec.maintenance_windows
    if not windows:
        return None
    why, until = standing(windows, case.now)
    return Hold(Guard.OUTSIDE_WINDOW, why, until) if why else None


def at_limit(case: Case) -> Hold | None:
    """As many were done as are allowed within the window."""
    return limit_reached(case.plan.bounds, case.ledger, case.now)


def crowded(case: Case) -> Hold | None:
    """As many are under way as are allowed at a time."""
    return too_many_at_once(case.plan.bounds, case.ledger)


def not_observed(_: Case, rule: Rule, component: Component) -> Hold | None:
    """It was found so before we came, or the newest attempt says otherwise."""
    if component.observed:
        return None
    return Hold(Guard.NOT_OBSERVED, f"{rule.component} counts as {component.verdict}, but {_NOT_SEEN}")


def not_long_enough(case: Case, rule: Rule, component: Component) -> Hold | None:
    """It may pass."""
    until = component.since + rule.lasting
    if case.now >= until:
        return None
    since = moment(component.since)
    return Hold(
        Guard.NOT_LONG_ENOUGH, f"{rule.component} is Unhealthy since {since}, not yet for {human(rule.lasting)}", until
    )


def is_flapping(_: Case, rule: Rule, component: Component) -> Hold | None:
    """What comes and goes is not mended by what is done once."""
    return Hold(Guard.FLAPPING, f"{rule.component} is flapping") if component.reason == "Flapping" else None


def beside(case: Case, rule: Rule, _: Component) -> Hold | None:
    """Something fails beside which the rule must not act. What nobody knows, or has not been observed, may fail."""
    if case.situation is None:
        return None
    components = case.situation.components
    found = []
    for names, bad in ((rule.unhealthy, _FAILS), (rule.unknown, _UNTOLD)):
        for name in names:
            other = components.get(name)
            if other is None or other.verdict in bad or not other.observed:
                found.append(_trouble(name, other, bad))
    if not found:
        return None
    return _beside(found[0] if len(found) == 1 else "; ".join(dict.fromkeys(found)))


@functools.lru_cache(maxsize=4096)
def _beside(told: str) -> Hold:
    return Hold(Guard.UNLESS, told)


def _trouble(name: str, component: Component | None, bad: Sequence[Verdict]) -> str:
    if component is None:
        return f"no probe speaks for {name}"
    if component.verdict in bad:
        return f"{name} is {component.verdict} ({component.reason})"
    return f"{name} counts as {component.verdict}, but {_NOT_SEEN}"


def awaiting_recovery(case: Case, rule: Rule, _: Component) -> Hold | None:
    """What must work again before the rule acts does not yet, or not for long enough."""
    if rule.after is None or case.situation is None:
        return None
    name = rule.after.component
    other = case.situation.components.get(name)
    if other is None or other.verdict in _FAILS or not other.observed:
        return Hold(Guard.AWAITING_RECOVERY, _trouble(name, other, _FAILS))
    found = recovery_of(case.situation, name)
    if found is None:
        return Hold(Guard.AWAITING_RECOVERY, f"{name} is not known to have failed")
    until = max(found[0], other.since) + rule.after.delay
    if case.now >= until:
        return None
    told = f"{name} works again since {moment(max(found[0], other.since))}, not yet for {human(rule.after.delay)}"
    return Hold(Guard.AWAITING_RECOVERY, told, until)


def recovery_of(situation: Situation, name: str) -> tuple[float, float] | None:
    """Since when a component that works has worked without a break, and when it first did after it last failed.

    None when it is not known to have failed.
    """
    steady = first = None
    unbroken = True
    for change in situation.history:  # newest first
        if change.component != name:
            continue
        if change.verdict in _WORKS:
            first = change.at
            steady = change.at if unbroken else steady
        elif change.verdict is Verdict.UNHEALTHY:
            return (steady, first) if steady is not None and first is not None else None
        else:
            unbroken = False
    return None


WIDE: tuple[Callable[[Case], Hold | None], ...] = (
    switched_off,
    not_served,
    suspended,
    paused,
    in_storm,
    outside_window,
    at_limit,
    crowded,
)
"""Guards for which it does not matter which rule it is."""
WIDE_GUARDS = frozenset(
    {
        *(Guard.SWITCHED_OFF, Guard.NOT_SERVED, Guard.SUSPENDED, Guard.PAUSED, Guard.STORM),
        *(Guard.OUTSIDE_WINDOW, Guard.LIMIT_REACHED, Guard.TOO_MANY_AT_ONCE),
    }
)
"""What these hold by."""


class Own(NamedTuple):
    """A guard that depends on the rule, and for which rules it is any use to ask it."""

    ask: Ask
    applies: Callable[[Rule], bool]


OWN: tuple[Own, ...] = (
    Own(not_observed, lambda _: True),
    Own(not_long_enough, lambda rule: rule.lasting > 0),
    Own(is_flapping, lambda rule: rule.flapping),
    Own(beside, lambda rule: bool(rule.unhealthy or rule.unknown)),
    Own(awaiting_recovery, lambda rule: rule.after is not None),
)


def in_order(holds: Sequence[Hold]) -> tuple[Hold, ...]:
    """The first guard first."""
    return tuple(holds) if len(holds) == 1 else tuple(sorted(holds, key=_order))


def _order(hold: Hold) -> int:
    return ORDER[hold.guard]


def again_at(holds: Iterable[Hold]) -> float | None:
    """When the first of them lets go by itself."""
    first = None
    for hold in holds:
        if hold.until is not None and (first is None or hold.until < first):
            first = hold.until
    return first
