"""The product in its pod, installed by its manifests: how it runs, and what people see of it and may do."""

from __future__ import annotations

import json
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.cluster.access import Kubectl
from tests.cluster.cluster import Cluster
from tests.e2e import platform
from tests.e2e.backends import killed
from tests.e2e.declared import apply, columns, condition, delete, manifest, reasons, wait_for
from tests.e2e.figures import measured
from tests.e2e.platform import SYSTEM, USER
from tests.servers.process import ServerFailed, wait_until

REDIS = {"name": "redis", "redis": {"url": "redis://redis:6379"}}
CRD = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions/backendhealths.backendhealth.dev"


@pytest.mark.timeout(600)  # builds the image where it is not there yet
def test_it_runs_as_a_restricted_pod(installed: Kubectl):
    (pod,) = platform.pods(installed)
    assert [status["ready"] for status in pod["status"]["containerStatuses"]] == [True]
    assert pod["spec"]["securityContext"]["runAsNonRoot"] is True
    labels = json.loads(installed.kubectl("get", "namespace", SYSTEM, "-o", "json"))["metadata"]["labels"]
    assert labels["pod-security.kubernetes.io/enforce"] == "restricted"


def test_nothing_that_it_does_is_forbidden(installed: Kubectl, own_cluster: Cluster, namespace: str):
    """It says so in its log when the API server refuses something."""
    apply(installed, namespace, "demo", REDIS)
    wait_for(installed, namespace, "demo", "Unhealthy")
    refused = [
        (event["verb"], event["requestURI"])
        for event in own_cluster.audited()
        if event["user"]["username"] == USER and event["responseStatus"].get("code") == 403
        if "impersonatedUser" not in event and f"/{namespace}/" in event["requestURI"]
    ]
    assert refused == []


def test_it_starts_soon_and_small(installed: Kubectl, own_cluster: Cluster):
    installed.kubectl("delete", "backendhealth", "--all", "--all-namespaces")
    platform.replicas(installed, 0)
    began = time.monotonic()
    platform.replicas(installed, 1)
    measured("operator: from `kubectl scale` until its pod is Ready", time.monotonic() - began)
    pid = own_cluster.pod_pid(SYSTEM, platform.pod(installed))
    resident = next(line for line in Path(f"/proc/{pid}/status").read_text().splitlines() if line.startswith("VmRSS"))
    mebibytes = int(resident.split()[1]) / 1024
    measured("operator: resident memory with 0 resources", mebibytes, "MiB")
    assert mebibytes < 128  # what its Deployment requests


def test_its_health_and_metrics_are_served(installed: Kubectl, own_cluster: Cluster):
    (pod,) = platform.pods(installed)
    port = own_cluster.forward(pod["status"]["podIP"], 8080)

    def get(path: str) -> str:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}{path}", timeout=5) as answer:
            return str(answer.read().decode())

    get("/healthz")
    get("/readyz")
    assert 'backendhealth_leader{shard="0"} 1.0' in get("/metrics").splitlines()


@contextmanager
def loosened(cluster: Cluster) -> Iterator[None]:
    """The CRD as an older one might be: it takes any spec."""

    def with_spec(schema: object) -> object:
        crd = cluster.request("GET", CRD)
        properties = crd["spec"]["versions"][0]["schema"]["openAPIV3Schema"]["properties"]
        former, properties["spec"] = properties["spec"], schema
        cluster.request("PUT", CRD, crd)
        return former

    def is_loose() -> bool:
        bad = manifest("default", "bad", {"name": "a", "redis": {}})
        try:
            cluster.kubectl("create", "--dry-run=server", "--validate=false", "-f", "-", input=bad)
        except ServerFailed:
            return False
        return True

    strict = with_spec({"type": "object", "x-kubernetes-preserve-unknown-fields": True})
    try:
        wait_until(is_loose, 20, "the loosened schema")
        yield
    finally:
        with_spec(strict)
        wait_until(lambda: not is_loose(), 20, "the schema is back")


@pytest.mark.timeout(240)
def test_the_printed_columns(installed: Kubectl, own_cluster: Cluster, stage: str):
    etcd = {"name": "etcd", "etcd": {"endpoints": [f"http://etcd-{n}.etcd.{stage}.svc:2379" for n in range(3)]}}
    locked = {"name": "redis", "redis": {"url": "redis://redis:6379", "auth": {"secretRef": {"name": "none"}}}}
    nowhere = {"name": "search", "elasticsearch": {"urls": ["http://nowhere:9200"]}}
    names = ("healthy", "degraded", "unhealthy", "unknown", "suspended", "stalled")
    try:
        apply(installed, stage, "healthy", REDIS)
        apply(installed, stage, "degraded", etcd)
        apply(installed, stage, "unhealthy", REDIS, nowhere)
        apply(installed, stage, "unknown", locked)
        apply(installed, stage, "suspended", REDIS, suspend=True)
        wait_for(installed, stage, "degraded", "Healthy")
        with loosened(own_cluster), killed(own_cluster, stage, "etcd-2"):
            bad = manifest(stage, "stalled", {"name": "redis", "redis": {"url": 7}})
            installed.kubectl("create", "--validate=false", "-f", "-", input=bad)
            for name in names:
                wait_for(installed, stage, name, name.capitalize())
            printed = columns(installed, stage)
            assert "spec.probes[0].redis.url" in condition(installed, stage, "stalled", "Stalled")["message"]
            delete(installed, stage, "stalled")
        told = {name: (row["STATE"], row["ROOT CAUSE"], row["REASON"]) for name, row in printed.items()}
        assert told == {
            "healthy": ("Healthy", "", ""),
            "degraded": ("Degraded", "", "MemberDown"),
            "unhealthy": ("Unhealthy", "search", "DNSNameNotFound"),
            "unknown": ("Unknown", "", "SecretForbidden"),
            "suspended": ("Suspended", "", "Suspended"),
            "stalled": ("Stalled", "", "InvalidSpec"),
        }
        assert all(row["SINCE"] and row["AGE"] for row in printed.values())
    finally:
        delete(installed, stage, *names)


def test_wait_suspend_and_probe_now(installed: Kubectl, stage: str):
    def kubectl(*arguments: str) -> str:
        return installed.kubectl("-n", stage, *arguments)

    apply(installed, stage, "demo", REDIS, interval="1h")
    try:
        assert "condition met" in kubectl("wait", "--for=condition=Healthy", "bh/demo", "--timeout=20s")
        assert "condition met" in kubectl("wait", "--for=condition=RedisHealthy", "bh/demo", "--timeout=2s")
        kubectl("annotate", "bh", "demo", "backendhealth.dev/suspended-until=2099-01-01T00:00:00Z")
        wait_for(installed, stage, "demo", "Suspended", timeout=3)
        kubectl("annotate", "bh", "demo", "backendhealth.dev/suspended-until-")
        wait_for(installed, stage, "demo", "Healthy")
        kubectl("annotate", "bh", "demo", "backendhealth.dev/probe-requested-at=now")
        kubectl("wait", "bh/demo", "--for=jsonpath={.status.probeRequestedAt}=now", "--timeout=5s")
    finally:
        delete(installed, stage, "demo")


def test_explain_tells_what_may_be_probed(installed: Kubectl):
    told = installed.kubectl("explain", "backendhealth.spec.probes")
    assert all(f"\n  {kind}\t<Object>" in told for kind in ("etcd", "redis", "postgres", "pods"))


def test_what_people_may_do(installed: Kubectl, namespace: str):
    for role in ("view", "edit", "admin"):
        installed.kubectl("-n", namespace, "create", "rolebinding", role, f"--clusterrole={role}", f"--user={role}")

    def verbs(user: str, resource: str) -> set[str]:
        told = installed.kubectl("auth", "can-i", "--list", f"--as={user}", "-n", namespace)
        rows = [line for line in told.splitlines() if line.startswith(f"{resource}.backendhealth.dev ")]
        return {verb for row in rows for verb in row.rpartition("[")[2].rstrip(" ]").split()}

    def may(user: str, verb: str, *where: str) -> bool:
        question = ("auth", "can-i", verb, "backendhealths.backendhealth.dev", f"--as={user}", *where)
        return installed.kubectl(*question, check=False).startswith("yes")

    read, write = {"get", "list", "watch"}, {"create", "update", "patch", "delete", "deletecollection"}
    # the controller that joins the roles takes a moment after the first install
    wait_until(
        lambda: verbs("admin", "remediations") == {*read, "create", "patch", "approve"}, 20, "the roles are joined"
    )
    assert verbs("view", "backendhealths") == read
    assert verbs("edit", "backendhealths") == verbs("admin", "backendhealths") == read | write
    assert verbs("edit", "remediations") == verbs("edit", "remediationpolicies") == read
    assert may("edit", "update", "-n", namespace)
    assert not may("view", "update", "-n", namespace)
    assert not may("edit", "get", "-n", "default")
    assert not may("admin", "update", "-n", namespace, "--subresource=status")


def test_its_node_and_the_api_server_are_out_of_reach_for_probes(installed: Kubectl, namespace: str):
    path = "{.items[0].status.addresses[?(@.type=='InternalIP')].address}"
    node = installed.kubectl("get", "nodes", "-o", f"jsonpath={path}")
    probes = {
        "node": {"host": node, "port": 10250},
        "api": {"host": "kubernetes.default.svc", "port": 443},
        "self": {"host": "localhost", "port": 8080},
        "cloud": {"host": "169.254.169.254", "port": 80},
    }
    apply(installed, namespace, "demo", *({"name": name, "tcp": tcp} for name, tcp in probes.items()))
    wait_for(installed, namespace, "demo", "Unknown", "AddressRefused")
    refused = dict.fromkeys(probes, "AddressRefused")
    wait_until(lambda: reasons(installed, namespace, "demo") == refused, 10, "all of them are refused")


def test_an_object_that_is_wrong_is_refused(own_cluster: Cluster, namespace: str, installed: Kubectl):
    path = f"/apis/backendhealth.dev/v1alpha1/namespaces/{namespace}/backendhealths"
    body = {"apiVersion": "backendhealth.dev/v1alpha1", "kind": "BackendHealth", "metadata": {"name": "bad"}}
    with pytest.raises(urllib.error.HTTPError, match="422"):
        own_cluster.request("POST", path, {**body, "spec": {"probes": [{"name": "a", "redis": {}}]}})
