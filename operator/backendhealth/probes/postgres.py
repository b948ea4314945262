"""Probes PostgreSQL: connect, authenticate, role, replication and, on request, a query."""

from __future__ import annotations

import asyncio
import datetime as dt
import math
from contextlib import AbstractContextManager
from dataclasses import dataclass, field, replace

import asyncpg

from backendhealth.core.durations import seconds
from backendhealth.core.observation import Fact, Finding
from backendhealth.core.reasons import Reason
from backendhealth.core.spec.generic import PostgresProbe
from backendhealth.core.verdict import Verdict
from backendhealth.probes.certificates import check_expiry
from backendhealth.probes.dialer import peer_not_after
from backendhealth.probes.endpoint import about_endpoint, host_port
from backendhealth.probes.exchange import ProbeError
from backendhealth.probes.matching import excerpt
from backendhealth.probes.postgres_errors import StatementLostError, plain_errors
from backendhealth.probes.postgres_wire import FrameGuard, open_stream, start_session
from backendhealth.probes.registry import Context
from backendhealth.probes.secrets import Credentials, load_credentials, load_tls
from backendhealth.probes.trace import Trace

DEFAULT_USER = "postgres"

# A standby that has replayed all it received is not behind, however long ago the last transaction was; unless nothing
# is received any more: then the age of the last transaction is all that is known.
_STATUS = """
SELECT pg_catalog.pg_is_in_recovery() AS standby,
       pg_catalog.current_setting('transaction_read_only') = 'on' AS read_only,
       receiving,
       CASE WHEN NOT pg_catalog.pg_is_in_recovery() THEN NULL
            WHEN receiving AND pg_catalog.pg_last_wal_receive_lsn() <= pg_catalog.pg_last_wal_replay_lsn() THEN 0
            ELSE extract(epoch FROM pg_catalog.clock_timestamp() - coalesce(
                     pg_catalog.pg_last_xact_replay_timestamp(), pg_catalog.pg_postmaster_start_time()))
       END::float8 AS lag
  FROM (SELECT EXISTS (SELECT FROM pg_catalog.pg_stat_wal_receiver) AS receiving) AS receiver
"""
_LAG_STEPS = ("1s", "10s", "30s", "1m", "5m", "10m", "30m", "1h", "6h", "24h", "168h")


def build(target: PostgresProbe, context: Context) -> PostgresExchange:
    """The exchange for `target`."""
    return PostgresExchange(target, context)


@dataclass(frozen=True, slots=True)
class _Session:
    """A kept connection, authenticated."""

    transport: asyncio.Transport
    guard: FrameGuard
    client: asyncpg.Connection
    secrets: tuple[str, ...] = field(repr=False)
    has_certificate: bool
    not_after: dt.datetime | None
    expiry_warning: float

    def plain_errors(self) -> AbstractContextManager[None]:
        return plain_errors(self.guard, self.secrets, has_certificate=self.has_certificate)

    @property
    def usable(self) -> bool:
        return not self.client.is_closed() and not self.transport.is_closing()


@dataclass(frozen=True, slots=True)
class Status:
    """What the server says of itself; `lag` in seconds, None on a primary."""

    version: str
    standby: bool
    read_only: bool
    receiving: bool
    lag: float | None


class PostgresExchange:
    """Keeps one authenticated connection."""

    def __init__(self, target: PostgresProbe, context: Context) -> None:
        self._target = target
        self._context = context
        self._endpoint = host_port(target.host, target.port)
        self._transport: asyncio.Transport | None = None
        self._session: _Session | None = None
        self._named_statements = True

    async def attempt(self, trace: Trace, timeout: float) -> Finding:
        """Connect unless connected, ask for the status, run the query."""
        return await about_endpoint(self._attempt(trace, timeout), self._endpoint, trace, timeout)

    async def close(self) -> None:
        """Close the socket at once."""
        session, self._session = self._session, None
        transport, self._transport = self._transport, None
        if session is not None:
            session.client.terminate()
        if transport is not None:
            transport.abort()

    async def _attempt(self, trace: Trace, timeout: float) -> Finding:
        if self._session is not None and not self._session.usable:
            await self.close()
        if self._session is None:
            self._session = await self._connect(trace)
        session = self._session
        session.guard.allow()
        try:
            finding = await self._ask(session, trace, timeout)
        except StatementLostError:
            await self.close()
            if not self._named_statements:
                raise ProbeError(
                    Reason.QUERY_FAILED, "the server does not know a prepared statement that the query needs"
                ) from None
            self._named_statements = False
            return await self._attempt(trace, timeout)
        except BaseException:
            await self.close()  # in the middle of a transaction, or of an answer
            raise
        return check_expiry(finding, session.not_after, session.expiry_warning)

    async def _ask(self, session: _Session, trace: Trace, timeout: float) -> Finding:
        with trace.step("status"), session.plain_errors():
            status = await _status(session.client)
        trace.contact = True
        finding = judge(self._target, status)
        if self._target.query is None or finding.verdict is Verdict.UNHEALTHY:
            return finding
        with trace.step("query"), session.plain_errors():
            value = await _first_value(session.client, self._target.query, timeout)
        return self._compare(finding, value, session.secrets)

    async def _connect(self, trace: Trace) -> _Session:
        target, secrets = self._target, self._context.secrets
        login = await load_credentials(secrets, target.auth, need=("username", "password")) or Credentials(DEFAULT_USER)
        tls = None if target.tls is None else await load_tls(secrets, target.tls)
        transport, guard = await open_stream(self._context.dialer, target.host, target.port, trace, tls)
        self._transport = transport
        told = (login.password, f'"{login.username}"') if target.auth else ()
        has_certificate = tls is not None and tls.cert is not None
        try:
            with trace.step("auth"), plain_errors(guard, told, has_certificate=has_certificate):
                client = await start_session(
                    transport, guard, login, target.database, named_statements=self._named_statements
                )
        except BaseException:
            await self.close()
            raise
        warning = tls.expiry_warning if tls else 0.0
        return _Session(transport, guard, client, told, has_certificate, peer_not_after(transport), warning)

    def _compare(self, finding: Finding, value: str | None, secrets: tuple[str, ...]) -> Finding:
        expected = self._target.expect
        if expected is None or value == expected:
            return finding
        seen = "no row" if value is None else excerpt(value, secrets)
        return replace(
            finding, reason=Reason.UNEXPECTED_RESULT, message=f'the query gave {seen}, expected "{expected}"'
        )


async def _status(client: asyncpg.Connection) -> Status:
    row = await client.fetchrow(_STATUS)
    version = str(client.get_settings().server_version).partition(" ")[0]
    return Status(version, row["standby"], row["read_only"], row["receiving"], row["lag"])


async def _first_value(client: asyncpg.Connection, query: str, timeout: float) -> str | None:
    """Text of the first column of the query's first row; None without a row."""
    # The server must not work on when we have long gone: a dropped connection alone does not end a query.
    limit = math.ceil(timeout * 1000) + 1000
    await client.execute(f"BEGIN READ ONLY; SET LOCAL statement_timeout = {limit}")
    row = await client.fetchrow(query)
    await client.execute("ROLLBACK")
    if row is None:
        return None
    value = row[0] if len(row) else None
    if value is None:
        return "null"
    return str(value).lower() if isinstance(value, bool) else str(value)


def judge(target: PostgresProbe, status: Status) -> Finding:
    """What `status` means for what `target` asks for."""
    facts: dict[str, Fact] = {
        "version": status.version,
        "role": "standby" if status.standby else "primary",
        "readOnly": status.read_only,
    }
    if status.lag is not None:
        facts |= {"lagSeconds": int(status.lag), "receiving": status.receiving}
    reason, message = _verdict(target, status)
    return Finding(reason, message, facts=facts)


def _verdict(target: PostgresProbe, status: Status) -> tuple[Reason, str]:
    if target.role == "primary" and status.standby:
        return Reason.READ_ONLY, "a writable server is expected, but this is a standby"
    if target.role == "primary" and status.read_only:
        return Reason.READ_ONLY, "the primary is read-only: default_transaction_read_only is on"
    if target.role == "replica" and not status.standby:
        return Reason.UNEXPECTED_ROLE, "a standby is expected, but this is a primary"
    if target.max_replication_lag is not None and (status.lag or 0) > seconds(target.max_replication_lag):
        source = "" if status.receiving else "; it receives nothing: its connection to the primary is broken"
        behind = f"the standby is more than {_at_least(status.lag or 0, target.max_replication_lag)} behind its primary"
        return Reason.REPLICATION_LAG, f"{behind} (allowed: {target.max_replication_lag}){source}"
    if not status.standby:
        return Reason.PROBE_SUCCEEDED, f"primary, PostgreSQL {status.version}{', read-only' * status.read_only}"
    link = "receiving" if status.receiving else "not connected to a primary"
    return Reason.PROBE_SUCCEEDED, f"standby, PostgreSQL {status.version}, {link}"


def _at_least(lag: float, allowed: str) -> str:
    """The lag in coarse steps, so that the message does not change with every attempt."""
    passed = [step for step in (allowed, *_LAG_STEPS) if seconds(step) <= lag]
    return max(passed, key=seconds, default=allowed)
