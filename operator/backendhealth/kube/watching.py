"""kopf in a thread and a loop of its own: whatever ends it does not touch what does the work."""

from __future__ import annotations

import asyncio
import logging
import threading
from typing import Any, cast

import kopf

from backendhealth.kube import handlers  # noqa: F401 - tells kopf what to call
from backendhealth.kube.app import App
from backendhealth.kube.settings import Settings

log = logging.getLogger(__name__)

AGAIN = 5.0
"""Seconds until a watch that has ended is begun anew."""
PATIENCE = 5.0
"""Seconds that kopf may take to end."""


class Watching:
    """Feeds what kopf's watch tells to `app`, from `start` until `stop`.

    kopf ends when the API server refuses it (403, or 404 while the CRD is away). That may pass, so it is begun anew.
    """

    def __init__(self, app: App, settings: Settings) -> None:
        self._app = app
        self._settings = settings
        self._stopping = threading.Event()
        self._flag: asyncio.Event | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._thread = threading.Thread(target=self._run, name="kopf", daemon=True)

    def start(self) -> None:
        """Begin to watch."""
        self._thread.start()

    async def stop(self) -> None:
        """Watch no more."""
        self._stopping.set()
        loop, flag = self._loop, self._flag
        if loop is not None and flag is not None and not loop.is_closed():
            loop.call_soon_threadsafe(flag.set)
        await asyncio.to_thread(self._thread.join, PATIENCE)

    def _run(self) -> None:
        told = ""
        while not self._stopping.is_set():
            try:
                asyncio.run(self._watch())
            except Exception as error:  # noqa: BLE001 - of whatever kind: the comparison with lists goes on meanwhile
                if str(error) != told:
                    log.warning("the watch has ended, to be begun anew each %g s: %s", AGAIN, error)
                told = str(error)
            self._stopping.wait(AGAIN)

    async def _watch(self) -> None:
        self._loop, self._flag = asyncio.get_running_loop(), asyncio.Event()
        if self._stopping.is_set() or not await self._kinds_served(self._flag):
            return
        await kopf.operator(
            memo=kopf.Memo(app=self._app),
            # else it asks for the user's name, and in a pod there may be none
            identity=cast("Any", self._settings.identity),
            standalone=True,
            clusterwide=not self._settings.namespaces,
            namespaces=self._settings.namespaces,
            stop_flag=self._flag,
        )

    async def _kinds_served(self, stop: asyncio.Event) -> bool:
        """Wait for our CRDs, which kopf looks for only once; False when it is time to stop."""
        served = asyncio.ensure_future(self._app.kinds_served())
        stopping = asyncio.ensure_future(stop.wait())
        await asyncio.wait([served, stopping], return_when=asyncio.FIRST_COMPLETED)
        stopping.cancel()
        return not served.cancel()


async def operate(app: App, settings: Settings) -> None:
    """Start the app and watch for it until it is to stop; then it has stopped. Raises NoCluster, ListenError."""
    stopping = asyncio.create_task(app.until_stopping())
    starting = asyncio.create_task(app.start())
    await asyncio.wait({starting, stopping}, return_when=asyncio.FIRST_COMPLETED)
    if not starting.done():
        starting.cancel()
        await asyncio.wait({starting})
        return
    starting.result()
    watching = Watching(app, settings)
    watching.start()
    await stopping
    await app.stop()
    await watching.stop()
