"""A primary that all tests share; whoever breaks a server starts one of its own."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.probes.postgres.helpers import APP, APP_PASSWORD
from tests.servers.certs import Authority
from tests.servers.postgres import Postgres


@pytest.fixture(scope="session")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(tmp_path_factory.mktemp("postgres-ca"))


@pytest.fixture(scope="session")
def primary() -> Iterator[Postgres]:
    with Postgres(settings={"max_connections": "50"}) as server:
        server.add_role(APP, APP_PASSWORD)
        yield server


@pytest.fixture
def own() -> Iterator[Postgres]:
    """A server of the test's own."""
    with Postgres() as server:
        server.add_role(APP, APP_PASSWORD)
        yield server
