"""The product in its pod, installed by its manifests: what people see of it."""

from __future__ import annotations

import json
import os
import signal
import time

import pytest

from tests.cluster.access import Kubectl
from tests.cluster.cluster import Cluster
from tests.e2e import platform
from tests.e2e.platform import SYSTEM, apply, columns, status, wait_for
from tests.servers.process import wait_until

REDIS = {"name": "redis", "redis": {"url": "redis://redis:6379"}}
ETCD = {"name": "etcd", "etcd": {"endpoints": ["http://etcd:2379"]}}


@pytest.mark.timeout(600)  # builds the image where it is not there yet
def test_it_runs_as_a_restricted_pod(installed: Kubectl):
    pods = json.loads(installed.kubectl("-n", SYSTEM, "get", "pods", "-o", "json"))["items"]
    running = [pod for pod in pods if pod["status"]["phase"] == "Running"]
    assert running
    assert "restricted" in installed.kubectl("get", "namespace", SYSTEM, "-o", "yaml")


def test_the_printed_columns(installed: Kubectl, namespace: str):
    platform.redis(installed, namespace)
    apply(installed, namespace, "demo", REDIS)
    wait_for(installed, namespace, "demo", "Healthy")
    assert columns(installed, namespace, "demo")["STATE"] == "Healthy"

    installed.kubectl("-n", namespace, "scale", "deployment/redis", "--replicas=0")
    wait_for(installed, namespace, "demo", "Unhealthy")
    seen = columns(installed, namespace, "demo")
    assert (seen["STATE"], seen["ROOT CAUSE"]) == ("Unhealthy", "redis")
    assert seen["REASON"] in {"ConnectionRefused", "Timeout"}
    assert "condition met" in installed.kubectl(
        "-n", namespace, "wait", "bh/demo", "--for=condition=Healthy=False", "--timeout=5s"
    )

    installed.kubectl("-n", namespace, "scale", "deployment/redis", "--replicas=1")
    met = installed.kubectl("-n", namespace, "wait", "bh/demo", "--for=condition=Healthy", "--timeout=60s", timeout=70)
    assert "condition met" in met

    apply(installed, namespace, "demo", REDIS, suspend=True)
    wait_for(installed, namespace, "demo", "Suspended")
    assert columns(installed, namespace, "demo")["STATE"] == "Suspended"

    secret = {"name": "redis", "redis": {"url": "redis://redis:6379", "auth": {"secretRef": {"name": "none"}}}}
    apply(installed, namespace, "demo", secret)
    wait_for(installed, namespace, "demo", "Unknown", "SecretForbidden")
    assert columns(installed, namespace, "demo")["STATE"] == "Unknown"


def test_each_backend_is_killed_hung_and_brought_back(installed: Kubectl, own_cluster: Cluster, namespace: str):
    platform.redis(installed, namespace)
    platform.etcd(installed, namespace)
    apply(installed, namespace, "demo", REDIS, ETCD)
    wait_for(installed, namespace, "demo", "Healthy")
    for name in ("redis", "etcd"):
        pod = installed.kubectl("-n", namespace, "get", "pods", "-l", f"app={name}", "-o", "name").strip()
        pid = own_cluster.pod_pid(namespace, pod.removeprefix("pod/"))
        os.kill(pid, signal.SIGSTOP)
        wait_for(installed, namespace, "demo", "Unhealthy", "Timeout")
        assert status(installed, namespace, "demo")["summary"]["rootCause"] == name
        os.kill(pid, signal.SIGCONT)
        wait_for(installed, namespace, "demo", "Healthy")
        installed.kubectl("-n", namespace, "scale", f"deployment/{name}", "--replicas=0")
        wait_for(installed, namespace, "demo", "Unhealthy")
        installed.kubectl("-n", namespace, "scale", f"deployment/{name}", "--replicas=1")
        wait_for(installed, namespace, "demo", "Healthy")
    events = installed.kubectl("-n", namespace, "events", "--for", "backendhealth/demo")
    assert "Timeout" in events


def test_pods_are_seen_to_crash_and_come_back_within_a_second(installed: Kubectl, namespace: str):
    selector = {"matchLabels": {"app": "core"}}
    loop = "trap 'exit 3' TERM; while :; do sleep 0.1; done"
    apply(installed, namespace, "demo", {"name": "core", "pods": {"selector": selector}}, interval="1h")
    wait_for(installed, namespace, "demo", "Unhealthy", "NoPods")
    platform.shell(installed, namespace, "core", loop)
    wait_for(installed, namespace, "demo", "Healthy")
    pod = installed.kubectl("-n", namespace, "get", "pods", "-l", "app=core", "-o", "name").strip()
    for _ in range(4):  # so that it is in CrashLoopBackOff
        installed.kubectl("-n", namespace, "exec", pod, "--", "kill", "-TERM", "1", check=False)
    wait_for(installed, namespace, "demo", "Unhealthy")
    subject = status(installed, namespace, "demo")["probes"][0]["subjects"][0]
    assert subject["subject"] == pod
    wait_for(installed, namespace, "demo", "Healthy", timeout=60)


def test_a_namespace_that_is_deleted_takes_its_resources_along_quietly(installed: Kubectl, namespace: str):
    other = f"{namespace}-gone"
    installed.kubectl("create", "namespace", other)
    apply(installed, other, "demo", {"name": "a", "tcp": {"host": "nowhere.invalid", "port": 1}})
    wait_for(installed, other, "demo", "Unhealthy", "DNSNameNotFound")
    began = time.time()
    installed.kubectl("delete", "namespace", other, timeout=60)
    lines = installed.kubectl("-n", SYSTEM, "logs", platform.OPERATOR, f"--since={int(time.time() - began) + 1}s")
    assert [line for line in lines.splitlines() if '"level": "error"' in line] == []


def test_its_node_and_the_api_server_are_out_of_reach_for_probes(installed: Kubectl, namespace: str):
    node = installed.kubectl(
        "get", "nodes", "-o", "jsonpath={.items[0].status.addresses[?(@.type=='InternalIP')].address}"
    )
    apply(
        installed,
        namespace,
        "demo",
        {"name": "node", "tcp": {"host": node, "port": 10250}},
        {"name": "api", "tcp": {"host": "kubernetes.default.svc", "port": 443}},
        {"name": "self", "tcp": {"host": "localhost", "port": 8080}},
    )
    wait_for(installed, namespace, "demo", "Unknown", "AddressRefused")
    assert {row["reason"] for row in status(installed, namespace, "demo")["probes"]} == {"AddressRefused"}


def test_the_operator_in_its_pod_is_killed_and_goes_on(installed: Kubectl, own_cluster: Cluster, namespace: str):
    platform.redis(installed, namespace)
    apply(installed, namespace, "demo", REDIS)
    wait_for(installed, namespace, "demo", "Healthy")
    before = status(installed, namespace, "demo")["conditions"]
    pod = installed.kubectl(
        "-n", SYSTEM, "get", "pods", "-l", "app.kubernetes.io/component=operator", "-o", "name"
    ).strip()
    os.kill(own_cluster.pod_pid(SYSTEM, pod.removeprefix("pod/")), signal.SIGKILL)
    wait_until(
        lambda: (
            "1"
            in installed.kubectl("-n", SYSTEM, "get", pod, "-o", "jsonpath={.status.containerStatuses[0].restartCount}")
        ),
        20,
        "the kubelet starts it again",
    )
    installed.kubectl("-n", namespace, "scale", "deployment/redis", "--replicas=0")
    wait_for(installed, namespace, "demo", "Unhealthy", timeout=60)
    ready = next(one for one in status(installed, namespace, "demo")["conditions"] if one["type"] == "Ready")
    assert ready["lastTransitionTime"] == next(one for one in before if one["type"] == "Ready")["lastTransitionTime"]
