"""Connections: broken, hung, kept, cancelled; and whatever else may answer at the port."""

from __future__ import annotations

import asyncio
import contextlib

import pytest

from backendhealth.core.observation import Finding
from backendhealth.core.reasons import Reason
from backendhealth.probes.dialer import Dialer
from backendhealth.probes.exchange import run_attempt
from tests.probes.checks import eventually, nothing_left, open_sockets, resolves_to
from tests.probes.support import attempt_once, exchange_for
from tests.servers import misbehaving
from tests.servers.http import HttpServer
from tests.servers.misbehaving import Server
from tests.servers.process import free_port

OK = b"HTTP/1.1 200 OK\r\n"


async def get(server: Server, *, timeout: float = 3, **more: object) -> Finding:
    async with nothing_left():
        target = {"url": f"http://127.0.0.1:{server.port}/", **more}
        finding = await attempt_once("http", target, timeout=timeout)
        await eventually(lambda: server.connections == 0, "the probe closed its end")
    return finding


async def test_refused() -> None:
    port = free_port()
    finding = await attempt_once("http", {"url": f"http://127.0.0.1:{port}/"})
    assert finding.reason is Reason.CONNECTION_REFUSED
    assert finding.message == f"connection refused by 127.0.0.1:{port}"


@pytest.mark.parametrize(
    "server",
    [
        misbehaving.closes_at_once(),
        misbehaving.resets(),
        misbehaving.resets(after_request=True),
        misbehaving.garbage(OK + b"Content-Length: 100\r\n\r\nshort", closes=True),
    ],
    ids=["closed", "reset", "reset after the request", "broken off in the body"],
)
async def test_broken_connections(server: Server) -> None:
    with server:
        finding = await get(server)
    assert finding.reason is Reason.CONNECTION_RESET
    assert f"the other side broke the connection: 127.0.0.1:{server.port}" in finding.message


@pytest.mark.parametrize(
    "server",
    [
        misbehaving.garbage(),
        misbehaving.garbage(b"220 mail.test ESMTP\r\n", greets=True),
        misbehaving.garbage(b"-ERR unknown command\r\n", closes=True),
        misbehaving.flood(100_000_000),
        misbehaving.flood(100_000_000, OK + b"X: "),
        misbehaving.flood(100_000_000, OK, fill=b"Name: value\r\n"),
        misbehaving.drip(),
    ],
    ids=["garbage", "mail", "redis", "100 MB", "100 MB header", "100 MB of headers", "drip"],
)
async def test_what_is_not_http(server: Server) -> None:
    with server:
        finding = await get(server)
        assert server.sent < 20_000_000
    assert finding.reason is Reason.PROTOCOL_ERROR
    assert f"what answers at 127.0.0.1:{server.port} does not speak HTTP" in finding.message


@pytest.mark.parametrize(
    ("server", "step"),
    [
        (misbehaving.silent(), "request"),
        (misbehaving.drip(OK + b"X-Slow: "), "request"),
        (misbehaving.drip(OK + b"Content-Length: 100000\r\n\r\n"), "body"),
    ],
    ids=["silent", "headers drip", "body drips"],
)
async def test_what_hangs(server: Server, step: str) -> None:
    with server:
        finding = await get(server, timeout=0.4)
    assert finding.reason is Reason.TIMEOUT
    assert finding.message.endswith(f"no answer within 0.4 s: it hung in step {step}")
    assert finding.contact


async def test_100_mb_of_body_are_not_read() -> None:
    with misbehaving.flood(100_000_000, OK + b"\r\nneedle") as server:
        finding = await get(server, expect={"bodyRegex": "^needle"})
        assert server.sent < 20_000_000
    assert finding.reason is Reason.PROBE_SUCCEEDED


async def test_a_connection_is_kept(server: HttpServer) -> None:
    server.on("/", 200, b"ok")
    exchange = exchange_for("http", {"url": server.url})
    async with nothing_left():
        findings = [await run_attempt(exchange, 3) for _ in range(3)]
        assert server.accepted == 1
        assert "connect" not in findings[-1].steps
        await exchange.close()
        await exchange.close()
        await eventually(lambda: server.connections == 0, "closed")
    assert [finding.reason for finding in findings] == [Reason.PROBE_SUCCEEDED] * 3


async def test_a_kept_connection_that_died_while_idle() -> None:
    before = open_sockets()
    with HttpServer() as server:
        server.on("/", 200)
        exchange = exchange_for("http", {"url": server.url})
        assert (await run_attempt(exchange, 3)).reason is Reason.PROBE_SUCCEEDED
    await eventually(lambda: open_sockets() <= before, "the end of the kept connection was noticed")
    gone = await run_attempt(exchange, 3)
    assert gone.reason is Reason.CONNECTION_REFUSED, "the dead connection was noticed before it was used"
    await exchange.close()


async def test_hanging_on_a_kept_connection(server: HttpServer) -> None:
    server.on("/", 200)
    exchange = exchange_for("http", {"url": server.url})
    async with nothing_left():
        await run_attempt(exchange, 3)
        server.on("/", hangs=True)
        hung = await run_attempt(exchange, 0.3)
        assert hung.reason is Reason.TIMEOUT
        assert "it hung in step request" in hung.message
        assert not hung.contact
        await eventually(lambda: server.connections == 0, "the hung connection was dropped")
        server.on("/", 200)
        assert (await run_attempt(exchange, 3)).reason is Reason.PROBE_SUCCEEDED
        await exchange.close()


async def test_nothing_is_left_of_200_cancelled_attempts(server: HttpServer) -> None:
    server.on("/", hangs=True)
    async with nothing_left():
        exchanges = [exchange_for("http", {"url": server.url}) for _ in range(200)]
        attempts = [asyncio.create_task(run_attempt(exchange, 30)) for exchange in exchanges]
        await eventually(lambda: server.connections == 200, "all are connected", timeout=20)
        for attempt in attempts:
            attempt.cancel()
        for attempt in attempts:
            with contextlib.suppress(asyncio.CancelledError):
                await attempt
        await eventually(lambda: server.connections == 0, "all are closed")


async def test_ipv6() -> None:
    with HttpServer(host="::1") as server:
        server.on("/", 200)
        finding = await attempt_once("http", {"url": server.url})
    assert finding.reason is Reason.PROBE_SUCCEEDED
    assert finding.subjects[0].subject == f"endpoint/[::1]:{server.port}"


async def test_a_name_with_a_dead_address(server: HttpServer) -> None:
    server.on("/", 200)
    dialer = Dialer(resolver=resolves_to(("127.0.0.9", free_port("127.0.0.9")), ("127.0.0.1", server.port)))
    finding = await attempt_once("http", {"url": f"http://api.test:{server.port}/"}, dialer=dialer)
    assert finding.reason is Reason.PROBE_SUCCEEDED
    assert server.requests[0].headers["host"] == f"api.test:{server.port}"
