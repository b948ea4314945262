"""The operator under exactly the rights of the manifests: all works, and without any single one something fails."""

from __future__ import annotations

import re
import urllib.error
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from tests.kube.operator import Operator, Resources
from tests.kube.remediating import SWITCH, path, policy, switch
from tests.servers.kubernetes import ControlPlane
from tests.servers.process import LOOPBACK, wait_until
from tests.servers.redis import RedisServer
from tests.shipping.support import MANIFESTS, OPERATOR, RBAC, Grant, Object, apply, as_rules, delete, of_kind, placed
from tests.shipping.test_rbac import AT_HOME, FENCE, OURS, SERVING
from tests.unit.podmaking import good

PATIENCE = 25.0
"""Seconds in which what is granted must work."""
GIVEN_UP = 6.0
"""Seconds after which what does not work is taken to work no more."""


RULE = {
    "name": "restart",
    "when": {"component": "redis"},
    "action": {"restartPods": {"podSelector": {"matchLabels": {"app": "core"}}, "pods": "All"}},
}


class Scene:
    """A namespace with a BackendHealth on a real Redis and on pods, and an operator under given rights."""

    def __init__(self, plane: ControlPlane, namespace: str, redis: RedisServer, operator: Operator) -> None:
        self.plane = plane
        self.namespace = namespace
        self.redis = redis
        self.operator = operator
        self.resources = Resources(plane, namespace)
        self.patience = PATIENCE

    def becomes(self, condition: Callable[[], bool]) -> bool:
        """Whether it holds in time: what a missing grant may prevent."""
        try:
            wait_until(condition, self.patience, "it")
        except TimeoutError:
            return False
        return True

    def goes(self, state: str, name: str = "redis") -> bool:
        """Whether the BackendHealth gets to that state."""
        return self.becomes(lambda: self.resources.state(name).startswith(state))

    def has_gone(self, state: str, name: str = "redis") -> None:
        """Wait until it has: what must work all the same."""
        self.resources.wait(name, state, PATIENCE)

    def get(self, path: str) -> Any:
        """The object, or nothing."""
        try:
            return self.plane.request("GET", path)
        except urllib.error.HTTPError as error:
            if error.code != 404:
                raise
            return {}

    def lease(self, field: str) -> str:
        path = f"/apis/coordination.k8s.io/v1/namespaces/{self.namespace}/leases/backendhealth-shard-0"
        return str(self.get(path).get("spec", {}).get(field, ""))

    def events(self) -> list[Object]:
        items: list[Object] = self.get(f"/api/v1/namespaces/{self.namespace}/events")["items"]
        return [one for one in items if one["involvedObject"]["name"] == "redis"]

    def run_pod(self, name: str) -> None:
        """A ready pod, as a kubelet would write it."""
        pods = f"/api/v1/namespaces/{self.namespace}/pods"
        container = {"name": "main", "image": "registry.example/team/main:1"}
        owner = {"apiVersion": "apps/v1", "kind": "ReplicaSet", "name": "core", "uid": "1", "controller": True}
        metadata = {"name": name, "labels": {"app": "core"}, "ownerReferences": [owner]}
        made = {"metadata": metadata, "spec": {"containers": [container]}}
        self.plane.request("POST", pods, made)
        made = self.get(f"{pods}/{name}")
        made["status"] = good()["status"]
        self.plane.request("PUT", f"{pods}/{name}/status", made)

    def write_profile(self, title: str) -> None:
        """The profile that a BackendHealth names, with this title."""
        profiles = f"/apis/backendhealth.dev/v1alpha1/namespaces/{self.namespace}/diagnosisprofiles"
        there = self.get(f"{profiles}/shop")
        made = {"apiVersion": f"{OURS}/v1alpha1", "kind": "DiagnosisProfile", "spec": {"title": title}}
        made["metadata"] = there.get("metadata") or {"name": "shop"}
        self.plane.request("PUT" if there else "POST", f"{profiles}/shop" if there else profiles, made)

    def write_policy(self) -> None:
        """A policy for `redis`, and an account that it acts as."""
        metadata = {"name": "remediator", "namespace": self.namespace}
        rules = [
            {"apiGroups": [""], "resources": ["pods"], "verbs": ["get", "list"]},
            {"apiGroups": [""], "resources": ["serviceaccounts"], "verbs": ["impersonate"]},
        ]
        rbac = "rbac.authorization.k8s.io"
        accounts = ("remediator", OPERATOR)
        subjects = [{"kind": "ServiceAccount", "name": name, "namespace": self.namespace} for name in accounts]
        ref = {"apiGroup": rbac, "kind": "Role", "name": "remediator"}
        made: list[Object] = [
            {"apiVersion": "v1", "kind": "ServiceAccount", "metadata": metadata},
            {"apiVersion": f"{rbac}/v1", "kind": "Role", "metadata": metadata, "rules": rules},
            {"apiVersion": f"{rbac}/v1", "kind": "RoleBinding", "metadata": metadata, "roleRef": ref}
            | {"subjects": subjects},
            policy(self.namespace, backendHealths=["redis"], rules=[RULE]),
        ]
        switch(self.plane, self.namespace)
        apply(self.plane, made)

    def has_run(self) -> bool:
        found = self.get(path(self.namespace, "remediations"))["items"]
        return any(one.get("status", {}).get("phase") == "DryRun" for one in found)

    def logs(self, pattern: str) -> bool:
        return bool(re.search(pattern, self.operator.log(200_000)))


def is_up(scene: Scene) -> None:
    wait_until(lambda: scene.operator.get("/healthz")[0] == 200, PATIENCE, "the operator is up")


def takes_the_lease(scene: Scene) -> bool:
    is_up(scene)
    return scene.becomes(lambda: bool(scene.lease("holderIdentity")))


def renews_the_lease(scene: Scene) -> bool:
    wait_until(lambda: bool(scene.lease("renewTime")), PATIENCE, "the Lease is there")
    first = scene.lease("renewTime")
    return scene.becomes(lambda: scene.lease("renewTime") != first)


def writes_status(scene: Scene) -> bool:
    is_up(scene)
    return scene.goes("Healthy")


def follows_changes(scene: Scene) -> bool:
    """Three in a row: without a watch a list may still show one."""

    def followed(generation: int) -> bool:
        steady = {"changes": 20}
        scene.resources.apply("redis", *probes_of(scene)["redis"], failureThreshold=generation, flapDetection=steady)
        return scene.becomes(lambda: scene.resources.status("redis")["observedGeneration"] == generation)

    return (
        scene.goes("Healthy")
        and all(map(followed, (2, 3, 4)))
        and not scene.logs('cannot watch resource "backendhealths"')
    )


def writes_after_an_outage(scene: Scene) -> bool:
    scene.has_gone("Healthy")
    scene.plane.stop_api()
    try:
        scene.redis.kill()
        wait_until(lambda: scene.logs("statuses wait"), PATIENCE, "a write fails")
    finally:
        scene.plane.start_api()
    # either may be the one whose write failed
    return scene.goes("Unhealthy") and scene.goes("Unhealthy", "profiled")


def tells_in_events(scene: Scene) -> bool:
    scene.has_gone("Healthy")
    return scene.becomes(lambda: bool(scene.events()))


def counts_events(scene: Scene) -> bool:
    for _ in range(2):
        scene.has_gone("Healthy")
        scene.redis.kill()
        scene.has_gone("Unhealthy")
        scene.redis.start()
    return scene.becomes(lambda: any(one["count"] > 1 for one in scene.events()))


def follows_profiles(scene: Scene) -> bool:
    """Three in a row: without a watch a list may still show one."""

    def followed(title: str) -> bool:
        scene.write_profile(title)
        return scene.becomes(lambda: not scene.resources.condition("profiled", "Stalled"))

    scene.has_gone("Healthy", "profiled")
    return all(map(followed, "abc")) and not scene.logs("diagnosisprofiles can't be watched")


def reads_pods(scene: Scene) -> bool:
    scene.has_gone("Healthy")
    return scene.goes("Healthy", "pods")


def knows_the_nodes(scene: Scene) -> bool:
    scene.has_gone("Healthy")
    return not scene.logs("may not read /api/v1/nodes")


def knows_the_api_servers(scene: Scene) -> bool:
    scene.has_gone("Healthy")
    return not scene.logs("may not read /apis/discovery")


def acts_under_a_policy(scene: Scene) -> bool:
    """A dry run: all but the effect, for which the policy's own account needs rights."""
    scene.has_gone("Healthy")
    scene.write_policy()
    scene.redis.kill()
    scene.has_gone("Unhealthy")
    ran = scene.becomes(scene.has_run)
    scene.redis.start()
    return ran


WITHOUT: dict[Grant, Callable[[Scene], bool]] = {
    Grant(OURS, "backendhealths", "get"): writes_after_an_outage,
    Grant(OURS, "backendhealths", "list"): writes_status,
    Grant(OURS, "backendhealths", "watch"): follows_changes,
    Grant(OURS, "backendhealths/status", "update"): writes_status,
    Grant(OURS, "diagnosisprofiles", "list"): follows_profiles,
    Grant(OURS, "diagnosisprofiles", "watch"): follows_profiles,
    **{Grant(OURS, "remediationpolicies", verb): acts_under_a_policy for verb in ("get", "list", "watch")},
    **{Grant(OURS, "remediations", verb): acts_under_a_policy for verb in ("list", "watch", "create")},
    Grant(OURS, "remediations/status", "update"): acts_under_a_policy,
    Grant("", "configmaps", "get", SWITCH): acts_under_a_policy,
    Grant("", "pods", "list"): reads_pods,
    Grant("", "pods", "watch"): reads_pods,
    Grant("", "events", "create"): tells_in_events,
    Grant("", "events", "patch"): counts_events,
    Grant("coordination.k8s.io", "leases", "create"): takes_the_lease,
    Grant("coordination.k8s.io", "leases", "get", "backendhealth-shard-0"): takes_the_lease,
    Grant("coordination.k8s.io", "leases", "update", "backendhealth-shard-0"): renews_the_lease,
    Grant("", "nodes", "list"): knows_the_nodes,
    Grant("discovery.k8s.io", "endpointslices", "get", "kubernetes"): knows_the_api_servers,
}


PRUNING = {Grant(OURS, "remediations", "delete")}
"""Used only when there are hundreds that are over."""


def probes_of(scene: Scene) -> dict[str, list[dict[str, Any]]]:
    return {
        "redis": [{"name": "redis", "redis": {"url": f"redis://{LOOPBACK}:{scene.redis.port}"}}],
        "pods": [{"name": "core", "pods": {"selector": {"matchLabels": {"app": "core"}}}}],
    }


@pytest.fixture
def staged(control_plane: ControlPlane, namespace: str) -> Iterator[Callable[..., Scene]]:
    """Starts an operator as the ServiceAccount of the namespace, with the flags given; what it serves is there."""
    with ExitStack() as stack:

        def stage(*flags: str) -> Scene:
            redis = stack.enter_context(RedisServer())
            kubeconfig = control_plane.token_kubeconfig(namespace, OPERATOR)
            scene = Scene(
                control_plane, namespace, redis, Operator(control_plane, namespace, *flags, kubeconfig=kubeconfig)
            )
            scene.run_pod("core-0")
            scene.write_profile("A shop")
            scene.resources.apply("profiled", *probes_of(scene)["redis"], profileRef={"name": "shop"})
            for name, probes in probes_of(scene).items():
                scene.resources.apply(name, *probes)
            stack.callback(scene.operator.close)
            scene.operator.start(wait=False)
            return scene

        yield stage


@pytest.mark.parametrize("scope", ["cluster-wide", "namespaced"])
@pytest.mark.timeout(400)
def test_all_works_under_the_manifests_rights(
    control_plane: ControlPlane, namespace: str, staged: Callable[..., Scene], scope: str, tmp_path: Path
):
    source = MANIFESTS / "namespaced" if scope == "namespaced" else MANIFESTS / "overlays" / scope
    rights = of_kind(placed(source, namespace, tmp_path), *RBAC)
    apply(control_plane, rights)
    try:
        scene = staged(*(["--namespaces", ""] if scope == "cluster-wide" else []))
        fence = {knows_the_nodes, knows_the_api_servers}
        for works in dict.fromkeys(WITHOUT.values()):
            if works is not writes_after_an_outage:
                assert works(scene) != (scope == "namespaced" and works in fence), works.__name__
        assert writes_after_an_outage(scene)
    finally:
        delete(control_plane, rights)


def test_every_grant_has_its_turn():
    assert WITHOUT.keys() == (SERVING | AT_HOME | FENCE) - PRUNING


@pytest.mark.parametrize("missing", WITHOUT, ids=str)
@pytest.mark.timeout(200)
def test_something_fails_without(
    control_plane: ControlPlane, namespace: str, staged: Callable[..., Scene], missing: Grant
):
    rights = limited(namespace, (SERVING | AT_HOME | FENCE) - {missing})
    apply(control_plane, rights)
    try:
        scene = staged()
        scene.patience = GIVEN_UP
        assert not WITHOUT[missing](scene)
    finally:
        delete(control_plane, rights)


def limited(namespace: str, some: set[Grant]) -> list[Object]:
    """The operator's account with these grants only."""
    subjects = [{"kind": "ServiceAccount", "name": OPERATOR, "namespace": namespace}]
    group = "rbac.authorization.k8s.io"
    where = {"name": f"limited-{namespace}"}

    def bound(kind: str, binding: str, metadata: Object, grants: set[Grant]) -> list[Object]:
        return [
            {"apiVersion": f"{group}/v1", "kind": kind, "metadata": metadata, "rules": as_rules(sorted(grants))},
            {
                "apiVersion": f"{group}/v1",
                "kind": binding,
                "metadata": metadata,
                "roleRef": {"apiGroup": group, "kind": kind, "name": where["name"]},
                "subjects": subjects,
            },
        ]

    return [
        {"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": OPERATOR, "namespace": namespace}},
        *bound("Role", "RoleBinding", {**where, "namespace": namespace}, some - FENCE),
        *bound("ClusterRole", "ClusterRoleBinding", where, some & FENCE),
    ]
