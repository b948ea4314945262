"""A namespace on the real cluster with policies, people, and operators on the host that serve it."""

from __future__ import annotations

import datetime as dt
import json
import os
import secrets
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from backendhealth.actions.sender import YOUNGEST
from tests.actions.stage import ACCOUNT, Stage
from tests.cluster.cluster import Cluster
from tests.kube.operator import ROOT, Operator, Resources
from tests.kube.remediating import path, policy, switch
from tests.servers.process import LOOPBACK, free_port, wait_until

Json = dict[str, Any]
FINAL = frozenset({"Succeeded", "NotHelpful", "Failed", "Unknown", "Expired", "Rejected", "DryRun"})
PERSON = (
    ("backendhealth.dev", "remediations", "get,list,create,patch"),
    ("backendhealth.dev", "remediationpolicies", "get,list"),
    ("", "pods", "get,list"),
    ("", "pods/log", "get"),
)
_WRITES = frozenset({"create", "update", "patch", "delete"})


class Stepped(Operator):
    """One that is stopped or killed at a step; see tests.actions.stepped."""

    module = "tests.actions.stepped"

    def __init__(
        self, place: Place, identity: str, *flags: str, kubeconfig: Path | None = None, env: Mapping[str, str]
    ) -> None:
        super().__init__(place.cluster, place.namespace, "--identity", identity, *flags, kubeconfig=kubeconfig, env=env)

    def until_at(self, step: str) -> None:
        """Until it has come to that step."""
        wait_until(lambda: f"step {step}\n" in self.log(1 << 20), 30, f"{step}: {self.log()}")


@dataclass
class Place(Stage):
    """`demo` is the BackendHealth of a component `core`, which is down until it is mended."""

    port: int = field(default_factory=free_port)

    @property
    def resources(self) -> Resources:
        return Resources(self.cluster, self.namespace)

    def declare(self) -> None:
        probe = {"name": "core", "tcp": {"host": LOOPBACK, "port": self.port}}
        self.resources.apply("demo", probe, failureThreshold=1)

    def mended(self) -> socket.socket:
        """While it is open, core is up."""
        return socket.create_server((LOOPBACK, self.port))

    def allow(self, name: str, action: Json, **spec: Any) -> None:
        """A policy with one rule: the action when core is down."""
        rule = {"name": "act", "when": {"component": "core"}, "action": action}
        given = {"mode": "Enforce", "serviceAccountName": ACCOUNT, "rules": [rule], **spec}
        self.cluster.request("POST", path(self.namespace, "remediationpolicies"), policy(self.namespace, name, **given))

    def operator(
        self,
        identity: str = "operator",
        *flags: str,
        stop_at: str = "",
        kill_at: str = "",
        kubeconfig: Path | None = None,
    ) -> Stepped:
        helper = ("--helper-image", self.helper_image)
        return Stepped(
            self, identity, *helper, *flags, kubeconfig=kubeconfig, env={"STOP_AT": stop_at, "KILL_AT": kill_at}
        )

    def all(self) -> list[Json]:
        """All Remediations."""
        found: list[Json] = self.cluster.request("GET", path(self.namespace, "remediations"))["items"]
        return found

    def done(self) -> list[Json]:
        """Those that take nothing back."""
        return [one for one in self.all() if "revert" not in one["spec"]]

    def reverts(self) -> list[Json]:
        """Those that take something back at its time."""
        return [one for one in self.all() if one["metadata"]["name"].startswith("revert-")]

    def only(self, name: str = "") -> Json:
        """The one that takes nothing back, of the policy `name` if that is given."""
        (found,) = (one for one in self.done() if name in {"", one["spec"]["policyRef"]["name"]})
        return found

    def until(self, condition: Callable[[], bool], what: str, timeout: float = 25) -> None:
        try:
            wait_until(condition, timeout, what)
        except TimeoutError as error:
            told = [{**one["spec"], **one.get("status", {}), "name": one["metadata"]["name"]} for one in self.all()]
            raise AssertionError(f"{error}; there are {json.dumps(told, indent=1)}") from error

    def until_final(self, count: int = 1, timeout: float = 25) -> None:
        """Until there are so many that take nothing back, and all are at their end."""

        def settled() -> bool:
            phases = [phase_of(one) for one in self.done()]
            return len(phases) == count and set(phases) <= FINAL

        self.until(settled, f"{count} at their end", timeout)

    def until_reverted(self, timeout: float = 40) -> None:
        """Until all that is to be taken back has been."""
        self.until(lambda: {phase_of(one) for one in self.reverts()} == {"Succeeded"}, "taken back", timeout)

    def steady(self, *apps: str) -> None:
        """Until their pods are ready."""
        wait_until(lambda: all(self.ready(app) for app in apps), 60, f"{apps} ready")

    def settle(self) -> None:
        """Until all containers have run for as long as they must to be sent a signal."""
        wait_until(lambda: time.time() - self._youngest() > YOUNGEST + 1, 60, "all have run for long enough")

    def _youngest(self) -> float:
        found = self.cluster.request("GET", f"/api/v1/namespaces/{self.namespace}/pods")["items"]
        states = [one["state"] for pod in found for one in pod["status"]["containerStatuses"]]
        return max(dt.datetime.fromisoformat(one["running"]["startedAt"]).timestamp() for one in states)

    def mark(self) -> int:
        """Where the audit log ends now."""
        return self.cluster.audit_log.stat().st_size

    def audited(self, since: int, account: str) -> list[Json]:
        """What was asked as the account, by impersonation or not, each request once."""
        user = f"system:serviceaccount:{self.namespace}:{account}"
        mine = (
            one
            for one in self.cluster.audited(since)
            if (one.get("impersonatedUser") or one["user"])["username"] == user
        )
        return list({one["auditID"]: one for one in mine}.values())

    def effects(self, since: int, account: str = ACCOUNT) -> list[str]:
        """`exec shell`, `eviction web-1`, `patch web`: what the account was let do that may have changed something."""
        told = []
        for one in self.audited(since, account):
            about, code = one.get("objectRef", {}), one.get("responseStatus", {}).get("code", 0)
            executes = about.get("subresource") == "exec"
            if code < 300 and (executes or one["verb"] in _WRITES):
                told.append(f"{about.get('subresource') or one['verb']} {about.get('name', '')}")
        return told

    def clear(self) -> None:
        """No policy, Remediation or BackendHealth."""
        for plural in ("remediationpolicies", "remediations", "backendhealths"):
            self.cluster.request("DELETE", path(self.namespace, plural), {})


class Person:
    """Somebody with a name, who uses `kubectl backendhealth`."""

    def __init__(self, place: Place, name: str) -> None:
        place.grant(name, PERSON)
        self.user = f"system:serviceaccount:{place.namespace}:{name}"
        self._where = [
            "-n",
            place.namespace,
            "--kubeconfig",
            str(place.cluster.token_kubeconfig(place.namespace, name)),
        ]
        self._kubectl = place.cluster.binary

    def begin(self, *arguments: str) -> subprocess.Popen[str]:
        """Start the command; the caller ends it."""
        found = f"{Path(sys.executable).parent}:{Path(self._kubectl).parent}:{os.environ['PATH']}"
        # what a shell has started in the background ignores Ctrl-C, and so does all that it starts
        return subprocess.Popen(
            ["env", "--default-signal=INT", self._kubectl, "backendhealth", *arguments, *self._where],
            env={**os.environ, "PATH": found, "PYTHONPATH": str(ROOT / "operator"), "PYTHONUNBUFFERED": "1"},
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
        )  # fmt: skip

    def does(self, *arguments: str) -> str:
        """What the command prints; it must succeed."""
        return ended(self.begin(*arguments))


def ended(command: subprocess.Popen[str], code: int = 0) -> str:
    """What it has printed; it must end with that code."""
    try:
        told, _ = command.communicate(timeout=60)
    finally:
        command.kill()
    assert command.returncode == code, told
    return told


def phase_of(one: Json) -> str:
    found: str = one.get("status", {}).get("phase", "")
    return found


@contextmanager
def placed(cluster: Cluster, helper_image: str, *objects: Json) -> Iterator[Place]:
    """A namespace with these pods and workloads, all ready, and the account that may do all."""
    cluster.apply_crds()
    place = Place(cluster, f"under-policy-{secrets.token_hex(3)}", helper_image)
    cluster.kubectl("create", "namespace", place.namespace)
    try:
        switch(cluster, place.namespace)
        place.grant(ACCOUNT)
        place.apply(*objects)
        place.steady(*(one["metadata"]["name"] for one in objects))
        place.settle()
        yield place
    finally:
        cluster.kubectl("delete", "namespace", place.namespace, "--wait=false")
