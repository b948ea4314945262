"""A namespace on the real cluster with an account that may do what the actions need, and pods to do it to."""

from __future__ import annotations

import asyncio
import json
import os
import re
import signal
import time
from collections import Counter
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any

from backendhealth.actions.ports import Acting, Outcome, Performer
from backendhealth.actions.registry import performers
from backendhealth.core.remediation.situation import Component, Subject
from backendhealth.core.spec.actions import Action
from backendhealth.core.spec.remediation import RemediationSpec, RemediationTarget
from backendhealth.core.verdict import Verdict
from backendhealth.kube.acting import Identities
from backendhealth.kube.api import Api
from tests.cluster.cluster import Cluster

LOOK_AGAIN = 0.2
"""Seconds, as the Remediator looks again and again."""
ACCOUNT = "remediator"
RULES = (
    ("", "pods", "get,list,delete"),
    ("", "pods/log", "get"),
    ("", "pods/exec", "create,get"),
    ("", "pods/ephemeralcontainers", "patch"),
    ("", "pods/eviction", "create"),
    ("apps", "deployments,statefulsets,daemonsets", "get,patch"),
)
_COUNTED = re.compile(r"^(\S+) signal ", re.MULTILINE)


@dataclass
class Stage:
    """The namespace. `helper_image` is the product's."""

    cluster: Cluster
    namespace: str
    helper_image: str

    def kubectl(self, *arguments: str, **more: Any) -> str:
        return self.cluster.kubectl("-n", self.namespace, *arguments, **more)

    def apply(self, *objects: Any) -> None:
        self.kubectl("apply", "-f", "-", input=json.dumps({"apiVersion": "v1", "kind": "List", "items": objects}))

    def get(self, plural: str, name: str, group: str = "api/v1") -> Any:
        return self.cluster.request("GET", f"/{group}/namespaces/{self.namespace}/{plural}/{name}")

    def pods(self, app: str) -> list[Any]:
        path = f"/api/v1/namespaces/{self.namespace}/pods?labelSelector=app%3D{app}"
        found: list[Any] = self.cluster.request("GET", path)["items"]
        return found

    def ready(self, app: str) -> list[str]:
        """UIDs of the pods that are ready and not on their way out."""
        return [
            pod["metadata"]["uid"]
            for pod in self.pods(app)
            if "deletionTimestamp" not in pod["metadata"]
            and any(one["type"] == "Ready" and one["status"] == "True" for one in pod["status"].get("conditions", []))
        ]

    def end_process_1(self, pod: str, container: str | None = None) -> None:
        """From the node."""
        os.kill(self.cluster.pod_pid(self.namespace, pod, container), signal.SIGTERM)

    def counted(self, pod: str, container: str = "main") -> Counter[str]:
        """How often each process says that it was signalled."""
        return Counter(_COUNTED.findall(self.kubectl("logs", pod, "-c", container)))

    def grant(self, account: str, rules: Any = RULES) -> None:
        """Let the account, which is made where there is none, do this and nothing else."""
        items = [
            {"apiGroups": [group], "resources": plurals.split(","), "verbs": verbs.split(",")}
            for group, plurals, verbs in rules
        ]
        rbac = "rbac.authorization.k8s.io/v1"
        subject = {"kind": "ServiceAccount", "name": account, "namespace": self.namespace}
        role = {"apiGroup": "rbac.authorization.k8s.io", "kind": "Role", "name": account}
        self.apply(
            {"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": account}},
            {"apiVersion": rbac, "kind": "Role", "metadata": {"name": account}, "rules": items},
            {
                "apiVersion": rbac,
                "kind": "RoleBinding",
                "metadata": {"name": account},
                "subjects": [subject],
                "roleRef": role,
            },
        )


@dataclass
class Act:
    """One action, carried out as the Remediator does, on a target of its own choice."""

    stage: Stage
    api: Api
    action: dict[str, Any]
    account: str = ACCOUNT
    clock: Callable[[], float] = time.time
    fence: Callable[[str], Awaitable[None]] | None = None
    field_manager: str = "backendhealth"
    revert: bool = False
    subjects: tuple[Subject, ...] = ()
    since: float | None = None
    rule: str = "debug"
    helper_image: str | None = None
    notes: list[str] = field(default_factory=list)
    fenced: list[str] = field(default_factory=list)
    target: RemediationTarget | None = None

    async def _fence(self, what: str) -> None:
        self.fenced.append(what)
        if self.fence is not None:
            await self.fence(what)

    @property
    def acting(self) -> Acting:
        image = self.stage.helper_image if self.helper_image is None else self.helper_image
        identities = Identities(
            self.api, http=_no_http, helper_image=image, field_manager=self.field_manager, clock=self.clock
        )
        return identities(self.stage.namespace, "demo", self.account, self.notes, self._fence)

    @property
    def performer(self) -> Performer:
        return performers()[next(iter(self.action))]

    async def targets(self) -> list[RemediationTarget]:
        since = time.time() if self.since is None else self.since
        component = Component("core", Verdict.UNHEALTHY, "X", "", since, subjects=self.subjects)
        return await self.performer.targets(self.acting, Action.model_validate(self.action).does, component)

    async def spec(self) -> RemediationSpec:
        if self.target is None:
            self.target = await self._first_target()
        reverted = {"remediation": "first", "toggle": "t", "epoch": 0, "notBefore": "2026-01-01T00:00:00Z"}
        return RemediationSpec.model_validate(
            {
                "policyRef": {"name": "demo"},
                "rule": self.rule,
                "target": self.target.model_dump(by_alias=True),
                "action": self.action,
                "notAfter": "2036-01-01T00:00:00Z",
                **({"revert": reverted} if self.revert else {}),
            }
        )

    async def _first_target(self) -> RemediationTarget:
        """A pod of this very second is none yet: it may be a replacement."""
        async with asyncio.timeout(5):
            while not (found := await self.targets()):
                await asyncio.sleep(LOOK_AGAIN)
        return found[0]

    async def perform(self) -> Outcome:
        return await self.performer.perform(self.acting, await self.spec())

    async def verified(self, outcome: Outcome, timeout: float = 40) -> str:
        """What is said of it in the end."""
        spec = await self.spec()
        async with asyncio.timeout(timeout):
            while (told := await self.performer.verified(self.acting, spec, outcome.facts)) is None:
                await asyncio.sleep(LOOK_AGAIN)
        return told


def _no_http(_namespace: str, _policy: str, _account: str, _notes: list[str]) -> Any:
    return None


def debug_logs(app: str, **more: Any) -> dict[str, Any]:
    return {"debugLogs": {"podSelector": {"matchLabels": {"app": app}}, **more}}
