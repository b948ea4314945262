"""The control plane that the other tests here stand on."""

from __future__ import annotations

from http import HTTPStatus

import pytest

from backendhealth.kube.api import Api, ApiError, ApiUnavailable, connect
from tests.servers.kubernetes import ControlPlane
from tests.servers.process import ServerFailed

MANIFEST = """
apiVersion: backendhealth.dev/v1alpha1
kind: BackendHealth
metadata: {name: placeos}
spec: {probes: [{name: redis, redis: {url: "redis://redis:6379"}}]}
"""


def collection(namespace: str) -> str:
    return f"/apis/backendhealth.dev/v1alpha1/namespaces/{namespace}/backendhealths"


def create(control_plane: ControlPlane, namespace: str) -> None:
    control_plane.kubectl("apply", "-n", namespace, "-f", "-", input=MANIFEST)


async def test_a_resource_is_created_audited_and_outlives_its_server(
    control_plane: ControlPlane, namespace: str, api: Api
):
    create(control_plane, namespace)
    control_plane.stop_api()
    with pytest.raises(ApiUnavailable):
        await api.request("GET", collection(namespace))
    control_plane.start_api()
    items, _ = await api.list(collection(namespace))
    assert [item["metadata"]["name"] for item in items] == ["placeos"]
    writes = [event for event in control_plane.audited() if event["verb"] in {"create", "patch"}]
    assert any(
        (event["objectRef"].get("namespace"), event["objectRef"].get("name")) == (namespace, "placeos")
        for event in writes
    )


def test_an_invalid_resource_is_refused_with_its_path(control_plane: ControlPlane, namespace: str):
    with pytest.raises(ServerFailed, match=r"spec\.probes"):
        control_plane.kubectl("apply", "-n", namespace, "-f", "-", input=MANIFEST.replace("name: redis,", "name: 7,"))


async def test_a_paused_server_answers_after_the_pause_only(control_plane: ControlPlane, api: Api):
    control_plane.pause()
    try:
        with pytest.raises(ApiUnavailable, match="deadline"):
            await api.request("GET", "/api/v1/namespaces", timeout=0.5)
    finally:
        control_plane.resume()
    assert (await api.request("GET", "/api/v1/namespaces"))["items"]


async def test_after_compaction_an_old_watch_gets_410(control_plane: ControlPlane, namespace: str, api: Api):
    _, old = await api.list(collection(namespace))
    create(control_plane, namespace)
    watched = [
        event["type"]
        async for event in api.watch(collection(namespace), {"resourceVersion": old, "timeoutSeconds": "1"}, idle=5)
    ]
    assert "ADDED" in watched
    control_plane.compact()
    with pytest.raises(ApiError) as refused:
        async for _ in api.watch(collection(namespace), {"resourceVersion": old}, idle=5):
            pass
    assert refused.value.status == HTTPStatus.GONE


async def test_a_service_account_may_do_what_it_was_granted_only(control_plane: ControlPlane, namespace: str):
    control_plane.kubectl("create", "serviceaccount", "reader", "-n", namespace)
    control_plane.kubectl("create", "role", "reader", "--verb=list", "--resource=backendhealths", "-n", namespace)
    subject = f"--serviceaccount={namespace}:reader"
    control_plane.kubectl("create", "rolebinding", "reader", "--role=reader", subject, "-n", namespace)
    async with await connect(str(control_plane.token_kubeconfig(namespace, "reader")), None) as reader:
        assert await reader.list(collection(namespace))
        with pytest.raises(ApiError) as refused:
            await reader.request("GET", f"/api/v1/namespaces/{namespace}/secrets")
    assert refused.value.status == HTTPStatus.FORBIDDEN
    assert f"system:serviceaccount:{namespace}:reader" in refused.value.message


def test_no_namespace_is_left_over(control_plane: ControlPlane):
    assert "test-" not in control_plane.kubectl("get", "namespaces", "-o", "name")
