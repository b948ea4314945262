"""WebSockets whose other end does not keep to what PlaceOS does."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator

import pytest
from aiohttp import web

from backendhealth.core.reasons import Reason
from backendhealth.probes.exchange import renew
from tests.probes.placeos.conftest import Make
from tests.probes.placeos.helpers import SKIPPED, part

KEY = {"apiKeySecretRef": {"name": "api", "key": "key"}}
BOUND = json.dumps({"id": 1, "type": "success", "meta": {}})
NEWS = json.dumps({"type": "notify", "value": "1", "meta": {}})


@contextlib.asynccontextmanager
async def platform(first: list[str], *, status: int = 101) -> AsyncIterator[str]:
    """A server whose WebSocket answers the first frame with `first`, then ends; with another status it opens none."""

    async def control(request: web.Request) -> web.StreamResponse:
        if status != 101:
            return web.Response(status=status)
        socket = web.WebSocketResponse()
        await socket.prepare(request)
        await socket.receive()
        if first == ["end"]:
            await socket.close()
            return socket
        for text in first:
            await socket.send_str(text)
        async for message in socket:
            if message.data == "ping":
                await socket.send_str(NEWS)
                await socket.send_str("pong")
        return socket

    async def anything(request: web.Request) -> web.Response:
        return web.json_response({"version": "1"} if request.path.endswith("version") else {})

    app = web.Application()
    app.router.add_get("/api/engine/v2/systems/control", control)
    app.router.add_get("/{path:.*}", anything)
    runner = web.AppRunner(app, shutdown_timeout=0.1)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    try:
        yield f"http://127.0.0.1:{runner.addresses[0][1]}"
    finally:
        await runner.cleanup()


@pytest.mark.parametrize(
    ("first", "reason", "told"),
    [
        ([BOUND], Reason.PROBE_SUCCEEDED, "bound"),
        ([NEWS, NEWS, BOUND], Reason.PROBE_SUCCEEDED, "bound"),
        (["<html>"], Reason.PROTOCOL_ERROR, "is no object"),
        (["[1]"], Reason.PROTOCOL_ERROR, "is no object"),
        ([json.dumps({"id": 1, "type": "error", "msg": "could not find module"})], Reason.MODULE_NOT_FOUND, "missing"),
        ([json.dumps({"id": 1, "type": "error", "msg": "No registered core instances"})], Reason.NO_CORE_INSTANCES, ""),
        ([json.dumps({"type": "error", "msg": "what?"})], Reason.BIND_FAILED, "what?"),
        (["end"], Reason.BIND_FAILED, "ends before"),
        ([NEWS] * 1200, Reason.PROTOCOL_ERROR, "sends much"),
    ],
)
async def test_sockets_that_misbehave(make: Make, first: list[str], reason: Reason, told: str) -> None:
    async with platform(first) as url:
        probe = make("placeos", {"url": url, **KEY, "system": "s", "module": "M_1"})
        finding = await probe.attempt(2)
        assert part(finding, "websocket-new").reason is reason, part(finding, "websocket-new").message
        assert told in part(finding, "websocket-new").message
        opened = Reason.PROBE_SUCCEEDED if reason is Reason.PROBE_SUCCEEDED else SKIPPED
        assert part(finding, "websocket-open").reason is opened
        if opened is not SKIPPED:
            assert "still open" in part(await probe.attempt(2), "websocket-open").message


async def test_an_answer_that_never_comes(make: Make) -> None:
    async with platform([]) as url:
        finding = await make("placeos", {"url": url, **KEY, "system": "s", "module": "M_1"}).attempt(0.5)
        assert part(finding, "websocket-new").reason is Reason.TIMEOUT
        assert part(finding, "login").reason is Reason.PROBE_SUCCEEDED


@pytest.mark.parametrize(
    ("status", "reason"),
    [(401, SKIPPED), (403, Reason.PERMISSION_DENIED), (500, Reason.REQUEST_FAILED), (200, Reason.REQUEST_FAILED)],
)
async def test_no_socket_is_opened(make: Make, status: int, reason: Reason) -> None:
    async with platform([], status=status) as url:
        finding = await make("placeos", {"url": url, **KEY, "system": "s", "module": "M_1"}).attempt(2)
        assert part(finding, "websocket-new").reason is reason
        assert part(finding, "websocket-open").reason is SKIPPED


async def test_closing_leaves_no_socket_open(make: Make) -> None:
    async with platform([BOUND]) as url:
        probe = make("placeos", {"url": url, **KEY, "system": "s", "module": "M_1"})
        assert part(await probe.attempt(2), "websocket-open").reason is Reason.PROBE_SUCCEEDED
        async with asyncio.timeout(0.5):
            await probe.exchange.close()
        assert "opened before" not in part(await probe.attempt(2), "websocket-open").message, "a new one"


async def test_renewing_what_is_old_leaves_the_socket_open_as_those_of_users_are(make: Make) -> None:
    async with platform([BOUND]) as url:
        probe = make("placeos", {"url": url, **KEY, "system": "s", "module": "M_1"})
        await probe.attempt(2)
        await renew(probe.exchange)
        assert "opened before is still open" in part(await probe.attempt(2), "websocket-open").message
