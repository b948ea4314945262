"""What is measured: the real engine with a fleet of probes, spread evenly over their interval."""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Self

from backendhealth.core.observation import Finding, Observation
from backendhealth.core.reasons import Reason
from backendhealth.core.spec.backendhealth import API_VERSION, KIND, BackendHealth, Probe
from backendhealth.core.spec.status import BackendHealthStatus
from backendhealth.core.verdict import Verdict
from backendhealth.engine.engine import Engine
from backendhealth.engine.ports import OpenProber, Signal
from backendhealth.probes.dialer import Dialer
from backendhealth.probes.prober import Prober
from backendhealth.probes.registry import Context, build
from backendhealth.probes.trace import Trace

ROOT = Path(__file__).resolve().parent.parent
INTERVAL = 1.0
"""Seconds between two attempts of one probe, and its timeout: the shortest that a spec may ask for."""
CONNECT_SECONDS = 30.0
SECRET = "bench"

Target = Mapping[str, Any]
"""A member of the probe union, as YAML has it."""


class BenchFailed(RuntimeError):  # noqa: N818
    """What was measured did not work, so its cost says nothing."""


class NoExchange:
    """An exchange that asks nobody: what is left is the engine's own work."""

    async def attempt(self, trace: Trace, timeout: float) -> Finding:
        return Finding(Reason.PROBE_SUCCEEDED, "nothing was asked")

    async def close(self) -> None:
        return


class Secrets:
    """One Secret, whatever the name."""

    def __init__(self, data: Mapping[str, str]) -> None:
        self._data = {key: value.encode() for key, value in data.items()}

    async def read(self, name: str) -> Mapping[str, bytes]:
        return self._data


def opener(kind: str, secret: Mapping[str, str]) -> OpenProber:
    """Wired as the command line does it."""
    context = Context(Dialer(), Secrets(secret))

    def open_prober(_: BackendHealth, probe: Probe, __: Signal) -> Prober:
        return Prober(NoExchange() if kind == "nothing" else build(probe, context))

    return open_prober


def fleet(kind: str, target: Target, count: int, interval: float = INTERVAL) -> list[BackendHealth]:
    """`count` resources with one probe each, first due evenly over the interval (seconds).

    Each has a namespace of its own: nothing is shared, as with as many different backends.
    """
    member = "tcp" if kind == "nothing" else kind
    return [
        BackendHealth.model_validate(
            {
                "apiVersion": API_VERSION,
                "kind": KIND,
                "metadata": {"name": "bench", "namespace": f"bench-{number}"},
                "spec": {
                    "interval": f"{interval:g}s",
                    "timeout": f"{INTERVAL:g}s",
                    "initialDelay": f"{number * 1000 * interval / count:.3f}ms",
                    "successThreshold": 1,
                    "probes": [{"name": kind, member: target}],
                },
            }
        )
        for number in range(count)
    ]


class Running:
    """A running engine that counts its attempts by reason; `async with`."""

    def __init__(self, resources: Sequence[BackendHealth], open_prober: OpenProber) -> None:
        self.reasons: Counter[Reason] = Counter()
        self.last: Finding | None = None
        self._resources = resources
        self._waiting_for = {resource.key for resource in resources}
        self._healthy = asyncio.Event()
        self._engine = Engine(open_prober=open_prober, clock=time.time, sink=self._changed, record=self._count)
        self._task: asyncio.Task[None] | None = None

    async def __aenter__(self) -> Self:
        for resource in self._resources:
            await self._engine.apply(resource)
        self._task = asyncio.create_task(self._engine.run())
        return self

    async def __aexit__(self, *_: object) -> None:
        assert self._task is not None
        if self._task.done():
            self._task.result()  # raises what broke the engine
        self._task.cancel()
        await self._engine.close()

    async def all_healthy(self) -> None:
        """Wait until every probe has succeeded. Raises BenchFailed after CONNECT_SECONDS."""
        try:
            async with asyncio.timeout(CONNECT_SECONDS):
                await self._healthy.wait()
        except TimeoutError:
            raise BenchFailed(f"not all probes became healthy; attempts by reason: {dict(self.reasons)}") from None

    def _changed(self, resource: BackendHealth, status: BackendHealthStatus) -> None:
        if status.summary is not None and status.summary.state == Verdict.HEALTHY:
            self._waiting_for.discard(resource.key)
        if not self._waiting_for:
            self._healthy.set()

    def _count(self, seen: Observation) -> None:
        self.last = seen.finding
        self.reasons[self.last.reason] += 1

    def all_succeeded(self) -> int:
        """The number of attempts; raises BenchFailed when there were none or one of them failed."""
        if set(self.reasons) != {Reason.PROBE_SUCCEEDED}:
            told = f"; the last: {self.last.message}" if self.last else ""
            raise BenchFailed(f"attempts by reason: {dict(self.reasons) or 'none'}{told}")
        return self.reasons.total()
