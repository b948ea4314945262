"""The engine in this process on a platform on loopback: each status that it hands on is one write."""

from __future__ import annotations

import contextlib
import time
from collections.abc import AsyncIterator, Sequence
from typing import Any

from backendhealth import profiles
from backendhealth.core.knowledge import Knowledge
from backendhealth.core.spec.backendhealth import BackendHealth, Probe
from backendhealth.core.spec.profile import DiagnosisProfileSpec
from backendhealth.core.spec.status import BackendHealthStatus
from backendhealth.engine.engine import Engine
from backendhealth.engine.ports import Signal
from backendhealth.probes.dialer import Dialer
from backendhealth.probes.prober import Prober
from backendhealth.probes.registry import Context, build
from tests.probes.support import MemorySecrets
from tests.scenarios.generator import Scenario
from tests.scenarios.judge import Write
from tests.scenarios.loopback import SECRETS, Platform
from tests.scenarios.running import Outcome, run, shortened, specification
from tests.scenarios.truth import Timing

TIMING = Timing()
PROFILE = shortened(profiles.built_in("placeos-postgres-etcd").spec)


class Observed:
    """An engine with one BackendHealth; `writes` are its statuses and when they came."""

    def __init__(self, secrets: MemorySecrets) -> None:
        self.writes: list[Write] = []
        self._secrets = secrets
        self._dialer = Dialer()
        self.engine = Engine(open_prober=self._open, clock=time.time, sink=self._sink)

    def _open(self, of: BackendHealth, probe: Probe, changed: Signal) -> Prober:
        context = Context(self._dialer, self._secrets, of.metadata.namespace, signal=changed)
        return Prober(build(probe, context))

    def _sink(self, _: BackendHealth, status: BackendHealthStatus) -> None:
        self.writes.append(Write(time.time(), status.model_dump(mode="json", by_alias=True)))


@contextlib.asynccontextmanager
async def observed(
    probes: Sequence[dict[str, Any]], profile: DiagnosisProfileSpec, secrets: MemorySecrets, timing: Timing
) -> AsyncIterator[Observed]:
    """An engine that probes `probes`, and diagnoses by `profile`."""
    raw = {
        "apiVersion": "backendhealth.dev/v1alpha1",
        "kind": "BackendHealth",
        "metadata": {"name": "placeos", "namespace": "placeos"},
        "spec": specification(timing, {"name": "placeos"}, probes),
    }
    watching = Observed(secrets)
    await watching.engine.apply(BackendHealth.model_validate(raw), knowledge=Knowledge(profile))
    try:
        yield watching
    finally:
        await watching.engine.close()


async def play(
    scenario: Scenario,
    platform: Platform,
    truth: DiagnosisProfileSpec = PROFILE,
    believed: DiagnosisProfileSpec | None = None,
) -> Outcome:
    """One scenario, judged by the profile `truth`; the diagnosis is made by `believed`, by default the same.

    It is seen by an engine of its own: one that had seen many failures would call the next one flapping.
    """
    async with observed(platform.probes(), believed or truth, MemorySecrets(SECRETS), TIMING) as watching:
        return await run(scenario, platform, watching, truth, TIMING)
