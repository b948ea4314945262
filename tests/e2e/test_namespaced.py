"""overlays/namespaced: one namespace, and no rights beyond it."""

from __future__ import annotations

import json
from collections.abc import Iterator

import pytest

from tests.cluster.access import Kubectl
from tests.e2e import platform
from tests.e2e.declared import apply, reasons, status, wait_for

SERVED = "backendhealth"
USER = f"system:serviceaccount:{SERVED}:{platform.NAME}"
NOWHERE = {"name": "a", "tcp": {"host": "nowhere.invalid", "port": 1}}


@pytest.fixture
def namespaced(installed: Kubectl, product_image: str) -> Iterator[Kubectl]:
    """The one that serves a namespace, while the one that serves all of them rests."""
    platform.replicas(installed, 0)
    try:
        platform.install(installed, "namespaced", product_image)
        yield installed
    finally:
        installed.kubectl("delete", "namespace", SERVED, "--wait=false")
        platform.replicas(installed, 1)


def test_it_serves_its_own_namespace_only(namespaced: Kubectl, namespace: str):
    pods = {"name": "pods", "pods": {"selector": {"matchLabels": {"app.kubernetes.io/component": "operator"}}}}
    node = {"name": "node", "tcp": {"host": "192.0.2.1", "port": 10250}}
    address = "{.items[0].status.addresses[?(@.type=='InternalIP')].address}"
    node["tcp"] = {"host": namespaced.kubectl("get", "nodes", "-o", f"jsonpath={address}"), "port": 10250}
    apply(namespaced, namespace, "other", NOWHERE)
    apply(namespaced, SERVED, "own", NOWHERE, pods, node)
    wait_for(namespaced, SERVED, "own", "Unhealthy", "DNSNameNotFound")
    # its own node, though it may not list nodes
    assert reasons(namespaced, SERVED, "own") == {
        "a": "DNSNameNotFound",
        "pods": "ProbeSucceeded",
        "node": "AddressRefused",
    }
    assert "summary" not in status(namespaced, namespace, "other")
    events = namespaced.kubectl("-n", SERVED, "events", "--for", "backendhealth/own")
    assert "DNSNameNotFound" in events

    bindings = json.loads(namespaced.kubectl("get", "clusterrolebindings", "-o", "json"))["items"]
    bound = [subject for binding in bindings for subject in binding.get("subjects", ())]
    assert [subject for subject in bound if subject.get("namespace") == SERVED] == []

    def may(verb: str, resource: str, *where: str) -> bool:
        question = ("auth", "can-i", verb, resource, f"--as={USER}", *where)
        return namespaced.kubectl(*question, check=False).startswith("yes")

    assert may("list", "backendhealths.backendhealth.dev", "-n", SERVED)
    for verb, resource in (("list", "backendhealths.backendhealth.dev"), ("list", "pods"), ("create", "events")):
        assert not may(verb, resource, "-n", namespace), resource
    assert not may("list", "nodes")
    assert not may("get", "secrets", "-n", SERVED)
