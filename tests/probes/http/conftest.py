from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.servers.certs import Authority
from tests.servers.http import HttpServer


@pytest.fixture(scope="session")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(tmp_path_factory.mktemp("http-ca"))


@pytest.fixture
def server() -> Iterator[HttpServer]:
    with HttpServer() as running:
        yield running
