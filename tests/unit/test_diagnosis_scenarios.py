"""Faults that overlap in time, seen through probes with intervals and thresholds: who is blamed, at every write."""

from __future__ import annotations

import heapq
import random
from dataclasses import dataclass, field
from typing import Any

import pytest

from backendhealth.core.knowledge import Knowledge
from backendhealth.core.observation import Observation
from backendhealth.core.spec.status import BackendHealthStatus
from backendhealth.engine.cycle import Cycle
from tests.unit.diagnosing import profile
from tests.unit.support import GOOD, REFUSED, probe, resource

BELOW = {"etcd": [], "redis": [], "db": [], "core": ["etcd", "redis"], "api": ["db", "redis"], "drivers": ["core"]}
PLATFORM = profile(*(f"{name}: {' '.join(needs)}" for name, needs in BELOW.items()))
INTERVAL, RETRY, FAILURES, TOOK = 30.0, 2.0, 3, 0.2
DETECTED = INTERVAL + FAILURES * (RETRY + TOOK)
GRACE = 150
LAG = 5.0
"""Seconds that one needs to come up after what it depends on has."""


@dataclass(frozen=True)
class Fault:
    component: str
    start: float
    end: float


@dataclass
class Truth:
    """What really fails, and when, in steps of a second."""

    faults: list[Fault]
    known: dict[tuple[str, int], bool] = field(default_factory=dict)

    def fails(self, name: str, at: float) -> bool:
        key = (name, int(at))
        if at < 0:
            return False
        if key not in self.known:
            own = any(one.component == name and one.start <= at < one.end for one in self.faults)
            self.known[key] = own or any(self.fails(one, at) or self.fails(one, at - LAG) for one in BELOW[name])
        return self.known[key]

    def row(self, name: str, at: float) -> float:
        """When the failure began that goes on at `at`."""
        while self.fails(name, at - 1):
            at -= 1
        return at

    def to_blame(self, name: str, at: float) -> bool:
        """Whether a fault of its own is part of the failure that goes on, or went on when it was last probed."""
        recent = next((at - back for back in range(int(DETECTED) + 10) if self.fails(name, at - back)), None)
        if recent is None:
            return False
        since = self.row(name, recent)
        return any(one.component == name and one.start <= at and one.end > since for one in self.faults)

    def to_be_found(self) -> list[tuple[str, float, float]]:
        """Faults, each from when it must be known to when it is mended; those that others mask are left out."""
        return [
            (one.component, one.start + DETECTED + 1, one.end)
            for one in self.faults
            if not any(
                self.fails(low, when)
                for low in BELOW[one.component]
                for when in range(int(one.start) - GRACE, int(one.start + DETECTED) + 1)
            )
        ]


def run(faults: list[Fault], until: float, luck: random.Random) -> list[tuple[float, BackendHealthStatus]]:
    """Every status that would be written, with its time."""
    told: list[tuple[float, BackendHealthStatus]] = []
    now = 0.0
    spec: dict[str, Any] = {
        "interval": f"{INTERVAL:.0f}s",
        "retryInterval": f"{RETRY:.0f}s",
        "failureThreshold": FAILURES,
    }
    names = list(BELOW)
    luck.shuffle(names)
    cycle = Cycle(lambda _, status: told.append((now, status)))
    cycle.apply(resource(*(probe(name) for name in names), **spec), 0.0, knowledge=Knowledge(PLATFORM))
    truth = Truth(faults)
    due = {name: luck.uniform(0, INTERVAL) for name in names}
    events = [(at, name) for name, at in due.items()]
    heapq.heapify(events)
    while events and now < until:
        began, name = heapq.heappop(events)
        if due[name] != began:
            continue  # it was asked for earlier
        now = began + TOOK
        finding = REFUSED if truth.fails(name, began + TOOK / 2) else GOOD
        asked = cycle.observe(Observation("default/demo", 1, name, began, now, finding), now)
        due[name] = now + (RETRY if cycle.deciding(("default/demo", name)) else INTERVAL)
        for _, other in asked:
            due[other] = min(due[other], now)
        for one in {name, *(other for _, other in asked)}:
            heapq.heappush(events, (due[one], one))
    return told


def blamed(status: BackendHealthStatus) -> list[str]:
    return [one.component for one in status.diagnosis.root_causes] if status.diagnosis else []


def generated(luck: random.Random) -> list[Fault]:
    pair = luck.sample(list(BELOW), 2)
    first = luck.uniform(100, 130)
    second = first + luck.uniform(0, 300)
    return [
        Fault(pair[0], first, first + luck.uniform(90, 400)),
        Fault(pair[1], second, second + luck.uniform(90, 400)),
    ]


@pytest.mark.parametrize("seed", range(40))
def test_two_faults_that_overlap(seed: int):
    luck = random.Random(seed)
    faults = generated(luck)
    truth = Truth(faults)
    told = run(faults, 1200, luck)
    ends = [at for at, _ in told[1:]] + [1200.0]
    for (at, status), end in zip(told, ends, strict=True):
        names = blamed(status)
        assert [name for name in names if not truth.to_blame(name, at)] == [], (at, faults)
        due = [name for name, known, mended in truth.to_be_found() if max(at, known) < min(end, mended)]
        assert [name for name in due if name not in names] == [], (at, end, faults)
    assert blamed(told[-1][1]) == []
    assert told[-1][1].summary is not None
    assert told[-1][1].summary.state == "Healthy"
