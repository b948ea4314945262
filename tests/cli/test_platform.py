"""A whole platform in one resource: every kind of probe, on real servers, up and down."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from backendhealth.core.crd import crd
from tests.cli.support import redis_probe, resource, run, secret
from tests.servers.elasticsearch import Elasticsearch
from tests.servers.etcd import Cluster
from tests.servers.postgres import PASSWORD, SUPERUSER, Postgres
from tests.servers.process import Process
from tests.servers.redis import RedisServer
from tests.servers.rethinkdb import RethinkDB
from tests.unit.apiserver import ApiServer


class Platform:
    """One server of each kind; `probes` declares them."""

    def __init__(self, stack: ExitStack) -> None:
        etcd = stack.enter_context(Cluster(1)).members[0]
        redis = stack.enter_context(RedisServer())
        elasticsearch = stack.enter_context(Elasticsearch())
        postgres = stack.enter_context(Postgres())
        rethinkdb = stack.enter_context(RethinkDB())
        self.processes: list[Process] = [etcd.process, redis, elasticsearch, postgres, rethinkdb]
        self.probes: list[dict[str, Any]] = [
            {"name": "etcd", "etcd": {"endpoints": [etcd.url]}},
            redis_probe(redis.port, writeCheck=True),
            {"name": "elasticsearch", "elasticsearch": {"urls": [f"http://127.0.0.1:{elasticsearch.port}"]}},
            {"name": "http", "http": {"url": f"http://127.0.0.1:{elasticsearch.port}/"}},
            {
                "name": "postgres",
                "postgres": {"host": "127.0.0.1", "port": postgres.port, "auth": {"secretRef": {"name": "postgres"}}},
            },
            {"name": "rethinkdb", "rethinkdb": {"host": "127.0.0.1", "port": rethinkdb.port}},
            {"name": "tcp", "tcp": {"host": "127.0.0.1", "port": redis.port}},
        ]

    def rows(self, folder: Path) -> tuple[int, dict[str, tuple[str, str]]]:
        """The exit code, and verdict and reason by probe; the whole object must be one that the CRD accepts."""
        path = folder / "platform.yaml"
        credentials = secret("postgres", {"username": SUPERUSER, "password": PASSWORD})
        path.write_text(resource(*self.probes, timeout="5s", interval="30s") + credentials)
        done = run("check", "-f", path, "-o", "json")
        assert done.stderr == ""
        shown = json.loads(done.stdout)
        assert ApiServer(crd()).refusals(shown) == set()
        probes = shown["status"]["probes"]
        return done.returncode, {row["name"]: (row["verdict"], row["reason"]) for row in probes}


@pytest.fixture(scope="module")
def platform() -> Iterator[Platform]:
    with ExitStack() as stack:
        yield Platform(stack)


def test_all_up_then_all_killed(platform: Platform, tmp_path: Path):
    code, rows = platform.rows(tmp_path)
    assert rows == {probe["name"]: ("Healthy", "ProbeSucceeded") for probe in platform.probes}
    assert code == 0
    for process in platform.processes:
        process.kill()
    code, rows = platform.rows(tmp_path)
    assert rows == {probe["name"]: ("Unhealthy", "ConnectionRefused") for probe in platform.probes}
    assert code == 1
