"""What the tests of the PostgreSQL probe share."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator

import asyncpg

from backendhealth.core.observation import Finding
from backendhealth.core.reasons import Reason
from backendhealth.probes.dialer import Dialer
from backendhealth.probes.exchange import Exchange, run_attempt
from tests.probes.support import MemorySecrets, attempt_once, exchange_for
from tests.servers.postgres import PASSWORD, SUPERUSER, Postgres

APP, APP_PASSWORD = "app", "pw-of-the-app"
AUTH = {"secretRef": {"name": "pg"}}
TIMEOUT = 5.0


def secrets(username: str = APP, password: str = APP_PASSWORD) -> MemorySecrets:
    return MemorySecrets({"pg": {"username": username, "password": password}})


def target(server: Postgres, **fields: object) -> dict[str, object]:
    return {"host": server.host, "port": server.port, "auth": AUTH, **fields}


async def probe(
    server: Postgres,
    *,
    using: MemorySecrets | None = None,
    dialer: Dialer | None = None,
    timeout: float = TIMEOUT,
    **fields: object,
) -> Finding:
    """One attempt on a new connection, by default as the role `app`."""
    return await attempt_once("postgres", target(server, **fields), using or secrets(), timeout=timeout, dialer=dialer)


@contextlib.asynccontextmanager
async def kept(server: Postgres, using: MemorySecrets | None = None, **fields: object) -> AsyncIterator[Exchange]:
    """An exchange that has connected already and keeps its connection."""
    exchange = exchange_for("postgres", target(server, **fields), using or secrets())
    try:
        assert_found(await run_attempt(exchange, TIMEOUT), Reason.PROBE_SUCCEEDED)
        yield exchange
    finally:
        await exchange.close()


def assert_found(finding: Finding, reason: Reason, *told: str) -> None:
    assert finding.reason is reason, f"{finding.reason}: {finding.message}"
    for text in told:
        assert text in finding.message
    assert [subject.reason for subject in finding.subjects] == [reason]


async def attempts_until(exchange: Exchange, reason: Reason, deadline: float = 20.0) -> Finding:
    """Attempt again and again until `reason` is found."""
    async with asyncio.timeout(deadline):
        while (finding := await run_attempt(exchange, TIMEOUT)).reason is not reason:
            await asyncio.sleep(0.05)
    return finding


@contextlib.asynccontextmanager
async def clients(server: Postgres, count: int, user: str = SUPERUSER, password: str = PASSWORD) -> AsyncIterator[None]:
    """`count` other clients that hold their connections meanwhile."""
    where = {"host": server.host, "port": server.port, "database": "postgres"}
    opened = [await asyncpg.connect(**where, user=user, password=password, ssl=False) for _ in range(count)]
    try:
        yield
    finally:
        for client in opened:
            client.terminate()
