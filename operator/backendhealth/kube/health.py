"""`/metrics`, `/healthz` and `/readyz` over HTTP, by the loop that does the work: a stuck one does not answer."""

from __future__ import annotations

import asyncio
import logging
import os
from collections.abc import Callable, Mapping
from http import HTTPStatus

from aiohttp import web
from prometheus_client.exposition import choose_encoder

from backendhealth.kube.metrics import Metrics
from backendhealth.kube.settings import Address

log = logging.getLogger(__name__)

Check = Callable[[], str | None]
"""None when all is well, else what is wrong. It is asked often, and must return at once."""
FINE = "ok"
LAG_INTERVAL = 2.0
"""Seconds between two looks at how late the event loop is."""


class ListenError(Exception):
    """The address can't be listened on; the message has the setting to change."""


class Health:
    """Serves what Prometheus and the kubelet ask.

    `live`: what only a restart can mend, by name; an API server that is away is not among that. `ready`: what must
    hold before we count as available. Both answer 200 or 503 with each check in the body.
    """

    def __init__(
        self, listen: Address, metrics: Metrics, *, live: Mapping[str, Check], ready: Mapping[str, Check]
    ) -> None:
        self._listen = listen
        self._metrics = metrics
        self._live = live
        self._ready = ready
        self._runner: web.AppRunner | None = None
        self._lag: asyncio.Task[None] | None = None
        self._scraping = asyncio.Lock()

    async def start(self) -> None:
        """Listen. Raises ListenError."""
        app = web.Application()
        app.add_routes(
            [
                web.get("/metrics", self._serve_metrics),
                web.get("/healthz", self._serve_live),
                web.get("/readyz", self._serve_ready),
            ]
        )
        self._runner = web.AppRunner(app, access_log=None, shutdown_timeout=1.0)
        await self._runner.setup()
        try:
            await web.TCPSite(self._runner, self._listen.host, self._listen.port).start()
        except OSError as error:
            await self._runner.cleanup()
            raise ListenError(
                f"can't listen on {self._listen.host or ''}:{self._listen.port}: {os.strerror(error.errno or 0)}; "
                "choose another address with --listen or BACKENDHEALTH_LISTEN"
            ) from None
        self._lag = asyncio.get_running_loop().create_task(self._measure_lag())
        log.info("metrics and health on port %d", self.port)

    @property
    def port(self) -> int:
        """The port that is listened on."""
        port: int = self._runner.addresses[0][1] if self._runner else 0
        return port

    async def stop(self) -> None:
        """Listen no more."""
        if self._lag is not None:
            self._lag.cancel()
        if self._runner is not None:
            await self._runner.cleanup()

    async def _measure_lag(self) -> None:
        loop = asyncio.get_running_loop()
        while True:
            due = loop.time() + LAG_INTERVAL
            await asyncio.sleep(LAG_INTERVAL)
            self._metrics.loop_lag(max(0.0, loop.time() - due))

    async def _serve_metrics(self, request: web.Request) -> web.Response:
        encode, content_type = choose_encoder(request.headers.get("Accept", ""))
        async with self._scraping:  # in a thread: thousands of series take a while, and probes must not wait
            body = await asyncio.to_thread(encode, self._metrics.registry)
        return web.Response(body=body, headers={"Content-Type": content_type})

    async def _serve_live(self, _: web.Request) -> web.Response:
        return _answer(self._live)

    async def _serve_ready(self, _: web.Request) -> web.Response:
        return _answer(self._ready)


def _answer(checks: Mapping[str, Check]) -> web.Response:
    wrong = {name: check() for name, check in checks.items()}
    fine = not any(wrong.values())
    body = {"ok": fine, "checks": {name: told or FINE for name, told in wrong.items()}}
    return web.json_response(body, status=HTTPStatus.OK if fine else HTTPStatus.SERVICE_UNAVAILABLE)
