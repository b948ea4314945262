"""What the people on call may do to a BackendHealth, on a real API server: ask for a probe, suspend, resume."""

from __future__ import annotations

import json
import secrets
from collections.abc import Iterator

import pytest

from tests.servers.kubernetes import ControlPlane
from tests.servers.process import wait_until
from tests.shipping.support import Object, apply, delete, of_kind, overlay
from tests.shipping.test_approvals import POLICY, Stage, binding

SPEC: Object = {"probes": [{"name": "redis", "tcp": {"host": "redis", "port": 6379}}]}
OURS = {"backendhealth.dev/suspended-until": "2026-01-01T00:00:00Z", "backendhealth.dev/probe-requested-at": "now"}


@pytest.fixture(scope="module")
def admission(control_plane: ControlPlane) -> Iterator[list[Object]]:
    objects = of_kind(overlay("cluster-wide"), *POLICY, "ClusterRole")
    apply(control_plane, objects)
    yield objects
    delete(control_plane, objects)


@pytest.fixture(scope="module")
def stage(control_plane: ControlPlane, admission: list[Object]) -> Iterator[Stage]:
    """A BackendHealth `demo`, and the users `on-call` and `edit`."""
    assert admission
    name = f"on-call-{secrets.token_hex(4)}"
    space: Object = {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}}
    annotations = {"of": "others"}
    demo: Object = {
        "apiVersion": "backendhealth.dev/v1alpha1",
        "kind": "BackendHealth",
        "metadata": {"name": "demo", "labels": {"a": "b"}, "annotations": annotations},
        "spec": SPEC,
    }
    apply(control_plane, [space])
    bound = [binding(one, f"backendhealth-{one}") for one in ("on-call", "edit")]
    bound.append({**binding("edit", "backendhealth-view"), "metadata": {"name": "edit-sees"}})
    apply(control_plane, [*bound, demo], "-n", name)
    stage = Stage(control_plane, name)
    refused = {"metadata": {"labels": {"probe": "x"}}}
    wait_until(lambda: "may only annotate" in patched(stage, "on-call", refused), 30.0, "the admission policy in force")
    yield stage
    control_plane.request("DELETE", f"/apis/backendhealth.dev/v1alpha1/namespaces/{name}/backendhealths/demo")
    delete(control_plane, [space])


def patched(stage: Stage, user: str, patch: Object) -> str:
    """What is said; a patch that is let through is not kept."""
    return stage.tried(
        user, "patch", "backendhealth", "demo", "--type=merge", "--dry-run=server", "-p", json.dumps(patch)
    )


@pytest.mark.parametrize("annotations", [OURS, dict.fromkeys(OURS)])
def test_the_people_on_call_may_ask_for_a_probe_and_suspend(stage: Stage, annotations: Object):
    assert "demo patched" in patched(stage, "on-call", {"metadata": {"annotations": annotations}})


REFUSED = [
    {"spec": {"suspend": True}},
    {"spec": {"serviceAccountName": "another"}},
    {"metadata": {"labels": {"a": "c"}}},
    {"metadata": {"labels": None}},
    {"metadata": {"finalizers": ["example.com/stays"]}},
    {"metadata": {"ownerReferences": [{"apiVersion": "v1", "kind": "ConfigMap", "name": "x", "uid": "u"}]}},
    {"metadata": {"annotations": {"of": "mine"}}},
    {"metadata": {"annotations": {"of": None}}},
    {"metadata": {"annotations": {"new": "one"}}},
    {"metadata": {"annotations": None}},
]


@pytest.mark.parametrize("patch", REFUSED)
def test_they_may_change_nothing_else_and_editors_may(stage: Stage, patch: Object):
    assert "on-call may " in patched(stage, "on-call", patch)
    assert "demo patched" in patched(stage, "edit", patch)


def test_they_may_not_write_its_status(stage: Stage):
    body = json.dumps({"status": {"observedGeneration": 5}})
    said = stage.tried("on-call", "patch", "backendhealth", "demo", "--type=merge", "--subresource=status", "-p", body)
    assert "forbidden" in said.lower()
