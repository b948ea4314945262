"""Credentials: missing, wrong, rotated, without rights; and never shown."""

from __future__ import annotations

import logging
import socket
from collections.abc import Callable, Iterator

import pytest

from backendhealth.core.reasons import Reason
from backendhealth.core.verdict import Verdict
from backendhealth.probes.exchange import run_attempt
from tests.probes.redis.helpers import AUTH, assert_found, assert_healthy, exchange, password, target, until_noticed
from tests.probes.support import PLANTED, MemorySecrets, attempt_once, planted
from tests.servers import misbehaving
from tests.servers.redis import RedisServer

RULES = (
    "full on >full-password ~* &* +@all",
    "pinger on >pinger-password ~* -@all +ping",
    "reader on >reader-password ~* -@all +ping +info",
    "selecter on >selecter-password ~* -@all +info",
)


@pytest.fixture(scope="module")
def guarded() -> Iterator[RedisServer]:
    """A server with a password for the default user and some ACL users."""
    with RedisServer(password="right", users=RULES) as running:
        yield running


async def test_password(guarded: RedisServer) -> None:
    finding = await attempt_once("redis", target(guarded, auth=AUTH, writeCheck=True), password("right"))
    assert_healthy(finding)
    assert list(finding.steps) == ["resolve", "connect", "auth", "ping", "info", "write"]


async def test_user_and_password(guarded: RedisServer) -> None:
    secrets = password("full-password", username="full")
    assert_healthy(await attempt_once("redis", target(guarded, auth=AUTH, writeCheck=True), secrets))


@pytest.mark.parametrize(
    "secret",
    [{"password": "wrong"}, {"username": "full", "password": "wrong"}, {"username": "nobody", "password": "right"}],
    ids=["bad-password", "bad-password-of-a-user", "unknown-user"],
)
async def test_credentials_that_are_not_accepted(guarded: RedisServer, secret: dict[str, str]) -> None:
    finding = await attempt_once("redis", target(guarded, auth=AUTH), MemorySecrets({"redis": secret}))
    assert_found(
        finding, Reason.AUTHENTICATION_FAILED, guarded.address, "does not accept the credentials of Secret redis"
    )
    assert finding.verdict is Verdict.UNKNOWN
    assert "wrong" not in repr(finding)


async def test_no_password_where_one_is_asked_for(guarded: RedisServer) -> None:
    finding = await attempt_once("redis", target(guarded))
    assert_found(finding, Reason.AUTHENTICATION_FAILED, f"{guarded.address} asks for a password", "set auth")


async def test_password_where_none_is_asked_for(server: RedisServer) -> None:
    finding = await attempt_once("redis", target(server, auth=AUTH), password("unasked-for"))
    assert_found(finding, Reason.AUTHENTICATION_FAILED, "asks for no password", "Secret redis")


async def test_user_name_before_redis_6() -> None:
    with misbehaving.garbage(b"-ERR wrong number of arguments for 'auth' command\r\n") as old:
        spec = {"url": f"redis://127.0.0.1:{old.port}", "auth": AUTH}
        finding = await attempt_once("redis", spec, password(PLANTED, username="someone"))
    assert_found(finding, Reason.AUTHENTICATION_FAILED, "before Redis 6", "remove the key username from Secret redis")


@pytest.mark.parametrize(
    ("user", "spec", "command"),
    [
        ("pinger", {}, "INFO"),
        ("reader", {"writeCheck": True}, "SET"),
        ("selecter", {}, "PING"),
    ],
)
async def test_acl_denied(guarded: RedisServer, user: str, spec: dict[str, object], command: str) -> None:
    secrets = password(f"{user}-password", username=user)
    finding = await attempt_once("redis", target(guarded, auth=AUTH, **spec), secrets)
    assert_found(finding, Reason.PERMISSION_DENIED, guarded.address, f"the user may not run {command}")
    assert finding.verdict is Verdict.UNKNOWN


async def test_acl_denies_the_database(guarded: RedisServer) -> None:
    spec = {"url": f"redis://{guarded.address}/2", "auth": AUTH}
    async with exchange(spec, password("reader-password", username="reader")) as kept:
        for _ in range(2):
            assert_found(await run_attempt(kept, 5), Reason.PERMISSION_DENIED, "may not run SELECT", "grant +select")


async def test_reading_is_enough_without_a_write_check(guarded: RedisServer) -> None:
    secrets = password("reader-password", username="reader")
    assert_healthy(await attempt_once("redis", target(guarded, auth=AUTH), secrets))


async def test_secret_missing(guarded: RedisServer) -> None:
    finding = await attempt_once("redis", target(guarded, auth=AUTH), MemorySecrets())
    assert_found(finding, Reason.SECRET_NOT_FOUND, "Secret redis does not exist")


async def test_secret_key_missing(guarded: RedisServer) -> None:
    finding = await attempt_once("redis", target(guarded, auth=AUTH), MemorySecrets({"redis": {"username": "full"}}))
    assert_found(finding, Reason.SECRET_KEY_MISSING, "Secret redis has no key password")


async def test_password_rotated_while_running() -> None:
    """Log-ins are kept over a rotation; the next connection needs, and takes, the new password."""
    with RedisServer(password="old") as server:
        secrets = password("old")
        async with exchange(target(server, auth=AUTH), secrets) as kept:
            assert_healthy(await run_attempt(kept, 5))
            server.execute("CONFIG", "SET", "requirepass", "new")
            server.password = "new"
            assert_healthy(await run_attempt(kept, 5))  # Redis lets those in who are in
            server.kill()
            await until_noticed(kept)
            server.write_config(requirepass="new", masterauth="new")
            server.start()
            assert_found(await run_attempt(kept, 5), Reason.AUTHENTICATION_FAILED, "credentials of Secret redis")
            secrets.data["redis"]["password"] = "new"
            assert_healthy(await run_attempt(kept, 5))


def echo() -> misbehaving.Server:
    """Says back what it hears, as a broken proxy might."""

    def handle(server: misbehaving.Server, conn: socket.socket) -> None:
        while data := server.read_some(conn):
            server.send(conn, data)

    return misbehaving.Server(handle)


def quoting() -> misbehaving.Server:
    """Redis whose AUTH was renamed: the error quotes the password."""
    return misbehaving.garbage(f"-ERR unknown command 'AUTH', with args beginning with: '{PLANTED}' \r\n".encode())


def quoting_later() -> misbehaving.Server:
    """Lets anybody in, then quotes the password in all other errors."""
    return misbehaving.garbage(f"+OK\r\n-ODD you said {PLANTED}\r\n-ODD you said {PLANTED}\r\n".encode())


def web() -> misbehaving.Server:
    """An HTTP server's error page that shows the request."""
    return misbehaving.garbage(f"HTTP/1.1 400 Bad {PLANTED}\r\n\r\n<h1>{PLANTED}</h1>".encode())


@pytest.mark.parametrize("make", [echo, quoting, quoting_later, web, misbehaving.silent, misbehaving.resets])
async def test_planted_password_is_never_shown(
    make: Callable[[], misbehaving.Server], caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    with make() as hostile:
        spec = {"url": f"redis://127.0.0.1:{hostile.port}", "auth": AUTH, "writeCheck": True}
        async with exchange(spec, password(PLANTED)) as kept:
            finding = await run_attempt(kept, 0.5)
            assert finding.reason not in {Reason.PROBE_SUCCEEDED, Reason.INTERNAL_ERROR}
            assert not planted(finding)
            assert PLANTED not in repr(kept)
            assert PLANTED not in repr(vars(kept))
    assert PLANTED not in caplog.text


async def test_planted_password_is_not_shown_by_real_servers(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    with RedisServer(password=PLANTED) as server:
        async with exchange(target(server, auth=AUTH, writeCheck=True), password(PLANTED)) as kept:
            assert_healthy(await run_attempt(kept, 5))
            server.execute("CONFIG", "SET", "maxmemory", 1)
            for expected in (Reason.OUT_OF_MEMORY, Reason.TIMEOUT, Reason.CONNECTION_REFUSED):
                finding = await run_attempt(kept, 0.5)
                assert finding.reason is expected, finding.message
                assert not planted(finding)
                if expected is Reason.OUT_OF_MEMORY:
                    server.freeze()
                else:
                    server.kill()
        wrong = await attempt_once("redis", target(server, auth=AUTH), password(PLANTED + "x"))
        assert not planted(wrong)
    assert PLANTED not in caplog.text
