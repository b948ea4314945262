"""overlays/ha: two replicas in pods; the one that works is killed, told to stop, deleted, and paused."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import time
from collections.abc import Iterator

import pytest

from tests.cluster.access import Kubectl
from tests.cluster.cluster import Cluster
from tests.e2e import platform
from tests.e2e.backends import frozen, killed, pod_of
from tests.e2e.declared import apply, delete, wait_for
from tests.e2e.figures import measured
from tests.e2e.platform import SYSTEM
from tests.servers.process import wait_until

LEASE = f"/apis/coordination.k8s.io/v1/namespaces/{SYSTEM}/leases/backendhealth-shard-0"
REDIS = {"name": "redis", "redis": {"url": "redis://redis:6379"}}
POD = "authentication.kubernetes.io/pod-name"


@pytest.fixture(scope="module")
def two(installed: Kubectl, own_cluster: Cluster, product_image: str) -> Iterator[Cluster]:
    """Two replicas; afterwards one, as before."""
    platform.install(installed, "ha", product_image)
    yield own_cluster
    installed.kubectl("-n", SYSTEM, "delete", "poddisruptionbudget", platform.NAME)
    platform.install(installed, "cluster-wide", product_image)
    wait_until(lambda: len(platform.pods(installed)) == 1, 40, "one replica again")


@pytest.fixture
def watched(two: Cluster, stage: str) -> Iterator[None]:
    """A BackendHealth that is Healthy, both replicas ready."""
    platform.rolled_out(two)
    apply(two, stage, "demo", REDIS)
    wait_for(two, stage, "demo", "Healthy")
    yield
    delete(two, stage, "demo")


def holder(cluster: Cluster) -> str:
    """Who holds the Lease; empty when nobody does."""
    found: str = cluster.request("GET", LEASE)["spec"].get("holderIdentity") or ""
    return found


def leader(cluster: Cluster) -> str:
    """The name of the pod that holds the Lease."""
    wait_until(lambda: holder(cluster) != "", 30, "somebody holds the Lease")
    return holder(cluster).partition("_")[0]


def taken_over(cluster: Cluster, former: str, within: float) -> float:
    """Seconds until the Lease names another holder than `former`."""
    began = time.monotonic()
    wait_until(lambda: holder(cluster) not in {"", former}, within, f"another holder than {former}")
    return time.monotonic() - began


def tells_of_a_hang(cluster: Cluster, stage: str) -> None:
    """Whoever holds the Lease now does its work."""
    with frozen(cluster, stage, pod_of(cluster, stage, "redis")):
        wait_for(cluster, stage, "demo", "Unhealthy", "Timeout")
    wait_for(cluster, stage, "demo", "Healthy")


def test_there_are_two_and_a_budget_for_disruptions(two: Cluster):
    assert len(platform.pods(two)) == 2
    path = f"/apis/policy/v1/namespaces/{SYSTEM}/poddisruptionbudgets/{platform.NAME}"
    wait_until(lambda: two.request("GET", path).get("status", {}).get("currentHealthy") == 2, 10, "the budget's status")
    assert two.request("GET", path)["status"]["disruptionsAllowed"] == 1
    names = [pod["metadata"]["name"] for pod in platform.pods(two)]
    assert leader(two) in names


def test_a_leader_that_is_told_to_stop_hands_over_within_2_seconds(two: Cluster, watched: None, stage: str):
    """SIGTERM straight to the process, so that only its own time counts."""
    pod, former = leader(two), holder(two)
    os.kill(two.pod_pid(SYSTEM, pod), signal.SIGTERM)
    seconds = taken_over(two, former, within=5)
    measured("fail-over, SIGTERM to the leader's process until the Lease names another", seconds)
    assert seconds < 2
    tells_of_a_hang(two, stage)


def test_a_leader_whose_pod_is_deleted_hands_over(two: Cluster, watched: None, stage: str):
    former, pod = holder(two), leader(two)
    two.kubectl("-n", SYSTEM, "delete", "pod", pod, "--wait=false")
    seconds = taken_over(two, former, within=10)
    measured("fail-over, `kubectl delete pod` of the leader until the Lease names another", seconds)
    assert seconds < 3  # the kubelet's share included
    assert leader(two) != pod
    tells_of_a_hang(two, stage)


def test_a_leader_that_is_killed_is_replaced_within_20_seconds(two: Cluster, watched: None, stage: str):
    pod, former = leader(two), holder(two)
    with killed(two, SYSTEM, pod):  # and its node is dead, too: nobody starts it again
        seconds = taken_over(two, former, within=30)
        measured("fail-over, kill -9 of the leader until the Lease names another", seconds)
        assert seconds < 20
        assert leader(two) != pod
        tells_of_a_hang(two, stage)


def test_a_leader_that_was_paused_writes_nothing_when_it_wakes_up(two: Cluster, watched: None, stage: str):
    pod, former = leader(two), holder(two)
    with contextlib.ExitStack() as hung:
        with frozen(two, SYSTEM, pod):
            seconds = taken_over(two, former, within=30)
            measured("fail-over, SIGSTOP of the leader until the Lease names another", seconds)
            assert seconds < 20
            # the backend hangs now: the one that sleeps would have something to say as soon as it wakes up
            hung.enter_context(frozen(two, stage, pod_of(two, stage, "redis")))
            wait_for(two, stage, "demo", "Unhealthy", "Timeout")
            size = two.audit_log.stat().st_size
        wait_until(lambda: "lost" in json.dumps(platform.log(two, pod)), 10, "it notices that it is no holder any more")
    wait_for(two, stage, "demo", "Healthy")
    writers = {event["user"]["extra"][POD][0] for event in platform.written(two, size)}
    assert writers == {leader(two)}
    assert leader(two) != pod
