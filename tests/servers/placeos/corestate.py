"""What core holds: its registration, the modules that are its own, the driver processes that run them."""

from __future__ import annotations

import asyncio
from typing import Any

from tests.servers.placeos.database import Database, Row
from tests.servers.placeos.discovery import Discovery, Nodes, owner, ulid
from tests.servers.placeos.drivers import DriverProcess
from tests.servers.placeos.errors import BackendError, HttpError
from tests.servers.placeos.faults import Faults
from tests.servers.placeos.logs import log
from tests.servers.placeos.redisclient import Runtime
from tests.servers.placeos.settings import Settings


class CoreState:
    """Methods raise BackendError unless they say otherwise."""

    def __init__(self, settings: Settings, db: Database, runtime: Runtime, found: Discovery) -> None:
        self.settings = settings
        self.runtime = runtime
        self.faults = Faults(settings.state)
        self.id = ulid()
        self.started = False
        self.drivers: dict[str, DriverProcess] = {}
        self.edges: dict[str, dict[str, DriverProcess]] = {}  # by edge node that this core speaks for
        self.unavailable: dict[str, str] = {}
        self._db = db
        self._discovery = found
        self._nodes: Nodes = {}
        self._registered = True  # whether it means to be
        self._membership = asyncio.Lock()  # a renewal on its way would undo a leave
        self._mappings: dict[str, dict[str, str]] = {}

    async def start(self) -> None:
        """Join the cluster and launch drivers."""
        await self._discovery.register(self.id, self.settings.core_uri)
        self._nodes = await self._discovery.nodes()
        await self.assign()
        await self._discovery.set_ready(self.id, self.settings.core_uri)
        self.started = True
        log.info("joined cluster as %s", self.id)

    async def keep_registered(self) -> None:
        """Renew the registration, and follow changes of membership."""
        async with self._membership:
            if self._registered:
                await self._renew()
        nodes = await self._discovery.nodes()
        if nodes != self._nodes and self._registered:
            self._nodes = nodes
            log.info("cluster rebalance")
            await self._rebalance()

    async def _renew(self) -> None:
        try:
            kept = await self._discovery.keep(self.id, self.settings.core_uri)
        except BackendError:
            self._registered = self.settings.reregister  # older builds never come back
            raise
        if not kept and self.settings.reregister:
            log.warning("registration lost, registering again")
            await self._discovery.register(self.id, self.settings.core_uri)
            await self._discovery.set_ready(self.id, self.settings.core_uri)
        elif not kept:
            self._registered = False

    async def _rebalance(self) -> None:
        try:
            await self.assign()
        except BackendError:
            self._nodes = {}  # to be tried again
            log.error("cluster rebalance: module load failure")
            raise

    async def assign(self) -> None:
        """Load the modules that are this node's, unload the others."""
        drivers = {row["id"]: row for row in await self._db.find("driver")}
        wanted: dict[tuple[str, str], set[str]] = {}
        edge_of = {module: edge for edge, modules in self.settings.edges.items() for module in modules}
        for module in await self._db.find("mod", running=True):
            edge = edge_of.get(module["id"], "")
            if owner(self._nodes or {self.id: ""}, edge or module["id"]) == self.id and module["driver_id"] in drivers:
                wanted.setdefault((edge, module["driver_id"]), set()).add(module["id"])
        await asyncio.gather(*(self._assign(edge, drivers[key], modules) for (edge, key), modules in wanted.items()))
        for edge, processes in [("", self.drivers), *self.edges.items()]:
            for key, process in list(processes.items()):
                if key not in {drivers[one]["file_name"] for where, one in wanted if where == edge}:
                    del processes[key]
                    await process.stop()
        await self._read_mappings()

    @property
    def processes(self) -> list[DriverProcess]:
        """Of core and of its edge nodes."""
        return [process for place in (self.drivers, *self.edges.values()) for process in place.values()]

    async def _assign(self, edge: str, driver: Row, modules: set[str]) -> None:
        """Run it here or, in truth by a WebSocket, on an edge node."""
        processes, key = self.edges.setdefault(edge, {}) if edge else self.drivers, driver["file_name"]
        if key not in processes and not await self._compile(driver):
            return
        process = processes.get(key)
        if process is None:
            process = processes[key] = DriverProcess(key, self.settings, self.faults)
            await process.start()
        for module in modules - process.modules:
            await process.load(module)
        for module in process.modules - modules:
            await process.unload(module)

    async def _compile(self, driver: Row) -> bool:
        """Whether there is a binary now; the compiler's output goes into the database."""
        key = driver["file_name"]
        output = self.faults.compile_output(key)
        if output is None:
            self.unavailable.pop(key, None)
        else:
            log.error("failed to compile driver %s", key)
            self.unavailable[key] = output
        if driver.get("compilation_output") != output:
            await self._db.put("driver", driver | {"compilation_output": output})
        return output is None

    async def reload(self, driver_id: str) -> bool:
        """Compile again and start anew; whether it could be compiled."""
        row = await self.driver_row(driver_id)
        for processes in (self.drivers, *self.edges.values()):
            process = processes.pop(row["file_name"], None)
            if process is not None:
                await process.stop()
        await self.assign()
        return row["file_name"] not in self.unavailable

    async def driver_row(self, driver_id: str) -> Row:
        """A driver's row. HttpError 404."""
        row = await self._db.get("driver", driver_id)
        if row is None:
            raise HttpError(404, {"error": f"no driver {driver_id}"})
        return row

    async def _read_mappings(self) -> None:
        """Which module is at Name/index of each system."""
        names = {row["id"]: row["custom_name"] or row["name"] for row in await self._db.find("mod")}
        self._mappings = {}
        for system in await self._db.find("sys"):
            fields: dict[str, str] = {}
            for module in (one for one in system["modules"] if one in names):
                index = sum(field.startswith(f"{names[module]}/") for field in fields) + 1
                fields[f"{names[module]}/{index}"] = module
            self._mappings[system["id"]] = fields
        await self.keep_mappings()

    async def keep_mappings(self) -> None:
        """Write the mappings into Redis: again and again, for a Redis that forgot them. [inf]"""
        for system, fields in self._mappings.items():
            for field, module in fields.items():
                await self.runtime.call("HSET", f"system/{system}", field, module)

    def owner_of(self, module: str) -> DriverProcess | None:
        """The process that has the module loaded here."""
        return next((one for one in self.processes if module in one.modules), None)

    async def execute(self, module: str, method: str, arguments: list[object]) -> dict[str, Any]:
        """{"result"} or {"error", "code"}. HttpError when core refuses; why is only in its log."""
        process = self.owner_of(module)
        if process is None:
            log.error("Could not locate module %s, %s", module, await self._why_not(module))
            raise HttpError(500, {"error": "module not loaded"})
        return await process.execute(module, method, arguments)

    async def _why_not(self, module: str) -> str:
        row = await self._db.get("mod", module)
        if row is None:
            return "no matching database record"
        return "it is running but not loaded. Check driver is compiled." if row["running"] else "it is stopped"

    def status(self) -> dict[str, Any]:
        """As `/status` shows it."""
        unavailable = [{"name": key, "reason": reason} for key, reason in self.unavailable.items()]
        running = {edge: _count(processes) for edge, processes in self.edges.items()}
        return {
            "compiled_drivers": sorted(self.drivers),
            "unavailable_drivers": unavailable,
            "unavailable_repositories": [],
            "run_count": {"local": _count(self.drivers), "edge": running},
        }

    async def deregister(self) -> None:
        """Leave discovery and go on running."""
        async with self._membership:
            self._registered = False
            await self._discovery.leave(self.id)

    async def close(self) -> None:
        """End the drivers and leave; a discovery that is away is left to its expiry."""
        await asyncio.gather(*(one.stop() for one in self.processes))
        try:
            if self._registered:
                await self._discovery.leave(self.id)
        except BackendError as error:
            log.error("when calling %s: %s", error.backend, error)


def _count(processes: dict[str, DriverProcess]) -> dict[str, int]:
    return {"drivers": len(processes), "modules": sum(len(one.modules) for one in processes.values())}
