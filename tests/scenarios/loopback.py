"""A platform on loopback and the means to break it: real processes killed, stopped and started again."""

from __future__ import annotations

import contextlib
import functools
import sys
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

from tests.servers import etcd
from tests.servers.elasticsearch import Elasticsearch
from tests.servers.placeos import PlaceOS
from tests.servers.placeos.platform import Generation
from tests.servers.postgres import PASSWORD, SUPERUSER, Postgres
from tests.servers.process import LOOPBACK, Process, free_port, port_answers
from tests.servers.redis import RedisServer
from tests.servers.rethinkdb import RethinkDB

DATABASE = "place_production"
ROOT = Path(__file__).parents[2]
QUICK = {"DOUBLE_BACKEND_TIMEOUT": "0.5", "DOUBLE_CORE_RETRY": "0", "DOUBLE_ETCD_RETRY": "0"}
SECRETS = {
    "placeos": {"key": PlaceOS.api_key},
    "postgres": {"username": SUPERUSER, "password": PASSWORD},
}


class Platform:
    """The double with a load balancer before it, on backends of its own."""

    def __init__(self, stack: contextlib.ExitStack, generation: Generation = "postgres-etcd") -> None:
        self._generation = generation
        self._etcd = stack.enter_context(etcd.Cluster()) if generation != "postgres" else None
        self._redis = stack.enter_context(RedisServer())
        self._elasticsearch = stack.enter_context(Elasticsearch())
        database: RethinkDB | Postgres = RethinkDB() if generation == "rethinkdb" else Postgres()
        self._database, self._database_port = stack.enter_context(database), database.port
        where = f"{LOOPBACK}:{database.port}"
        rethinkdb, postgres = f"rethinkdb://{where}/{DATABASE}", f"postgresql://{SUPERUSER}:{PASSWORD}@{where}/postgres"
        self.placeos = PlaceOS(
            generation=generation,
            etcd=self._etcd.urls[0] if self._etcd else None,
            redis=self._redis_url,
            elasticsearch=self._elasticsearch.url,
            database=rethinkdb if generation == "rethinkdb" else postgres,
            env=QUICK,
        )
        stack.enter_context(self.placeos)
        self.front_port = free_port()
        self._balancer = stack.enter_context(self._load_balancer())

    @property
    def _redis_url(self) -> str:
        return f"redis://{LOOPBACK}:{self._redis.port}"

    def _load_balancer(self) -> Process:
        target = self.placeos.api_url.rpartition(":")[2]
        places = [LOOPBACK, str(self.front_port), LOOPBACK, target]
        argv = [sys.executable, "-m", "tests.scenarios.balancer", *places]
        return Process(
            "balancer",
            argv,
            ready=functools.partial(port_answers, self.front_port),
            cwd=ROOT,
            env={"PYTHONPATH": str(ROOT)},
        )

    def probes(self) -> list[dict[str, Any]]:
        """What is to be declared: every component directly, and the platform as users reach it."""
        services = {name: url for name, url in self.placeos.services.items() if name != "api"}
        core = services.pop("core-0")
        key = {"name": "placeos", "key": "key"}
        users = {"url": f"http://{LOOPBACK}:{self.front_port}", "apiKeySecretRef": key, "system": PlaceOS.system}
        users |= {"module": PlaceOS.module, "function": PlaceOS.function, "services": {**services, "core": core}}
        discovery = {"etcd": {"endpoints": self._etcd.urls}} if self._etcd else {"redis": {"url": self._redis_url}}
        cores = {"coreUrls": [core], "cores": {"expected": 1}, "discovery": discovery}
        version = f"{self.placeos.api_url}/api/engine/v2/version"
        return [
            *([{"name": "etcd", **discovery}] if self._etcd else []),
            self._database_probe(),
            {"name": "redis", "redis": {"url": self._redis_url}},
            {"name": "elasticsearch", "elasticsearch": {"urls": [self._elasticsearch.url]}},
            {"name": "api", "http": {"url": version}},
            {"name": "users", "component": "load-balancer", "placeos": users},
            {"name": "drivers", "drivers": {"url": self.placeos.api_url, "apiKeySecretRef": key, **cores}},
        ]

    def _database_probe(self) -> dict[str, Any]:
        where = {"host": LOOPBACK, "port": self._database_port}
        if self._generation == "rethinkdb":
            return {
                "name": "rethinkdb",
                "rethinkdb": {**where, "database": DATABASE, "tables": ["mod", "driver", "sys"]},
            }
        return {"name": "postgres", "postgres": {**where, "auth": {"secretRef": {"name": "postgres"}}}}

    def begin(self, fault: str) -> None:
        """Do it; returns when it is done."""
        self._acts[fault][0]()

    def end(self, fault: str) -> None:
        """Take it back; returns when what was broken works again by itself."""
        self._acts[fault][1]()

    @functools.cached_property
    def _acts(self) -> Mapping[str, tuple[Callable[[], object], Callable[[], object]]]:
        placeos, services = self.placeos, self.placeos.processes
        processes: dict[str, Process] = {
            "database": self._database,
            "redis": self._redis,
            "elasticsearch": self._elasticsearch,
            "core": services["core-0"],
            "api": services["api"],
            "load-balancer": self._balancer,
        }
        if self._etcd:
            processes["etcd"] = self._etcd.members[0].process
        # a service that starts waits for its backends, which may be away on purpose
        starts: dict[str, Callable[[], object]] = {
            name: functools.partial(one.start, wait=name not in ("core", "api")) for name, one in processes.items()
        }
        acts: dict[str, tuple[Callable[[], object], Callable[[], object]]] = {}
        acts |= {f"{name}-down": (one.kill, starts[name]) for name, one in processes.items()}
        acts |= {f"{name}-hangs": (one.freeze, one.resume) for name, one in processes.items()}
        crash, compiling = placeos.crash_driver, placeos.break_compile
        acts["driver-crashes"] = (crash, functools.partial(crash, on=False))
        acts["driver-does-not-compile"] = (compiling, functools.partial(compiling, on=False))
        acts["core-stays-out"] = (lambda: None, functools.partial(self._build_core, old=False))
        acts["core-not-registered"] = (placeos.deregister, functools.partial(self._restart, "core-0"))
        return acts

    def _build_core(self, *, old: bool) -> None:
        """Restart core as one that does not, or does, register again."""
        process = self.placeos.processes["core-0"]
        process.env = {**(process.env or {}), "REREGISTER": "false" if old else "true"}
        self._restart("core-0")

    def old_core(self) -> None:
        """Make core one that loses its registration for ever when etcd is down; `end("core-stays-out")` ends that."""
        self._build_core(old=True)

    def _restart(self, service: str) -> None:
        self.placeos.kill(service)
        self.placeos.start(service, wait=False)


@contextlib.contextmanager
def platform(generation: Generation = "postgres-etcd") -> Iterator[Platform]:
    """A platform of its own, up."""
    with contextlib.ExitStack() as stack:
        yield Platform(stack, generation)
