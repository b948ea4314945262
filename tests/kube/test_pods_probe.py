"""The `pods` probe over the engine and a real API server: verdicts, how soon a change shows, what is left open."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

import pytest

from backendhealth.core.podtroubles import STEADY
from backendhealth.core.reasons import Reason
from backendhealth.core.spec.backendhealth import Probe
from backendhealth.kube import podwatch
from backendhealth.kube.api import Api, connect
from backendhealth.kube.podwatch import PodWatches
from backendhealth.probes.dialer import Dialer
from backendhealth.probes.prober import Prober
from backendhealth.probes.registry import Context, build
from tests.cli.support import run
from tests.kube.pods import Pods
from tests.kube.watched import SELECTOR, watching
from tests.probes.checks import eventually, nothing_left
from tests.probes.support import MemorySecrets, attempt_once
from tests.servers.kubernetes import ControlPlane
from tests.unit.podmaking import Json, container, ended, good, pod, running, waiting


@pytest.fixture
def pods(api: Api, namespace: str) -> Pods:
    return Pods(api, namespace)


def troubled(reason: Reason) -> Json:
    waits = {
        Reason.CRASH_LOOP_BACK_OFF: container(waiting("CrashLoopBackOff"), restarts=4, last=ended()),
        Reason.IMAGE_PULL_FAILED: container(waiting("ImagePullBackOff", "Back-off pulling image")),
        Reason.OOM_KILLED: container(ended("OOMKilled", 137)),
    }
    if reason is Reason.UNSCHEDULABLE:
        return pod(phase="Pending", scheduled="0/1 nodes are available: 1 Insufficient memory.")
    return pod("a", waits[reason], phase="Pending" if reason is Reason.IMAGE_PULL_FAILED else "Running")


async def test_a_change_is_in_the_status_within_a_second(api: Api, namespace: str, pods: Pods):
    async with watching(api, namespace) as watched:
        await watched.until(Reason.NO_PODS)
        await pods.create("a", good())
        await watched.until(Reason.PROBE_SUCCEEDED)
        for reason in (Reason.CRASH_LOOP_BACK_OFF, Reason.IMAGE_PULL_FAILED, Reason.UNSCHEDULABLE, Reason.OOM_KILLED):
            began = time.monotonic()
            await pods.patch("a", troubled(reason))
            found = await watched.until(reason)
            assert watched.told[-1][0] - began < 1
            assert [(one.subject, one.reason) for one in found.subjects] == [("pod/a", reason)]
            await pods.patch("a", good())
            await watched.until(Reason.PROBE_SUCCEEDED)
        await pods.delete("a")
        assert (await watched.until(Reason.NO_PODS)).verdict == "Unhealthy"


async def test_a_ready_pod_that_restarts_again_and_again(api: Api, namespace: str, pods: Pods):
    async with watching(api, namespace, maximumRestarts=2) as watched:
        await pods.create("a", good())
        await watched.until(Reason.PROBE_SUCCEEDED)
        for restarts in (1, 2, 3):
            since, last = running(time.time() - 60), ended(at=time.time() - 70)  # steady again
            await pods.patch("a", pod("a", container(since, ready=True, restarts=restarts, last=last), ready=True))
        assert (await watched.until(Reason.RESTARTS_RISING)).verdict == "Degraded"
        assert "restarted 3 times within 10m" in watched.probe.message


async def test_time_alone_ends_a_crash_loop(api: Api, namespace: str, pods: Pods):
    async with watching(api, namespace) as watched:
        await watched.until(Reason.NO_PODS)
        since = int(time.time()) - STEADY + 2  # the kubelet tells whole seconds
        up = container(running(since), ready=True, restarts=2, last=ended(at=since - 10))
        await pods.create("a", pod("a", up, ready=True))
        await watched.until(Reason.CRASH_LOOP_BACK_OFF)
        await watched.until(Reason.PROBE_SUCCEEDED)  # no event of the watch, and no interval, is its cause
        assert time.time() - since >= STEADY


async def test_a_rollout_that_hangs_is_degraded(api: Api, namespace: str, pods: Pods):
    async with watching(api, namespace) as watched:
        await pods.create("old", good())
        await watched.until(Reason.PROBE_SUCCEEDED)
        await pods.create("new", troubled(Reason.IMAGE_PULL_FAILED))
        found = await watched.until(Reason.PODS_DEGRADED)
        assert found.verdict == "Degraded"
        assert [(one.subject, one.reason) for one in found.subjects] == [("pod/new", Reason.IMAGE_PULL_FAILED)]


async def test_the_api_server_is_away_and_back(
    control_plane: ControlPlane, api: Api, namespace: str, pods: Pods, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(podwatch, "LOST_AFTER", 0.5)
    await pods.create("a", good())
    async with watching(api, namespace) as watched:
        await watched.until(Reason.PROBE_SUCCEEDED)
        control_plane.stop_api()
        try:
            found = await watched.until(Reason.CLUSTER_UNAVAILABLE)
        finally:
            control_plane.start_api()
        assert found.verdict == "Unknown"
        await watched.until(Reason.PROBE_SUCCEEDED, timeout=20)
        assert not any(status.summary and status.summary.state == "Unhealthy" for _, status in watched.told)


async def test_an_api_server_that_hangs_from_the_start_is_unknown(control_plane: ControlPlane, namespace: str):
    async with await connect(str(control_plane.kubeconfig), None) as api, PodWatches(api) as watches:
        context = Context(Dialer(), MemorySecrets(), namespace, watches)
        prober = Prober(build(Probe.model_validate({"name": "core", "pods": {"selector": SELECTOR}}), context))
        control_plane.pause()
        try:
            finding = await prober.attempt(0.5)
        finally:
            control_plane.resume()
        assert finding.reason is Reason.CLUSTER_UNAVAILABLE
        assert finding.message == "the API server did not list the pods within 0.5 s"
        assert not finding.contact
        await eventually(lambda: len(watches) == 1, "it goes on")
        assert (await prober.attempt(10)).reason is Reason.NO_PODS
        await prober.close()


async def test_without_a_cluster():
    finding = await attempt_once("pods", {"selector": SELECTOR})
    assert finding.reason is Reason.NO_CLUSTER
    assert "--kubeconfig" in finding.message
    assert not finding.contact


async def test_removing_the_resource_leaves_nothing_open(api: Api, namespace: str, pods: Pods):
    await pods.create("a", good())
    async with nothing_left(), watching(api, namespace) as watched:
        await watched.until(Reason.PROBE_SUCCEEDED)
        await watched.engine.remove(watched.declared.key)
        assert len(watched.pods) == 0


def check(tmp_path: Path, namespace: str, *options: str) -> tuple[int, dict[str, Any], str]:
    """Exit code, status of the probe and complaint of `backendhealth check`."""
    file = tmp_path / "one.json"
    declared = {
        "apiVersion": "backendhealth.dev/v1alpha1",
        "kind": "BackendHealth",
        "metadata": {"name": "one", "namespace": namespace},
        "spec": {"probes": [{"name": "core", "pods": {"selector": SELECTOR}}]},
    }
    file.write_text(json.dumps(declared))
    done = run("check", "-o", "json", "-f", file, *options)
    probe = json.loads(done.stdout)["status"]["probes"][0] if done.stdout else {}
    return done.returncode, probe, done.stderr


async def test_the_command_line_with_a_kubeconfig(
    control_plane: ControlPlane, namespace: str, pods: Pods, tmp_path: Path
):
    await pods.create("a", troubled(Reason.CRASH_LOOP_BACK_OFF))
    code, probe, complaint = check(tmp_path, namespace, "--kubeconfig", str(control_plane.kubeconfig))
    assert (code, probe["reason"], complaint) == (1, "CrashLoopBackOff", "")
    await pods.patch("a", good())
    code, probe, complaint = check(tmp_path, namespace, "--kubeconfig", str(control_plane.kubeconfig))
    assert (code, probe["reason"], complaint) == (0, "ProbeSucceeded", "")


def test_the_command_line_with_a_kubeconfig_that_is_none(tmp_path: Path):
    broken = tmp_path / "kubeconfig"
    broken.write_text("kind: Config\n")
    code, _, complaint = check(tmp_path, "default", "--kubeconfig", str(broken))
    assert code == 2
    assert f"{broken} is not a usable kubeconfig" in complaint
