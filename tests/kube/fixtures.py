"""Fixtures of the tests on a real API server: one for the session, a namespace for each test."""

from __future__ import annotations

import secrets
from collections.abc import AsyncIterator, Iterator

import pytest

from backendhealth.kube.api import Api
from tests.cluster import build
from tests.kube.operator import Operator, Resources
from tests.servers.kubernetes import ControlPlane

_EMPTIED = (
    "apis/backendhealth.dev/v1alpha1/{}/backendhealths",
    "apis/backendhealth.dev/v1alpha1/{}/diagnosisprofiles",
    "apis/coordination.k8s.io/v1/{}/leases",
    "api/v1/{}/pods",
    "api/v1/{}/secrets",
)


@pytest.fixture(scope="session")
def control_plane() -> Iterator[ControlPlane]:
    """An API server that knows our kinds. A test that stops or pauses it must bring it back."""
    if not build.is_built():
        pytest.skip(build.missing() or "Kubernetes is not built yet: `make servers` does it, once")
    with ControlPlane() as plane:
        plane.apply_crds()
        yield plane


@pytest.fixture
def namespace(control_plane: ControlPlane) -> Iterator[str]:
    """A namespace of the test's own; what an operator would see of it is gone afterwards."""
    name = f"test-{secrets.token_hex(4)}"
    created = {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}}
    control_plane.request("POST", "/api/v1/namespaces", created)
    yield name
    for collection in _EMPTIED:
        control_plane.request(
            "DELETE", f"/{collection.format(f'namespaces/{name}')}?gracePeriodSeconds=0", {"gracePeriodSeconds": 0}
        )
    control_plane.request("DELETE", f"/api/v1/namespaces/{name}")
    # there is no controller that would end it
    created["spec"] = {"finalizers": []}
    control_plane.request("PUT", f"/api/v1/namespaces/{name}/finalize", created)


@pytest.fixture
async def api(control_plane: ControlPlane) -> AsyncIterator[Api]:
    """The API server as admin."""
    async with await control_plane.api() as api:
        yield api


@pytest.fixture
def operator(control_plane: ControlPlane, namespace: str) -> Iterator[Operator]:
    """`backendhealth operator` for the test's namespace."""
    with Operator(control_plane, namespace) as running:
        yield running
        print(running.log(20_000))  # pytest shows it where a test fails


@pytest.fixture
def resources(control_plane: ControlPlane, namespace: str) -> Resources:
    """The BackendHealths of the test's namespace."""
    return Resources(control_plane, namespace)
