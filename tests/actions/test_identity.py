"""Under whose identity a policy acts, and what it can't reach: told by the record and the audit log of a real cluster.

The operator has no more than the Roles that are shipped for one namespace, and may impersonate the accounts named here.
"""

from __future__ import annotations

import json
import re
import urllib.error
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.actions import services
from tests.actions.place import Person, Place, phase_of, placed
from tests.actions.services import SCRATCH, pod, service
from tests.actions.stage import ACCOUNT, RULES, debug_logs
from tests.actions.test_restarts import restart, rollout, workload
from tests.cluster import images
from tests.cluster.cluster import Cluster
from tests.kube.operator import ROOT
from tests.kube.remediating import path, remediation
from tests.kube.test_remediation import stays
from tests.probes.support import PLANTED
from tests.servers.process import ServerFailed, wait_until

OPERATOR = "the-operator"
ROLES = (
    ROOT / "manifests/namespaced/role.yaml",
    ROOT / "manifests/base/leases.yaml",
    ROOT / "manifests/base/switch.yaml",
)
LONG = {"revertAfter": "1h", "confirmWithin": "5s"}
QUIET = 2.0
MISSING: dict[str, tuple[dict[str, Any], str, str]] = {
    "no-exec": (debug_logs("no-exec", **LONG), "pods/exec", "create,get"),
    "no-helper": (debug_logs("no-helper", **LONG), "pods/ephemeralcontainers", "patch"),
    "no-eviction": (restart("no-eviction", pods="All"), "pods/eviction", "create"),
    "no-rollout": (rollout("Deployment", "no-rollout"), "deployments.apps", "patch"),
}
"""What is tried by the account of that name, which is without the right to do this to that."""


def rules_without(resource: str) -> list[tuple[str, str, str]]:
    """All that actions need, but for that; of workloads, which are read and changed, only the change."""
    if resource.startswith("deployments"):
        return [
            (group, plurals, "get") if group == "apps" else (group, plurals, verbs) for group, plurals, verbs in RULES
        ]
    return [one for one in RULES if one[1] != resource]


@pytest.fixture(scope="module")
def stand(own_cluster: Cluster, product_image: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Place]:
    folder = tmp_path_factory.mktemp("images")
    scratch = next(one for one in services.recipes(folder) if one.name == SCRATCH)
    own_cluster.load_image(images.write(scratch, folder / images.file_name(scratch.name)))
    pods = [
        pod("no-exec", service(images.BUSYBOX)),
        pod("no-helper", service(SCRATCH)),
        pod("remade-claimed", service(images.BUSYBOX)),
        pod("remade-fencing", service(images.BUSYBOX)),
        pod("everywhere", service(images.BUSYBOX)),
        pod("unlent", service(images.BUSYBOX)),
    ]
    owned = [workload("Deployment", name) for name in ("no-eviction", "no-rollout", "posed")]
    with placed(own_cluster, product_image, *pods, *owned, workload("StatefulSet", "remade")) as place:
        for account, (_, resource, _) in MISSING.items():
            place.grant(account, rules_without(resource))
        lend(place, ACCOUNT, *MISSING)
        yield place


@pytest.fixture
def kubeconfig(stand: Place) -> Path:
    """The operator's own account's."""
    return stand.cluster.token_kubeconfig(stand.namespace, OPERATOR)


def lend(place: Place, *accounts: str) -> None:
    """The operator has its shipped Roles, and may impersonate these accounts and no other."""
    roles = [one for file in ROLES for one in yaml.safe_load_all(file.read_text()) if one["kind"] == "Role"]
    rules = [rule for role in roles for rule in role["rules"]]
    rules += [
        {"apiGroups": [""], "resources": ["configmaps"], "verbs": ["get"]},
        {"apiGroups": [""], "resources": ["serviceaccounts"], "verbs": ["impersonate"], "resourceNames": [*accounts]},
    ]
    place.grant(OPERATOR, ())
    role = {"apiVersion": "rbac.authorization.k8s.io/v1", "kind": "Role", "metadata": {"name": OPERATOR}}
    place.apply({**role, "rules": rules})


def refused(place: Place, since: int, account: str) -> list[dict[str, Any]]:
    """What the account was not let do; each was asked by the operator's own account, by impersonation."""
    found = [one for one in place.audited(since, account) if one.get("responseStatus", {}).get("code") == 403]
    asking = {one["user"]["username"] for one in found}
    assert asking <= {f"system:serviceaccount:{place.namespace}:{OPERATOR}"}
    return found


def test_without_the_grant_nothing_is_done_and_it_is_named(place: Place, kubeconfig: Path):
    since = place.mark()
    before = [place.ready(one) for one in ("no-eviction", "no-rollout")]
    with place.operator(kubeconfig=kubeconfig):
        for account, (action, _, _) in MISSING.items():
            place.allow(account, action, serviceAccountName=account)
        place.declare()
        place.until_final(len(MISSING))
    for account, (_, resource, verbs) in MISSING.items():
        done = place.only(account)
        assert phase_of(done) == "Failed", done
        assert done["status"]["actingAs"] == f"system:serviceaccount:{place.namespace}:{account}"
        line = rf"kubectl -n {place.namespace} create role (\S+) --verb={verbs} --resource={resource};"
        found = re.search(line, done["status"]["message"])
        assert found, done["status"]["message"]
        assert f"create rolebinding {found[1]} --role={found[1]}" in done["status"]["message"]
        told = refused(place, since, account)
        sub = resource.partition("/")[2]
        assert {one["objectRef"].get("subresource", "") for one in told} == {sub}, told
        # to find out that there is no shell is an exec that runs nothing
        assert [one for one in place.effects(since, account) if one != "exec no-helper"] == []
    assert not place.counted("no-exec")
    assert not place.counted("no-helper")
    assert [place.ready(one) for one in ("no-eviction", "no-rollout")] == before
    own = [one for one in place.effects(since, OPERATOR) if not re.match(r"(create|update|status|patch)\b", one)]
    assert own == [], "its own account changes nothing but what is ours"


def test_an_account_that_was_not_lent_is_not_used(place: Place, kubeconfig: Path):
    since = place.mark()
    place.grant("strong")
    with place.operator(kubeconfig=kubeconfig):
        place.allow("policy", restart("no-eviction", pods="All"), serviceAccountName="strong")
        place.declare()
        told = "--verb=impersonate --resource=serviceaccounts --resource-name=strong"
        place.until(lambda: told in json.dumps(place.resources.status("demo").get("remediation", "")), "named")
    assert place.done() == []
    assert place.effects(since, "strong") == []


@pytest.fixture
def elsewhere(place: Place) -> Iterator[Place]:
    """Another namespace with a pod of the same name, where the policy's account may do everything, too."""
    other = Place(place.cluster, f"{place.namespace}-2", place.helper_image)
    place.cluster.kubectl("create", "namespace", other.namespace)
    other.grant(ACCOUNT)
    subject = [{"kind": "ServiceAccount", "name": ACCOUNT, "namespace": place.namespace}]
    other.kubectl("patch", "rolebinding", ACCOUNT, "--type=merge", "-p", json.dumps({"subjects": subject}))
    other.apply(pod("everywhere", service(images.BUSYBOX)))
    other.steady("everywhere")
    yield other
    place.cluster.kubectl("delete", "namespace", other.namespace, "--wait=false")


def test_another_namespace_is_out_of_reach(place: Place, elsewhere: Place, kubeconfig: Path):
    """Though RBAC would let the account."""
    since, ada = place.mark(), Person(place, "ada")
    uid = elsewhere.get("pods", "everywhere")["metadata"]["uid"]
    with place.operator(kubeconfig=kubeconfig):
        place.allow("policy", debug_logs("everywhere", **LONG))
        place.declare()
        place.until_final()
        assert phase_of(place.only()) == "Succeeded"
        target = {
            "kind": "Pod",
            "name": f"../../{elsewhere.namespace}/pods/everywhere",
            "uid": uid,
            "container": "main",
        }
        by_hand = remediation(place.namespace, "by-hand", target=target, action=debug_logs("everywhere", **LONG))
        by_hand["spec"] |= {"requestedBy": ada.user, "policyRef": {"name": "policy"}}
        del by_hand["spec"]["rule"], by_hand["spec"]["cause"]
        asked = place.kubectl("create", "--as", ada.user, "-f", "-", input=json.dumps(by_hand), check=False)
        if "created" in asked:
            place.until_final(2)
        assert "the name is that of a pod" in asked
    assert place.counted("everywhere").total() == 1
    assert not elsewhere.counted("everywhere")
    assert [one for one in place.audited(since, ACCOUNT) if one["objectRef"].get("namespace") != place.namespace] == []


@pytest.mark.parametrize(
    ("action", "spec", "told"),
    [
        ({"debugLogs": {"namespace": "kube-system", "podSelector": {"matchLabels": {"a": "b"}}}}, {}, "unknown field"),
        (rollout("Deployment", "../../kube-system/deployments/x"), {}, "workload.name"),
        (rollout("Deployment", "x"), {"serviceAccountName": "kube-system:default"}, "serviceAccountName"),
        (rollout("Deployment", "x"), {"backendHealths": ["kube-system/demo"]}, "backendHealths"),
    ],
)
def test_no_field_names_another_namespace(place: Place, action: Any, spec: Any, told: str):
    there = f"{path(place.namespace, 'remediationpolicies')}?fieldValidation=Strict"
    rule = {"name": "act", "when": {"component": "core"}, "action": action}
    body = {
        "apiVersion": "backendhealth.dev/v1alpha1",
        "kind": "RemediationPolicy",
        "metadata": {"name": "policy"},
        "spec": {"backendHealths": ["demo"], "serviceAccountName": ACCOUNT, "rules": [rule], **spec},
    }
    with pytest.raises(urllib.error.HTTPError) as caught:
        place.cluster.request("POST", there, body)
    assert caught.value.code in {400, 422}
    assert told in caught.value.read().decode()


@pytest.mark.parametrize(
    ("name", "step", "action", "why"),
    [
        ("remade-claimed", "claimed", debug_logs("remade-claimed", **LONG), "is another one by now"),
        ("remade-fencing", "fencing", debug_logs("remade-fencing", **LONG), "not the pod that was meant"),
        ("remade-0", "fencing", restart("remade", pods="All"), "UID"),
    ],
)
def test_another_pod_of_the_name_is_left_alone(place: Place, name: str, step: str, action: Any, why: str):
    """It is deleted and made anew between claim and effect."""
    since = place.mark()
    with place.operator("operator", "--no-leader-elect", stop_at=step) as operator:
        place.allow("policy", action)
        place.declare()
        operator.until_at(step)
        before = place.get("pods", name)["metadata"]["uid"]
        place.kubectl("delete", "pod", name, "--grace-period=1")
        if name in {"remade-claimed", "remade-fencing"}:
            place.apply(pod(name, service(images.BUSYBOX)))
        place.steady("remade" if name == "remade-0" else name)
        after = place.get("pods", name)["metadata"]["uid"]
        operator.resume()
        place.until_final()
    done = place.only()
    assert phase_of(done) == "Failed"
    assert why in done["status"]["message"]
    assert done["spec"]["target"]["uid"] == before != after
    assert place.get("pods", name)["metadata"]["uid"] == after
    if name != "remade-0":
        assert not place.counted(name)
    # the script in the container has looked, and refused
    assert place.effects(since) == (["exec remade-fencing"] if name == "remade-fencing" else [])


def test_a_pod_that_poses_as_another_is_not_restarted(place: Place):
    """It has taken the label, and comes first; nothing would replace it."""
    since = place.mark()
    (before,) = place.ready("posed")
    place.apply(pod("a-poser", service(images.BUSYBOX), labels={"app": "posed"}))
    wait_until(lambda: len(place.ready("posed")) == 2, 30, "both are ready")
    poser = place.get("pods", "a-poser")["metadata"]["uid"]
    with place.operator():
        place.allow("policy", restart("posed", pods="All"))
        place.declare()
        place.until(lambda: [phase_of(one) for one in place.done()] == ["Verifying"], "evicted")
        assert stays(lambda: poser in place.ready("posed"), QUIET)
        with place.mended():
            place.until_final()
    assert phase_of(place.only()) == "Succeeded"
    assert place.only()["spec"]["target"]["uid"] == before
    assert place.effects(since) == [f"eviction {place.only()['spec']['target']['name']}"]


def test_a_secret_of_another_account(place: Place, kubeconfig: Path):
    """The key that restarts drivers is read as the policy's account: its record names the grant, and not the key."""
    since, ada = place.mark(), Person(place, "ada")
    notes = {"backendhealth.dev/allow": "remediationpolicy/policy"}
    meta = {"name": "admin", "annotations": notes}
    place.apply({"apiVersion": "v1", "kind": "Secret", "metadata": meta, "stringData": {"key": PLANTED}})
    api = {"url": "http://127.0.0.1:9", "apiKeySecretRef": {"name": "admin", "key": "key"}}
    with place.operator(kubeconfig=kubeconfig):
        place.allow("policy", {"restartDriver": api})
        with pytest.raises(AssertionError) as caught:
            ada.does("restart-driver", "drivers_lamp")
        place.until_final()
    done = place.only()
    assert phase_of(done) == "Failed"
    assert "--verb=get --resource=secrets --resource-name=admin" in done["status"]["message"]
    assert PLANTED not in json.dumps(done) + str(caught.value)
    (asked,) = {(one["verb"], one["objectRef"]["name"]) for one in refused(place, since, ACCOUNT)}
    assert asked == ("get", "admin")
    assert place.effects(since) == []


def test_an_account_of_another_namespace_can_not_be_lent(place: Place, kubeconfig: Path):
    """Impersonation is granted in a namespace, for its own accounts: what was granted here is no right there."""
    kubectl = ["--kubeconfig", str(kubeconfig), "auth", "can-i", "impersonate", f"serviceaccounts/{ACCOUNT}"]
    assert place.kubectl(*kubectl).strip() == "yes"
    with pytest.raises(ServerFailed):
        place.cluster.kubectl("-n", "kube-system", *kubectl)
