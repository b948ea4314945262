"""The real servers that are probed, each in a process of its own. Raise ServerFailed where one is not installed."""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager

from bench.sut import ROOT, SECRET, Target
from tests.servers import etcd, postgres, redis, rethinkdb
from tests.servers.elasticsearch.install import home
from tests.servers.elasticsearch.server import Elasticsearch
from tests.servers.process import LOOPBACK, Process, ServerFailed, free_port, port_answers

_MAX_CLIENTS = "1100"


@contextlib.contextmanager
def _nothing() -> Iterator[Target]:
    yield {"host": LOOPBACK, "port": 1}  # never connected to


@contextlib.contextmanager
def _peer() -> Iterator[int]:
    port = free_port()
    argv = [sys.executable, "-m", "bench.peer", str(port)]
    with Process("peer", argv, ready=lambda: port_answers(port), cwd=ROOT, env=dict(os.environ)):
        yield port


@contextlib.contextmanager
def _tcp() -> Iterator[Target]:
    with _peer() as port:
        yield {"host": LOOPBACK, "port": port}


@contextlib.contextmanager
def _http() -> Iterator[Target]:
    with _peer() as port:
        yield {"url": f"http://{LOOPBACK}:{port}/healthz"}


@contextlib.contextmanager
def _redis() -> Iterator[Target]:
    with redis.RedisServer() as server:
        yield {"url": f"redis://{server.address}"}


@contextlib.contextmanager
def _etcd() -> Iterator[Target]:
    with etcd.Cluster() as cluster:
        yield {"endpoints": cluster.urls}


@contextlib.contextmanager
def _postgres() -> Iterator[Target]:
    with postgres.Postgres(settings={"max_connections": _MAX_CLIENTS}) as server:
        yield {"host": LOOPBACK, "port": server.port, "auth": {"secretRef": {"name": SECRET}}}


@contextlib.contextmanager
def _elasticsearch() -> Iterator[Target]:
    if not (home() / "complete").exists():
        raise ServerFailed("Elasticsearch is not installed: `make servers` does that")
    with Elasticsearch(root=home()) as server:
        yield {"urls": [server.url]}


@contextlib.contextmanager
def _rethinkdb() -> Iterator[Target]:
    with rethinkdb.RethinkDB() as server:
        server.prepare("jobs")
        yield {"host": LOOPBACK, "port": server.port, "database": rethinkdb.DATABASE}


SERVERS: Mapping[str, Callable[[], AbstractContextManager[Target]]] = {
    "nothing": _nothing,
    "tcp": _tcp,
    "http": _http,
    "redis": _redis,
    "etcd": _etcd,
    "postgres": _postgres,
    "elasticsearch": _elasticsearch,
    "rethinkdb": _rethinkdb,
}


def secret() -> dict[str, str]:
    """The Secret that the targets name."""
    return {"username": postgres.SUPERUSER, "password": postgres.PASSWORD}
