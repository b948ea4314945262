"""What the manifests say, and an API server that has them."""

from __future__ import annotations

import functools
import os
import subprocess
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import yaml

from tests.cluster import build
from tests.servers.kubernetes import ControlPlane

ROOT = Path(__file__).parents[2]
MANIFESTS = ROOT / "manifests"
OVERLAYS = ("cluster-wide", "namespaced", "ha")
OPERATOR = "backendhealth-operator"
RBAC = ("Role", "RoleBinding", "ClusterRole", "ClusterRoleBinding", "ServiceAccount")

Object = dict[str, Any]


class Grant(NamedTuple):
    """One verb on one resource; `name` when it holds for objects of that name only."""

    group: str
    resource: str
    verb: str
    name: str = ""

    def __str__(self) -> str:
        """verb resource.group/name."""
        told = f"{self.verb} {self.resource}{self.group and f'.{self.group}'}"
        return f"{told}/{self.name}" if self.name else told


@functools.cache
def _built(folder: Path) -> str:
    done = subprocess.run(
        [str(build.binaries() / "kubectl"), "kustomize", str(folder)],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def rendered(folder: Path) -> list[Object]:
    """All objects of a kustomization."""
    return list(yaml.safe_load_all(_built(folder)))


def overlay(name: str) -> list[Object]:
    """All objects of one of OVERLAYS."""
    return rendered(MANIFESTS / "overlays" / name)


def placed(source: Path, namespace: str, folder: Path) -> list[Object]:
    """`source` by way of a kustomization of one's own in `folder`, which says where it goes."""
    (folder / "kustomization.yaml").write_text(
        yaml.safe_dump({"namespace": namespace, "resources": [os.path.relpath(source, folder.resolve())]})
    )
    return rendered(folder)


def of_kind(objects: Iterable[Object], *kinds: str) -> list[Object]:
    """Those of `kinds`."""
    return [one for one in objects if one["kind"] in kinds]


def named(objects: Iterable[Object], kind: str, name: str = OPERATOR) -> Object:
    """The one object of that kind and name."""
    (found,) = [one for one in of_kind(objects, kind) if one["metadata"]["name"] == name]
    return found


def grants(rules: Iterable[Mapping[str, Any]]) -> set[Grant]:
    """Every single grant of a role's rules."""
    return {
        Grant(group, resource, verb, name)
        for rule in rules
        for group in rule["apiGroups"]
        for resource in rule["resources"]
        for verb in rule["verbs"]
        for name in rule.get("resourceNames", [""])
    }


def as_rules(some: Iterable[Grant]) -> list[Object]:
    """Rules of a role that grant exactly these."""
    return [
        {"apiGroups": [one.group], "resources": [one.resource], "verbs": [one.verb]}
        | ({"resourceNames": [one.name]} if one.name else {})
        for one in some
    ]


def apply(control_plane: ControlPlane, objects: Iterable[Object], *arguments: str) -> str:
    """`kubectl apply` of them all; a warning is an error."""
    text = yaml.safe_dump_all(objects)
    return control_plane.kubectl("apply", "--warnings-as-errors", *arguments, "-f", "-", input=text)


def delete(control_plane: ControlPlane, objects: Iterable[Object]) -> None:
    """Delete them, those that are gone already left out."""
    text = yaml.safe_dump_all(objects)
    control_plane.kubectl("delete", "--ignore-not-found", "--wait=false", "-f", "-", input=text)
