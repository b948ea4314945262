"""rest-api: `python -m tests.servers.placeos.api`. It answers `/auth/` too, like the load balancer before both."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator
from dataclasses import dataclass

import aiohttp
from aiohttp import web

from tests.servers.placeos import database, discovery, redisclient
from tests.servers.placeos.access import Access
from tests.servers.placeos.clusterapi import ClusterPages
from tests.servers.placeos.database import Database
from tests.servers.placeos.errors import BackendError, HttpError
from tests.servers.placeos.logs import log
from tests.servers.placeos.remote import Cores, Remote, RemoteError, slug
from tests.servers.placeos.search import Search
from tests.servers.placeos.settings import Settings, read
from tests.servers.placeos.sockets import Sockets
from tests.servers.placeos.web import add_health, application, listening, run, running, wait_for

_BASE = "/api/engine/v2"


@dataclass
class Api:
    """The pages of users."""

    settings: Settings
    db: Database
    search: Search
    access: Access
    remote: Remote

    def add_to(self, app: web.Application) -> None:
        """The routes but health, cluster and sockets."""
        get, post = app.router.add_get, app.router.add_post
        get(f"{_BASE}/version", self.version)
        get(f"{_BASE}/users/current", self.user)
        get(f"{_BASE}/systems", self.systems)
        get(f"{_BASE}/systems/{{system}}", self.system)
        get(f"{_BASE}/modules", self.modules)
        get(f"{_BASE}/drivers", self.drivers)
        get(f"{_BASE}/systems/{{system}}/functions/{{module}}", self.functions)
        post(f"{_BASE}/systems/{{system}}/{{module}}/{{method}}", self.execute)
        post("/auth/oauth/token", self.access.grant)
        get("/auth/authority", self.access.authority)

    async def version(self, _: web.Request) -> web.Response:
        """Needs no login. [inf]"""
        rest = {"commit": "0000000", "version": "v2.0.0", "build_time": "", "platform_version": "double"}
        return web.json_response({"service": "rest-api", **rest})

    async def user(self, request: web.Request) -> web.Response:
        """Who asks; from the database."""
        row = await self.db.get("user", (await self.access.user(request)).id)
        if row is None:
            raise HttpError(404, {"error": "no such user"})
        return web.json_response({key: row[key] for key in ("id", "email", "sys_admin")})

    async def systems(self, request: web.Request) -> web.Response:
        await self.access.user(request)
        limit, offset = int(request.query.get("limit", 20)), int(request.query.get("offset", 0))
        text = request.query.get("q", "")
        if self.settings.listing == "postgres":
            rows = await self.db.search("sys", text)
            rows, total = rows[offset : offset + limit], len(rows)
        else:
            rows, total = await self.search.search("sys", text, limit, offset)
        return web.json_response(rows, headers={"X-Total-Count": str(total)})

    async def system(self, request: web.Request) -> web.Response:
        await self.access.user(request)
        return web.json_response(await self._system(request.match_info["system"]))

    async def _system(self, key: str) -> dict[str, list[str]]:
        row = await self.db.get("sys", key)
        if row is None:
            raise HttpError(404, {"error": f"no system {key}"})
        return row

    async def modules(self, request: web.Request) -> web.Response:
        """Of one system; from the database alone. Without a system they are listed by search."""
        await self.access.user(request)
        key = request.query.get("control_system_id")
        if key is None:
            rows, _ = await self.search.search("mod", request.query.get("q", ""), 20, 0)
        else:
            wanted = (await self._system(key))["modules"]
            rows = [row for row in await self.db.find("mod") if row["id"] in wanted]
        return web.json_response(rows)

    async def drivers(self, request: web.Request) -> web.Response:
        await self.access.user(request)
        if self.settings.listing == "postgres":
            return web.json_response(await self.db.search("driver", request.query.get("q", "")))
        rows, total = await self.search.search("driver", request.query.get("q", ""), 20, 0)
        return web.json_response(rows, headers={"X-Total-Count": str(total)})

    async def functions(self, request: web.Request) -> web.Response:
        """From Redis alone, but for the login."""
        await self.access.user(request)
        name, index = slug(request.match_info["module"])
        found = await self.remote.metadata(request.match_info["system"], name, index)
        if found is None:
            raise HttpError(404, {"error": f"metadata not found for {name}_{index}"})
        functions = {
            method: {"arity": len(parameters), "params": parameters, "order": list(parameters)}
            for method, parameters in found[1]["interface"].items()
        }
        return web.json_response(functions)

    async def execute(self, request: web.Request) -> web.Response:
        user = await self.access.user(request)
        system, method = request.match_info["system"], request.match_info["method"]
        name, index = slug(request.match_info["module"])
        arguments = await request.json() if request.can_read_body else []
        try:
            answer = await self.remote.execute(system, name, index, method, arguments, admin=user.admin)
        except RemoteError as error:
            log.error("execute %s failed: %s", method, error)
            where = {"sys_id": system, "module_name": name, "index": index}
            body = {"error": error.kind, **where, "message": str(error), "backtrace": []}
            return web.json_response(body, status=error.status)
        except BackendError as error:
            log.error("execute %s failed: when calling %s: %s", method, error.backend, error)
            return web.json_response({"message": str(error), "backtrace": []}, status=500)
        return web.json_response(answer)


@contextlib.asynccontextmanager
async def service(settings: Settings) -> AsyncIterator[None]:
    """rest-api from start to end; it listens once its backends have answered."""
    async with aiohttp.ClientSession() as session, contextlib.AsyncExitStack() as stack:
        redis = redisclient.client(settings)
        stack.push_async_callback(redis.aclose)
        db = database.connect(settings)
        stack.push_async_callback(db.close)
        found = discovery.connect(settings, session, redis)
        runtime = redisclient.Runtime(settings, redis)
        cores = Cores(settings, found, session)
        access, remote = Access(db, settings.jwt_secret), Remote(cores, runtime)
        search = Search(settings, session)
        checks = [("redis", runtime.check), (db.name, db.check)]
        if found.name == "etcd":
            checks.append(("etcd", found.check))
        app = application()
        add_health(app, _BASE, checks, settings)
        ClusterPages(_BASE, access, cores, db, search).add_to(app)
        sockets = Sockets(settings, access, cores, remote, runtime)
        app.router.add_get(f"{_BASE}/systems/control", sockets.open)
        Api(settings, db, search, access, remote).add_to(app)
        await wait_for(checks, settings)
        await stack.enter_async_context(running(sockets.listen()))
        await stack.enter_async_context(listening(app, settings))
        yield


if __name__ == "__main__":
    run(read("api", 3000), service)
