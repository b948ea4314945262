"""Moments to fail at: a request that the API server has taken and not answered; and what was done meanwhile."""

from __future__ import annotations

import itertools
from typing import Any, Self

from tests.kube.remediating import path, policy, switch
from tests.kube.test_remediation import Platform
from tests.servers.kubernetes import ControlPlane
from tests.servers.misbehaving import silent
from tests.servers.process import LOOPBACK, wait_until

HOOKS = "/apis/admissionregistration.k8s.io/v1/validatingwebhookconfigurations"
_HOW = {"pods": "All", "method": "Delete", "readyWithin": "1s"}
DELETE: dict[str, Any] = {
    "name": "restart",
    "when": {"component": "redis"},
    "action": {"restartPods": {"podSelector": {"matchLabels": {"app": "redis"}}, **_HOW}},
    "verify": {"within": "1s"},
}
"""A rule that deletes pods, at once."""


class Holding:
    """Requests of one kind in one namespace wait for so many seconds, then go on. `with` begins and ends it."""

    def __init__(self, plane: ControlPlane, namespace: str, operation: str, resource: str, seconds: int) -> None:
        self._plane = plane
        self._namespace = namespace
        self._server = silent()
        group = "" if resource.startswith("pods") else "backendhealth.dev"
        canary = self._hook("canary", "CREATE", "", "configmaps", 1)
        self._hooks = [self._hook("held", operation, group, resource, seconds), canary]
        self._name = f"holding-{namespace}"
        self._there = False
        self._before = 0

    def _hook(self, name: str, operation: str, group: str, resource: str, seconds: int) -> dict[str, Any]:
        return {
            "name": f"{name}.backendhealth.dev",
            "clientConfig": {"url": f"https://{LOOPBACK}:{self._server.port}/"},
            "rules": [{"apiGroups": [group], "apiVersions": ["*"], "operations": [operation], "resources": [resource]}],
            "namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": self._namespace}},
            "timeoutSeconds": seconds,
            "failurePolicy": "Ignore",
            "sideEffects": "None",
            "admissionReviewVersions": ["v1"],
        }

    def __enter__(self) -> Self:
        self._server.__enter__()
        self._there = True
        self._plane.request("POST", HOOKS, {"metadata": {"name": self._name}, "webhooks": self._hooks})
        for number in itertools.count():
            made = {"metadata": {"name": f"canary-{number}"}}
            self._plane.request("POST", f"/api/v1/namespaces/{self._namespace}/configmaps", made)
            if self._server.accepted:
                break
            assert number < 200, "the API server does not ask the webhook"
        self._before = self._server.accepted
        return self

    def until_one_waits(self) -> None:
        wait_until(lambda: self._server.accepted > self._before, 20, "a request waits")

    def withdraw(self) -> None:
        """Those that wait go on waiting; no other does."""
        if self._there:
            self._plane.request("DELETE", f"{HOOKS}/{self._name}")
            self._there = False

    def __exit__(self, *_: object) -> None:
        try:
            self.withdraw()
        finally:
            self._server.__exit__(None, None, None)


def effects(platform: Platform, since: int) -> list[str]:
    """What was asked for under the policy's account that changes pods, whatever came of it."""
    return [
        f"{one['verb']} {one['requestURI']} {one['responseStatus']['code']}"
        for one in platform.plane.audited(since)
        if one["stage"] == "ResponseComplete"
        and one["verb"] in {"create", "delete"}
        and one.get("objectRef", {}).get("resource") == "pods"
        and one["objectRef"].get("namespace") == platform.namespace
        and "impersonatedUser" in one
    ]


def prepared(plane: ControlPlane, namespace: str) -> Platform:
    """A Platform whose remediation is switched on."""
    switch(plane, namespace)
    return Platform(plane, namespace)


def cleared(platform: Platform) -> None:
    """Without policies and Remediations."""
    for kind in ("remediations", "remediationpolicies"):
        platform.plane.request("DELETE", path(platform.namespace, kind), {})


def change(platform: Platform, **spec: Any) -> None:
    """Another spec for the policy."""
    where = path(platform.namespace, "remediationpolicies", "policy")
    body = policy(platform.namespace, **spec)
    body["metadata"]["resourceVersion"] = platform.plane.request("GET", where)["metadata"]["resourceVersion"]
    platform.plane.request("PUT", where, body)


def approve(platform: Platform) -> None:
    """The only Remediation."""
    (one,) = platform.remediations()
    one["spec"]["approval"] = {"decision": "Approved", "by": "somebody"}
    name = one["metadata"]["name"]
    platform.plane.request("PUT", path(platform.namespace, "remediations", name), one)
