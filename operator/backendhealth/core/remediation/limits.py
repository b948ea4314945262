"""What was done before, and what it leaves room for: limits, cool-downs, steps. Counted from Remediations only.

A time in the future (a clock was set back) frees nothing: it counts until it is past by as much as any other.
"""

from __future__ import annotations

import functools
from bisect import bisect_right
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field

from backendhealth.core.durations import human, seconds
from backendhealth.core.remediation.ruling import Guard, Hold
from backendhealth.core.remediation.same import Same
from backendhealth.core.remediation.situation import Past
from backendhealth.core.spec.remediation import ACTED, FINAL
from backendhealth.core.spec.remediationpolicy import Verify

PROMISED = frozenset({"Pending", "AwaitingApproval", "Held"})
"""Not begun, but they may: each keeps its place within the limit, so that approvals can't overrun it."""
UNDER_WAY = frozenset({"Running", "Verifying"})
_EFFECTS = ACTED | {"DryRun"}
_NO_HELP = frozenset({"NotHelpful", "Failed", "Unknown"})
_MAX_DOUBLINGS = 32
_NAMED = 3
_TO_READ = seconds(Verify().within)


@dataclass(frozen=True, slots=True)
class Bounds:
    """A policy's limits; times in seconds."""

    max: int
    window: float
    max_concurrent: int
    cooldown: float
    max_cooldown: float


@dataclass(frozen=True, slots=True)
class Attempt:
    """What would be done, or was: a step of a rule (empty: by hand) on a target, in an incident."""

    rule: str
    step: int
    incident: str
    target: str


@dataclass(slots=True)
class Ledger:
    """What counts for a policy: of its Remediations the real ones, or in a dry run the dry ones; never reverts."""

    all: list[Past]
    acted: list[float]
    """When each began that had an effect, or may have had one; the first one first."""
    incidents: dict[tuple[str, str], list[Past]] = field(default_factory=dict)
    """By UID of the BackendHealth and incident."""
    promised: int = 0
    under_way: list[str] = field(default_factory=list)
    """Names of those that are, or are about to be, at work or being verified."""

    def of(self, rule: str) -> Iterator[Past]:
        """Those that follow the rule; of the empty name those by hand."""
        return (one for one in self.all if one.rule == rule and one.by_hand is not bool(rule))


def counted(past: Sequence[Past], policy: tuple[str, str], *, dry: bool, promises: bool = True) -> Ledger:
    """The ledger of a policy, by its UID and its name; don't change it. `promises`: those that have not begun count.

    A tuple is counted once, however often it is asked about.
    """
    if isinstance(past, tuple):
        return _counted(Same(past), policy, dry, promises)
    return _ledger(past, policy, dry, promises)


@functools.lru_cache(maxsize=64)
def _counted(past: Same[tuple[Past, ...]], policy: tuple[str, str], dry: bool, promises: bool) -> Ledger:
    return _ledger(past.value, policy, dry, promises)


def _ledger(past: Iterable[Past], policy: tuple[str, str], dry: bool, promises: bool) -> Ledger:
    mine = [one for one in past if one.policy in policy and one.dry is dry and not one.revert]
    ledger = Ledger(mine, sorted(began(one) for one in mine if has_acted(one)))
    for one in mine:
        ledger.incidents.setdefault((one.backend_health, one.incident), []).append(one)
        if one.phase in UNDER_WAY:
            ledger.under_way.append(one.name)
        elif promises and one.phase in PROMISED:
            ledger.promised += 1
            if one.phase == "Pending":  # others wait for a person, or for what holds them
                ledger.under_way.append(one.name)
    return ledger


def has_acted(one: Past) -> bool:
    """Whether it had an effect, or may have had one; a dry run counts as if it had.

    What failed unbegun has not, nor what found that nothing was to be done.
    """
    return one.phase in _EFFECTS and not one.needless and (one.phase != "Failed" or one.began > 0)


def began(one: Past) -> float:
    """When it began, as far as that is known; later rather than sooner."""
    return one.began or one.ended or one.created


def over(one: Past) -> float:
    """When it was over, or as far as it is known."""
    return one.ended or began(one)


def limit_reached(bounds: Bounds, ledger: Ledger, now: float) -> Hold | None:
    """What holds when as many as are allowed have begun within the window, or are promised."""
    first = bisect_right(ledger.acted, now - bounds.window)
    excess = len(ledger.acted) - first + ledger.promised - bounds.max
    if excess < 0:
        return None
    until = ledger.acted[first + excess] + bounds.window if first + excess < len(ledger.acted) else None
    return Hold(
        Guard.LIMIT_REACHED,
        f"no more than {bounds.max} actions within {human(bounds.window)} are allowed, and so many were done"
        + (" or are waiting" if ledger.promised else ""),
        until,
    )


def too_many_at_once(bounds: Bounds, ledger: Ledger) -> Hold | None:
    """What holds while as many as are allowed at a time are under way."""
    if len(ledger.under_way) < bounds.max_concurrent:
        return None
    names = sorted(ledger.under_way)
    told = ", ".join(names[:_NAMED]) + (f" +{len(names) - _NAMED}" if len(names) > _NAMED else "")
    return Hold(Guard.TOO_MANY_AT_ONCE, f"no more than {bounds.max_concurrent} at a time; under way: {told}")


def in_progress(attempt: Attempt, ledger: Ledger, past: Iterable[Past], *, begun: bool) -> Hold | None:
    """What holds while the target is acted on, by whomever, or the rule has not finished with it.

    `begun`: only what has begun matters, since all that wait are looked at again before they begin.
    """
    place = place_of(attempt.target)
    at_work = [one for one in past if one.phase == "Running" and not one.revert and not one.dry]
    waiting = [
        one
        for one in (ledger.of(attempt.rule) if attempt.rule else ())
        if (one.phase in UNDER_WAY if begun else one.phase not in FINAL)
    ]
    names = [one.name for one in (*at_work, *waiting) if place_of(one.target) == place]
    return Hold(Guard.IN_PROGRESS, f"{min(names)} has to do with {place}, and is not at its end") if names else None


def already_done(attempt: Attempt, ledgers: Iterable[Ledger]) -> Hold | None:
    """What holds when the step was done to the target in this incident: it is never done twice.

    A pod that took the place of one of the same name is the same target, if that one was acted on.
    """
    if not attempt.rule:
        return None
    place = place_of(attempt.target)
    names = [
        f"{one.name} ({one.phase})"
        for ledger in ledgers
        for one in ledger.of(attempt.rule)
        if (one.step, one.incident) == (attempt.step, attempt.incident)
        and one.phase in FINAL
        and (one.target == attempt.target or (has_acted(one) and place_of(one.target) == place))
    ]
    return Hold(Guard.ALREADY_DONE, f"{min(names)} was for {place} in this very incident") if names else None


def cooling_down(bounds: Bounds, attempt: Attempt, ledger: Ledger, now: float) -> Hold | None:
    """What holds for a time after the rule has acted on the target, in whichever incident.

    The next step of the same incident does not wait for it: an escalation has a time of its own. It doubles with each
    attempt that did not help, as long as they follow each other within the longest cool-down. A person does not wait
    for it: what they ask for follows no rule.
    """
    if not attempt.rule:
        return None
    place = place_of(attempt.target)
    before = [
        one
        for one in ledger.of(attempt.rule)
        if has_acted(one)
        and place_of(one.target) == place
        and not (attempt.incident and one.incident == attempt.incident and one.step < attempt.step)
    ]
    if not before:
        return None
    before.sort(key=lambda one: (over(one), one.name))
    failures, last = 0, over(before[0])
    for one in before:
        if over(one) - last > bounds.max_cooldown:
            failures = 0
        failures += one.phase in _NO_HELP
        last = over(one)
    grown = min(bounds.cooldown * 2 ** min(failures, _MAX_DOUBLINGS), bounds.max_cooldown)
    until = last + max(grown, bounds.cooldown)
    if now >= until:
        return None
    often = f", and {failures} times it did not help" if failures > 1 else ", and it did not help" if failures else ""
    return Hold(Guard.COOLING_DOWN, f"{before[-1].name} was for {place} a short while ago{often}", until)


def step_of(steps: Iterable[float], mine: Iterable[Past], shown: frozenset[int] = frozenset()) -> tuple[int, float]:
    """The step that a rule has come to in an incident, and from when on it may be taken.

    `steps` are the seconds to wait before each escalation, `mine` the rule's Remediations in this incident, `shown` the
    steps whose success helps nothing recover. A step is followed by the next when all of it is over, something was
    done, and nothing of it helped. What nobody approved or what was never begun is no reason to do more. What succeeds
    and can't help has the time that others have to help: what it shows is read meanwhile.
    """
    groups: dict[int, list[Past]] = {}
    for one in mine:
        groups.setdefault(one.step, []).append(one)
    step, not_before = 0, 0.0
    for wait in steps:
        group = groups.get(step, [])
        enough = {"DryRun"} if step in shown else {"DryRun", "Succeeded"}
        done = [one for one in group if has_acted(one) or (step in shown and one.needless)]
        if not done or any(one.phase not in FINAL or one.phase in enough for one in group):
            break
        not_before = max(
            not_before, *(over(one) + (_TO_READ if one.phase == "Succeeded" else 0.0) + wait for one in done)
        )
        step += 1
    return step, not_before


def place_of(target: str) -> str:
    """What a target is apart from UIDs and restarts: `Pod/NAME`, `Workload/KIND/NAME`, `Driver/KEY/CORE`."""
    kind, *rest = target.split("/")
    if kind == "Driver":  # how often it was launched is a number, which neither a key nor a core's ID is alone
        rest = [rest[0], *(part for part in rest[1:] if not part.isdecimal())]
    return "/".join((kind, *rest[: _NAME_PARTS.get(kind, len(rest))]))


_NAME_PARTS = {"Pod": 1, "Workload": 2}
