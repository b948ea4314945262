"""A Remediator as it is wired in the operator, in this process or in one of its own that can be killed at any step.

python -m tests.remediation.runner '{"kubeconfig": …, "namespace": …, "directory": …, "kill_at": "running"}'
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
import sys
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

from backendhealth.actions.ports import Http
from backendhealth.core.leasing import Timing
from backendhealth.core.spec.actions import DriverAction
from backendhealth.core.spec.status import RemediationView
from backendhealth.engine.remediation.ports import Serves, Stored
from backendhealth.engine.remediation.remediator import Remediator
from backendhealth.kube.acting import Identities
from backendhealth.kube.api import Api, connect
from backendhealth.kube.leases import Leases
from backendhealth.kube.remediations import Remediations
from backendhealth.kube.switch import ConfigMapSwitch
from tests.kube.remediating import SWITCH
from tests.remediation.world import Poster, World

_LOOK = 0.05


def no_http(namespace: str, policy: str, account: str, notes: list[str]) -> Callable[[DriverAction], Http]:
    def refuse(action: DriverAction) -> Http:
        raise AssertionError(action)

    return refuse


class Runner:
    """Wires one together; `phases` are those that were announced, `views` what was told."""

    def __init__(
        self,
        api: Api,
        namespace: str,
        directory: Path,
        *,
        identity: str = "runner",
        at: Callable[[str], Awaitable[None]] | None = None,
        serves: Serves = lambda _: True,
        clock: Callable[[], float] = time.time,
        kill_at: str = "",
        store: type[Remediations] = Remediations,
    ) -> None:
        self.namespace = namespace
        self.world = World(directory)
        self.phases: list[tuple[str, str]] = []
        self.views: list[RemediationView | None] = []
        self.store = store(api, [namespace], self._objects_changed)
        poster = Poster(self.world, kill_at)
        self.remediator = Remediator(
            store=self.store,
            situations=self.world,
            open_acting=Identities(api, http=no_http),
            performers={"debugLogs": poster, "restartPods": poster},
            switch=ConfigMapSwitch(api, namespace=namespace, name=SWITCH, allowed=True),
            serves=serves,
            tell=lambda _, view: self.views.append(view),
            announce=self._announced,
            clock=clock,
            identity=identity,
            **({"at": at} if at else {}),
        )

    def _objects_changed(self, namespace: str) -> None:
        self.remediator.object_changed(namespace)

    def _announced(self, stored: Stored) -> None:
        self.phases.append((stored.remediation.metadata.name, stored.status.phase))

    async def run(self) -> None:
        """Until cancelled; the world is looked at again and again."""
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self.store.run())
            tasks.create_task(self.remediator.run())
            seen = 0
            while True:
                changed = self.world.file.stat().st_mtime_ns
                if changed != seen:
                    seen = changed
                    self.remediator.changed(f"{self.namespace}/demo")
                await asyncio.sleep(_LOOK)


async def main(options: dict[str, Any]) -> None:
    async def at(step: str) -> None:
        print(step, flush=True)
        if step == options.get("kill_at"):
            os.kill(os.getpid(), signal.SIGKILL)
        if step == options.get("stop_at"):
            os.kill(os.getpid(), signal.SIGSTOP)

    namespace, identity = options["namespace"], options.get("identity", "child")
    async with await connect(options["kubeconfig"], None) as api:
        serves: Serves = lambda _: True  # noqa: E731
        runner: Runner

        def taken(_: int) -> None:
            runner.store.doubt()

        leases = None
        if options.get("timing"):
            leases = Leases(
                api,
                namespace=namespace,
                name="remediator",
                shards=1,
                identity=identity,
                acquired=taken,
                lost=lambda _: None,
                timing=Timing(**options["timing"]),
            )
            serves = leases.holds_namespace
        runner = Runner(
            api,
            namespace,
            Path(options["directory"]),
            identity=leases.identity if leases else identity,
            at=at,
            serves=serves,
            kill_at=options.get("kill_at", ""),
        )
        async with asyncio.TaskGroup() as tasks:
            if leases is not None:
                tasks.create_task(leases.run())
            tasks.create_task(runner.run())
            print("ready", flush=True)


if __name__ == "__main__":
    with contextlib.suppress(KeyboardInterrupt):
        asyncio.run(main(json.loads(sys.argv[1])))
