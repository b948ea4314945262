"""`backendhealth check --kubeconfig`: what it takes from a real API server, by nobody's rights but the user's own."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.cli.support import refused_probe, resource, run
from tests.kube.pods import Pods
from tests.servers.kubernetes import ControlPlane
from tests.unit.podmaking import container, ended, pod, waiting

SHOP: dict[str, Any] = {
    "title": "A shop",
    "components": [
        {
            "name": name,
            "title": name,
            "effects": [{"feature": "checkout", "effect": "Fails", "because": "Nobody can pay."}],
        }
        for name in ("gone", "core")
    ],
    "features": [{"name": "checkout", "title": "paying"}],
    "signatures": [{"name": "a", "pattern": "no leader", "implicates": ["core"], "because": "It asks no other."}],
}
PODS: dict[str, Any] = {"name": "core", "pods": {"selector": {"matchLabels": {"app": "core"}}, "logs": {}}}


@pytest.fixture
def shop(control_plane: ControlPlane, namespace: str) -> None:
    put(control_plane, namespace, "shop", SHOP)


def put(plane: ControlPlane, namespace: str, name: str, spec: dict[str, Any]) -> None:
    body = {
        "apiVersion": "backendhealth.dev/v1alpha1",
        "kind": "DiagnosisProfile",
        "metadata": {"name": name},
        "spec": spec,
    }
    plane.request("POST", f"/apis/backendhealth.dev/v1alpha1/namespaces/{namespace}/diagnosisprofiles", body)


def declared(folder: Path, namespace: str, *probes: dict[str, Any], profile: str = "shop") -> Path:
    raw = yaml.safe_load(resource(*probes, timeout="5s", interval="10s", profileRef={"name": profile}))
    raw["metadata"]["namespace"] = namespace
    path = folder / "demo.yaml"
    path.write_text(yaml.safe_dump(raw))
    return path


def impact(told: str) -> list[tuple[str, str]]:
    return [(one["feature"], one["effect"]) for one in json.loads(told)["status"]["diagnosis"].get("impact", [])]


@pytest.mark.usefixtures("shop")
def test_the_profile_of_the_cluster_is_used(control_plane: ControlPlane, namespace: str, tmp_path: Path):
    file = declared(tmp_path, namespace, refused_probe())
    done = run("check", "-o", "json", "-f", file, "--kubeconfig", control_plane.kubeconfig)
    assert (done.returncode, done.stderr, impact(done.stdout)) == (1, "", [("paying", "Fails")])
    triaged = run("triage", "-f", file, "--kubeconfig", control_plane.kubeconfig, stdin="")
    assert "Users notice, fails: paying: gone: Nobody can pay." in triaged.stdout


@pytest.mark.usefixtures("shop")
def test_one_in_the_files_goes_first(control_plane: ControlPlane, namespace: str, tmp_path: Path):
    file = declared(tmp_path, namespace, refused_probe())
    changed = {**SHOP, "features": [{"name": "checkout", "title": "buying"}]}
    metadata = {"name": "shop", "namespace": namespace}
    body = {"apiVersion": "backendhealth.dev/v1alpha1", "kind": "DiagnosisProfile", "metadata": metadata}
    file.write_text(f"{file.read_text()}---\n{yaml.safe_dump({**body, 'spec': changed})}")
    done = run("check", "-o", "json", "-f", file, "--kubeconfig", control_plane.kubeconfig)
    assert impact(done.stdout) == [("buying", "Fails")]


def test_without_it_the_rest_is_told(control_plane: ControlPlane, namespace: str, tmp_path: Path):
    file = declared(tmp_path, namespace, refused_probe())
    done = run("check", "-f", file, "--kubeconfig", control_plane.kubeconfig)
    assert done.returncode == 1
    assert f"there is no DiagnosisProfile shop in namespace {namespace}" in done.stderr
    triaged = run("triage", "-f", file, "--kubeconfig", control_plane.kubeconfig, stdin="")
    assert (triaged.returncode, "there is no DiagnosisProfile shop" in triaged.stderr) == (2, True)


@pytest.mark.usefixtures("shop")
def test_who_may_not_is_told_the_line_that_grants_it(control_plane: ControlPlane, namespace: str, tmp_path: Path):
    kubectl = control_plane.kubectl
    kubectl("-n", namespace, "create", "serviceaccount", "person")
    file = declared(tmp_path, namespace, refused_probe())
    access = ("--kubeconfig", control_plane.token_kubeconfig(namespace, "person"))
    done = run("check", "-o", "json", "-f", file, *access)
    assert (done.returncode, impact(done.stdout)) == (1, [])
    assert "DiagnosisProfile shop can't be read" in done.stderr
    line = done.stderr.partition("to grant it: ")[2].partition(" (give its file")[0]
    for command in line.split("; "):
        kubectl(*command.split()[1:])
    assert impact(run("check", "-o", "json", "-f", file, *access).stdout) == [("paying", "Fails")]


async def crashing(pods: Pods) -> None:
    crash = container(waiting("CrashLoopBackOff"), restarts=4, last=ended())
    await pods.create("a", pod("a", crash, phase="Running"))


@pytest.mark.usefixtures("shop")
async def test_logs_are_asked_for_as_the_user_and_nobody_else(
    control_plane: ControlPlane, namespace: str, api: Any, tmp_path: Path
):
    """There is no kubelet here that has a log: what is asked for, and as whom, is seen in the audit log."""
    await crashing(Pods(api, namespace))
    file = declared(tmp_path, namespace, PODS)
    start = control_plane.audit_log.stat().st_size
    done = run("check", "-o", "json", "-f", file, "--kubeconfig", control_plane.kubeconfig)
    assert (done.returncode, done.stderr) == (1, "")
    asked = [one for one in control_plane.audited(start) if one.get("objectRef", {}).get("subresource") == "log"]
    assert {one["objectRef"]["name"] for one in asked} == {"a"}
    assert [one for one in asked if "impersonatedUser" in one] == []


@pytest.mark.usefixtures("shop")
async def test_who_may_not_read_logs_is_told_once(
    control_plane: ControlPlane, namespace: str, api: Any, tmp_path: Path
):
    await crashing(Pods(api, namespace))
    kubectl = control_plane.kubectl
    kubectl("-n", namespace, "create", "serviceaccount", "person")
    kubectl("-n", namespace, "create", "role", "sees", "--verb=get,list,watch", "--resource=pods,diagnosisprofiles")
    kubectl("-n", namespace, "create", "rolebinding", "sees", "--role=sees", f"--serviceaccount={namespace}:person")
    file = declared(tmp_path, namespace, PODS)
    access = ("--kubeconfig", control_plane.token_kubeconfig(namespace, "person"))
    done = run("check", "-f", file, *access)
    assert done.returncode == 1
    assert "CrashLoopBackOff" in done.stdout
    assert done.stderr.count("pods' logs are not looked through for core: ") == 1
    assert "--resource=pods/log" in done.stderr
