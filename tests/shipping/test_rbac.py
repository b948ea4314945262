"""The operator's rights: exactly those that it needs, as the API server itself judges them."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import pytest

from backendhealth.kube.api import Api, connect
from tests.servers.kubernetes import ControlPlane
from tests.shipping.support import (
    MANIFESTS,
    OPERATOR,
    OVERLAYS,
    RBAC,
    Grant,
    Object,
    apply,
    delete,
    grants,
    named,
    of_kind,
    overlay,
    placed,
)

OURS = "backendhealth.dev"
LEASE = "backendhealth-shard-0"
SERVING = {
    Grant(OURS, "backendhealths", "get"),  # anew, before a write whose predecessor was refused or went unanswered
    Grant(OURS, "backendhealths", "list"),
    Grant(OURS, "backendhealths", "watch"),
    Grant(OURS, "backendhealths/status", "update"),
    Grant(OURS, "diagnosisprofiles", "list"),
    Grant(OURS, "diagnosisprofiles", "watch"),
    *(Grant(OURS, "remediationpolicies", verb) for verb in ("get", "list", "watch")),
    *(Grant(OURS, "remediations", verb) for verb in ("list", "watch", "create", "delete")),
    Grant(OURS, "remediations/status", "update"),
    Grant("", "pods", "list"),
    Grant("", "pods", "watch"),
    Grant("", "events", "create"),
    Grant("", "events", "patch"),
}
AT_HOME = {
    Grant("coordination.k8s.io", "leases", "create"),
    Grant("coordination.k8s.io", "leases", "get", LEASE),
    Grant("coordination.k8s.io", "leases", "update", LEASE),
    Grant("", "configmaps", "get", "backendhealth-remediation"),
}
FENCE = {
    Grant("", "nodes", "list"),
    Grant("discovery.k8s.io", "endpointslices", "get", "kubernetes"),
}
# What every ServiceAccount may: ask about itself, and read what the cluster publishes.
EVERYBODY = {"selfsubjectaccessreviews", "selfsubjectrulesreviews", "selfsubjectreviews", "clustertrustbundles"}
DANGEROUS = [
    *(Grant("", "secrets", verb) for verb in ("get", "list", "watch", "create", "update", "patch", "delete")),
    Grant("", "pods/log", "get"),  # as the ServiceAccount that the BackendHealth names, if its owner allows it
    *(Grant(OURS, "diagnosisprofiles", verb) for verb in ("create", "update", "patch", "delete")),
    *(Grant("", "pods/exec", verb) for verb in ("get", "create")),
    *(Grant("", "pods", verb) for verb in ("get", "create", "update", "patch", "delete")),
    *(Grant("", "pods/ephemeralcontainers", verb) for verb in ("update", "patch")),
    *(Grant("", resource, "impersonate") for resource in ("users", "groups", "serviceaccounts")),
    *(Grant("", "nodes", verb) for verb in ("get", "watch", "update", "patch", "delete")),
    *(Grant("", "nodes/proxy", verb) for verb in ("get", "create")),
    Grant("", "serviceaccounts/token", "create"),
    Grant("", "configmaps", "get"),
    Grant("", "namespaces", "list"),
    *(Grant(OURS, "backendhealths", verb) for verb in ("create", "update", "patch", "delete", "deletecollection")),
    *(Grant(OURS, "backendhealths/status", verb) for verb in ("get", "patch")),
    *(Grant(OURS, "remediationpolicies", verb) for verb in ("create", "update", "patch", "delete", "deletecollection")),
    *(Grant(OURS, "remediations", verb) for verb in ("update", "patch", "deletecollection", "approve")),
    *(Grant(OURS, "backendhealths/finalizers", verb) for verb in ("update", "patch")),
    *(Grant("coordination.k8s.io", "leases", verb) for verb in ("get", "update", "list", "watch", "patch", "delete")),
    Grant("coordination.k8s.io", "leases", "update", "of-the-application"),
    Grant("coordination.k8s.io", "leases", "delete", LEASE),
    Grant("discovery.k8s.io", "endpointslices", "get", "of-the-application"),
    *(Grant("rbac.authorization.k8s.io", "clusterroles", verb) for verb in ("bind", "escalate", "update")),
    *(Grant("apiextensions.k8s.io", "customresourcedefinitions", verb) for verb in ("list", "watch", "update")),
    Grant("*", "*", "*"),
]


@pytest.fixture(params=("cluster-wide", "namespaced"))
def scope(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def installed(control_plane: ControlPlane, namespace: str, scope: str, tmp_path: Path) -> Iterator[str]:
    """The rights of an overlay, put into `namespace`."""
    source = MANIFESTS / "namespaced" if scope == "namespaced" else MANIFESTS / "overlays" / scope
    objects = of_kind(placed(source, namespace, tmp_path), *RBAC)
    apply(control_plane, objects)
    yield namespace
    delete(control_plane, objects)


@pytest.fixture
async def operator(control_plane: ControlPlane, installed: str) -> AsyncIterator[Api]:
    """The API server as the operator's ServiceAccount."""
    async with await connect(str(control_plane.token_kubeconfig(installed, OPERATOR)), None) as api:
        yield api


async def granted(api: Api, namespace: str) -> set[Grant]:
    """All that the API server says the account may do in a namespace."""
    path = "/apis/authorization.k8s.io/v1/selfsubjectrulesreviews"
    answer = await api.request("POST", path, body={"spec": {"namespace": namespace}})
    return {one for one in grants(answer["status"]["resourceRules"]) if one.resource not in EVERYBODY}


async def may(api: Api, grant: Grant, namespace: str) -> bool:
    """As `kubectl auth can-i` asks; an empty namespace: in all of them."""
    resource, _, subresource = grant.resource.partition("/")
    attributes: dict[str, Any] = {
        "group": grant.group,
        "resource": resource,
        "subresource": subresource,
        "verb": grant.verb,
        "name": grant.name,
        "namespace": namespace,
    }
    path = "/apis/authorization.k8s.io/v1/selfsubjectaccessreviews"
    answer = await api.request("POST", path, body={"spec": {"resourceAttributes": attributes}})
    return bool(answer["status"]["allowed"])


def roles_of(objects: list[Object]) -> set[Grant]:
    """All that is bound to the operator's account."""
    bound = [one["roleRef"] for one in of_kind(objects, "RoleBinding", "ClusterRoleBinding")]
    return grants(rule for ref in bound for rule in named(objects, ref["kind"], ref["name"])["rules"])


@pytest.mark.parametrize("name", OVERLAYS)
def test_the_manifests_grant_what_is_needed_and_no_more(name: str):
    fence = set() if name == "namespaced" else FENCE
    assert roles_of(overlay(name)) == SERVING | AT_HOME | fence


async def test_the_operator_may_where_it_is_installed(operator: Api, installed: str, scope: str):
    assert await granted(operator, installed) == SERVING | AT_HOME | (FENCE if scope == "cluster-wide" else set())


async def test_the_operator_may_elsewhere_only_when_cluster_wide(operator: Api, installed: str, scope: str):
    assert await granted(operator, "kube-system") == (SERVING | FENCE if scope == "cluster-wide" else set())


async def test_the_operator_may_nothing_dangerous(operator: Api, installed: str):
    allowed = [
        (str(grant), namespace)
        for grant in DANGEROUS
        for namespace in (installed, "kube-system", "")
        if await may(operator, grant, namespace)
    ]
    assert not allowed


async def test_kubectl_says_the_same(control_plane: ControlPlane, installed: str):
    as_operator = ("--kubeconfig", str(control_plane.token_kubeconfig(installed, OPERATOR)), "-n", installed)
    can_i = (*as_operator, "auth", "can-i")
    assert (
        control_plane.kubectl(*can_i, "update", "backendhealths.backendhealth.dev", "--subresource=status") == "yes\n"
    )
    assert control_plane.kubectl(*can_i, "get", "secrets", check=False).startswith("no")


KINDS = ("backendhealths", "diagnosisprofiles")
SEE = ("get", "list", "watch")
CHANGE = ("create", "update", "patch", "delete", "deletecollection")
PEOPLE = {
    "backendhealth-view": {
        Grant(OURS, kind, verb) for kind in (*KINDS, "remediationpolicies", "remediations") for verb in SEE
    },
    "backendhealth-edit": {Grant(OURS, kind, verb) for kind in KINDS for verb in CHANGE},
    "backendhealth-policy-editor": {Grant(OURS, "remediationpolicies", verb) for verb in (*SEE, *CHANGE)},
    "backendhealth-on-call": {
        *(Grant(OURS, kind, verb) for kind in (*KINDS, "remediationpolicies", "remediations") for verb in SEE),
        Grant(OURS, "remediations", "create"),
        Grant(OURS, "backendhealths", "patch"),
    },
    "backendhealth-approver": {Grant(OURS, "remediations", verb) for verb in (*SEE, "patch", "approve")},
}
AGGREGATED = {
    "backendhealth-view": {"view", "edit", "admin"},
    "backendhealth-edit": {"edit", "admin"},
    "backendhealth-policy-editor": {"admin"},
    "backendhealth-on-call": {"admin"},
    "backendhealth-approver": {"admin"},
}


@pytest.mark.parametrize("name", PEOPLE)
def test_people_may_what_their_role_says(name: str):
    role = named(overlay("cluster-wide"), "ClusterRole", name)
    assert grants(role["rules"]) == PEOPLE[name]
    prefix = "rbac.authorization.k8s.io/aggregate-to-"
    joined = {label.removeprefix(prefix) for label in role["metadata"]["labels"] if label.startswith(prefix)}
    assert joined == AGGREGATED[name]
