"""Each backend in a pod of its own: hung, killed and brought back, as the operator in its pod sees it."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from backendhealth.core.podtroubles import STEADY
from tests.cluster import images
from tests.cluster.access import Kubectl
from tests.cluster.cluster import Cluster
from tests.e2e import backends
from tests.e2e.backends import MEMBERS, frozen, killed, pod_of
from tests.e2e.declared import apply, columns, condition, delete, status, wait_for
from tests.e2e.figures import measured
from tests.servers.process import wait_until

PROBES: dict[str, dict[str, Any]] = {
    "redis": {"redis": {"url": "redis://redis:6379", "writeCheck": True}},
    "web": {"http": {"url": "http://web/index.html", "expect": {"status": ["200"]}}},
    "postgres": {"postgres": {"host": "postgres", "query": "SELECT 1"}},
    "elasticsearch": {"elasticsearch": {"urls": ["http://elasticsearch:9200"]}},
}
PATIENCE = 20


@contextmanager
def declared(cluster: Kubectl, namespace: str, name: str, target: dict[str, Any]) -> Iterator[None]:
    """A BackendHealth of one probe, Healthy when this begins."""
    apply(cluster, namespace, name, {"name": name, **target})
    try:
        wait_for(cluster, namespace, name, "Healthy", timeout=PATIENCE)
        yield
    finally:
        delete(cluster, namespace, name)


@pytest.mark.parametrize("name", PROBES)
@pytest.mark.timeout(240)  # the first one starts them all
def test_a_backend_is_hung_killed_and_brought_back(installed: Kubectl, own_cluster: Cluster, stage: str, name: str):
    pod = pod_of(own_cluster, stage, name)
    with declared(installed, stage, name, PROBES[name]):
        began = time.monotonic()
        with frozen(own_cluster, stage, pod):
            wait_for(installed, stage, name, "Unhealthy", "Timeout")
            measured(f"{name} hung, until Unhealthy (3 attempts of 0.8 s)", time.monotonic() - began)
            assert "no answer within 0.8 s" in status(installed, stage, name)["summary"]["message"]
        wait_for(installed, stage, name, "Healthy", timeout=PATIENCE)
        with killed(own_cluster, stage, pod):
            wait_for(installed, stage, name, "Unhealthy", "ConnectionRefused")
            assert status(installed, stage, name)["summary"]["rootCause"] == name
        wait_for(installed, stage, name, "Healthy", timeout=PATIENCE)
        told = installed.kubectl("-n", stage, "events", "--for", f"backendhealth/{name}")
        assert "Timeout" in told
        assert "ConnectionRefused" in told


def test_etcd_loses_a_member_and_then_its_quorum(installed: Kubectl, own_cluster: Cluster, stage: str):
    endpoints = [f"http://{member}.etcd.{stage}.svc:2379" for member in MEMBERS]
    with declared(installed, stage, "etcd", {"etcd": {"endpoints": endpoints}}):
        with killed(own_cluster, stage, "etcd-1"):
            wait_for(installed, stage, "etcd", "Degraded", "MemberDown")
            assert columns(installed, stage)["etcd"]["STATE"] == "Degraded"
            assert condition(installed, stage, "etcd", "Healthy")["status"] == "True"
            assert condition(installed, stage, "etcd", "Degraded")["status"] == "True"
        wait_for(installed, stage, "etcd", "Healthy", timeout=PATIENCE)
        with frozen(own_cluster, stage, "etcd-0", "etcd-2"):
            wait_for(installed, stage, "etcd", "Unhealthy", "QuorumLost")
        wait_for(installed, stage, "etcd", "Healthy", timeout=PATIENCE)
        with killed(own_cluster, stage, "etcd-0", "etcd-2"):
            wait_for(installed, stage, "etcd", "Unhealthy", "QuorumLost")
            seen = columns(installed, stage)["etcd"]
            assert (seen["ROOT CAUSE"], seen["REASON"]) == ("etcd", "QuorumLost")
        wait_for(installed, stage, "etcd", "Healthy", timeout=PATIENCE)


def test_a_service_without_pods_and_one_that_is_deleted(installed: Kubectl, namespace: str):
    backends.start(installed, namespace, backends.web())
    apply(installed, namespace, "demo", {"name": "web", **PROBES["web"]})
    wait_for(installed, namespace, "demo", "Healthy")
    installed.kubectl("-n", namespace, "scale", "deployment/web", "--replicas=0")
    wait_for(installed, namespace, "demo", "Unhealthy", "ConnectionRefused")
    installed.kubectl("-n", namespace, "delete", "service", "web")
    wait_for(installed, namespace, "demo", "Unhealthy", "DNSNameNotFound")


def test_pods_are_seen_to_crash_and_come_back(installed: Kubectl, namespace: str):
    """Told within a second of the kubelet's report, though the interval is an hour; after a crash loop it must last."""
    script = "trap 'exit 3' TERM; while :; do sleep 0.1; done"
    selector = {"matchLabels": {"app": "core"}}
    apply(installed, namespace, "demo", {"name": "core", "pods": {"selector": selector}}, interval="1h")
    wait_for(installed, namespace, "demo", "Unhealthy", "NoPods")
    container = {"image": images.BUSYBOX, "command": ["sh", "-c", script], "readinessProbe": None}
    backends.start(installed, namespace, backends.Backend("core", container, 80))
    started = time.monotonic()
    wait_for(installed, namespace, "demo", "Healthy", timeout=5)
    measured("pods: rolled out, until Healthy", time.monotonic() - started)
    pod = pod_of(installed, namespace, "core")

    def kubelets_reason() -> str:
        path = "{.status.containerStatuses[0].state.waiting.reason}"
        return installed.kubectl("-n", namespace, "get", "pod", pod, "-o", f"jsonpath={path}")

    def is_ready() -> bool:
        path = "{.status.containerStatuses[0].ready}"
        return installed.kubectl("-n", namespace, "get", "pod", pod, "-o", f"jsonpath={path}") == "true"

    def crashed() -> bool:
        installed.kubectl("-n", namespace, "exec", pod, "--", "kill", "-TERM", "1", check=False)
        return kubelets_reason() == "CrashLoopBackOff"

    wait_until(crashed, 20, "a crash loop")
    reported = time.monotonic()
    wait_for(installed, namespace, "demo", "Unhealthy", "CrashLoopBackOff", timeout=5)
    measured("pods: CrashLoopBackOff, from the kubelet's report", time.monotonic() - reported)
    subjects = status(installed, namespace, "demo")["probes"][0]["subjects"]
    assert [subject["subject"] for subject in subjects] == [f"pod/{pod}"]
    wait_until(is_ready, 40, "the kubelet starts it again")
    reported = time.monotonic()
    wait_for(installed, namespace, "demo", "Healthy", timeout=STEADY + 3)
    assert time.monotonic() - reported > STEADY - 2
    measured("pods: believed after a crash loop, from the kubelet's report that it runs", time.monotonic() - reported)
