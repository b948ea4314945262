"""Probes RethinkDB: the database, its tables and their replicas, by the system tables and a real read of each table.

Every query runs beside the others on one connection under a deadline of its own: a frozen server makes table_status
and current_issues hang for about 14 s, while the rest still answers.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

from rethinkdb import r

from backendhealth.core.reasons import Reason
from backendhealth.probes.certificates import check_expiry
from backendhealth.probes.rethinkdb_client import Client, Refusal
from backendhealth.probes.rethinkdb_judge import (
    CURRENT_ISSUES,
    DATABASES,
    SERVER_STATUS,
    TABLE_STATUS,
    TABLES,
    Answers,
    judge,
)
from backendhealth.probes.rethinkdb_rows import names
from backendhealth.probes.secrets import TlsMaterial, load_credentials, load_tls

if TYPE_CHECKING:
    from backendhealth.core.observation import Finding
    from backendhealth.core.spec.targets import RethinkdbProbe
    from backendhealth.probes.registry import Context
    from backendhealth.probes.trace import Trace

MAX_READS = 64
MAX_WAIT = 10.0  # seconds for the queries, below the 14 s after which a frozen server is given up
_RESERVE = 0.1  # share of the time-out kept for telling what hung


def build(target: RethinkdbProbe, context: Context) -> RethinkdbExchange:
    """The exchange for `target`; connects to nothing yet."""
    return RethinkdbExchange(target, context)


class RethinkdbExchange:
    """Keeps one authenticated connection; drops it after a query without an answer."""

    def __init__(self, target: RethinkdbProbe, context: Context) -> None:
        self._target = target
        self._context = context
        self._client: Client | None = None
        self._tls: TlsMaterial | None = None
        self._queries = _queries(target.database)

    async def attempt(self, trace: Trace, timeout: float) -> Finding:
        """Ask all queries at once and judge what came back in time."""
        loop = asyncio.get_running_loop()
        limit = min(timeout * (1 - _RESERVE), MAX_WAIT)
        until = loop.time() + limit
        client = await self._connected(trace)
        answers = Answers(client.user, limit)
        with trace.step("query"):
            try:
                await self._ask_all(client, answers, until)
            finally:
                trace.contact = trace.contact or bool(answers.values)
            if not answers.values:
                raise TimeoutError
            client.check()
        finding = judge(self._target, answers)
        if answers.hung or answers.reads_asked - answers.reads.keys() or finding.reason is Reason.PERMISSION_DENIED:
            # A late reply would confuse the driver; a deleted user keeps an open connection, only without grants.
            await self.close()
        return check_expiry(finding, client.stream.not_after, self._tls.expiry_warning if self._tls else 0.0)

    async def close(self) -> None:
        """Close the connection at once."""
        client, self._client = self._client, None
        if client is not None:
            await client.close()

    async def _connected(self, trace: Trace) -> Client:
        if self._client is not None and self._client.usable:
            return self._client
        await self.close()
        target = self._target
        credentials = await load_credentials(self._context.secrets, target.auth, need=("password",))
        self._tls = await load_tls(self._context.secrets, target.tls) if target.tls else None
        stream = await self._context.dialer.open(target.host, target.port, trace, self._tls)
        try:
            client = Client(stream, f"{target.host}:{target.port}", credentials)
        except BaseException:
            stream.abort()
            raise
        self._client = client
        await client.authenticate(trace)
        return client

    async def _ask_all(self, client: Client, answers: Answers, until: float) -> None:
        """Fill `answers`; what has no answer when the time is over is left out and cancelled."""
        queries = self._queries
        answers.asked = {*queries}
        try:
            async with asyncio.timeout_at(until):
                await asyncio.gather(*(self._ask(client, answers, name, term) for name, term in queries.items()))
        except TimeoutError:
            return

    async def _ask(self, client: Client, answers: Answers, name: str, term: Any) -> None:
        answers.values[name] = value = await client.ask(term)
        if name == TABLES and not isinstance(value, Refusal):
            await self._read(client, answers, names(value, TABLES))

    async def _read(self, client: Client, answers: Answers, listed: list[str]) -> None:
        database = self._target.database
        wanted = [name for name in listed if not self._target.tables or name in self._target.tables][:MAX_READS]
        answers.reads_asked = {f"{database}.{name}" for name in wanted}

        async def read(name: str) -> None:
            answers.reads[f"{database}.{name}"] = await client.ask(r.db(database).table(name).limit(1).count())

        await asyncio.gather(*map(read, wanted))


def _queries(database: str | None) -> dict[str, Any]:
    """The ReQL terms by name. Without pluck a missing grant would be reported as a type error."""
    system = r.db("rethinkdb")
    status = system.table("table_status")
    queries: dict[str, Any] = {
        DATABASES: r.db_list(),
        SERVER_STATUS: system.table("server_status").pluck("name", "process").coerce_to("array"),
        TABLE_STATUS: (status.filter({"db": database}) if database else status)
        .pluck("db", "name", "raft_leader", "shards", "status", "error")
        .coerce_to("array"),
        CURRENT_ISSUES: system.table("current_issues")
        .pluck("id", "type", "critical", "description", "info")
        .coerce_to("array"),
    }
    return queries | ({TABLES: r.db(database).table_list()} if database else {})
