"""Fixtures of the tests of the whole product on a real cluster: a namespace for each test."""

from __future__ import annotations

import secrets
from collections.abc import Iterator

import pytest

from tests.cluster.access import Kubectl
from tests.cluster.cluster import Cluster
from tests.e2e import backends, platform
from tests.e2e.figures import MEASURED
from tests.e2e.placeos import Pods


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


@pytest.fixture(scope="session")
def pods(installed: Kubectl, own_cluster: Cluster) -> Pods:
    """PlaceOS, up."""
    made = Pods(own_cluster, "placeos")
    made.start()
    return made


@pytest.fixture
def namespace(cluster: Kubectl) -> Iterator[str]:
    """A namespace of the test's own, deleted without waiting for its end."""
    name = f"test-{secrets.token_hex(4)}"
    cluster.kubectl("create", "namespace", name)
    yield name
    cluster.kubectl("delete", "namespace", name, "--wait=false")


@pytest.fixture(autouse=True)
def figures(request: pytest.FixtureRequest) -> Iterator[None]:
    """What a test has measured goes with its report: it may be printed by another process."""
    yield
    request.node.user_properties += [("measured", line) for line in MEASURED]
    MEASURED.clear()


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    reports = (one for some in terminalreporter.stats.values() for one in some)
    over = [one for one in reports if getattr(one, "when", "") == "teardown"]
    if lines := [line for one in over for name, line in one.user_properties if name == "measured"]:
        terminalreporter.section("measured on the real cluster")
        for line in lines:
            terminalreporter.write_line(line)
