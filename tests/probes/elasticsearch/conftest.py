"""Real servers, shared by all tests of the probe: one node, and a cluster of three."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.servers.certs import Authority
from tests.servers.elasticsearch import Elasticsearch, ThreeNodes


@pytest.fixture(scope="session")
def only_node() -> Iterator[Elasticsearch]:
    with Elasticsearch() as server:
        yield server


@pytest.fixture
def node(only_node: Elasticsearch) -> Iterator[Elasticsearch]:
    """A cluster of one node, without indices and with its settings as they were."""
    yield only_node
    only_node.reset()


@pytest.fixture(scope="session")
def three_nodes() -> Iterator[ThreeNodes]:
    with ThreeNodes() as cluster:
        yield cluster


@pytest.fixture
def cluster(three_nodes: ThreeNodes) -> Iterator[ThreeNodes]:
    """A cluster of three nodes, without indices and with its settings as they were."""
    yield three_nodes
    three_nodes.master().reset()


@pytest.fixture(scope="session")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(Path(tmp_path_factory.mktemp("authority")))
