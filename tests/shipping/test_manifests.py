"""manifests/ on a real API server: each overlay is taken whole, and its pod fits the restricted profile."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from backendhealth.kube.settings import Settings, variable_of
from tests.cluster import build
from tests.servers.kubernetes import ControlPlane
from tests.servers.process import ServerFailed
from tests.shipping.support import (
    MANIFESTS,
    OPERATOR,
    OVERLAYS,
    ROOT,
    Object,
    apply,
    delete,
    named,
    of_kind,
    overlay,
    placed,
    rendered,
)

# Functions and macros of CEL in the rules of Kubernetes 1.30, as far as our rules call them.
CEL = {"all", "duration", "exists", "filter", "has", "map", "matches", "replace", "size", "startsWith", "timestamp"}
LAST_APPLIED_LIMIT = 262_144
"""Bytes that the annotations of an object may have, and so what `kubectl apply` can note in one."""
# Stable API versions that the oldest supported Kubernetes serves, too.
KNOWN = {
    ("admissionregistration.k8s.io/v1", "ValidatingAdmissionPolicy"),
    ("admissionregistration.k8s.io/v1", "ValidatingAdmissionPolicyBinding"),
    ("apiextensions.k8s.io/v1", "CustomResourceDefinition"),
    ("apps/v1", "Deployment"),
    ("networking.k8s.io/v1", "NetworkPolicy"),
    ("policy/v1", "PodDisruptionBudget"),
    *(("rbac.authorization.k8s.io/v1", kind) for kind in ("Role", "RoleBinding", "ClusterRole", "ClusterRoleBinding")),
    *(("v1", kind) for kind in ("ConfigMap", "Namespace", "ServiceAccount")),
}


@pytest.fixture
def restricted(control_plane: ControlPlane) -> Iterator[None]:
    """The namespaces of the overlays, which refuse pods that don't fit the restricted profile."""
    spaces = [one for name in ("cluster-wide", "namespaced") for one in of_kind(overlay(name), "Namespace")]
    for space in spaces:
        apply(control_plane, [space])
    yield
    delete(control_plane, spaces)
    for space in spaces:
        name = space["metadata"]["name"]
        control_plane.request(
            "PUT",
            f"/api/v1/namespaces/{name}/finalize",
            {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}},
        )


def pod_of(objects: list[Object]) -> Object:
    template: Object = named(objects, "Deployment")["spec"]["template"]
    return template


def container_of(objects: list[Object]) -> Object:
    container: Object
    (container,) = pod_of(objects)["spec"]["containers"]
    return container


def selected(selector: dict[str, Any], pod: Object) -> bool:
    return bool(selector["matchLabels"].items() <= pod["metadata"]["labels"].items())


@pytest.mark.parametrize("name", OVERLAYS)
@pytest.mark.usefixtures("restricted")
def test_the_api_server_takes_an_overlay_whole(control_plane: ControlPlane, name: str):
    told = control_plane.kubectl(
        "apply", "--dry-run=server", "--warnings-as-errors", "-k", str(MANIFESTS / "overlays" / name)
    )
    assert len(told.splitlines()) == len(overlay(name))


@pytest.mark.parametrize("name", OVERLAYS)
@pytest.mark.usefixtures("restricted")
def test_the_pod_fits_the_restricted_profile(control_plane: ControlPlane, name: str):
    objects = overlay(name)
    space = named(objects, "Deployment")["metadata"]["namespace"]
    pod = {"apiVersion": "v1", "kind": "Pod", **pod_of(objects)}
    pod["metadata"] = {**pod["metadata"], "name": "operator", "namespace": space}
    create = ("create", "--dry-run=server", "--warnings-as-errors", "-f", "-")
    control_plane.kubectl(*create, input=yaml.safe_dump(pod))
    del container_of(objects)["securityContext"]["capabilities"]
    pod["spec"] = pod_of(objects)["spec"]
    with pytest.raises(ServerFailed, match=r"violates PodSecurity.*unrestricted capabilities"):
        control_plane.kubectl(*create, input=yaml.safe_dump(pod))


@pytest.mark.parametrize("name", OVERLAYS)
def test_the_pod_is_confined_bounded_and_watched(name: str):
    pod, container = pod_of(overlay(name)), container_of(overlay(name))
    assert container["securityContext"] == {
        "allowPrivilegeEscalation": False,
        "readOnlyRootFilesystem": True,
        "capabilities": {"drop": ["ALL"]},
    }
    assert pod["spec"]["securityContext"]["runAsNonRoot"]
    assert pod["spec"]["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
    assert "volumes" not in pod["spec"]
    assert container["resources"]["requests"].keys() == {"cpu", "memory"}
    assert "memory" in container["resources"]["limits"]
    (port,) = container["ports"]
    assert port["containerPort"] == Settings().listen_address.port
    for probe, path in (("startupProbe", "/healthz"), ("livenessProbe", "/healthz"), ("readinessProbe", "/readyz")):
        assert container[probe]["httpGet"] == {"path": path, "port": port["name"]}


@pytest.mark.parametrize("name", OVERLAYS)
def test_whatever_selects_pods_selects_ours(name: str):
    objects = overlay(name)
    pod = pod_of(objects)
    assert selected(named(objects, "Deployment")["spec"]["selector"], pod)
    assert selected(named(objects, "NetworkPolicy")["spec"]["podSelector"], pod)
    for spread in pod["spec"].get("topologySpreadConstraints", ()):
        assert selected(spread["labelSelector"], pod)
    for budget in of_kind(objects, "PodDisruptionBudget"):
        assert selected(budget["spec"]["selector"], pod)


def test_ha_is_cluster_wide_with_a_second_replica():
    plain, ha = overlay("cluster-wide"), overlay("ha")
    assert named(ha, "Deployment")["spec"]["replicas"] == 2
    assert named(ha, "PodDisruptionBudget")["spec"]["maxUnavailable"] == 1
    assert len(pod_of(ha)["spec"]["topologySpreadConstraints"]) == 2
    same = [one for one in ha if one["kind"] not in {"Deployment", "PodDisruptionBudget"}]
    assert same == of_kind(plain, *{one["kind"] for one in same})


@pytest.mark.parametrize("name", OVERLAYS)
def test_nothing_stands_outside_its_namespace(name: str):
    objects = overlay(name)
    (space,) = of_kind(objects, "Namespace")
    assert {one["metadata"].get("namespace", space["metadata"]["name"]) for one in objects} == {
        space["metadata"]["name"]
    }
    for binding in of_kind(objects, "RoleBinding", "ClusterRoleBinding"):
        assert binding["subjects"] == [
            {"kind": "ServiceAccount", "name": OPERATOR, "namespace": space["metadata"]["name"]}
        ]


@pytest.mark.parametrize("name", OVERLAYS)
def test_every_object_carries_the_name_of_the_application(name: str):
    for one in overlay(name):
        if one["kind"] not in {"Namespace", "CustomResourceDefinition"}:
            assert one["metadata"]["labels"]["app.kubernetes.io/name"] == "backendhealth", one["metadata"]["name"]


def test_the_namespaced_one_serves_where_it_is_put(tmp_path: Path):
    objects = placed(MANIFESTS / "namespaced", "placeos", tmp_path)
    assert not of_kind(objects, "Namespace", "ClusterRoleBinding")  # an application's own namespace is left alone
    assert {one["metadata"].get("namespace", "placeos") for one in objects} == {"placeos"}
    environment = {one["name"]: one for one in container_of(objects)["env"]}
    assert environment["BACKENDHEALTH_NAMESPACES"]["valueFrom"] == {"fieldRef": {"fieldPath": "metadata.namespace"}}
    for binding in of_kind(objects, "RoleBinding"):
        assert binding["subjects"][0]["namespace"] == "placeos"


@pytest.mark.parametrize("name", OVERLAYS)
def test_settings_that_are_given_exist(name: str):
    known = {variable_of(field) for field in Settings.model_fields}
    assert {one["name"] for one in container_of(overlay(name))["env"]} <= known | {"NODE_IP"}


def test_the_image_is_of_this_version():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert container_of(overlay("cluster-wide"))["image"] == f"backendhealth:{project['version']}"


def test_all_kinds_are_installed():
    files = {path.name for path in (ROOT / "crds").glob("*.yaml")} - {"kustomization.yaml"}
    assert {f"{one['spec']['group']}_{one['spec']['names']['plural']}.yaml" for one in rendered(ROOT / "crds")} == files
    for name in OVERLAYS:
        specs = [one["spec"] for one in of_kind(overlay(name), "CustomResourceDefinition")]
        assert specs == [one["spec"] for one in rendered(ROOT / "crds")]


def test_kubectl_apply_can_note_what_it_applied():
    for one in overlay("ha"):
        assert len(yaml.safe_dump(one)) < LAST_APPLIED_LIMIT


def test_the_oldest_supported_kubernetes_knows_every_kind():
    for name in OVERLAYS:
        assert {(one["apiVersion"], one["kind"]) for one in overlay(name)} <= KNOWN


def rules(node: Any) -> Iterator[dict[str, str]]:
    """Every rule of a schema."""
    if isinstance(node, dict):
        found = node.get("x-kubernetes-validations")
        yield from found if isinstance(found, list) else ()
    for below in node.values() if isinstance(node, dict) else node if isinstance(node, list) else ():
        yield from rules(below)


def test_the_oldest_supported_kubernetes_knows_what_the_rules_call():
    for kind in rendered(ROOT / "crds"):
        for rule in rules(kind):
            assert rule.keys() <= {"rule", "message", "fieldPath"}
            called = re.findall(r"(\w+)\(", re.sub(r"'(?:[^'\\]|\\.)*'", "''", rule["rule"]))
            assert set(called) <= CEL, rule["rule"]


def test_the_versions_stated_are_those_tested():
    page = (ROOT / "docs" / "how-to" / "install.md").read_text()
    assert f"**{build.version()}**" in page
