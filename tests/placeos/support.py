"""Platforms on backends of their own, each started when first asked for, and healed after every test."""

from __future__ import annotations

import contextlib
import json
import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from tests.servers import etcd
from tests.servers.elasticsearch import Elasticsearch
from tests.servers.placeos import PlaceOS
from tests.servers.placeos.platform import Generation
from tests.servers.postgres import PASSWORD, Postgres
from tests.servers.process import LOOPBACK, Process, wait_until
from tests.servers.redis import RedisServer
from tests.servers.rethinkdb import RethinkDB

BASE = "/api/engine/v2"
PING = f"{BASE}/systems/sys-probe/Probe_1/ping"
KINDS = ("rethinkdb", "postgres-etcd", "postgres", "newest")


@dataclass
class World:
    """A platform and the servers that it uses."""

    platform: PlaceOS
    etcd: etcd.Cluster | None
    redis: RedisServer
    elasticsearch: Elasticsearch
    database: Postgres | RethinkDB

    def backend(self, name: str) -> Process:
        """The process of etcd, redis, elasticsearch or database."""
        if name == "etcd":
            assert self.etcd is not None
            return self.etcd.members[0].process
        process: Process = getattr(self, name)
        return process

    def call(
        self, method: str, path: str, body: object = None, *, key: str | None = None, **headers: str
    ) -> tuple[int, Any]:
        """(status, JSON, or None for an empty body) of the API's answer to the administrator, or to `key`."""
        told = {"X-API-Key": key or self.platform.api_key, **headers}
        status, answer = self.platform.ask("api", method, path, body, told)
        return status, json.loads(answer) if answer else None

    def token(self) -> str:
        """A bearer token, by the password grant."""
        grant = {"grant_type": "password", "username": self.platform.username, "password": self.platform.password}
        status, answer = self.platform.ask("api", "POST", "/auth/oauth/token", grant)
        assert status == 200, answer
        return str(json.loads(answer)["access_token"])

    def core(self, path: str, core: str = "core-0", method: str = "GET") -> tuple[int, Any]:
        """(status, JSON) of core's own answer."""
        status, answer = self.platform.ask(core, method, f"/api/core/v1{path}")
        return status, json.loads(answer) if answer else None

    def driver(self, core: str = "core-0", driver: str = "driver-probe") -> dict[str, Any]:
        """A driver's status, from core."""
        status: dict[str, Any] = self.core(f"/status/driver?path={self.platform.driver_key(driver)}", core)[1]["local"]
        return status

    def nodes(self) -> list[str]:
        """Ids of the cores that the cluster API shows."""
        status, found = self.call("GET", f"{BASE}/cluster")
        assert status == 200
        return [one["id"] for one in found]

    def works(self) -> bool:
        """Whether all works that a user does."""
        return self._broken() == []

    def _broken(self) -> list[str]:
        """What does not work, with its answer."""
        reads = ("/", "/systems", "/modules?control_system_id=sys-probe", "/systems/sys-probe/functions/Probe_1")
        found = [("GET", BASE + path) for path in reads]
        found += [("POST", PING), ("POST", f"{BASE}/systems/sys-other/Display_1/ping")]
        try:
            answers = [(method, path, *self.call(method, path)) for method, path in found]
        except OSError as error:
            return [repr(error)]
        return [f"{method} {path}: {status} {body}" for method, path, status, body in answers if status != 200]

    def logged(self, service: str, text: str, timeout: float = 10) -> None:
        """Wait until the service has written `text`."""
        wait_until(lambda: text in self.platform.log(service), timeout, f"{service} logs {text!r}")

    def heal(self) -> None:
        """Bring back what a test took, and wait until all works."""
        processes = [self.redis, self.elasticsearch, self.database, *self.platform.processes.values()]
        processes += [member.process for member in self.etcd.members] if self.etcd else []
        for process in processes:
            if process.running:
                process.resume()
        gone = [process for process in processes if not process.running]
        for process in gone:
            process.start(wait=False)
        for process in gone:
            process.wait_ready()
        for core in list(self.platform.deregistered):
            self.platform.restart(core)
        try:
            wait_until(lambda: self.works() and self._registered_once(), 20, "the platform works again")
        except TimeoutError as error:
            raise TimeoutError(f"{error}: {self._broken()}") from None

    def _registered_once(self) -> bool:
        """Whether nothing of a killed core is left: it names the address at which the new one answers."""
        _, found = self.call("GET", f"{BASE}/cluster")
        return len(found) == len(self.platform.cores)


class Worlds:
    """Worlds by kind; Elasticsearch and PostgreSQL serve several."""

    def __init__(self, stack: contextlib.ExitStack) -> None:
        self._stack = stack
        self._kept: dict[str, World] = {}
        self._shared: dict[str, Process] = {}

    def get(self, kind: str) -> World:
        """The platform of one of KINDS."""
        if kind not in self._kept:
            self._kept[kind] = self._stack.enter_context(self.fresh(kind))
        return self._kept[kind]

    def started(self) -> list[World]:
        """Those that there are."""
        return list(self._kept.values())

    def elasticsearch(self) -> Elasticsearch:
        """The one for all."""
        if "elasticsearch" not in self._shared:
            self._shared["elasticsearch"] = self._stack.enter_context(Elasticsearch())
        server = self._shared["elasticsearch"]
        assert isinstance(server, Elasticsearch)
        return server

    def postgres(self) -> Postgres:
        """The one for all."""
        if "postgres" not in self._shared:
            self._shared["postgres"] = self._stack.enter_context(Postgres(settings={"max_connections": "60"}))
        server = self._shared["postgres"]
        assert isinstance(server, Postgres)
        return server

    @contextlib.contextmanager
    def fresh(self, kind: str, *, up: bool = True, **options: Any) -> Iterator[World]:
        """A platform of its own, started if `up`; `options` are PlaceOS's."""
        generation: Generation = "postgres" if kind == "newest" else kind  # type: ignore[assignment]
        with contextlib.ExitStack() as stack:
            redis = stack.enter_context(RedisServer())
            cluster = stack.enter_context(etcd.Cluster()) if generation != "postgres" else None
            database: Postgres | RethinkDB
            if generation == "rethinkdb":
                database = stack.enter_context(RethinkDB())
                where = f"rethinkdb://{LOOPBACK}:{database.port}"
            else:
                database = self.postgres()
                name = f"place_{uuid.uuid4().hex[:8]}"
                database.sql(f"CREATE DATABASE {name}")
                where = f"postgresql://postgres:{PASSWORD}@{LOOPBACK}:{database.port}/{name}"
            platform = PlaceOS(
                generation=generation,
                etcd=cluster.urls[0] if cluster else None,
                redis=f"redis://{LOOPBACK}:{redis.port}",
                elasticsearch=self.elasticsearch().url,
                database=where,
                newest=kind == "newest",
                **options,
            )
            stack.callback(platform.close)
            if up:
                stack.enter_context(platform)
            yield World(platform, cluster, redis, self.elasticsearch(), database)
