"""triggers: fires again and again, by executing a function through core. `python -m tests.servers.placeos.triggers`.

Its health page is shallow, so that a trigger that fails is seen only in the log.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator

import aiohttp

from tests.servers.placeos import database, discovery, redisclient
from tests.servers.placeos.errors import BackendError
from tests.servers.placeos.logs import log
from tests.servers.placeos.remote import Cores, Remote, RemoteError
from tests.servers.placeos.seed import SYSTEM
from tests.servers.placeos.settings import Settings, read
from tests.servers.placeos.web import add_health, application, listening, run, running, wait_for


@contextlib.asynccontextmanager
async def service(settings: Settings) -> AsyncIterator[None]:
    """triggers from start to end."""
    async with aiohttp.ClientSession() as session, contextlib.AsyncExitStack() as stack:
        redis = redisclient.client(settings)
        stack.push_async_callback(redis.aclose)
        db = database.connect(settings)
        stack.push_async_callback(db.close)
        found = discovery.connect(settings, session, redis)
        runtime = redisclient.Runtime(settings, redis)
        checks = [("redis", runtime.check), (db.name, db.check)]
        if found.name == "etcd":
            checks.append(("etcd", found.check))
        await wait_for(checks, settings)
        app = application()
        add_health(app, "/api/triggers/v2", [], settings)
        await stack.enter_async_context(listening(app, settings))
        remote = Remote(Cores(settings, found, session), runtime)
        await stack.enter_async_context(running(_fire(remote, settings.trigger_interval)))
        yield


async def _fire(remote: Remote, interval: float) -> None:
    while True:
        try:
            await remote.execute(SYSTEM, "Probe", 1, "ping", [], admin=True)
            log.info("trigger fired")
        except (RemoteError, BackendError) as error:
            log.error("trigger failed: %s", error)
        await asyncio.sleep(interval)


if __name__ == "__main__":
    run(read("triggers", 3000), service)
