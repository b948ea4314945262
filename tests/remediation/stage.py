"""What a test sets, and what it sees: policies, people, Remediations, and the effects that were had."""

from __future__ import annotations

import asyncio
import contextlib
import datetime as dt
import json
import os
import sys
from collections import Counter
from collections.abc import AsyncIterator, Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

from backendhealth.core.leasing import Timing
from backendhealth.core.spec.remediation import FINAL
from tests.kube import remediating
from tests.kube.replicas import ROOT
from tests.remediation.runner import Runner
from tests.remediation.world import World
from tests.servers.kubernetes import ControlPlane
from tests.servers.process import Process

Json = dict[str, Any]
PODS = {"podSelector": {"matchLabels": {"app": "redis"}}}
DEBUG: Json = {"debugLogs": {**PODS, "revertAfter": "10m"}}
RESTART: Json = {"restartPods": PODS}
QUICK: Json = {"healthy": ["etcd"], "within": "2s"}
"""Helped as soon as it is done."""
PATIENCE = 20.0
"""Seconds that `until` waits."""


class Stage:
    """Of one test."""

    def __init__(self, plane: ControlPlane, namespace: str, directory: Path) -> None:
        self.plane = plane
        self.namespace = namespace
        self.directory = directory
        self.world = World(directory)
        self._children: list[Process] = []
        remediating.switch(plane, namespace)
        role = {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": "cluster-admin"}
        who = {"kind": "ServiceAccount", "name": "remediator", "namespace": namespace}
        binding = {
            "apiVersion": "rbac.authorization.k8s.io/v1",
            "kind": "RoleBinding",
            "metadata": {"name": "remediator"},
            "subjects": [who],
            "roleRef": role,
        }
        path = f"/apis/rbac.authorization.k8s.io/v1/namespaces/{namespace}/rolebindings"
        plane.request("POST", path, binding)

    def close(self) -> None:
        for child in self._children:
            child.kill()
            child.close()
        for plural in ("remediations", "remediationpolicies"):
            self.plane.request("DELETE", remediating.path(self.namespace, plural))

    def policy(self, name: str = "policy", action: Json = RESTART, **spec: Any) -> Json:
        """In force unless told otherwise; one rule for redis."""
        rule = {"name": "act", "when": {"component": "redis"}, "action": action, "verify": QUICK}
        rule = {name: value for name, value in (rule | spec.pop("rule", {})).items() if value is not None}
        limits = {"cooldown": "0s", "max": 20, "maxConcurrent": 10, **spec.pop("limits", {})}
        body = remediating.policy(
            self.namespace, name, **{"mode": "Enforce", "limits": limits, "rules": [rule], **spec}
        )
        made: Json = self.plane.request("POST", remediating.path(self.namespace, "remediationpolicies"), body)
        return made

    def change_policy(self, **spec: Any) -> None:
        path = remediating.path(self.namespace, "remediationpolicies", "policy")
        found = self.plane.request("GET", path)
        found["spec"] |= spec
        self.plane.request("PUT", path, found)

    def delete_policy(self) -> None:
        self.plane.request("DELETE", remediating.path(self.namespace, "remediationpolicies", "policy"))

    def ask(self, name: str, action: Json = DEBUG, *, seconds: float = 300, **spec: Any) -> Json:
        """By hand."""
        target = {"kind": "Pod", "name": "pod-a", "uid": "uid-pod-a", "container": "main", "restartCount": 0}
        after = dt.datetime.now(dt.UTC) + dt.timedelta(seconds=seconds)
        body = {
            "apiVersion": remediating.GROUP,
            "kind": "Remediation",
            "metadata": {"name": name},
            "spec": {
                "policyRef": {"name": "policy"},
                "requestedBy": "ada",
                "mode": "Enforce",
                "target": target,
                "action": action,
                "notAfter": after.strftime("%Y-%m-%dT%H:%M:%SZ"),
                **spec,
            },
        }
        made: Json = self.plane.request("POST", remediating.path(self.namespace, "remediations"), body)
        return made

    def take_back(self, name: str) -> None:
        """A person wants the open revert done now."""
        found = next(one for one in self.reverts() if one["metadata"]["name"].startswith("revert-"))
        revert = {**found["spec"]["revert"], "remediation": found["metadata"]["name"], "toggle": "by hand"}
        self.ask(name, revert=revert)

    def answer(self, decision: str) -> None:
        """For all that waits."""
        for one in self.all():
            one["spec"]["approval"] = {"decision": decision, "by": "grace", "reason": "because"}
            path = remediating.path(self.namespace, "remediations", one["metadata"]["name"])
            self.plane.request("PUT", path, one)

    def all(self) -> list[Json]:
        found: list[Json] = self.plane.request("GET", remediating.path(self.namespace, "remediations"))["items"]
        return found

    def reverts(self) -> list[Json]:
        return [one for one in self.all() if one["spec"].get("revert")]

    def phases(self) -> Counter[str]:
        """Of all that are no reverts."""
        return Counter(phase_of(one) for one in self.all() if not one["spec"].get("revert"))

    def message(self, name: str = "") -> str:
        """Of the one of that name, or of the first that is no revert."""
        for one in self.all():
            if one["metadata"]["name"] == name or (not name and not one["spec"].get("revert")):
                return str(one.get("status", {}).get("message", ""))
        raise AssertionError(name)

    def effects(self) -> Counter[str]:
        """`on` and `off`, as often as they were had."""
        found = self.plane.request("GET", f"/api/v1/namespaces/{self.namespace}/configmaps?labelSelector=effect")
        return Counter(one["metadata"]["labels"]["effect"] for one in found["items"])

    def settled(self) -> bool:
        """All that are no reverts are at their end, and there is one."""
        phases = self.phases()
        return bool(phases) and set(phases) <= FINAL

    def child(self, *, timing: Timing | None = None, wait: bool = True, **options: Any) -> Process:
        """A Remediator in a process of its own."""
        told = {
            "kubeconfig": str(self.plane.kubeconfig),
            "namespace": self.namespace,
            "directory": str(self.directory),
            "timing": asdict(timing) if timing else None,
            **options,
        }
        child = Process(
            "remediator",
            [sys.executable, "-m", "tests.remediation.runner", json.dumps(told)],
            ready=lambda: "ready\n" in child.log(1 << 16),
            env={**os.environ, "PYTHONPATH": f"{ROOT / 'operator'}:{ROOT}"},
        )
        self._children.append(child)
        return child.start(wait=wait)

    @contextlib.asynccontextmanager
    async def running(self, **options: Any) -> AsyncIterator[Runner]:
        """A Remediator in this process."""
        async with await self.plane.api() as api:
            runner = Runner(api, self.namespace, self.directory, **options)
            task = asyncio.create_task(runner.run())
            try:
                yield runner
            finally:
                task.cancel()
                with contextlib.suppress(asyncio.CancelledError):
                    await task


def phase_of(one: Json) -> str:
    return str(one.get("status", {}).get("phase", "Pending"))


def held_by(runner: Runner) -> list[str]:
    """The guards that hold what the policies would do, in the newest view; none before the first."""
    view = runner.views[-1] if runner.views else None
    return [hold.guard for hold in view.holds] if view else []


async def until(condition: Callable[[], bool], what: str, patience: float | None = None) -> None:
    """Wait for it; the condition is asked in a thread, since it asks the API server."""
    end = asyncio.get_running_loop().time() + (PATIENCE if patience is None else patience)
    while not await asyncio.to_thread(condition):
        assert asyncio.get_running_loop().time() < end, what
        await asyncio.sleep(0.05)


async def never(condition: Callable[[], bool], what: str, seconds: float = 1.5) -> None:
    """It stays untrue for a while in which it would have come true without the guard."""
    end = asyncio.get_running_loop().time() + seconds
    while asyncio.get_running_loop().time() < end:
        assert not await asyncio.to_thread(condition), what
        await asyncio.sleep(0.05)
