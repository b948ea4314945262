"""Redis servers for the tests of the Redis probe."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.servers.certs import Authority
from tests.servers.redis import RedisServer


@pytest.fixture
def server() -> Iterator[RedisServer]:
    """A server without a password, one for each test."""
    with RedisServer() as running:
        yield running


@pytest.fixture(scope="package")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    """The authority that signs the servers' certificates."""
    return Authority(tmp_path_factory.mktemp("authority"))
