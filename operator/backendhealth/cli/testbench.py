"""Runs a case of a DiagnosisTest through the engine's own cycle in virtual time: no network, no clock."""

from __future__ import annotations

import heapq
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import count
from typing import Protocol, TypeVar

from backendhealth.core.durations import seconds
from backendhealth.core.knowledge import Knowledge
from backendhealth.core.observation import Finding, Observation, SubjectFinding
from backendhealth.core.reasons import EVERY_PROBE, Reason
from backendhealth.core.spec.backendhealth import BackendHealth, Probe
from backendhealth.core.spec.diagnosistest import HEALTHY, DiagnosisCase, Expected, See, SeenSubject, Step
from backendhealth.core.spec.profile import DiagnosisProfileSpec
from backendhealth.core.spec.status import BackendHealthStatus
from backendhealth.core.verdict import Verdict
from backendhealth.engine.cycle import Cycle
from backendhealth.engine.scheduler import TICK

MAX_ATTEMPTS = 50_000
"""Of one case: seconds of our own time."""
_TOOK = 0.01
"""Seconds that an attempt takes: what began at the same time tells nothing of what came first."""


class Timed(Protocol):
    """What happens at a time of a case."""

    @property
    def at(self) -> str:
        """Time since the begin of the case, e.g. 30s."""
        ...


_Event = TypeVar("_Event", bound=Timed)
Target = tuple[str, str]
"""A probe and one of its parts; an empty part is the probe's own finding."""


class TooLongError(Exception):
    """The case has more attempts than anybody waits for."""


@dataclass(frozen=True, slots=True)
class Ran:
    """What came of a case: the status at each expectation, and all that was told on the way with its time."""

    at: list[tuple[Expected, BackendHealthStatus]]
    told: list[tuple[float, BackendHealthStatus]]


def run_case(
    resource: BackendHealth, profile: DiagnosisProfileSpec, targets: Mapping[str, Sequence[Target]], case: DiagnosisCase
) -> Ran:
    """Run `case`; `targets` are what each name under `see` stands for. Raises TooLongError."""
    bench = Bench(resource, profile)
    seen: list[tuple[Expected, BackendHealthStatus]] = []
    events: list[Step | Expected] = [*case.steps, *case.expect]
    for at, event in in_turn(events):
        if isinstance(event, Step):
            bench.run(at)
            bench.change({target: see for name, see in event.see.items() for target in targets[name]}, at)
        else:
            bench.run(at + TICK)  # what is due within a tick is made together
            seen.append((event, bench.status))
    return Ran(seen, bench.told)


def in_turn(events: Sequence[_Event]) -> list[tuple[float, _Event]]:
    """Steps and expectations by time, the steps of a time first as they are given first."""
    return sorted(((seconds(one.at), one) for one in events), key=lambda one: one[0])


def reason_of(name: str) -> Reason:
    """The reason, which may be told as Healthy. Raises ValueError for what is none."""
    return Reason.PROBE_SUCCEEDED if name == HEALTHY else Reason(name)


def _finding(see: See) -> Finding:
    reason = reason_of(see.reason)
    subjects = tuple(_subject(name, one) for name, one in see.subjects.items())
    return Finding(reason, see.message or reason.info.meaning, subjects, contact=see.contact)


def _subject(name: str, seen: SeenSubject) -> SubjectFinding:
    reason = reason_of(seen.reason)
    return SubjectFinding(name, reason, seen.message or reason.info.meaning)


_WORKS = Finding(Reason.PROBE_SUCCEEDED, Reason.PROBE_SUCCEEDED.info.meaning)


def _reached(finding: Finding) -> bool:
    """Whether the target was reached: reasons that every probe can give tell of the way to it."""
    if finding.verdict is Verdict.UNHEALTHY:
        return finding.reason.info.given_by != EVERY_PROBE
    return finding.verdict is not Verdict.UNKNOWN


@dataclass(slots=True)
class _Target:
    """What an attempt of one probe finds at present."""

    probe: Probe
    own: Finding = _WORKS
    parts: dict[str, Finding] = field(default_factory=dict)

    def finding(self) -> Finding:
        """Parts of which nothing was said work; none is tried where the target can't be reached or we can't tell."""
        others = dict.fromkeys(self.probe.parts, _WORKS) if _reached(self.own) else {}
        return replace(self.own, parts={**others, **self.parts})


class Bench:
    """One resource, whose probes find what they are told to. Times are seconds, and begin at `start`."""

    def __init__(self, resource: BackendHealth, profile: DiagnosisProfileSpec, start: float = 0.0) -> None:
        self.told: list[tuple[float, BackendHealthStatus]] = []
        self._now = start
        self._resource = resource
        self._cycle = Cycle(lambda _, status: self._tell(status), proven=lambda _: self._proven())
        self._cycle.apply(resource, start, knowledge=Knowledge(profile))
        self._targets = {probe.name: _Target(probe) for probe in resource.spec.probes}
        self._due: dict[str, float] = {}
        self._queue: list[tuple[float, int, str]] = []
        self._count = count()
        for name in self._targets:
            timing = self._cycle.timing((resource.key, name))
            if not timing.suspended:
                self._schedule(name, start + timing.initial_delay)

    def _tell(self, status: BackendHealthStatus) -> None:
        self.told.append((self._now, status))

    def _proven(self) -> None:
        """What attempts have shown of the resource's components has changed."""

    def _attempted(self) -> None:
        """An attempt was made, and all that follows from it was told."""

    def _limit(self, until: float) -> float:
        """Before which attempts are made, at most until `until`; asked before each."""
        return until

    @property
    def status(self) -> BackendHealthStatus:
        """What is told now."""
        return self._cycle.status(self._resource.key)

    def change(self, seen: Mapping[Target, See], at: float) -> None:
        """From `at` on that is found; who finds it makes an attempt at once."""
        for (name, part), see in seen.items():
            target = self._targets[name]
            if part:
                target.parts[part] = _finding(see)
            else:
                target.own = _finding(see)
        for name in dict.fromkeys(name for name, _ in seen):
            if name in self._due:
                self._schedule(name, at)

    def run(self, until: float) -> None:
        """Make all attempts that begin before `until`. Raises TooLongError."""
        for name, started in self._due_before(until):
            self._now = started + _TOOK
            key = (self._resource.key, name)
            found = self._targets[name].finding()
            seen = Observation(key[0], self._resource.metadata.generation, name, started, self._now, found)
            asked = self._cycle.observe(seen, self._now)
            timing = self._cycle.timing(key)
            pause = timing.retry_interval if self._cycle.deciding(key) else timing.interval
            self._schedule(name, max(started + pause, self._now))
            for _, other in asked:
                # one that is due by now is under way already
                if self._due.get(other, 0.0) > self._now:
                    self._schedule(other, self._now)
            self._attempted()

    def _due_before(self, until: float) -> Iterator[tuple[str, float]]:
        while self._queue and self._queue[0][0] < self._limit(until):
            at, number, name = heapq.heappop(self._queue)
            if self._due[name] != at:  # it was moved
                continue
            if number > MAX_ATTEMPTS:
                raise TooLongError(f"more than {MAX_ATTEMPTS:,} attempts")
            yield name, at

    def _schedule(self, name: str, at: float) -> None:
        self._due[name] = at
        heapq.heappush(self._queue, (at, next(self._count), name))
