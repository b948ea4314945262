"""Fixtures of the tests on a real cluster: one cluster for all, a namespace for each test.

BACKENDHEALTH_E2E_KUBECONFIG names an existing cluster to use instead: one that was made for tests, since they change
it. It must have the images of `python -m tests.cluster images FOLDER`. What needs the machine below the cluster (the
API server killed, signals from the node) is skipped there.
"""

from __future__ import annotations

import os
import secrets
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.cluster import build, product
from tests.cluster.access import Kubectl
from tests.cluster.cluster import Cluster, missing
from tests.e2e import backends, platform
from tests.e2e.figures import MEASURED
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


@pytest.fixture(scope="session")
def installed(cluster: Kubectl, product_image: str) -> Kubectl:
    """The cluster with the operator in it, as the manifests install it for all namespaces."""
    platform.install(cluster, "cluster-wide", product_image)
    return cluster


@pytest.fixture(scope="session")
def stage(own_cluster: Cluster) -> str:
    """A namespace where one backend of each kind runs; who breaks one mends it."""
    own_cluster.kubectl("create", "namespace", "stage")
    all_of_them = backends.redis(), backends.etcd(), backends.web(), backends.postgres(), backends.elasticsearch()
    backends.start(own_cluster, "stage", *all_of_them)
    return "stage"


@pytest.fixture
def namespace(cluster: Kubectl) -> Iterator[str]:
    """A namespace of the test's own, deleted without waiting for its end."""
    name = f"test-{secrets.token_hex(4)}"
    cluster.kubectl("create", "namespace", name)
    yield name
    cluster.kubectl("delete", "namespace", name, "--wait=false")


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    if MEASURED:
        terminalreporter.section("measured on the real cluster")
        for line in MEASURED:
            terminalreporter.write_line(line)
