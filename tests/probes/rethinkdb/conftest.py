"""Servers that several tests share."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.servers.certs import Authority
from tests.servers.rethinkdb import RethinkDB


@pytest.fixture(scope="package")
def server() -> Iterator[RethinkDB]:
    """A healthy server with the table hc.jobs; users `ops` may read the system tables, `hc` may read nothing."""
    with RethinkDB() as running:
        running.prepare("jobs")
        running.add_user("ops", "opspw")
        running.add_user("hc", "hcpw", read=())
        yield running


@pytest.fixture(scope="package")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(tmp_path_factory.mktemp("ca"))


@pytest.fixture(scope="package")
def tls_server(authority: Authority) -> Iterator[RethinkDB]:
    """The same behind TLS."""
    with RethinkDB(tls=authority.issue(), ca_file=authority.file) as running:
        running.prepare("jobs")
        yield running


@pytest.fixture
def fresh() -> Iterator[RethinkDB]:
    """A server of the test's own, which it may change and kill."""
    with RethinkDB() as running:
        running.prepare("jobs")
        yield running


@pytest.fixture
def other_authority(tmp_path: Path) -> Authority:
    return Authority(tmp_path / "other")
