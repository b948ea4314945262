"""Remediation when the API server, the network, the clock or the operator itself fails: nothing, or once."""

from __future__ import annotations

import datetime as dt
import os
import signal
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.kube.operator import Operator
from tests.kube.outages import DELETE, Holding, approve, change, cleared, effects, prepared
from tests.kube.remediating import path, switch
from tests.kube.replicas import Cable
from tests.kube.test_operator_faults import faked
from tests.kube.test_remediation import Platform, stays
from tests.servers.kubernetes import ControlPlane
from tests.servers.process import wait_until
from tests.servers.redis import RedisServer

OUT = 6.5
"""Seconds of an outage: longer than any request waits, shorter than a Lease."""
STUCK = ("Traceback", "was destroyed", "never retrieved")


@pytest.fixture
def platform(control_plane: ControlPlane, namespace: str) -> Iterator[Platform]:
    made = prepared(control_plane, namespace)
    yield made
    cleared(made)


OUTAGES: dict[str, tuple[Callable[[ControlPlane, Cable], None], Callable[[ControlPlane, Cable], None]]] = {
    "API server killed": (lambda plane, _: plane.stop_api(), lambda plane, _: plane.start_api()),
    "API server paused": (lambda plane, _: plane.pause(), lambda plane, _: plane.resume()),
    "own network lost": (lambda _, cable: cable.cut(), lambda _, cable: cable.mend()),
}


@pytest.mark.parametrize("outage", OUTAGES)
def test_an_outage_at_the_last_write_before_the_effect(
    control_plane: ControlPlane, namespace: str, platform: Platform, outage: str
):
    begins, ends = OUTAGES[outage]
    cable = Cable(control_plane)
    since = control_plane.audit_log.stat().st_size
    with cable.plugged(), Operator(control_plane, namespace, kubeconfig=cable.kubeconfig) as operator:
        platform.declare()
        platform.resources.wait("demo", "Unhealthy")
        with Holding(control_plane, namespace, "UPDATE", "remediations/status", 20) as holding:
            platform.allow(mode="Enforce", rules=[DELETE])
            holding.until_one_waits()
            holding.withdraw()
            begins(control_plane, cable)
        try:
            assert stays(lambda: operator.running and not effects(platform, since), OUT)
        finally:
            ends(control_plane, cable)
        wait_until(lambda: not platform.pod_is_there(), 40, f"it acts: {platform.remediations()} {operator.log()}")
        platform.until("NotHelpful", timeout=20)
        assert len(effects(platform, since)) == 1
        (record,) = platform.remediations()
        assert record["status"]["effectAt"] >= record["status"]["startedAt"]


def test_cut_off_while_the_effect_is_under_way(control_plane: ControlPlane, namespace: str, platform: Platform):
    cable = Cable(control_plane)
    since = control_plane.audit_log.stat().st_size
    with cable.plugged(), Operator(control_plane, namespace, kubeconfig=cable.kubeconfig) as operator:
        with Holding(control_plane, namespace, "DELETE", "pods", 20) as holding:
            platform.allow(mode="Enforce", rules=[DELETE])
            platform.declare()
            holding.until_one_waits()
            cable.cut()
        wait_until(lambda: not platform.pod_is_there(), 10, "it is done, and nobody is told")
        operator.kill()
        assert platform.phases() == ["Running"]
    with Operator(control_plane, namespace):
        platform.until("Unknown", timeout=30)
        assert len(effects(platform, since)) == 1


def test_killed_before_its_status_is_written(control_plane: ControlPlane, namespace: str, platform: Platform):
    """Whoever takes over could not know the incident as the same one: nothing is done before."""
    since = control_plane.audit_log.stat().st_size
    platform.allow(mode="Enforce", rules=[{**DELETE, "verify": {"within": "5s"}}])
    with (
        Operator(control_plane, namespace) as operator,
        Holding(control_plane, namespace, "UPDATE", "backendhealths/status", 20) as holding,
    ):
        platform.declare()
        holding.until_one_waits()
        assert stays(lambda: platform.remediations() == [] and platform.pod_is_there(), 2)
        operator.kill()
    with Operator(control_plane, namespace):
        platform.until("NotHelpful", timeout=30)
        assert len(effects(platform, since)) == 1


@pytest.mark.parametrize("seconds", [2, 12])
def test_ended_while_an_action_is_under_way(
    control_plane: ControlPlane, namespace: str, platform: Platform, seconds: int
):
    """What ends within the grace period is recorded; of what does not, nobody knows, and it is not repeated."""
    since = control_plane.audit_log.stat().st_size
    with Operator(control_plane, namespace) as operator:
        with Holding(control_plane, namespace, "DELETE", "pods", seconds) as holding:
            platform.allow(mode="Enforce", rules=[{**DELETE, "verify": {"within": "5s"}}])
            platform.declare()
            holding.until_one_waits()
            holding.withdraw()
            os.kill(operator.pid, signal.SIGTERM)
            wait_until(lambda: not operator.running, 10, "it ends")
            assert platform.phases() == ["Verifying" if seconds < 5 else "Running"]
        log = operator.log(50_000)
        assert not [word for word in STUCK if word in log], log
    with Operator(control_plane, namespace):
        platform.until("NotHelpful" if seconds < 5 else "Unknown", timeout=30)
        wait_until(lambda: len(effects(platform, since)) == 1, 15, "once")


def window(act: str) -> dict[str, Any]:
    """One that has begun and goes on."""
    hour = (dt.datetime.now(dt.UTC) - dt.timedelta(hours=1)).hour
    return {"name": "w", "schedule": f"0 {hour} * * *", "duration": "4h", "act": act}


def test_windows_and_pauses(platform: Platform, operator: Operator):
    platform.declare()
    platform.allow(mode="Enforce", rules=[DELETE], pauseRequests=[{"by": "ann", "reason": "migration"}])
    assert "ann: migration" in platform.until_held("Paused")
    change(platform, mode="Enforce", rules=[DELETE], maintenanceWindows=[window("NeverInside")])
    platform.until_held("OutsideWindow")
    until = platform.resources.status("demo")["remediation"]["holds"][0]["until"]
    ends = dt.datetime.fromisoformat(until).timestamp()
    assert time.time() + 1.9 * 3600 < ends <= time.time() + 3 * 3600
    assert platform.phases() == []
    assert platform.pod_is_there()
    change(platform, mode="Enforce", rules=[DELETE], maintenanceWindows=[window("OnlyInside")])
    wait_until(lambda: not platform.pod_is_there(), 10, "it acts")
    assert operator.running


@pytest.fixture
def clock(tmp_path: Path) -> Path:
    """What is added to the operator's wall clock."""
    path = tmp_path / "clock"
    path.write_text("+0")
    return path


@pytest.fixture
def stepped(control_plane: ControlPlane, namespace: str, clock: Path) -> Iterator[Operator]:
    with Operator(control_plane, namespace, env=faked(clock)) as running:
        yield running


def test_a_clock_that_jumps_out_of_a_window(platform: Platform, stepped: Operator, clock: Path):
    platform.declare()
    platform.allow(mode="Enforce", rules=[DELETE], maintenanceWindows=[window("NeverInside")])
    platform.until_held("OutsideWindow")
    for offset in ("+5h", "-5h"):
        clock.write_text(offset)
        assert "the clock was set" in platform.until_held("SwitchedOff")
        assert stays(lambda: platform.phases() == [] and platform.pod_is_there(), 2)
    clock.write_text("+0")
    platform.until_held("OutsideWindow")
    assert stepped.running


def test_a_clock_that_jumps_over_a_limit(platform: Platform, stepped: Operator, clock: Path):
    platform.declare()
    rule = {**DELETE, "when": {"component": "redis", "for": "1s"}}
    platform.allow(mode="Enforce", rules=[rule], limits={"max": 1, "window": "1h", "cooldown": "30m"})
    platform.until("NotHelpful")
    with RedisServer(port=platform.port):
        platform.resources.wait("demo", "Healthy")
    platform.pod()  # in place of the first
    platform.until_held("LimitReached", 15)
    clock.write_text("+2h")
    platform.until_held("SwitchedOff")
    assert stays(lambda: platform.phases() == ["NotHelpful"] and platform.pod_is_there(), 2)
    clock.write_text("+0")
    platform.until_held("LimitReached")
    assert stepped.running


def test_a_clock_that_jumps_over_an_approvals_expiry(platform: Platform, stepped: Operator, clock: Path):
    platform.declare()
    platform.allow(mode="Approve", rules=[DELETE])
    platform.until("AwaitingApproval")
    for offset in ("+12h", "-12h"):
        clock.write_text(offset)
        assert "the clock was set" in platform.until_held("SwitchedOff")
        assert stays(lambda: platform.phases() == ["AwaitingApproval"], 1)
    approve(platform)
    platform.until("Held")
    assert stays(lambda: platform.phases() == ["Held"] and platform.pod_is_there(), 2)
    clock.write_text("+0")
    wait_until(lambda: not platform.pod_is_there(), 15, "it acts")
    assert stepped.running


def test_healed_while_no_operator_ran(control_plane: ControlPlane, namespace: str, platform: Platform):
    platform.declare()
    with Operator(control_plane, namespace):
        platform.resources.wait("demo", "Unhealthy")
    platform.allow(mode="Enforce", rules=[DELETE])
    with RedisServer(port=platform.port), Operator(control_plane, namespace):
        platform.resources.wait("demo", "Healthy")
        assert stays(lambda: platform.phases() == [] and platform.pod_is_there(), 2)


@pytest.mark.parametrize("deleted", [False, True])
def test_held_by_the_switch(platform: Platform, operator: Operator, *, deleted: bool):
    """On again, it is looked at at once; and without its policy never done."""
    platform.declare()
    platform.allow(mode="Approve", rules=[DELETE])
    platform.until("AwaitingApproval")
    switch(platform.plane, platform.namespace, "false")
    platform.until_held("SwitchedOff")
    approve(platform)
    platform.until("Held")
    if deleted:
        platform.plane.request("DELETE", path(platform.namespace, "remediationpolicies", "policy"))
    switch(platform.plane, platform.namespace)
    if not deleted:
        wait_until(lambda: not platform.pod_is_there(), 8, "it acts")
        return

    def guards() -> list[str]:
        (one,) = platform.remediations()
        return [hold["guard"] for hold in one["status"].get("holds", [])]

    wait_until(lambda: guards() == ["PolicyChanged"], 10, "it says why")
    assert stays(lambda: platform.phases() == ["Held"] and platform.pod_is_there(), 6)
    assert operator.running


def test_without_the_kinds_of_remediation(control_plane: ControlPlane, namespace: str, platform: Platform):
    """As after an upgrade without its CRDs: it probes, and says what is missing."""
    names = [f"{kind}.backendhealth.dev" for kind in ("remediations", "remediationpolicies")]
    control_plane.kubectl("delete", "crd", *names)
    try:
        platform.declare()
        with Operator(control_plane, namespace) as operator:
            platform.resources.wait("demo", "Unhealthy")
            for kind in ("remediations", "remediationpolicies"):
                told = f"no remediation: the cluster does not know {kind} (kubectl apply -k crds)"
                wait_until(lambda told=told: told in operator.log(20_000), 10, told)  # type: ignore[misc]
            assert operator.get("/healthz")[0] == operator.get("/readyz")[0] == 200
            control_plane.apply_crds()
            platform.allow()
            platform.until("DryRun", timeout=20)
            assert "Traceback" not in operator.log(50_000)
    finally:
        control_plane.apply_crds()
