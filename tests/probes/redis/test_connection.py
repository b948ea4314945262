"""The connection: kept, lost, frozen, cancelled; and servers that are not Redis."""

from __future__ import annotations

import asyncio
import resource
import socket
from pathlib import Path

import pytest

from backendhealth.core.reasons import Reason
from backendhealth.probes.dialer import Dialer
from backendhealth.probes.exchange import run_attempt
from tests.probes.redis.helpers import (
    AUTH,
    assert_found,
    assert_healthy,
    exchange,
    password,
    reasons_of,
    target,
    until,
    until_noticed,
)
from tests.probes.support import attempt_once, exchange_for
from tests.servers import misbehaving
from tests.servers.redis import RedisServer


def clients(server: RedisServer) -> int:
    """Connections to the server beside the one that asks."""
    return int(server.info("clients")["connected_clients"]) - 1


def received(server: RedisServer) -> int:
    """Connections that the server has accepted so far, beside the one that asks."""
    return int(server.info("stats")["total_connections_received"])


def open_files() -> int:
    return sum(1 for _ in Path("/proc/self/fd").iterdir())


def at(server: misbehaving.Server, **more: object) -> dict[str, object]:
    return {"url": f"redis://127.0.0.1:{server.port}", **more}


async def test_connection_is_kept_and_closed_at_the_end(server: RedisServer) -> None:
    async with exchange(target(server, writeCheck=True)) as kept:
        first = await run_attempt(kept, 5)
        before = received(server)
        second = await run_attempt(kept, 5)
        assert received(server) == before + 1  # ours, to ask
        assert clients(server) == 1
    assert_healthy(first)
    assert list(second.steps) == ["ping", "info", "write"]
    await until(lambda: clients(server) == 0, "the connection closed")


async def test_close_twice_and_use_again(server: RedisServer) -> None:
    async with exchange(target(server)) as kept:
        assert_healthy(await run_attempt(kept, 5))
        await kept.close()
        await kept.close()
        assert_healthy(await run_attempt(kept, 5))


async def test_connection_closed_while_idle_is_dialled_anew(server: RedisServer) -> None:
    async with exchange(target(server)) as kept:
        assert_healthy(await run_attempt(kept, 5))
        server.execute("CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes")
        await until(lambda: clients(server) == 0, "the connection killed")
        await until_noticed(kept)
        finding = await run_attempt(kept, 5)
        assert_healthy(finding)
        assert "connect" in finding.steps


async def test_restarted_server_is_reached_again(server: RedisServer) -> None:
    async with exchange(target(server)) as kept:
        run_id = (await run_attempt(kept, 5)).facts["runId"]
        server.kill()
        await until_noticed(kept)
        assert_found(await run_attempt(kept, 5), Reason.CONNECTION_REFUSED, server.address)
        server.start()
        finding = await run_attempt(kept, 5)
        assert_healthy(finding)
        assert finding.facts["runId"] != run_id


async def test_sigstop_in_mid_probe_on_a_kept_connection(server: RedisServer) -> None:
    async with exchange(target(server)) as kept:
        assert_healthy(await run_attempt(kept, 5))
        with server.frozen():
            assert_found(await run_attempt(kept, 0.4), Reason.TIMEOUT, "0.4 s", "step ping")
        await until(lambda: clients(server) == 0, "the hung connection closed")
        finding = await run_attempt(kept, 5)
        assert_healthy(finding)
        assert "connect" in finding.steps


async def test_killed_in_mid_probe(server: RedisServer) -> None:
    async with exchange(target(server)) as kept:
        assert_healthy(await run_attempt(kept, 5))
        server.freeze()
        attempt = asyncio.create_task(run_attempt(kept, 5))
        await asyncio.sleep(0)  # the request is on its way to a server that will not read it
        server.kill()
        assert_found(await attempt, Reason.CONNECTION_RESET, f"{server.address} broke the connection")


async def test_200_cancelled_probes_leave_nothing(server: RedisServer) -> None:
    made = [exchange_for("redis", target(server)) for _ in range(200)]
    assert_healthy(await run_attempt(made[0], 5))
    await made[0].close()
    await until(lambda: clients(server) == 0, "the first connection closed")
    files, tasks = open_files(), len(asyncio.all_tasks())
    with server.frozen():
        attempts = [asyncio.create_task(run_attempt(one, 30)) for one in made]
        await until(lambda: open_files() == files + 200, "all have connected")
        for attempt in attempts:
            attempt.cancel()
        await asyncio.wait(attempts)
    assert all(attempt.cancelled() for attempt in attempts)
    await until(lambda: open_files() == files, "all sockets closed")
    assert len(asyncio.all_tasks()) == tasks
    await until(lambda: clients(server) == 0, "all connections closed")


async def test_server_that_accepts_and_never_answers() -> None:
    with misbehaving.silent() as silent:
        finding = await attempt_once("redis", at(silent), timeout=0.4)
        assert_found(finding, Reason.TIMEOUT, "step ping")
        assert finding.contact
        finding = await attempt_once("redis", at(silent, auth=AUTH), password("x"), timeout=0.4)
        assert_found(finding, Reason.TIMEOUT, "step auth")
        await until(lambda: silent.connections == 0, "the probe hung up")


async def test_address_that_swallows_connects() -> None:
    with misbehaving.unreachable() as port:
        finding = await attempt_once("redis", {"url": f"redis://127.0.0.1:{port}"}, timeout=0.4)
    assert_found(finding, Reason.TIMEOUT, "step connect")
    assert not finding.contact


@pytest.mark.parametrize(
    "data",
    [
        b"\x00\xffthis is not the protocol you are looking for\r\n",
        b"hello\n",
        b"$not-a-number\r\n",
        b"*1\r\n" * 5000 + b":1\r\n",
        b"SSH-2.0-OpenSSH_9.6\r\n",
    ],
    ids=["bytes", "no-carriage-return", "length", "nested", "ssh"],
)
async def test_garbage(data: bytes) -> None:
    with misbehaving.garbage(data) as garbage:
        finding = await attempt_once("redis", at(garbage))
    assert_found(finding, Reason.PROTOCOL_ERROR, f"127.0.0.1:{garbage.port} answers, but not in Redis's protocol")


@pytest.mark.parametrize(
    ("data", "told"),
    [
        (b"+PONG\r\n" * 2, "answers INFO, but not as Redis does"),
        (b"$-7\r\n" * 2, "answers INFO, but not as Redis does"),
        (b"+PONG\r\n$20\r\n#\r\nredis_version:1\r\n\r\n", "no data server"),
        (b"+WHAT\r\n$33\r\n#\r\nredis_version:1\r\nrole:master\r\n\r\n", "something else than PONG"),
        (
            b"-WEIRD thing\r\n$33\r\n#\r\nredis_version:1\r\nrole:master\r\n\r\n",
            "answers PING with an error: WEIRD thing",
        ),
    ],
)
async def test_replies_that_are_not_redis(data: bytes, told: str) -> None:
    with misbehaving.garbage(data) as garbage:
        finding = await attempt_once("redis", at(garbage))
    assert_found(finding, Reason.PROTOCOL_ERROR, told)


async def test_write_that_is_answered_otherwise() -> None:
    with misbehaving.garbage(b"+PONG\r\n$33\r\n#\r\nredis_version:1\r\nrole:master\r\n\r\n") as odd:
        finding = await attempt_once("redis", at(odd, writeCheck=True))
    assert_found(finding, Reason.PROTOCOL_ERROR, f"127.0.0.1:{odd.port} answers SET with something else than OK")


@pytest.mark.parametrize("prefix", [b"", b"$104857600\r\n", b"*100000000\r\n"], ids=["line", "bulk", "array"])
async def test_100_mb_are_not_swallowed(prefix: bytes) -> None:
    fill = b":1\r\n" if prefix.startswith(b"*") else b"x"
    with misbehaving.flood(100 << 20, prefix, fill=fill) as flood:
        before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        finding = await attempt_once("redis", at(flood))
        assert_found(finding, Reason.PROTOCOL_ERROR, f"127.0.0.1:{flood.port}")
        assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 32 << 10  # KiB
        await until(lambda: flood.connections == 0, "the probe hung up")
        assert flood.sent < 50 << 20


async def test_http_server() -> None:
    with misbehaving.garbage(b"HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\n\r\n") as web:
        finding = await attempt_once("redis", at(web))
    assert_found(finding, Reason.PROTOCOL_ERROR, f"127.0.0.1:{web.port} is an HTTP server, not Redis")


async def test_real_http_server_sees_no_request_it_could_act_on() -> None:
    """Redis's protocol is a bad request to an HTTP server: it refuses, and the probe says who answered."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readline()
        writer.write(b"HTTP/1.0 400 Bad Request\r\nServer: test\r\n\r\n")
        writer.close()

    web = await asyncio.start_server(serve, "127.0.0.1", 0)
    port = web.sockets[0].getsockname()[1]
    finding = await attempt_once("redis", {"url": f"redis://127.0.0.1:{port}"})
    web.close()
    await web.wait_closed()
    assert_found(finding, Reason.PROTOCOL_ERROR, "is an HTTP server")


@pytest.mark.parametrize("after_request", [False, True])
async def test_server_that_closes(after_request: bool) -> None:
    with misbehaving.closes_at_once(after_request=after_request) as closing:
        finding = await attempt_once("redis", at(closing))
    assert_found(finding, Reason.CONNECTION_RESET, "broke the connection at the first request", "TLS")


async def test_server_that_resets() -> None:
    with misbehaving.resets(after_request=True) as resets:
        finding = await attempt_once("redis", at(resets))
    assert_found(finding, Reason.CONNECTION_RESET, "broke the connection at the first request", "TLS")


async def test_protected_mode() -> None:
    told = b"-DENIED Redis is running in protected mode because protected mode is enabled\r\n"
    with misbehaving.garbage(told, greets=True) as protected:
        finding = await attempt_once("redis", at(protected))
    assert_found(finding, Reason.PERMISSION_DENIED, "is in protected mode: it serves its own host only")


async def test_proxy_without_info() -> None:
    with misbehaving.garbage(b"+PONG\r\n-ERR unknown command 'INFO', with args beginning with: \r\n") as proxy:
        finding = await attempt_once("redis", at(proxy))
    assert_found(finding, Reason.PERMISSION_DENIED, "does not offer INFO", "proxy")


async def test_ipv6() -> None:
    with RedisServer(host="::1") as server:
        finding = await attempt_once("redis", target(server))
    assert_healthy(finding)
    assert list(reasons_of(finding)) == [f"endpoint/[::1]:{server.port}"]


async def test_name_with_a_dead_and_a_live_address(server: RedisServer) -> None:
    def resolver(host: str, port: int) -> list[object]:
        kind = (socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP, "")
        return [(*kind, ("127.0.0.9", port)), (*kind, ("127.0.0.1", port))]

    spec = {"url": f"redis://redis.test:{server.port}"}
    finding = await attempt_once("redis", spec, dialer=Dialer(resolver=resolver))  # type: ignore[arg-type]
    assert_healthy(finding)
    assert list(reasons_of(finding)) == [f"endpoint/redis.test:{server.port}"]


async def test_address_that_the_guard_refuses(server: RedisServer) -> None:
    dialer = Dialer(guard=lambda _, address: "loopback" if address and address.is_loopback else None)
    finding = await attempt_once("redis", target(server), dialer=dialer)
    assert_found(finding, Reason.ADDRESS_REFUSED, "127.0.0.1", "loopback")
