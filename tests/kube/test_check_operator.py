"""Who has only the command line is told the same as the cluster: one failing platform, two that look at it."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.cli.support import run, secret
from tests.kube.operator import Resources
from tests.scenarios.loopback import SECRETS, Platform, platform
from tests.scenarios.running import specification
from tests.scenarios.truth import Timing
from tests.servers.kubernetes import ControlPlane
from tests.servers.process import wait_until

NAME, ACCOUNT = "placeos", "probes"
TIMING = Timing(timeout=2.0)
"""What works must not seem to hang on a busy machine: that would be another diagnosis."""
PROFILE = {"builtIn": "placeos-postgres-etcd"}


@pytest.fixture(scope="module")
def broken() -> Iterator[Platform]:
    """A whole platform, to be broken and mended."""
    with platform() as found:
        yield found


def spec(found: Platform) -> dict[str, Any]:
    return specification(TIMING, PROFILE, found.probes())


def allow(plane: ControlPlane, namespace: str) -> None:
    """The Secrets, and an account that may read them."""
    for name, data in SECRETS.items():
        metadata = {"name": name, "annotations": {"backendhealth.dev/allow": NAME}}
        body = {"apiVersion": "v1", "kind": "Secret", "metadata": metadata, "stringData": data}
        plane.request("POST", f"/api/v1/namespaces/{namespace}/secrets", body)
    kubectl = plane.kubectl
    kubectl("-n", namespace, "create", "serviceaccount", ACCOUNT)
    kubectl("-n", namespace, "create", "role", "reads", "--verb=get", "--resource=secrets")
    kubectl(
        "-n", namespace, "create", "rolebinding", "reads", "--role=reads", f"--serviceaccount={namespace}:{ACCOUNT}"
    )


def declared(folder: Path, found: Platform) -> Path:
    """The same resource as a file, with its Secrets."""
    kind = {"apiVersion": "backendhealth.dev/v1alpha1", "kind": "BackendHealth", "metadata": {"name": NAME}}
    file = folder / "placeos.yaml"
    file.write_text(yaml.safe_dump({**kind, "spec": spec(found)}) + "".join(secret(*one) for one in SECRETS.items()))
    return file


def told(status: dict[str, Any]) -> dict[str, Any]:
    """The diagnosis, without times and without messages that have them.

    And without mismatches, of which the operator may tell more: they need what works to be seen again after the
    failure, for which a check does not wait once the cause is settled.
    """
    found = status.get("diagnosis") or {}
    return {
        "state": (status.get("summary") or {}).get("state"),
        "root causes": sorted((one["component"], one["reason"]) for one in found.get("rootCauses", [])),
        "explained": sorted((one["name"], one["by"]) for one in found.get("explained", [])),
        "unexplained": sorted(one["name"] for one in found.get("unexplained", [])),
        "suspects": [(one["component"], one["because"]) for one in found.get("suspects", [])],
        "impact": {one["feature"]: one["effect"] for one in found.get("impact", [])},
    }


def mismatches(status: dict[str, Any]) -> set[str]:
    return {one["name"] for one in (status.get("diagnosis") or {}).get("mismatches", [])}


@pytest.mark.usefixtures("operator")
@pytest.mark.parametrize(
    ("fault", "cause"),
    [
        ("etcd-down", "etcd"),
        ("redis-hangs", "redis"),
        ("elasticsearch-down", "elasticsearch"),
        ("core-down", "core"),
    ],
)
def test_the_same_diagnosis(
    broken: Platform,
    resources: Resources,
    control_plane: ControlPlane,
    tmp_path: Path,
    *,
    fault: str,
    cause: str,
) -> None:
    allow(control_plane, resources.namespace)
    file = declared(tmp_path, broken)
    given = spec(broken)
    probes = given.pop("probes")
    resources.apply(NAME, *probes, **given, serviceAccountName=ACCOUNT)
    resources.wait(NAME, "Healthy", 30)
    broken.begin(fault)
    try:
        done = run("check", "-o", "json", "-f", file)
        assert (done.returncode, done.stderr) == (1, "")
        status = json.loads(done.stdout)["status"]
        by_hand = told(status)
        assert [name for name, _ in by_hand["root causes"]] == [cause], by_hand
        assert by_hand["explained"] or cause in ("elasticsearch", "core"), by_hand
        assert "Fails" in by_hand["impact"].values()
        with contextlib.suppress(TimeoutError):
            wait_until(lambda: told(resources.status(NAME)) == by_hand, 10, "the operator tells the same")
        assert told(resources.status(NAME)) == by_hand
        wait_until(lambda: mismatches(status) <= mismatches(resources.status(NAME)), 10, "and what does not fit")
    finally:
        broken.end(fault)
