"""A world in a file, which a test changes; a performer whose effect is an object that is there."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from backendhealth.actions.ports import Acting, Effect, Outcome, Refused, Silent
from backendhealth.core.remediation.situation import Component, Situation
from backendhealth.core.spec.actions import AnyAction
from backendhealth.core.spec.remediation import RemediationSpec, RemediationTarget
from backendhealth.core.verdict import Verdict

Json = dict[str, Any]
CALM: Json = {
    "components": {"redis": "Unhealthy", "etcd": "Healthy"},
    "incident": "incident-1",
    "uid": "demo-uid",
    "restarts": 0,
    "how": "done",
    "targets": ["pod-a"],
    "unhealthy": 1,
    "total": 1,
    "unobserved": [],
}


class World:
    """The file; engine.remediation.ports.Situations."""

    def __init__(self, directory: Path) -> None:
        self.file = directory / "world.json"
        if not self.file.exists():
            self.set(**CALM)

    @property
    def now(self) -> Json:
        found: Json = json.loads(self.file.read_text())
        return found

    def set(self, **changes: Any) -> None:
        before = self.now if self.file.exists() else {}
        part = self.file.with_suffix(".new")
        part.write_text(json.dumps({**before, **changes}))
        part.replace(self.file)

    def situation(self, key: str) -> Situation | None:
        now = self.now
        if not now["uid"] or not key.endswith("/demo"):
            return None
        components = {
            name: Component(
                name,
                Verdict(verdict),
                "Seen",
                "seen",
                since=time.time() - 60,
                root=verdict == "Unhealthy",
                observed=name not in now["unobserved"],
            )
            for name, verdict in now["components"].items()
        }
        return Situation(key, now["uid"], now["incident"], time.time() - 60, components=components)

    def counted(self) -> tuple[int, int]:
        return self.now["unhealthy"], self.now["total"]

    def unhealthy_before(self) -> tuple[float, ...]:
        return ()


class Poster:
    """Each effect is a ConfigMap more, labelled `on` or `off`. `how` it goes is in the world."""

    def __init__(self, world: World, kill_at: str = "") -> None:
        self._world = world
        self._kill_at = kill_at

    async def targets(self, acting: Acting, action: AnyAction, component: Component) -> list[RemediationTarget]:
        now = self._world.now
        return [
            RemediationTarget(kind="Pod", name=name, uid=f"uid-{name}", container="main", restart_count=now["restarts"])
            for name in now["targets"]
        ]

    async def perform(self, acting: Acting, spec: RemediationSpec) -> Outcome:
        now = self._world.now
        if spec.target.restart_count != now["restarts"]:
            return Outcome(Effect.NOT_DONE, "the container was restarted", needless=spec.revert is not None)
        what = "off" if spec.revert else "on"
        labels = {"effect": what, "target": spec.target.name}
        body = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"generateName": "effect-", "labels": labels}}
        path = f"/api/v1/namespaces/{acting.namespace}/configmaps"
        if now["how"] == "refused":
            raise Refused(403, "Forbidden", "not for you", "kubectl create role …")
        await acting.fence(f"turn {what} {spec.target.name}")
        made = await acting.cluster.request("POST", path, body=body)
        if self._kill_at == "effect":
            os.kill(os.getpid(), signal.SIGKILL)
        if now["how"] == "silent":
            raise Silent("the connection was lost")
        return Outcome(Effect.DONE, f"turned {what} {spec.target.name}", {"made": made["metadata"]["name"]})

    async def verified(self, acting: Acting, spec: RemediationSpec, facts: Mapping[str, str]) -> str | None:
        with contextlib.suppress(Refused):
            await acting.cluster.request("GET", f"/api/v1/namespaces/{acting.namespace}/configmaps/{facts['made']}")
            return ""
        return None
