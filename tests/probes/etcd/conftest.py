"""etcd servers for the tests of the etcd probe."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.servers.certs import Authority
from tests.servers.etcd import Cluster, Member, Options, Tls


@pytest.fixture(scope="package")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    """The authority that signs servers and clients."""
    return Authority(tmp_path_factory.mktemp("authority"))


@pytest.fixture(scope="package")
def stranger(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    """An authority that nobody trusts."""
    return Authority(tmp_path_factory.mktemp("stranger"))


@pytest.fixture(scope="package")
def healthy() -> Iterator[Member]:
    """One member that no test may harm."""
    with Cluster() as cluster:
        yield cluster.members[0]


@pytest.fixture(scope="package")
def encrypted(authority: Authority) -> Iterator[Member]:
    """One member that serves TLS and demands client certificates; no test may harm it."""
    with Cluster(1, Options(tls=Tls(authority.issue(), authority.file))) as cluster:
        yield cluster.members[0]


@pytest.fixture
def member() -> Iterator[Member]:
    """One member, one for each test."""
    with Cluster() as cluster:
        yield cluster.members[0]


@pytest.fixture(scope="package")
def shared_trio() -> Iterator[Cluster]:
    """Three members for `trio`."""
    with Cluster(3) as cluster:
        yield cluster


@pytest.fixture
def trio(shared_trio: Cluster) -> Iterator[Cluster]:
    """Three healthy members, which a test may kill and freeze; what it writes or switches on stays for the next."""
    yield shared_trio
    shared_trio.heal()
