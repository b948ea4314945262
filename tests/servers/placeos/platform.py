"""A whole PlaceOS on loopback for tests, and the faults that tests wish it."""

from __future__ import annotations

import asyncio
import concurrent.futures
import contextlib
import functools
import http.client
import json
import os
import signal
import sys
import urllib.request
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import Any, Literal, Self
from urllib.parse import urlsplit

from tests.servers.process import LOOPBACK, Process, ServerFailed, free_port

Generation = Literal["rethinkdb", "postgres-etcd", "postgres"]
_ROOT = Path(__file__).parents[3]
_MODULES = MappingProxyType({"search-ingest": "searchingest"})
_READY = MappingProxyType(
    {
        "api": "/api/engine/v2/version",
        "core": "/api/core/v1/ready",
        "triggers": "/api/triggers/v2/",
        "staff": "/api/staff/v1",
        "search-ingest": "/api/search-ingest/v1/ready",
    }
)
QUICK: Mapping[str, str] = MappingProxyType(
    {
        "ETCD_TTL": "2",
        "DOUBLE_DISCOVERY_TTL": "2",
        "DOUBLE_ABORT_AFTER": "60",
        "DOUBLE_BACKEND_TIMEOUT": "1",
        "DOUBLE_ETCD_RETRY": "0.2",
        "DOUBLE_CORE_RETRY": "0.3",
        "DOUBLE_RELAUNCH_DELAY": "0.1",
        "DOUBLE_REDIS_PING_INTERVAL": "0.5",
        "DOUBLE_TRIGGER_INTERVAL": "0.5",
        "DOUBLE_QUERY_TIMEOUT": "2",
    }
)


class PlaceOS:
    """The services of one platform as processes, on backends that are running already.

    `etcd` (not for generation postgres), `redis`, `elasticsearch` are URLs; `database` is
    `postgresql://user:password@host:port/db` or `rethinkdb://[user:password@]host:port[/db]`. The database is seeded.
    `env` adds to the services' variables (settings.py has them all). `newest` lists from PostgreSQL.
    """

    username = "support@example.com"
    password = "planted-password-of-a-test"
    api_key = "key-probe.planted-secret-of-a-test"
    plain_key = "key-plain.planted-secret-of-a-user"  # of a user who is no administrator
    system, module, function = "sys-probe", "Probe_1", "ping"

    def __init__(
        self,
        *,
        generation: Generation,
        etcd: str | None,
        redis: str,
        elasticsearch: str,
        database: str,
        cores: int = 1,
        newest: bool = False,
        domains: Sequence[str] = (LOOPBACK, "localhost"),
        services: Sequence[str] = ("api", "core", "triggers", "staff", "search-ingest"),
        env: Mapping[str, str] | None = None,
        directory: Path | None = None,
    ) -> None:
        self.generation = generation
        self._domains = domains
        self._redis, self._etcd = redis, etcd
        self._env = {**_backends(etcd, redis, elasticsearch, database), **QUICK, **(env or {})}
        if newest:
            self._env["DOUBLE_LISTING"] = "postgres"
        names = [name for kind in services for name in _instances(kind, cores)]
        self.processes = {name: self._process(name, directory) for name in names}
        self.deregistered: set[str] = set()  # cores that come back only when restarted

    def _process(self, name: str, parent: Path | None) -> Process:
        kind = name.rstrip("0123456789").rstrip("-")
        port = free_port()
        module = f"tests.servers.placeos.{_MODULES.get(kind, kind)}"
        ready = functools.partial(_answers, port, _READY[kind])
        process = Process(name, [sys.executable, "-m", module], ready=ready, cwd=_ROOT, parent=parent)
        log = str(process.directory / "service.log")
        own = {"PORT": str(port), "DOUBLE_STATE": str(process.directory), "LOG_FILE": log}
        process.env = {"PATH": os.environ.get("PATH", ""), "PYTHONPATH": str(_ROOT), **self._env, **own}
        return process

    def __enter__(self) -> Self:
        self.seed()
        try:
            for process in self.processes.values():
                process.start(wait=False)
            for process in self.processes.values():
                process.wait_ready()
        except BaseException:
            self.close()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """End all services."""
        for process in self.processes.values():
            process.kill()
            process.close()

    # where things are

    @property
    def services(self) -> dict[str, str]:
        """Base URL of every service: api, core-0 …, triggers, staff, search-ingest."""
        return {name: f"http://{LOOPBACK}:{(one.env or {})['PORT']}" for name, one in self.processes.items()}

    @property
    def api_url(self) -> str:
        return self.services["api"]

    @property
    def cores(self) -> list[str]:
        """Names of the core services."""
        return [name for name in self.processes if name.startswith("core-")]

    def log(self, service: str) -> str:
        """What a service wrote."""
        return self.processes[service].log(tail=200_000)

    def pid(self, service: str) -> int:
        """A service's process id."""
        return self.processes[service].pid

    # the services

    def kill(self, service: str) -> None:
        """SIGKILL; its registration stays where it was."""
        self.processes[service].kill()

    def terminate(self, service: str) -> None:
        """SIGTERM: a core leaves discovery."""
        self.processes[service].stop()

    def start(self, service: str, *, wait: bool = True) -> None:
        """Start it again."""
        self.deregistered.discard(service)
        self.processes[service].start(wait=wait)

    def restart(self, service: str) -> None:
        """Stop and start."""
        self.terminate(service)
        self.start(service)

    def stop(self, service: str) -> None:
        """SIGSTOP."""
        self.processes[service].freeze()

    def resume(self, service: str) -> None:
        """SIGCONT."""
        self.processes[service].resume()

    def usr1(self, service: str) -> None:
        """SIGUSR1."""
        os.kill(self.pid(service), signal.SIGUSR1)

    def seed(self) -> None:
        """(Again) make the tables and their rows."""
        from tests.servers.placeos import database, settings
        from tests.servers.placeos.seed import seed

        async def work() -> None:
            env = {**self._env, "DOUBLE_BACKEND_TIMEOUT": "10"}
            await seed(database.connect(settings.read("seed", 0, env)), self._domains)

        with concurrent.futures.ThreadPoolExecutor(1) as other:  # the caller may have a running loop
            other.submit(lambda: asyncio.run(work())).result()

    # drivers

    @staticmethod
    def driver_key(driver: str) -> str:
        """The key (file name) of a driver's id, `driver-probe` or `driver-display`."""
        from tests.servers.placeos.seed import DRIVERS

        return DRIVERS.get(driver, driver)

    def crash_driver(self, driver: str = "driver-probe", on: bool = True, *, launches: int = -1) -> None:
        """Make it crash now and in its next launches, by default for ever; `on=False` ends that."""
        self._fault("crash", driver, launches if on else None)
        if on:
            for core in self._running_cores():
                self.ask(core, "POST", f"/api/core/v1/chaos/terminate?path={self.driver_key(driver)}")

    def break_compile(
        self, driver: str = "driver-probe", on: bool = True, *, output: str = "Error: undefined method 'pong'"
    ) -> None:
        """Make it fail to compile (or compile again), and reload it on every core."""
        self._fault("compile", driver, output if on else None)
        for core in self._running_cores():
            self.ask(core, "POST", f"/api/core/v1/drivers/{driver}/reload")

    def _running_cores(self) -> list[str]:
        """A core that is down reads the faults when it starts."""
        return [core for core in self.cores if self.processes[core].running]

    def _fault(self, kind: str, driver: str, value: object) -> None:
        from tests.servers.placeos.faults import Faults

        for core in self.cores:
            Faults(str(self.processes[core].directory)).set(kind, self.driver_key(driver), value)

    # discovery

    def deregister(self, core: str = "core-0") -> None:
        """Take a core out of discovery while it goes on running; it comes back when restarted."""
        self.deregistered.add(core)
        status, answer = self.ask(core, "POST", "/api/core/v1/double/deregister")
        if status != 200:
            raise ServerFailed(f"{core} is registered still: {status} {answer.decode()}\n{self.log(core)[-2000:]}")

    def add_stale_core(self, node: str = "01J00000000000000000000000") -> str:
        """Register a core that is not there, without an expiry; its URI. In Redis a live leader soon prunes it."""
        uri = f"http://{LOOPBACK}:{free_port()}"
        if self.generation == "postgres":
            field = "{service_core}." + node
            self._redis_client(lambda client: client.hset("{service_core}_lookup", field, uri))
        else:
            self._etcd_call("kv/put", {"key": _b64(f"service/core/{node}"), "value": _b64(uri)})
        return uri

    def remove_stale_core(self, node: str = "01J00000000000000000000000") -> None:
        """Take back `add_stale_core`."""
        if self.generation == "postgres":
            self._redis_client(lambda client: client.hdel("{service_core}_lookup", "{service_core}." + node))
        else:
            self._etcd_call("kv/deleterange", {"key": _b64(f"service/core/{node}")})

    def _redis_client(self, work: Callable[[Any], Any]) -> None:
        import redis

        with contextlib.closing(redis.Redis.from_url(self._redis)) as client:
            work(client)

    def _etcd_call(self, path: str, body: dict[str, str]) -> None:
        assert self._etcd is not None
        request = urllib.request.Request(f"{self._etcd}/v3/{path}", json.dumps(body).encode())
        with urllib.request.urlopen(request, timeout=10):
            pass

    def ask(
        self, service: str, method: str, path: str, body: object = None, headers: Mapping[str, str] | None = None
    ) -> tuple[int, bytes]:
        """(status, body) of one request to a service; raises OSError when there is no answer."""
        connection = http.client.HTTPConnection(LOOPBACK, urlsplit(self.services[service]).port or 0, timeout=20)
        try:
            payload = None if body is None else json.dumps(body)
            connection.request(method, path, payload, {"Content-Type": "application/json", **(headers or {})})
            answer = connection.getresponse()
            return answer.status, answer.read()
        finally:
            connection.close()


def _instances(kind: str, cores: int) -> list[str]:
    return [f"core-{number}" for number in range(cores)] if kind == "core" else [kind]


def _answers(port: int, path: str) -> bool:
    try:
        with urllib.request.urlopen(f"http://{LOOPBACK}:{port}{path}", timeout=2) as answer:
            return bool(answer.status == 200)
    except OSError:  # an HTTP error included
        return False


def _backends(etcd: str | None, redis: str, elasticsearch: str, database: str) -> dict[str, str]:
    """The services' variables for these backends."""
    found = {"REDIS_URL": redis, "ES_URI": elasticsearch}
    if etcd is not None:
        parts = urlsplit(etcd)
        found |= {"ETCD_HOST": parts.hostname or "", "ETCD_PORT": str(parts.port or 2379)}
    if database.startswith("postgres"):
        return found | {"PG_DATABASE_URL": database}
    parts = urlsplit(database)
    if parts.scheme != "rethinkdb":
        raise ServerFailed(f"neither postgresql:// nor rethinkdb://: {parts.scheme}")
    found |= {"RETHINKDB_HOST": parts.hostname or "", "RETHINKDB_PORT": str(parts.port or 28015)}
    found |= {"RETHINKDB_DB": parts.path.strip("/") or "place_production"}
    return found | {"RETHINKDB_USER": parts.username or "admin", "RETHINKDB_PASSWORD": parts.password or ""}


def _b64(text: str) -> str:
    import base64

    return base64.b64encode(text.encode()).decode()
