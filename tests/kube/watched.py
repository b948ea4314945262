"""An engine with one `pods` probe, over a real API server."""

from __future__ import annotations

import contextlib
import time
from collections.abc import AsyncIterator
from typing import Any

from backendhealth.core.reasons import Reason
from backendhealth.core.spec.backendhealth import BackendHealth, Probe
from backendhealth.core.spec.status import BackendHealthStatus, ProbeStatus
from backendhealth.engine.engine import Engine
from backendhealth.engine.ports import Signal
from backendhealth.kube.api import Api
from backendhealth.kube.podwatch import PodWatches
from backendhealth.probes.dialer import Dialer
from backendhealth.probes.prober import Prober
from backendhealth.probes.registry import Context, build
from tests.probes.checks import eventually
from tests.probes.support import MemorySecrets
from tests.unit.support import resource

SELECTOR = {"matchLabels": {"app": "core"}}


class Watched:
    """An engine with one `pods` probe; `told` are the statuses and when they came."""

    def __init__(self, api: Api, declared: BackendHealth) -> None:
        self.told: list[tuple[float, BackendHealthStatus]] = []
        self.declared = declared
        self.pods = PodWatches(api)
        self._dialer = Dialer()
        self.engine = Engine(open_prober=self._open, clock=time.time, sink=self._sink)

    def _open(self, of: BackendHealth, probe: Probe, changed: Signal) -> Prober:
        return Prober(build(probe, Context(self._dialer, MemorySecrets(), of.metadata.namespace, self.pods, changed)))

    def _sink(self, _: BackendHealth, status: BackendHealthStatus) -> None:
        self.told.append((time.monotonic(), status))

    @property
    def probe(self) -> ProbeStatus:
        return self.told[-1][1].probes[0]

    async def until(self, reason: Reason, timeout: float = 5) -> ProbeStatus:
        await eventually(lambda: bool(self.told) and self.probe.reason == reason, reason.value, timeout)
        return self.probe


@contextlib.asynccontextmanager
async def watching(api: Api, namespace: str, **target: Any) -> AsyncIterator[Watched]:
    # an interval so long that only a signal can be the cause of an attempt
    probe = {"name": "core", "pods": {"selector": SELECTOR, **target}}
    watched = Watched(api, resource(probe, namespace=namespace, interval="1h", failureThreshold=9, successThreshold=9))
    await watched.engine.apply(watched.declared)
    try:
        yield watched
    finally:
        await watched.engine.close()
        await watched.pods.close()
