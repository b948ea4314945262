"""search-ingest: copies the database's tables into Elasticsearch. `python -m tests.servers.placeos.searchingest`."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator
from dataclasses import dataclass

import aiohttp
from aiohttp import web

from tests.servers.placeos import database
from tests.servers.placeos.database import Database
from tests.servers.placeos.search import INDICES, Search
from tests.servers.placeos.settings import Settings, read
from tests.servers.placeos.web import add_health, application, listening, run, wait_for

_BASE = "/api/search-ingest/v1"


@dataclass
class _Pages:
    db: Database
    search: Search
    started: bool = False

    async def ready(self, _: web.Request) -> web.Response:
        return web.Response(status=200 if self.started else 503)

    async def backfill(self) -> None:
        for index in INDICES:
            await self.search.reindex(index, await self.db.find(index))
        self.started = True

    async def reindex(self, _: web.Request) -> web.Response:
        await self.backfill()
        return web.Response()


@contextlib.asynccontextmanager
async def service(settings: Settings) -> AsyncIterator[None]:
    """search-ingest from start to end."""
    async with aiohttp.ClientSession() as session, contextlib.AsyncExitStack() as stack:
        db = database.connect(settings)
        stack.push_async_callback(db.close)
        pages = _Pages(db, Search(settings, session))
        checks = [("elastic", pages.search.check), (db.name, db.check)]
        app = application()
        add_health(app, _BASE, checks, settings)
        app.router.add_get(f"{_BASE}/ready", pages.ready)
        app.router.add_post(f"{_BASE}/reindex", pages.reindex)
        await stack.enter_async_context(listening(app, settings))
        await wait_for(checks, settings)
        await pages.backfill()
        yield


if __name__ == "__main__":
    run(read("search-ingest", 3000), service)
