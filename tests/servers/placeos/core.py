"""core: joins the cluster, compiles and runs drivers, executes functions. `python -m tests.servers.placeos.core`."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Mapping
from typing import Any

import aiohttp
from aiohttp import web

from tests.servers.placeos import database, discovery, redisclient
from tests.servers.placeos.corestate import CoreState
from tests.servers.placeos.drivers import DriverProcess
from tests.servers.placeos.errors import BackendError, HttpError
from tests.servers.placeos.logs import log
from tests.servers.placeos.settings import Settings, read
from tests.servers.placeos.web import add_health, application, listening, run, running, wait_for

_BASE = "/api/core/v1"


class Pages:
    """core's HTTP interface; no authentication."""

    def __init__(self, state: CoreState) -> None:
        self._state = state

    def add_to(self, app: web.Application) -> None:
        """Every route but the deep health page."""
        get, post = app.router.add_get, app.router.add_post
        get(f"{_BASE}/ready", self.ready)
        get(f"{_BASE}/status", self.status)
        get(f"{_BASE}/status/load", self.load)
        get(f"{_BASE}/status/loaded", self.loaded)
        get(f"{_BASE}/status/driver", self.driver)
        post(f"{_BASE}/chaos/terminate", self.terminate)
        post(f"{_BASE}/command/{{module}}/execute", self.execute)
        post(f"{_BASE}/command/{{module}}/load", self.load_module)
        get(f"{_BASE}/drivers/{{id}}/compiled", self.compiled)
        post(f"{_BASE}/drivers/{{id}}/reload", self.reload)
        post(f"{_BASE}/double/faults", self.faults)
        post(f"{_BASE}/double/deregister", self.deregister)

    async def ready(self, _: web.Request) -> web.Response:
        return web.Response(status=200 if self._state.started else 503)

    async def status(self, _: web.Request) -> web.Response:
        return web.json_response(self._state.status())

    async def load(self, _: web.Request) -> web.Response:
        load = {"hostname": "core", "cpu_count": 2, "core_cpu": 0.5, "total_cpu": 1.0}
        return web.json_response(load | {"memory_total": 16_000_000, "memory_usage": 1_000_000, "core_memory": 100_000})

    async def loaded(self, _: web.Request) -> web.Response:
        edges = dict(self._state.edges)
        local, *on_edges = await asyncio.gather(_loaded(self._state.drivers), *map(_loaded, edges.values()))
        return web.json_response({"edge": dict(zip(edges, on_edges, strict=True)), "local": local})

    async def driver(self, request: web.Request) -> web.Response:
        """Every edge node is told of, with null where it has no such driver."""
        key, state = request.query["path"], self._state
        on_edges = {edge: _status(processes.get(key)) for edge, processes in state.edges.items()}
        return web.json_response({"local": _status(state.drivers.get(key)), "edge": on_edges})

    async def terminate(self, request: web.Request) -> web.Response:
        """Of core itself unless an edge node is named, which the API never does."""
        processes = self._state.edges.get(request.query.get("edge_id", ""), self._state.drivers)
        found = processes.get(request.query["path"])
        if found is None:
            raise HttpError(404, {"error": f"driver not loaded: {request.query['path']}"})
        log.warning("[chaos] terminating driver %s", found.key)
        found.terminate()
        return web.Response()

    async def execute(self, request: web.Request) -> web.Response:
        body = await request.json()
        answer = await self._state.execute(request.match_info["module"], body["method"], body["args"])
        if "error" in answer:  # 203: the module raised
            return web.json_response({"message": answer["error"], "code": answer["code"]}, status=203)
        return web.json_response(answer["result"])

    async def load_module(self, request: web.Request) -> web.Response:
        await self._state.assign()
        return web.Response(status=200 if self._state.owner_of(request.match_info["module"]) else 404)

    async def compiled(self, request: web.Request) -> web.Response:
        row = await self._state.driver_row(request.match_info["id"])
        return web.json_response(row["file_name"] in {one.key for one in self._state.processes})

    async def reload(self, request: web.Request) -> web.Response:
        if await self._state.reload(request.match_info["id"]):
            return web.Response()
        return web.Response(status=500)

    async def faults(self, request: web.Request) -> web.Response:
        """The double's own: {kind, key, value} of faults.Faults."""
        wish = await request.json()
        self._state.faults.set(wish["kind"], wish["key"], wish["value"])
        return web.Response()

    async def deregister(self, _: web.Request) -> web.Response:
        """The double's own: lose the registration, and don't come back before a restart."""
        await self._state.deregister()
        return web.Response()


async def _loaded(processes: Mapping[str, DriverProcess]) -> dict[str, list[str]]:
    drivers = dict(processes)  # a rebalance may take one away meanwhile
    answers = await asyncio.gather(*(one.loaded() for one in drivers.values()))
    return dict(zip(drivers, answers, strict=True))


def _status(found: DriverProcess | None) -> dict[str, Any] | None:
    return found.status() if found else None


@contextlib.asynccontextmanager
async def service(settings: Settings) -> AsyncIterator[None]:
    """core from start to end."""
    async with aiohttp.ClientSession() as session, contextlib.AsyncExitStack() as stack:
        redis = redisclient.client(settings)
        stack.push_async_callback(redis.aclose)
        db = database.connect(settings)
        stack.push_async_callback(db.close)
        found = discovery.connect(settings, session, redis)
        state = CoreState(settings, db, redisclient.Runtime(settings, redis), found)
        checks = [("redis", state.runtime.check), (db.name, db.check)]
        if found.name == "etcd":
            checks.append(("etcd", found.check))
        app = application()
        add_health(app, _BASE, checks, settings)
        Pages(state).add_to(app)
        await stack.enter_async_context(listening(app, settings))
        await wait_for(checks, settings)
        stack.push_async_callback(state.close)
        await stack.enter_async_context(running(_work(state, settings)))
        yield


async def _work(state: CoreState, settings: Settings) -> None:
    """Start, then keep the registration, the placement and the mappings; what fails is tried again next time."""
    period = (settings.etcd_ttl if settings.etcd_url else settings.discovery_ttl) / 4
    while True:
        troubled = False
        for work in (state.keep_registered, state.keep_mappings) if state.started else (state.start,):
            try:
                await work()
            except BackendError as error:
                log.error("when calling %s: %s", error.backend, error)
                troubled = True
        await asyncio.sleep(min(period, 0.2) if troubled else period)


if __name__ == "__main__":
    run(read("core", 3000), service)
