"""The running operator under a RemediationPolicy, on a real API server: what it does, tells, and leaves alone."""

from __future__ import annotations

import contextlib
import json
import re
import shlex
import socket
import time
import urllib.error
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from tests.kube.operator import Operator, Resources
from tests.kube.remediating import path, policy, remediation, restart, switch
from tests.servers.kubernetes import ControlPlane
from tests.servers.process import LOOPBACK, free_port, wait_until
from tests.unit.podmaking import good

Json = dict[str, Any]
QUIET = 4.0
"""Seconds in which nothing may happen."""
RULES = [
    {"apiGroups": [""], "resources": ["pods"], "verbs": ["get", "list", "delete"]},
    {"apiGroups": [""], "resources": ["pods/eviction"], "verbs": ["create"]},
]


class Platform:
    """A namespace with the BackendHealth `demo`, whose redis is down, a pod, and the policy's account."""

    def __init__(self, plane: ControlPlane, namespace: str) -> None:
        self.plane = plane
        self.namespace = namespace
        self.resources = Resources(plane, namespace)
        self.port = free_port()
        self.account()
        self.pod()

    def account(self) -> None:
        where = {"name": "remediator", "namespace": self.namespace}
        role = {"apiVersion": "rbac.authorization.k8s.io/v1", "kind": "Role", "metadata": where, "rules": RULES}
        self.plane.kubectl("-n", self.namespace, "create", "serviceaccount", "remediator")
        self.plane.kubectl("apply", "-f", "-", input=json.dumps(role))
        binding = ("rolebinding", "remediator", "--role=remediator", f"--serviceaccount={self.namespace}:remediator")
        self.plane.kubectl("-n", self.namespace, "create", *binding)

    def pod(self) -> None:
        pods = f"/api/v1/namespaces/{self.namespace}/pods"
        owner = {"apiVersion": "apps/v1", "kind": "ReplicaSet", "name": "redis", "uid": "1", "controller": True}
        meta = {"name": "redis-0", "labels": {"app": "redis"}, "ownerReferences": [owner]}
        container = {"name": "main", "image": "registry.example/team/redis:1"}
        made = {"metadata": meta, "spec": {"containers": [container]}}
        made = self.plane.request("POST", pods, made)
        made["status"] = good()["status"]
        self.plane.request("PUT", f"{pods}/redis-0/status", made)
        self.uid = made["metadata"]["uid"]

    def declare(self, **spec: Any) -> None:
        """`demo` with its redis, which nobody serves."""
        probe = {"name": "redis", "redis": {"url": f"redis://{LOOPBACK}:{self.port}"}}
        self.resources.apply("demo", probe, failureThreshold=1, **spec)

    def allow(self, name: str = "policy", **spec: Any) -> None:
        self.plane.request("POST", path(self.namespace, "remediationpolicies"), policy(self.namespace, name, **spec))

    def remediations(self) -> list[Json]:
        found: list[Json] = self.plane.request("GET", path(self.namespace, "remediations"))["items"]
        return found

    def phases(self) -> list[str]:
        return [one.get("status", {}).get("phase", "") for one in self.remediations()]

    def until(self, *phases: str, timeout: float = 15) -> None:
        try:
            wait_until(lambda: self.phases() == list(phases), timeout, f"{phases}")
        except TimeoutError as error:
            raise AssertionError(f"{error}; it is: {self.remediations()} {self.resources.status('demo')}") from error

    def guards(self) -> list[str]:
        """What is told to hold."""
        told = (self.resources.status("demo").get("remediation") or {}).get("holds", [])
        return [one["guard"] for one in told]

    def until_held(self, guard: str, timeout: float = 10) -> str:
        """The message of the guard that holds first."""
        wait_until(lambda: self.guards()[:1] == [guard], timeout, guard)
        message: str = self.resources.status("demo")["remediation"]["holds"][0]["message"]
        return message

    def events(self) -> dict[str, Json]:
        """By reason, those about `demo`."""
        items = self.plane.request("GET", f"/api/v1/namespaces/{self.namespace}/events")["items"]
        return {one["reason"]: one for one in items if one["involvedObject"]["name"] == "demo"}

    def pod_is_there(self) -> bool:
        try:
            found = self.plane.request("GET", f"/api/v1/namespaces/{self.namespace}/pods/redis-0")
        except urllib.error.HTTPError:
            return False
        return bool(found["metadata"]["uid"] == self.uid)

    def writes(self, since: int) -> list[str]:
        """Requests of the operator since then that wrote what is ours."""
        return [
            f"{one['verb']} {one['requestURI']}"
            for one in self.plane.audited(since)
            if one["stage"] == "ResponseComplete"
            and one["verb"] in {"create", "update", "patch", "delete"}
            and f"/namespaces/{self.namespace}/" in one["requestURI"]
            and "backendhealth.dev" in one["requestURI"]
            and "urllib" not in one.get("userAgent", "")
        ]


@pytest.fixture
def platform(control_plane: ControlPlane, namespace: str) -> Iterator[Platform]:
    switch(control_plane, namespace)
    yield Platform(control_plane, namespace)
    for kind in ("remediations", "remediationpolicies"):
        control_plane.request("DELETE", path(namespace, kind), {})


def stays(condition: Callable[[], bool], seconds: float = QUIET) -> bool:
    """Whether it holds for all that time."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if not condition():
            return False
        time.sleep(0.1)
    return True


def test_a_dry_run_is_recorded_and_told_and_changes_nothing(platform: Platform, operator: Operator):
    platform.allow()
    platform.declare()
    platform.until("DryRun")
    (done,) = platform.remediations()
    assert done["spec"]["rule"] == "restart"
    assert done["spec"]["mode"] == "DryRun"
    assert done["spec"]["cause"]["reason"] == "ConnectionRefused"
    assert done["spec"]["target"]["name"] == "redis-0"
    assert done["status"]["calls"]
    assert done["status"]["actingAs"] == f"system:serviceaccount:{platform.namespace}:remediator"
    wait_until(lambda: "RemediationDryRun" in platform.events(), 10, "an Event")
    told = platform.events()["RemediationDryRun"]
    assert done["metadata"]["name"] in told["message"]
    assert "policy policy, rule restart" in told["message"]
    wait_until(lambda: bool(platform.resources.condition("demo", "RemediationAllowed")), 5, "the condition")
    assert re.search(r"RemediationDryRun|DryRun: restartPods", operator.log(50_000))
    count = operator.metric("backendhealth_remediations_total", phase="DryRun", action="restartPods", mode="DryRun")
    assert count == 1
    assert platform.pod_is_there()


def test_silence_costs_nothing(platform: Platform, operator: Operator):
    platform.allow()
    platform.declare()
    platform.until("DryRun")
    log = platform.plane.audit_log
    wait_until(lambda: bool(platform.guards()), 10, "what holds is told")

    def quiet(seconds: float) -> bool:
        since = log.stat().st_size
        return stays(lambda: not platform.writes(since), seconds)

    wait_until(lambda: quiet(1.0), 10, "what was under way is written")
    assert quiet(QUIET)


def test_after_a_restart_nothing_happens_before_an_attempt_has_shown_it_anew(
    control_plane: ControlPlane, namespace: str, platform: Platform
):
    platform.declare(timeout="9s", interval="10s")
    with Operator(control_plane, namespace):
        platform.resources.wait("demo", "Unhealthy")
    platform.allow()
    operator = Operator(control_plane, namespace)
    with contextlib.ExitStack() as stack:
        with socket.create_server((LOOPBACK, platform.port)):  # the kernel takes connections, and nobody answers
            stack.enter_context(operator)
            platform.until_held("NotObserved")
            assert stays(lambda: platform.phases() == [], 3)
            assert platform.resources.state("demo").startswith("Unhealthy ConnectionRefused")
        platform.until("DryRun", timeout=30)


def test_switched_off_nothing_is_done_and_it_is_said(platform: Platform, operator: Operator):
    switch(platform.plane, platform.namespace, "false")
    platform.allow(mode="Enforce")
    platform.declare()
    assert "enabled" in platform.until_held("SwitchedOff")
    assert platform.resources.condition("demo", "RemediationAllowed")["reason"] == "SwitchedOff"
    # one that was begun before the switch was looked at again is stopped at its fence
    assert stays(lambda: set(platform.phases()) <= {"Held", "Running"} and platform.pod_is_there())
    switch(platform.plane, platform.namespace)
    wait_until(lambda: not platform.pod_is_there(), 45, "it acts")


def test_an_unusable_policy_is_told(platform: Platform, operator: Operator):
    unreadable = {"debugLogs": {"podSelector": {"matchLabels": {"app": "a"}}, "confirm": "(unclosed"}}
    rule = {"name": "logs", "when": {"component": "redis"}, "action": unreadable}
    platform.allow(rules=[rule])
    platform.declare()
    assert "rules[0].action.debugLogs.confirm" in platform.until_held("PolicyUnusable")
    condition = platform.resources.condition("demo", "RemediationAllowed")
    assert (condition["status"], condition["reason"]) == ("False", "PolicyUnusable")
    platform.plane.request("DELETE", path(platform.namespace, "remediationpolicies", "policy"))
    wait_until(lambda: not platform.resources.condition("demo", "RemediationAllowed"), 10, "no policy, no condition")
    assert "remediation" not in platform.resources.status("demo")


def test_without_the_right_to_see_remediations_it_says_what_grants_it(
    control_plane: ControlPlane, namespace: str, platform: Platform
):
    rules = [
        {"apiGroups": ["backendhealth.dev"], "resources": ["backendhealths"], "verbs": ["get", "list", "watch"]},
        {"apiGroups": ["backendhealth.dev"], "resources": ["remediationpolicies"], "verbs": ["get", "list", "watch"]},
        {"apiGroups": ["backendhealth.dev"], "resources": ["backendhealths/status"], "verbs": ["update"]},
    ]
    where = {"name": "poor", "namespace": namespace}
    role = {"apiVersion": "rbac.authorization.k8s.io/v1", "kind": "Role", "metadata": where, "rules": rules}
    control_plane.kubectl("-n", namespace, "create", "serviceaccount", "poor")
    control_plane.kubectl("apply", "-f", "-", input=json.dumps(role))
    bind = ("rolebinding", "poor", "--role=poor", f"--serviceaccount={namespace}:poor")
    control_plane.kubectl("-n", namespace, "create", *bind)
    platform.allow()
    platform.declare()
    kubeconfig = control_plane.token_kubeconfig(namespace, "poor")
    with Operator(control_plane, namespace, "--no-leader-elect", kubeconfig=kubeconfig):
        told = platform.until_held("RecordsUnknown")
        for line in told.partition("; to grant it: ")[2].split("; "):
            control_plane.kubectl(*shlex.split(line)[1:])
        wait_until(lambda: "RecordsUnknown" not in platform.guards(), 15, "seen")
    assert platform.phases() == []


@pytest.mark.parametrize("mode", ["DryRun", "Enforce"])
def test_the_operators_own_setting_is_off(control_plane: ControlPlane, namespace: str, platform: Platform, mode: str):
    platform.allow(mode=mode)
    platform.declare()
    with Operator(control_plane, namespace, "--no-remediation"):
        assert "setting" in platform.until_held("SwitchedOff")
        assert stays(lambda: platform.phases() == [] and platform.pod_is_there(), 2)


def test_what_a_person_asks_for_is_told_by_events_about_it(platform: Platform, operator: Operator):
    """No BackendHealth is behind it: whoever asked for it looks at the Remediation itself."""
    platform.allow(mode="Enforce")
    target = {"kind": "Pod", "name": "redis-0", "uid": platform.uid}
    asked = {"policyRef": {"name": "policy"}, "requestedBy": "ada", "target": target, "action": restart()}
    body = remediation(platform.namespace, "by-hand", **asked)
    for field in ("rule", "cause"):
        del body["spec"][field]
    platform.plane.request("POST", path(platform.namespace, "remediations"), body)

    def told() -> dict[str, Json]:
        items = platform.plane.request("GET", f"/api/v1/namespaces/{platform.namespace}/events")["items"]
        return {one["reason"]: one for one in items if one["involvedObject"]["kind"] == "Remediation"}

    wait_until(lambda: "RemediationRunning" in told(), 15, "an Event about it")
    event = told()["RemediationRunning"]
    (made,) = platform.remediations()
    assert event["involvedObject"]["name"] == "by-hand"
    assert event["involvedObject"]["uid"] == made["metadata"]["uid"]
    assert "asked for by ada" in event["message"]
