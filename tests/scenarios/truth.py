"""What is true at each moment of a scenario, from the injector's log alone: pure.

The rule of masking, here and nowhere else. A fault of component C is *masked* at a moment when a fault of D, which C
depends on by the profile (directly or not) or which a confounder suspects instead, explains it by the times:

- D's fault began before C's was decided, and
- D is not back yet, or C may still be recovering with it (C's `recoveryGrace`), and
- C was not seen to work between D's recovery and its own fault,

unless the reason that C's fault shows is one of C's `ownReasons`. It is *hidden* while a component that it can be seen
through only has a fault. A fault that is masked or hidden may be named or not: from the outside either is right. Every
other active fault must be named, and nothing else may.

The other way round, a fault that is taken back while a fault of what its component depends on is there may go on being
named until that one is over: in between no attempt has worked that would tell.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from backendhealth.core.diagnosis.graph import graph_of
from backendhealth.core.durations import seconds
from backendhealth.core.spec.profile import DiagnosisProfileSpec, Effect

FOREVER = float("inf")
SOCKETS = "existing-websockets"


@dataclass(frozen=True, slots=True)
class Fault:
    """One thing that is done to a platform: its truth.

    `reason` is what it shows as where that may be one of the component's ownReasons. `hangs`: nothing refuses, attempts
    take their whole timeout. `seen_through` are the components that must work for it to be seen at all, `done_through`
    those that must for it to be done and taken back. `cuts`: it ends WebSockets that stand. `forgotten_after` are
    seconds beyond the bound until it is told that it is gone.
    """

    name: str
    component: str
    impact: Mapping[str, Effect]
    """By feature, from PlaceOS's document; what it says nothing of is left out."""
    reason: str = ""
    hangs: bool = False
    seen_through: frozenset[str] = frozenset()
    done_through: frozenset[str] = frozenset()
    cuts: bool = False
    forgotten_after: float = 0.0


@dataclass(frozen=True, slots=True)
class Injected:
    """A line of the injector's log; seconds since the epoch.

    `began` is before it was done, `done` after; `ending` before it was taken back, `ended` when that was done.
    """

    fault: Fault
    began: float
    done: float
    ending: float = FOREVER
    ended: float = FOREVER


@dataclass(frozen=True, slots=True)
class Timing:
    """The timing of the probes, in seconds; `allowance` is for our own way from a verdict to the one who reads it."""

    interval: float = 2.0
    retry_interval: float = 0.3
    timeout: float = 1.0
    failure_threshold: int = 3
    success_threshold: int = 2
    allowance: float = 0.5

    def bound(self, *, hangs: bool = False) -> float:
        """interval + retryInterval x threshold + timeout. An attempt that hangs lasts longer than the retryInterval."""
        again = max(self.retry_interval, self.timeout) if hangs else self.retry_interval
        return self.interval + again * self.failure_threshold + self.timeout + self.allowance

    def back(self) -> float:
        """How long something that works again may be told as failing."""
        return self.interval + max(self.retry_interval, self.timeout) * self.success_threshold + self.allowance


@dataclass(frozen=True, slots=True)
class Truth:
    """The injector's log, judged by the profile and the timing of the probes."""

    profile: DiagnosisProfileSpec
    timing: Timing
    log: Sequence[Injected]

    def bound(self, one: Injected) -> float:
        """When a fault must be told at the latest. What hangs makes the attempts of others wait as well."""
        until = one.done + self.timing.bound()
        hangs = any(other.fault.hangs and other.began < until and one.began < self._gone(other) for other in self.log)
        return one.done + self.timing.bound(hangs=hangs)

    def may(self, at: float) -> set[str]:
        """Components that may be named at `at`: of faults that are there, or were just now."""
        return {one.fault.component for one in self.log if one.began <= at < self._told_until(one)}

    def must(self, at: float) -> set[str]:
        """Components that must be named at `at`."""
        return {one.fault.component for one in self.due(at)}

    def due(self, at: float) -> list[Injected]:
        """The faults that must be named at `at`: there, overdue, neither masked nor hidden nor of these just now."""
        return [one for one in self.log if self.bound(one) <= at < one.ending and not self._covered(one, at)]

    def impact(self, at: float) -> dict[str, Effect]:
        """What users notice of the faults that are due at `at`, by feature, as far as that is known."""
        found = impact_of(one.fault for one in self.due(at))
        if found.get(SOCKETS) == "Works" and any(one.fault.cuts and one.began <= at for one in self.log):
            del found[SOCKETS]  # what was cut, even if by something that is mended, may not have come back
        return found

    def masks(self, one: Injected, other: Injected) -> float:
        """Until when `other` explains `one`, by the times; seconds since the epoch, the beginning of time if never."""
        component = one.fault.component
        known = graph_of(self.profile).components[component]
        if one.fault.reason in known.own_reasons or other.fault.component not in self._above(component):
            return -FOREVER
        fell_after = other.began < self.bound(one)
        not_seen_between = one.began < self._gone(other)
        return self._gone(other) + seconds(known.recovery_grace) if fell_after and not_seen_between else -FOREVER

    def hides(self, one: Injected, other: Injected) -> float:
        """Until when `one` can't be seen because of `other`."""
        return self._gone(other) if other.fault.component in one.fault.seen_through else -FOREVER

    def _covered(self, one: Injected, at: float) -> bool:
        """Whether it is masked or hidden, or was until just now: to be told then, it takes as long as something new."""
        before = at - self.timing.bound(hangs=True)
        others = [other for other in self.log if other is not one and other.began <= at]
        return any(max(self.masks(one, other), self.hides(one, other)) > before for other in others)

    def _gone(self, one: Injected) -> float:
        return one.ended + self.timing.back() + one.fault.forgotten_after

    def _above(self, component: str) -> set[str]:
        """What may be why the component fails."""
        suspects = (one.suspects for one in self.profile.confounders if one.component == component)
        return set(graph_of(self.profile).below[component]).union(*suspects)

    def _told_until(self, one: Injected) -> float:
        """Until when it may be named: while what its component needs is away, nobody sees that it is mended."""
        needed = self._above(one.fault.component)
        until = self._gone(one)
        for other in sorted(self.log, key=lambda other: other.began):
            if other.fault.component in needed and other.began < until:
                until = max(until, self._gone(other) + self.timing.back())
        return until


def impact_of(faults: Iterable[Fault]) -> dict[str, Effect]:
    """By feature, what several faults do together: a feature fails when it does by one of them.

    What works by one fault is told only if every other says so too.
    """
    listed = list(faults)
    rank: dict[Effect, int] = {"Works": 0, "Degraded": 1, "Fails": 2}
    found: dict[str, Effect] = {}
    for feature in {name for fault in listed for name in fault.impact}:
        effects = [fault.impact[feature] for fault in listed if feature in fault.impact]
        worst = max(effects, key=lambda effect: rank[effect])
        if worst == "Fails" or len(effects) == len(listed):
            found[feature] = worst
    return found
