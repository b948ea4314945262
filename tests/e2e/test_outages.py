"""The operator's pod in bad times: the API server dead, itself killed, namespaces deleted; and in quiet ones."""

from __future__ import annotations

import os
import signal
import time

import pytest

from tests.cluster.access import Kubectl
from tests.cluster.cluster import Cluster
from tests.e2e import platform
from tests.e2e.backends import frozen, pod_of
from tests.e2e.declared import apply, condition, delete, status, wait_for
from tests.e2e.figures import measured
from tests.e2e.platform import SYSTEM
from tests.servers.process import wait_until

REDIS = {"name": "redis", "redis": {"url": "redis://redis:6379"}}
WEB = {"name": "web", "http": {"url": "http://web/index.html"}}


def elapsed(since: float, seconds: float) -> None:
    """Until that long has passed."""
    wait_until(lambda: time.monotonic() - since >= seconds, seconds + 5, f"{seconds:g} s")


@pytest.mark.parametrize("seconds", [20, pytest.param(60, marks=pytest.mark.long)])
@pytest.mark.timeout(300)
def test_the_api_server_is_killed_for_a_while(installed: Kubectl, own_cluster: Cluster, stage: str, seconds: int):
    pod = platform.pod(installed)
    restarts = platform.restarts(installed, pod)
    redis = pod_of(installed, stage, "redis")
    apply(installed, stage, "demo", REDIS)
    wait_for(installed, stage, "demo", "Healthy")
    with frozen(own_cluster, stage, redis):  # what happens meanwhile is told afterwards
        own_cluster.stop_api()
        began = time.monotonic()
        try:
            elapsed(began, seconds)
        finally:
            own_cluster.start_api()
        back = time.monotonic()
        wait_for(installed, stage, "demo", "Unhealthy", "Timeout", timeout=60)
        measured(f"API server dead for {seconds} s: until the status tells", time.monotonic() - back)
    wait_for(installed, stage, "demo", "Healthy", timeout=60)
    told = [one["reason"] for one in status(installed, stage, "demo")["history"]][:2]
    assert told == ["ProbeSucceeded", "Timeout"]
    assert (platform.pod(installed), platform.restarts(installed, pod)) == (pod, restarts)
    delete(installed, stage, "demo")


def test_the_operator_is_killed_and_goes_on(installed: Kubectl, own_cluster: Cluster, stage: str):
    pod = platform.pod(installed)
    restarts = platform.restarts(installed, pod)
    apply(installed, stage, "demo", REDIS)
    wait_for(installed, stage, "demo", "Healthy")
    before = {kind: condition(installed, stage, "demo", kind) for kind in ("Ready", "Healthy")}
    os.kill(own_cluster.pod_pid(SYSTEM, pod), signal.SIGKILL)
    began = time.monotonic()
    wait_until(lambda: platform.restarts(installed, pod) == restarts + 1, 30, "the kubelet starts it again")
    with frozen(own_cluster, stage, pod_of(installed, stage, "redis")):
        wait_for(installed, stage, "demo", "Unhealthy", "Timeout", timeout=60)
        measured("operator killed -9, alone: until it tells of a backend that hangs", time.monotonic() - began)
        assert condition(installed, stage, "demo", "Ready") == before["Ready"]
        assert (
            condition(installed, stage, "demo", "Healthy")["lastTransitionTime"]
            != before["Healthy"]["lastTransitionTime"]
        )
    wait_for(installed, stage, "demo", "Healthy")
    delete(installed, stage, "demo")


@pytest.mark.timeout(300)
def test_a_namespace_that_is_deleted_takes_its_resources_along_quietly(installed: Kubectl, namespace: str):
    def are_gone() -> bool:
        return installed.kubectl("-n", other, "get", "backendhealth", "-o", "name") == ""

    other = f"{namespace}-gone"
    installed.kubectl("create", "namespace", other)
    nowhere = {"name": "a", "tcp": {"host": "nowhere.invalid", "port": 1}}
    pods = {"name": "b", "pods": {"selector": {"matchLabels": {"app": "web"}}}}
    for name in ("one", "two", "three"):
        apply(installed, other, name, nowhere, pods)
        wait_for(installed, other, name, "Unhealthy")
    lines = len(platform.log(installed))
    installed.kubectl("delete", "namespace", other, "--wait=false")
    # Kubernetes' own pace: after an outage its controllers watch again within 30 s; what has failed waits 5, 10 … s
    wait_until(are_gone, 120, "its resources gone")
    # told after all that this may have caused
    apply(installed, namespace, "after", nowhere)
    wait_for(installed, namespace, "after", "Unhealthy", "DNSNameNotFound")
    logged = platform.log(installed)[lines:]
    assert [line for line in logged if line["level"] not in {"info", "warning"}] == []
    assert [line for line in logged if line["level"] == "warning" and "state" not in line] == []
    wait_until(lambda: "NotFound" in installed.kubectl("get", "namespace", other, check=False), 60, "nothing left")


@pytest.mark.parametrize("seconds", [10, pytest.param(600, marks=pytest.mark.long)])
@pytest.mark.timeout(700)
def test_quiet_minutes_cost_no_write_but_leases(installed: Kubectl, own_cluster: Cluster, stage: str, seconds: int):
    redis = {"name": "redis", "redis": {"url": "redis://redis:6379", "writeCheck": True}}
    pods = {"name": "pods", "pods": {"selector": {"matchLabels": {"app": "redis"}}}}
    apply(installed, stage, "well", redis, pods, WEB)
    apply(installed, stage, "ill", {"name": "gone", "redis": {"url": "redis://gone:6379"}})
    wait_for(installed, stage, "well", "Healthy")
    wait_for(installed, stage, "ill", "Unhealthy")

    def events_are_written() -> bool:
        told = installed.kubectl("-n", stage, "events", "--for", "backendhealth/ill")
        return "Healthy is False" in told

    wait_until(events_are_written, 10, "the last Event")
    size = own_cluster.audit_log.stat().st_size
    elapsed(time.monotonic(), seconds)
    assert platform.written(own_cluster, size) == []
    renewals = [event for event in own_cluster.audited(size) if event["user"]["username"] == platform.USER]
    verbs = {(event["verb"], event["objectRef"]["resource"]) for event in renewals}
    assert ("update", "leases") in verbs
    measured(f"requests of the operator in {seconds} quiet seconds", len(renewals), "requests")
    delete(installed, stage, "well", "ill")
