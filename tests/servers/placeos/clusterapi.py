"""The API's cluster and driver routes, which ask core."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import Any

from aiohttp import web

from tests.servers.placeos.access import Access
from tests.servers.placeos.database import Database, Row
from tests.servers.placeos.discovery import owner
from tests.servers.placeos.errors import BackendError, HttpError
from tests.servers.placeos.remote import Cores
from tests.servers.placeos.search import INDICES, Search


@dataclass
class ClusterPages:
    """Admin routes."""

    base: str
    access: Access
    cores: Cores
    db: Database
    search: Search

    def add_to(self, app: web.Application) -> None:
        """Add the routes."""
        get, post, base = app.router.add_get, app.router.add_post, self.base
        get(f"{base}/cluster", self.index)
        get(f"{base}/cluster/{{id}}", self.show)
        app.router.add_delete(f"{base}/cluster/{{id}}", self.terminate)
        get(f"{base}/drivers/{{id}}", self.driver)
        get(f"{base}/drivers/{{id}}/compiled", self.compiled)
        post(f"{base}/drivers/{{id}}/reload", self.reload)
        post(f"{base}/drivers/{{id}}/recompile", self.recompile)
        post(f"{base}/modules/{{id}}/load", self.load)
        post(f"{base}/reindex", self.reindex)

    async def index(self, request: web.Request) -> web.Response:
        """Cores that can't be reached are omitted silently."""
        await self.access.admin(request)
        with_status = request.query.get("include_status") == "true"
        nodes = await self.cores.nodes()
        found = await asyncio.gather(*(self._node(key, uri, with_status) for key, uri in nodes.items()))
        return web.json_response([one for one in found if one is not None])

    async def _node(self, key: str, uri: str, with_status: bool) -> dict[str, Any] | None:
        try:
            _, load = await self.cores.call(uri, "GET", "/status/load", retry=False)
            status = (await self.cores.call(uri, "GET", "/status", retry=False))[1] if with_status else None
        except BackendError:
            return None
        return {"id": key, "uri": uri, "load": load} | ({"status": status} if with_status else {})

    async def _uri(self, key: str) -> str:
        nodes = await self.cores.nodes()
        if key not in nodes:
            raise HttpError(404, {"error": f"core not registered: {key}"})
        return nodes[key]

    async def show(self, request: web.Request) -> web.Response:
        """The drivers of one core."""
        await self.access.admin(request)
        uri = await self._uri(request.match_info["id"])
        _, loaded = await self.cores.call(uri, "GET", "/status/loaded")
        with_status = request.query.get("include_status") == "true"
        keys = sorted({*loaded["local"], *(key for edge in loaded["edge"].values() for key in edge)})
        return web.json_response([await self._driver(uri, one, loaded, with_status) for one in keys])

    async def _driver(self, uri: str, driver: str, loaded: dict[str, Any], with_status: bool) -> dict[str, Any]:
        """Every edge node of the core is told of with every driver."""
        local: dict[str, Any] = {"modules": loaded["local"].get(driver, [])}
        edges: dict[str, dict[str, Any]] = {
            edge: {"modules": keys.get(driver, [])} for edge, keys in loaded["edge"].items()
        }
        if with_status:
            status = (await self.cores.call(uri, "GET", f"/status/driver?path={driver}"))[1]
            local["status"] = status["local"]
            for edge, told in edges.items():
                told["status"] = status["edge"].get(edge)
        return {"driver": driver, "local": local, "edge": edges}

    async def terminate(self, request: web.Request) -> web.Response:
        await self.access.admin(request)
        uri = await self._uri(request.match_info["id"])
        status, body = await self.cores.call(uri, "POST", f"/chaos/terminate?path={request.query['driver']}")
        return web.json_response(body, status=status) if status != 200 else web.Response(status=202)

    async def _row(self, request: web.Request) -> Row:
        key = request.match_info["id"]
        row = await self.db.get("driver", key)
        if row is None:
            raise HttpError(404, {"error": f"no driver {key}"})
        return row

    async def driver(self, request: web.Request) -> web.Response:
        await self.access.user(request)
        return web.json_response(await self._row(request))

    async def compiled(self, request: web.Request) -> web.Response:
        """A core that can't be reached reads like a driver that is not compiled."""
        await self.access.user(request)
        row = await self._row(request)
        nodes = await self.cores.some()
        try:
            # Any core that runs it will do: a driver's modules may be on another than the driver's own. [inf]
            answers = [await self.cores.call(uri, "GET", f"/drivers/{row['id']}/compiled") for uri in nodes.values()]
        except BackendError:
            answers = []
        if (200, True) in answers:
            return web.Response()
        if row.get("compilation_output"):
            return web.json_response({"compilation_output": row["compilation_output"]}, status=503)
        raise HttpError(404, {"error": "Driver not compiled yet"})

    async def reload(self, request: web.Request) -> web.Response:
        await self.access.admin(request)
        row = await self._row(request)
        failed = [not await self._reload(uri, row) for uri in (await self.cores.some()).values()]
        return web.Response(status=422 if all(failed) else 417 if any(failed) else 200)

    async def _reload(self, uri: str, row: Row) -> bool:
        try:
            return (await self.cores.call(uri, "POST", f"/drivers/{row['id']}/reload"))[0] == 200
        except BackendError:
            return False

    async def recompile(self, request: web.Request) -> web.Response:
        """Answers when it has been compiled, or with the compiler's output."""
        await self.access.admin(request)
        row = await self._row(request)
        for uri in (await self.cores.some()).values():
            await self._reload(uri, row)
        return await self.compiled(request)

    async def load(self, request: web.Request) -> web.Response:
        await self.access.admin(request)
        nodes = await self.cores.some()
        module = request.match_info["id"]
        status, _ = await self.cores.call(nodes[owner(nodes, module)], "POST", f"/command/{module}/load")
        return web.Response(status=status)

    async def reindex(self, request: web.Request) -> web.Response:
        await self.access.admin(request)
        for index in INDICES:
            await self.search.reindex(index, await self.db.find(index))
        return web.Response()
