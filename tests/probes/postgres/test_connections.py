"""Connections: broken, hung, kept, over TLS; and whatever else may answer at the port."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import random
import socket
import struct
from collections.abc import Callable
from pathlib import Path

import pytest

from backendhealth.core.observation import Finding
from backendhealth.core.reasons import Reason
from backendhealth.core.verdict import Verdict
from backendhealth.probes.dialer import Dialer
from backendhealth.probes.exchange import run_attempt
from tests.probes.checks import eventually, nothing_left, open_sockets, resolves_to
from tests.probes.postgres.helpers import (
    APP,
    APP_PASSWORD,
    AUTH,
    TIMEOUT,
    assert_found,
    attempts_until,
    kept,
    probe,
    secrets,
    target,
)
from tests.probes.support import PLANTED, MemorySecrets, attempt_once, exchange_for, planted
from tests.servers import misbehaving
from tests.servers.misbehaving import Server
from tests.servers.postgres import PASSWORD, SUPERUSER, Postgres
from tests.servers.process import free_port

PROTOCOL = "what answers there does not speak PostgreSQL"


async def ask(server: Server, *, timeout: float = 3, **fields: object) -> Finding:
    spec = {"host": "127.0.0.1", "port": server.port, "auth": AUTH, **fields}
    async with nothing_left():
        finding = await attempt_once("postgres", spec, secrets(password=PLANTED), timeout=timeout)
        await eventually(lambda: server.connections == 0, "the probe closed its end")
    return finding


async def test_refused() -> None:
    port = free_port()
    finding = await attempt_once("postgres", {"host": "127.0.0.1", "port": port})
    assert_found(finding, Reason.CONNECTION_REFUSED, f"connection refused by 127.0.0.1:{port}")


async def test_packets_that_vanish() -> None:
    with misbehaving.unreachable() as port:
        finding = await attempt_once("postgres", {"host": "127.0.0.1", "port": port}, timeout=0.3)
    assert_found(finding, Reason.TIMEOUT, "it hung in step connect")
    assert not finding.contact


@pytest.mark.parametrize("tls", [None, {}], ids=["plain", "tls"])
@pytest.mark.parametrize(
    "make",
    [
        misbehaving.closes_at_once,
        lambda: misbehaving.closes_at_once(after_request=True),
        misbehaving.resets,
        lambda: misbehaving.resets(after_request=True),
    ],
    ids=["closed", "closed after the request", "reset", "reset after the request"],
)
async def test_broken_connections(make: misbehaving.Make, tls: dict[str, object] | None) -> None:
    with make() as server:
        finding = await ask(server, tls=tls)
    assert_found(finding, Reason.CONNECTION_RESET, "the other side broke the connection")


@pytest.mark.parametrize(
    ("make", "told"),
    [
        (misbehaving.garbage, "this is not the protocol"),
        (lambda: misbehaving.garbage(b"\0" * 64), PROTOCOL),
        (lambda: misbehaving.garbage(b"HTTP/1.1 400 Bad Request\r\n\r\n", closes=True), '"HTTP/1.1 400 Bad Request"'),
        (lambda: misbehaving.garbage(b"SSH-2.0-OpenSSH_9.2\r\n", greets=True), "SSH-2.0-OpenSSH_9.2"),
        (lambda: misbehaving.garbage(b"-ERR unknown command\r\n"), '"-ERR unknown command"'),
        (lambda: misbehaving.garbage(b"R\0\0\0\x04"), "its answers make no sense"),
        (lambda: misbehaving.flood(100_000_000), "xxxx"),
        (lambda: misbehaving.flood(100_000_000, b"R\x05\xf5\xe1\x00"), PROTOCOL),
        (lambda: misbehaving.flood(100_000_000, fill=b"N\0\0\0\x05\0"), PROTOCOL),
        (misbehaving.drip, '"x"'),
    ],
    ids=["text", "zeros", "http", "ssh", "redis", "empty frame", "100 MB", "100 MB message", "100 MB notices", "drip"],
)
async def test_what_is_not_postgres(make: misbehaving.Make, told: str) -> None:
    with make() as server:
        finding = await ask(server)
        assert server.sent < 20_000_000
    assert_found(finding, Reason.PROTOCOL_ERROR, PROTOCOL, told)


@pytest.mark.parametrize("answer", ["HTTP/1.1 400 Bad Request", "Ecould not fork new process for connection"])
async def test_what_is_not_postgres_when_asked_for_tls(answer: str) -> None:
    with misbehaving.garbage(answer.encode()) as server:
        finding = await ask(server, tls={})
    assert_found(finding, Reason.PROTOCOL_ERROR, f'{PROTOCOL}: it sent "{answer}" when asked for TLS')


@pytest.mark.parametrize(
    ("make", "step"),
    [(misbehaving.silent, "auth"), (lambda: misbehaving.drip(b"R\0\0\x10\0"), "auth")],
    ids=["silent", "drip"],
)
async def test_what_hangs(make: misbehaving.Make, step: str) -> None:
    with make() as server:
        finding = await ask(server, timeout=0.4)
        over_tls = await ask(server, timeout=0.4, tls={}) if step == "auth" and not server.sent else None
    assert_found(finding, Reason.TIMEOUT, f"no answer within 0.4 s: it hung in step {step}")
    if over_tls is not None:
        assert_found(over_tls, Reason.TIMEOUT, "it hung in step tls")


def frame(kind: bytes, body: bytes) -> bytes:
    return kind + struct.pack("!i", len(body) + 4) + body


AUTHENTICATED = (
    frame(b"R", struct.pack("!i", 0))
    + frame(b"S", b"server_version\x0015.1\x00")
    + frame(b"K", bytes(8))
    + frame(b"Z", b"I")
)


def raving(seed: int, *, authenticated: bool) -> Server:
    """A server whose messages are framed well and make no sense."""
    dice = random.Random(seed)

    def handle(server: Server, conn: socket.socket) -> None:
        server.read_some(conn)
        if authenticated:
            server.send(conn, AUTHENTICATED)
            server.read_some(conn)
        for _ in range(dice.randint(1, 30)):
            kind = bytes([dice.choice(b"RKSZENvTDCItAns123")])
            server.send(conn, frame(kind, dice.randbytes(dice.choice([0, 1, 2, 4, 5, 6, 8, 20, 100]))))
        server.send(conn, frame(b"Z", b"I"))

    return Server(handle)


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")  # asyncpg's half-made Connection
async def test_messages_that_make_no_sense_never_count_as_our_fault_or_as_healthy() -> None:
    for seed in range(60):
        with raving(seed, authenticated=seed % 2 == 0) as server:
            finding = await ask(server, timeout=1)
        expected = {Reason.PROTOCOL_ERROR, Reason.CONNECTION_RESET, Reason.QUERY_FAILED, Reason.TIMEOUT}
        assert finding.reason in expected, f"seed {seed}: {finding.message}"


@pytest.mark.parametrize(
    ("shout", "reason", "told"),
    [
        (lambda heard: frame(b"E", b"SFATAL\0C28000\0M" + heard + b"\0\0"), Reason.AUTHENTICATION_FAILED, "in: •••"),
        (lambda heard: b"HTTP/1.1 400 " + heard, Reason.PROTOCOL_ERROR, "it sent something else"),
    ],
    ids=["error", "garbage"],
)
async def test_a_server_that_asks_for_the_password_and_shouts_it(
    shout: Callable[[bytes], bytes], reason: Reason, told: str, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)

    def handle(server: Server, conn: socket.socket) -> None:
        server.read_some(conn)
        server.send(conn, frame(b"R", struct.pack("!i", 3)))  # the password in clear text, please
        sent = server.read_some(conn)[5:-1]
        server.send(conn, shout(sent))

    with Server(handle) as server:
        finding = await ask(server)
        assert PLANTED.encode() in server.request
    assert_found(finding, reason, told)
    assert not planted(finding)
    assert PLANTED not in caplog.text


async def test_a_connection_is_kept(primary: Postgres) -> None:
    async with nothing_left(), kept(primary) as exchange:
        before = primary.client_backends()
        for _ in range(3):
            finding = await run_attempt(exchange, TIMEOUT)
            assert list(finding.steps) == ["status"]
        assert primary.client_backends() == before
        await exchange.close()
        await exchange.close()


async def test_killed_and_back(own: Postgres) -> None:
    async with nothing_left(), kept(own) as exchange:
        own.kill()
        finding = await attempts_until(exchange, Reason.CONNECTION_REFUSED)
        assert_found(finding, Reason.CONNECTION_REFUSED, f"connection refused by 127.0.0.1:{own.port}")
        own.start()
        assert_found(await run_attempt(exchange, TIMEOUT), Reason.PROBE_SUCCEEDED)


async def test_a_kept_connection_that_was_ended_while_idle(own: Postgres) -> None:
    before = open_sockets()
    async with kept(own) as exchange:
        own.sql("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = 'app'")
        await eventually(lambda: open_sockets() <= before, "the end of the kept connection was noticed")
        finding = await run_attempt(exchange, TIMEOUT)
        assert_found(finding, Reason.PROBE_SUCCEEDED)
        assert "connect" in finding.steps


async def test_ended_in_the_middle_of_a_query(own: Postgres) -> None:
    attempt = asyncio.create_task(probe(own, query="SELECT pg_sleep(100)", timeout=30))
    asleep = "SELECT count(*) FROM pg_stat_activity WHERE wait_event = 'PgSleep'"
    await eventually(lambda: own.sql(asleep) == "1", "the query runs")
    own.sql("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = 'app'")
    finding = await attempt
    assert_found(finding, Reason.CONNECTION_RESET, "the other side broke the connection")


async def test_killed_in_the_middle_of_a_query(own: Postgres) -> None:
    attempt = asyncio.create_task(probe(own, query="SELECT pg_sleep(100)", timeout=30))
    asleep = "SELECT count(*) FROM pg_stat_activity WHERE wait_event = 'PgSleep'"
    await eventually(lambda: own.sql(asleep) == "1", "the query runs")
    own.kill()
    assert_found(await attempt, Reason.CONNECTION_RESET, "the other side broke the connection")


async def test_frozen(own: Postgres) -> None:
    async with nothing_left(), kept(own) as exchange:
        with own.frozen():
            hung = await run_attempt(exchange, 0.4)
            assert_found(hung, Reason.TIMEOUT, "no answer within 0.4 s: it hung in step status")
            assert not hung.contact, "nothing came over the kept connection"
            anew = await run_attempt(exchange, 0.4)
            assert_found(anew, Reason.TIMEOUT, "it hung in step auth")
            assert anew.contact, "the kernel still accepts"
        assert_found(await run_attempt(exchange, TIMEOUT), Reason.PROBE_SUCCEEDED)


async def test_nothing_is_left_of_200_cancelled_attempts(own: Postgres) -> None:
    spec = target(own, query="SELECT pg_sleep(100)")
    with misbehaving.silent() as silent:
        hung = {"host": "127.0.0.1", "port": silent.port}
        async with nothing_left():
            exchanges = [exchange_for("postgres", spec, secrets()) for _ in range(10)]
            exchanges += [exchange_for("postgres", hung, secrets()) for _ in range(190)]
            attempts = [asyncio.create_task(run_attempt(exchange, 30)) for exchange in exchanges]
            await eventually(lambda: silent.connections == 190, "all hang", timeout=20)
            asleep = "SELECT count(*) FROM pg_stat_activity WHERE wait_event = 'PgSleep'"
            await eventually(lambda: own.sql(asleep) == "10", "all queries run", timeout=20)
            for attempt in attempts:
                attempt.cancel()
            for attempt in attempts:
                with contextlib.suppress(asyncio.CancelledError):
                    await attempt
            await eventually(lambda: silent.connections == 0, "all are closed")


async def test_ipv6() -> None:
    with Postgres(host="::1") as server:
        finding = await probe(server, using=secrets(SUPERUSER, PASSWORD))
    assert_found(finding, Reason.PROBE_SUCCEEDED)
    assert finding.subjects[0].subject == f"endpoint/[::1]:{server.port}"


async def test_a_name_with_a_dead_address(primary: Postgres) -> None:
    dead = ("127.0.0.9", free_port("127.0.0.9"))
    dialer = Dialer(resolver=resolves_to(dead, ("127.0.0.1", primary.port)))
    assert_found(await probe(primary, host="db.test", dialer=dialer), Reason.PROBE_SUCCEEDED)


async def test_an_address_that_is_refused(primary: Postgres) -> None:
    guarded = Dialer(
        resolver=resolves_to(("127.0.0.1", primary.port)),
        guard=lambda _, address: "no" if address and address.is_loopback else None,
    )
    finding = await probe(primary, host="db.test", dialer=guarded)
    assert_found(finding, Reason.ADDRESS_REFUSED, "not connected to 127.0.0.1 (db.test): no")


async def test_nothing_of_our_surroundings_gets_a_say(
    primary: Postgres, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    pgpass = tmp_path / "pgpass"
    pgpass.write_text(f"*:*:*:*:{APP_PASSWORD}\n")
    pgpass.chmod(0o600)
    surroundings = {
        "PGHOST": "elsewhere.test",
        "PGPORT": "1",
        "PGUSER": APP,
        "PGPASSWORD": APP_PASSWORD,
        "PGPASSFILE": str(pgpass),
        "PGDATABASE": "elsewhere",
        "PGSSLMODE": "verify-full",
        "PGSSLNEGOTIATION": "direct",
        "PGTARGETSESSIONATTRS": "standby",
        "PGGSSLIB": "nonsense",
    }
    for name, value in surroundings.items():
        monkeypatch.setenv(name, value)
    assert_found(await probe(primary), Reason.PROBE_SUCCEEDED)
    anonymous = await probe(primary, auth=None)
    assert_found(anonymous, Reason.AUTHENTICATION_FAILED)


async def test_a_password_rotated_while_running(own: Postgres) -> None:
    using = secrets()
    async with kept(own, using) as exchange:
        own.sql(f"ALTER ROLE {APP} PASSWORD 'the new one'")
        assert_found(await run_attempt(exchange, TIMEOUT), Reason.PROBE_SUCCEEDED)
        own.stop()
        own.start()
        refused = await attempts_until(exchange, Reason.AUTHENTICATION_FAILED)
        assert_found(refused, Reason.AUTHENTICATION_FAILED, "refuses the user or the password")
        assert APP_PASSWORD not in repr(refused)
        using.data["pg"]["password"] = "the new one"
        assert_found(await run_attempt(exchange, TIMEOUT), Reason.PROBE_SUCCEEDED)


@pytest.mark.parametrize(
    ("data", "reason", "told"),
    [
        ({}, Reason.SECRET_NOT_FOUND, "Secret pg does not exist"),
        ({"pg": {"username": "x"}}, Reason.SECRET_KEY_MISSING, "Secret pg has no key password"),
        ({"pg": {"password": PLANTED}}, Reason.SECRET_KEY_MISSING, "Secret pg has no key username"),
        ({"pg": {"username": "x", "password": b"\xff"}}, Reason.SECRET_INVALID, "Secret pg, key password: not UTF-8"),
    ],
    ids=["no secret", "no password", "no username", "not UTF-8"],
)
async def test_secrets_that_are_missing_or_of_no_use(
    data: dict[str, dict[str, str | bytes]], reason: Reason, told: str
) -> None:
    with misbehaving.silent() as server:
        spec = {"host": "127.0.0.1", "port": server.port, "auth": AUTH}
        finding = await attempt_once("postgres", spec, MemorySecrets(data))
        assert server.accepted == 0
    assert_found(finding, reason, told)
    assert finding.verdict is Verdict.UNKNOWN
    assert not planted(finding)
