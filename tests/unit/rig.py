"""An engine in fake time, with scripted probers."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

from backendhealth.core.observation import Finding, Observation
from backendhealth.core.spec.backendhealth import BackendHealth, Probe
from backendhealth.core.spec.status import BackendHealthStatus
from backendhealth.engine.engine import Engine
from backendhealth.engine.ports import Signal
from tests.unit.support import GOOD, probe, resource

EPOCH = 1_800_000_000.0
KEY = ("default/demo", "a")


class Scripted:
    """A prober that takes `took` seconds for an attempt and answers with `finding`."""

    def __init__(self, of: BackendHealth, declared: Probe, signal: Signal) -> None:
        self.namespace, self.declared, self.signal = of.metadata.namespace, declared, signal
        self.began: list[float] = []
        self.under_way = self.most_at_once = self.cancelled = self.closed = 0
        self.timeouts: set[float] = set()
        self.took = 0.0
        self.finding = GOOD
        self.error: BaseException | None = None

    async def attempt(self, timeout: float) -> Finding:
        self.began.append(asyncio.get_running_loop().time())
        self.timeouts.add(timeout)
        self.under_way += 1
        self.most_at_once = max(self.most_at_once, self.under_way)
        finding = self.finding
        try:
            await asyncio.sleep(self.took)
        except asyncio.CancelledError:
            self.cancelled += 1
            raise
        finally:
            self.under_way -= 1
        if self.error is not None:
            raise self.error
        return finding

    async def close(self) -> None:
        self.closed += 1


class Rig:
    """An engine, the probers it opened, what its sink was told and what it recorded."""

    def __init__(self) -> None:
        self.loop = asyncio.get_running_loop()
        self.opened: list[Scripted] = []
        self.prepare: Callable[[Scripted], None] = lambda _: None
        self.told: list[tuple[float, str, BackendHealthStatus]] = []
        self.recorded: list[Observation] = []
        self.engine = self.new_engine()

    def new_engine(self, **options: Any) -> Engine:
        return Engine(
            open_prober=self.open,
            clock=lambda: EPOCH + self.now,
            sink=self.sink,
            record=self.recorded.append,
            **options,
        )

    @property
    def now(self) -> float:
        return self.loop.time()  # fake: 0 when a test begins

    def open(self, of: BackendHealth, declared: Probe, signal: Signal) -> Scripted:
        self.opened.append(Scripted(of, declared, signal))
        self.prepare(self.opened[-1])
        return self.opened[-1]

    def sink(self, declared: BackendHealth, status: BackendHealthStatus) -> None:
        self.told.append((round(self.now, 2), declared.key, status))

    def began(self, index: int = 0) -> list[float]:
        return [round(at, 2) for at in self.opened[index].began]

    def states(self) -> list[tuple[float, str]]:
        return [(at, status.summary.state) for at, _, status in self.told if status.summary]


def one(**more: Any) -> BackendHealth:
    return resource(probe("a"), **{"interval": "10s", "timeout": "5s", "retryInterval": "2s", **more})
