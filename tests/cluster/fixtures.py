"""Fixtures of the tests on a real cluster: one cluster for all.

BACKENDHEALTH_E2E_KUBECONFIG names an existing cluster to use instead: one that was made for tests, since they change
it. It must have the images of `python -m tests.cluster images FOLDER`. What needs the machine below the cluster (the
API server killed, signals from the node) is skipped there.
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.cluster import build, product
from tests.cluster.access import Kubectl
from tests.cluster.cluster import Cluster, missing
from tests.servers.process import find_binary

EXISTING = os.environ.get("BACKENDHEALTH_E2E_KUBECONFIG")


@pytest.fixture(scope="session")
def cluster() -> Iterator[Kubectl]:
    """A cluster with a real node, its own or an existing one."""
    if EXISTING:
        kubectl = find_binary("kubectl", env="KUBECTL", fallbacks=[build.home() / "kubectl"], remedy="install kubectl")
        with tempfile.TemporaryDirectory(prefix="bh-kubectl-") as cache:
            yield Kubectl(kubectl, Path(EXISTING), Path(cache))
        return
    if absent := missing():
        pytest.skip(absent)
    if not build.is_built():
        pytest.skip("Kubernetes is not built yet: `make servers` does it, once")
    with Cluster() as cluster:
        yield cluster


@pytest.fixture(scope="session")
def own_cluster(cluster: Kubectl) -> Cluster:
    """The cluster of our own, with power over its node; skips on an existing one."""
    if not isinstance(cluster, Cluster):
        pytest.skip("an existing cluster's node is out of reach")
    return cluster


@pytest.fixture(scope="session")
def product_image(cluster: Kubectl) -> str:
    """The name of the product's image, which the nodes have."""
    if not isinstance(cluster, Cluster):
        return os.environ.get("BACKENDHEALTH_E2E_IMAGE", product.NAME)
    if absent := product.missing():
        pytest.skip(absent)
    cluster.load_image(product.archive())
    return product.NAME
