"""The cluster as a policy's account, on a real API server: who acts, what is noted, and what a refusal says."""

from __future__ import annotations

import asyncio
import secrets
import shlex
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import pytest

from backendhealth.actions.ports import Refused, Silent
from backendhealth.kube.acting import AccountCluster
from backendhealth.kube.api import Api, connect
from tests.servers.kubernetes import ControlPlane

ACCOUNT = "remediator"


@pytest.fixture
def notes() -> list[str]:
    return []


@pytest.fixture
async def acting(control_plane: ControlPlane, namespace: str, notes: list[str]) -> AsyncIterator[AccountCluster]:
    """As an operator that may do nothing yet, acting as an account that may do nothing yet."""
    for name in (ACCOUNT, "operator"):
        account = {"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": name}}
        control_plane.request("POST", f"/api/v1/namespaces/{namespace}/serviceaccounts", account)
    pod = {"containers": [{"name": "main", "image": "x"}]}
    control_plane.request(
        "POST",
        f"/api/v1/namespaces/{namespace}/pods",
        {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "web"}, "spec": pod},
    )
    async with await connect(str(control_plane.token_kubeconfig(namespace, "operator")), None) as api:
        yield AccountCluster(api, namespace, ACCOUNT, notes)


async def refused(acting: AccountCluster, namespace: str, what: str) -> Refused:
    path = f"/api/v1/namespaces/{namespace}/pods/web/eviction"
    calls: dict[str, Callable[[], Awaitable[Any]]] = {
        "exec": lambda: acting.execute(namespace, "web", "main", ["kill", "-USR1", "1"], timeout=10),
        "logs": lambda: acting.logs(namespace, "web", "main", since=5, timeout=10),
        "eviction": lambda: acting.request("POST", path, body=eviction("web")),
    }
    with pytest.raises(Refused) as caught:
        await calls[what]()
    return caught.value


def eviction(pod: str) -> dict[str, Any]:
    return {"apiVersion": "policy/v1", "kind": "Eviction", "metadata": {"name": pod}}


def run(plane: ControlPlane, remedy: str) -> None:
    for line in remedy.split("; "):
        plane.kubectl(*shlex.split(line)[1:])


@pytest.mark.parametrize(
    ("what", "granted"),
    [
        ("eviction", "--verb=create --resource=pods/eviction;"),
        ("logs", "--verb=get --resource=pods/log;"),
        ("exec", "--verb=create,get --resource=pods/exec;"),
    ],
)
async def test_a_refusal_names_the_line_that_grants_what_is_missing(
    control_plane: ControlPlane, namespace: str, acting: AccountCluster, what: str, granted: str
):
    first = await refused(acting, namespace, what)
    assert first.status == 403
    assert f"--verb=impersonate --resource=serviceaccounts --resource-name={ACCOUNT}" in first.remedy
    run(control_plane, first.remedy)
    second = await refused(acting, namespace, what)
    assert second.status == 403
    assert granted in second.remedy
    assert f"--serviceaccount={namespace}:{ACCOUNT}" in second.remedy
    run(control_plane, second.remedy)
    if what == "eviction":
        await acting.request("POST", f"/api/v1/namespaces/{namespace}/pods/web/eviction", body=eviction("web"))
    elif what == "logs":
        assert await acting.logs(namespace, "web", "main", since=5, timeout=10) == ""
    else:
        third = await refused(acting, namespace, what)  # no node runs the pod
        assert (third.status, third.remedy) == (400, "")


async def test_calls_are_made_as_the_account_and_noted_once(
    control_plane: ControlPlane, namespace: str, acting: AccountCluster, notes: list[str]
):
    start = control_plane.audit_log.stat().st_size
    for verbs, resource in (("get", "pods"), ("create", "pods/eviction")):
        for who, what in (("operator", ("impersonate", "serviceaccounts")), (ACCOUNT, (verbs, resource))):
            grant(control_plane, namespace, who, *what)
    assert acting.acting_as == f"system:serviceaccount:{namespace}:{ACCOUNT}"
    path = f"/api/v1/namespaces/{namespace}/pods/web"
    for _ in range(3):
        assert (await acting.request("GET", path))["metadata"]["name"] == "web"
    await acting.request("POST", f"{path}/eviction", body=eviction("web"))
    with pytest.raises(Refused) as caught:
        await acting.request("GET", path)
    assert (caught.value.status, caught.value.reason, caught.value.remedy) == (404, "NotFound", "")
    assert notes == [
        f"GET {path} → 200 OK",
        f"POST {path}/eviction → 201 Created",
        f"GET {path} → 404 NotFound",
    ]
    seen = [one for one in control_plane.audited(start) if one.get("impersonatedUser")]
    assert {one["impersonatedUser"]["username"] for one in seen} == {acting.acting_as}


async def test_another_namespace_is_out_of_reach(control_plane: ControlPlane, namespace: str, acting: AccountCluster):
    grant(control_plane, namespace, "operator", "impersonate", "serviceaccounts")
    grant(control_plane, namespace, ACCOUNT, "get", "pods")
    with pytest.raises(Refused) as caught:
        await acting.request("GET", "/api/v1/namespaces/kube-system/pods/web")
    assert caught.value.status == 403


async def test_an_exec_that_admission_refuses_was_not_done(
    control_plane: ControlPlane, namespace: str, api: Api, notes: list[str]
):
    """By a ValidatingAdmissionPolicy on CONNECT; as admin, who may exec."""
    name = f"no-exec-{secrets.token_hex(4)}"
    group = "admissionregistration.k8s.io"
    rule = {"apiGroups": [""], "apiVersions": ["v1"], "operations": ["CONNECT"], "resources": ["pods/exec"]}
    matching = {"namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": namespace}}}
    policy = {
        "matchConstraints": {"resourceRules": [rule], **matching},
        "validations": [{"expression": "false", "message": "nobody execs here"}],
    }
    for kind, spec in (
        ("ValidatingAdmissionPolicy", policy),
        ("ValidatingAdmissionPolicyBinding", {"policyName": name, "validationActions": ["Deny"]}),
    ):
        made = {"apiVersion": f"{group}/v1", "kind": kind, "metadata": {"name": name}, "spec": spec}
        plural = "validatingadmissionpolicies" if kind.endswith("Policy") else "validatingadmissionpolicybindings"
        control_plane.request("POST", f"/apis/{group}/v1/{plural}", made)
    try:
        grant(control_plane, namespace, "default", "create,get", "pods/exec")
        account = AccountCluster(api, namespace, "default", notes)
        caught = await denied(account, namespace)
        assert "nobody execs here" in caught.message
        assert caught.remedy == ""
        assert notes[-1].startswith(f"GET /api/v1/namespaces/{namespace}/pods/web/exec in main: sh -c … USR1 →")
    finally:
        control_plane.request("DELETE", f"/apis/{group}/v1/validatingadmissionpolicybindings/{name}")
        control_plane.request("DELETE", f"/apis/{group}/v1/validatingadmissionpolicies/{name}")


async def denied(account: AccountCluster, namespace: str) -> Refused:
    """The API server takes a moment to learn of a policy; until then there is no such pod."""
    async with asyncio.timeout(30):
        while True:
            with pytest.raises(Refused) as caught:
                await account.execute(namespace, "web", "main", ["sh", "-c", "x" * 100, "USR1"], timeout=10)
            if caught.value.status != 404:
                return caught.value


async def test_no_answer_is_silence(control_plane: ControlPlane, namespace: str, api: Api, notes: list[str]):
    account = AccountCluster(api, namespace, ACCOUNT, notes)
    control_plane.pause()
    try:
        with pytest.raises(Silent):
            await account.request("GET", f"/api/v1/namespaces/{namespace}/pods", timeout=0.5)
        with pytest.raises(Silent):
            await account.execute(namespace, "web", "main", ["true"], timeout=0.5)
    finally:
        control_plane.resume()
    assert [note.rpartition(" → ")[2] for note in notes] == ["no answer", "no answer"]


def grant(plane: ControlPlane, namespace: str, account: str, verbs: str, resource: str) -> None:
    name = f"{account}-{secrets.token_hex(3)}"
    create = ("-n", namespace, "create")
    plane.kubectl(*create, "role", name, f"--verb={verbs}", f"--resource={resource}")
    plane.kubectl(*create, "rolebinding", name, f"--role={name}", f"--serviceaccount={namespace}:{account}")
