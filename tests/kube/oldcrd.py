"""The CRD of an older version, which takes what ours refuses."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any

from tests.cluster.access import Admin
from tests.kube.operator import PATH, Resources
from tests.servers.process import wait_until

CRD = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions/backendhealths.backendhealth.dev"


@contextlib.contextmanager
def loosened(resources: Resources) -> Iterator[None]:
    """An older CRD, which takes any spec."""
    crd = resources.plane.request("GET", CRD)
    strict = crd["spec"]["versions"][0]["schema"]["openAPIV3Schema"]["properties"]["spec"]
    anything = {"type": "object", "x-kubernetes-preserve-unknown-fields": True}
    _schema(resources.plane, anything)
    wait_until(lambda: takes_anything(resources), 10, "the older schema")
    try:
        yield
    finally:
        _schema(resources.plane, strict)
        wait_until(lambda: not takes_anything(resources), 10, "the schema is back")


def _schema(plane: Admin, spec: Any) -> None:
    crd = plane.request("GET", CRD)
    crd["spec"]["versions"][0]["schema"]["openAPIV3Schema"]["properties"]["spec"] = spec
    plane.request("PUT", CRD, crd)


def takes_anything(resources: Resources) -> bool:
    body = {
        "apiVersion": "backendhealth.dev/v1alpha1",
        "kind": "BackendHealth",
        "metadata": {"name": "tried"},
        "spec": {"probes": []},
    }
    try:
        resources.plane.request("POST", f"{PATH.format(resources.namespace)}?dryRun=All", body)
    except OSError:
        return False
    return True
