"""`kubectl backendhealth`: each verb on a real API server, with a running operator where it takes one."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from backendhealth.cli.kubectl import main
from tests.kube.operator import Operator
from tests.kube.remediating import path, switch
from tests.kube.test_remediation import Platform
from tests.servers.kubernetes import ControlPlane
from tests.servers.process import wait_until

Capture = pytest.CaptureFixture[str]
SELECTOR = {"matchLabels": {"app": "redis"}}
DEBUG = {"name": "debug", "when": {"component": "redis"}, "action": {"debugLogs": {"podSelector": SELECTOR}}}
DRIVER = {"url": "http://api:3000", "apiKeySecretRef": {"name": "admin", "key": "key"}}


class Plugin:
    """The command as one user, in one namespace."""

    def __init__(self, platform: Platform, capsys: Capture, kubeconfig: Path | None = None) -> None:
        self.platform = platform
        self._capsys = capsys
        self._where = ["--kubeconfig", str(kubeconfig or platform.plane.kubeconfig), "-n", platform.namespace]

    def __call__(self, *arguments: str) -> tuple[int, str]:
        """Exit code and all that is printed."""
        code = main([*arguments, *self._where])
        told = self._capsys.readouterr()
        return code, told.out + told.err


@pytest.fixture
def platform(control_plane: ControlPlane, namespace: str) -> Iterator[Platform]:
    switch(control_plane, namespace)
    yield Platform(control_plane, namespace)
    for kind in ("remediations", "remediationpolicies"):
        control_plane.request("DELETE", path(namespace, kind), {})


@pytest.fixture
def plugin(platform: Platform, capsys: Capture) -> Plugin:
    return Plugin(platform, capsys)


def only(platform: Platform) -> dict[str, Any]:
    (found,) = platform.remediations()
    return found


def test_approve_and_what_is_shown_meanwhile(platform: Platform, operator: Operator, plugin: Plugin):
    platform.declare()
    platform.allow(mode="Approve")
    platform.until("AwaitingApproval")
    name = only(platform)["metadata"]["name"]
    code, told = plugin("status", "demo")
    assert code == 0
    assert "demo   Unhealthy   redis" in told
    assert f"Under way: {name} (restartPods on redis-0): AwaitingApproval" in told
    code, told = plugin("why", "demo")
    assert (code, f"{name}: AwaitingApproval" in told) == (0, True)
    assert "seen: redis is Unhealthy (ConnectionRefused) since" in told
    code, told = plugin("approve", name, "--reason", "seen it")
    assert code == 0
    assert "restartPods on Pod redis-0" in told
    wait_until(lambda: not platform.pod_is_there(), 20, "the pod was evicted")
    approval = only(platform)["spec"]["approval"]
    assert (approval["decision"], approval["reason"]) == ("Approved", "seen it")
    assert plugin("approve", name)[0] == 2
    code, told = plugin("history", "demo")
    assert (code, "redis" in told, name in told) == (0, True, True)
    assert json.loads(plugin("history", "demo", "-o", "json")[1])[-1]["what"] == name


def test_reject(platform: Platform, operator: Operator, plugin: Plugin):
    platform.declare()
    platform.allow(mode="Approve")
    platform.until("AwaitingApproval")
    assert plugin("reject", only(platform)["metadata"]["name"])[0] == 0
    platform.until("Rejected")
    assert platform.pod_is_there()


def test_probe_now_suspend_and_resume(platform: Platform, operator: Operator, plugin: Plugin):
    platform.declare(interval="1h")
    platform.resources.wait("demo", "Unhealthy")
    assert plugin("probe-now", "demo", "--wait") == (0, "demo is Unhealthy\n")
    assert plugin("resume", "demo")[0] == 2
    code, told = plugin("suspend", "demo", "--for", "2h")
    assert (code, "kubectl backendhealth resume demo" in told) == (0, True)
    platform.resources.wait("demo", "Suspended")
    assert plugin("resume", "demo")[0] == 0
    platform.resources.wait("demo", "Unhealthy")
    assert plugin("suspend", "demo", "--for", "soon")[0] == 2


def test_switch(platform: Platform, plugin: Plugin):
    where = ("--operator-namespace", platform.namespace)
    assert plugin("switch", "status", *where)[1] == "remediation is on, as far as policies allow\n"
    assert plugin("switch", "off", *where)[1] == "remediation is off: by annotation\n"
    assert plugin("switch", "status", *where)[1] == "remediation is off: by annotation\n"
    assert plugin("switch", "on", *where)[1] == "remediation is on, as far as policies allow\n"
    code, told = plugin("switch", "off", "--operator-namespace", "default")
    assert (code, "then remediation is off" in told) == (2, True)


@pytest.mark.parametrize("target", ["redis-0", "pod/redis-0", "component/redis"])
def test_debug_logs_of(platform: Platform, plugin: Plugin, target: str):
    probe = {"name": "redis", "pods": {"selector": SELECTOR}}
    platform.resources.apply("watched", probe)
    platform.allow(rules=[DEBUG])
    code, told = plugin("debug-logs", "on", target, "--for", "5m", "--no-wait")
    assert code == 0, told
    spec = only(platform)["spec"]
    assert spec["target"] | {"uid": platform.uid} == spec["target"]
    assert spec["action"]["debugLogs"]["revertAfter"] == "5m"
    assert spec["requestedBy"] == "admin"
    assert "cause" not in spec


def test_debug_logs_that_are_not_on_can_not_be_turned_off(platform: Platform, plugin: Plugin):
    platform.allow(rules=[DEBUG])
    code, told = plugin("debug-logs", "off", "redis-0")
    assert (code, "no verbose logs of redis-0 are on" in told) == (2, True)


def test_restart_driver_takes_the_policys_own_way(platform: Platform, plugin: Plugin):
    rule = {"name": "drivers", "when": {"component": "drivers"}, "action": {"restartDriver": DRIVER}}
    platform.allow(rules=[rule])
    assert plugin("restart-driver", "drivers_lamp", "--no-wait")[0] == 0
    spec = only(platform)["spec"]
    assert (spec["target"]["name"], spec["action"]["restartDriver"]["url"]) == ("drivers_lamp", "http://api:3000")


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (("status", "nobody"), "no BackendHealth nobody in the namespace"),
        (("why", "nobody"), "no BackendHealth nobody in the namespace"),
        (("approve", "nobody"), "no Remediation nobody in the namespace"),
        (("debug-logs", "on", "redis-0"), "no RemediationPolicy in the namespace"),
        (("debug-logs", "on", "redis-0", "--for", "x"), "--for x: not a duration"),
    ],
)
def test_bad_input(plugin: Plugin, arguments: tuple[str, ...], told: str):
    code, printed = plugin(*arguments)
    assert (code, told in printed) == (2, True), printed


def test_targets_that_there_are_not(platform: Platform, plugin: Plugin):
    platform.allow(rules=[DEBUG])
    for target, why in (
        ("redis-1", "no pod redis-1"),
        ("deployment/x", "no deployment x"),
        ("job/x", "job/x: give pod/NAME"),
        ("component/x", "watches pods of a component x"),
    ):
        code, told = plugin("debug-logs", "on", target)
        assert (code, why in told) == (2, True), told
    assert plugin("debug-logs", "on", "redis-0", "--policy", "x")[0] == 2
    platform.allow("another", rules=[DEBUG])
    assert "choose with --policy one of another, policy" in plugin("debug-logs", "on", "redis-0")[1]


def test_who_may_not_is_told_which_role_would_do(platform: Platform, capsys: Capture):
    platform.plane.kubectl("-n", platform.namespace, "create", "serviceaccount", "stranger")
    stranger = Plugin(platform, capsys, platform.plane.token_kubeconfig(platform.namespace, "stranger"))
    code, told = stranger("status")
    assert (code, "--clusterrole=backendhealth-view" in told) == (1, True), told


def test_kubectl_finds_it(platform: Platform):
    """As a user has it: the script's folder is on the PATH."""
    path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    shown = subprocess.run(
        [platform.plane._binary, "backendhealth", "--help"],
        env={**os.environ, "PATH": path}, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert shown.returncode == 0, shown.stderr
    assert "debug-logs" in shown.stdout
