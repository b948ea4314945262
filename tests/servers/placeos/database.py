"""The configuration database: RethinkDB or PostgreSQL, rows as JSON objects with an `id`, tables by PlaceOS's names."""

from __future__ import annotations

import asyncio
import functools
import json
import warnings
from collections.abc import Awaitable, Callable
from typing import Any, Protocol, TypeVar

from tests.servers.placeos.errors import BackendError, connect_error
from tests.servers.placeos.settings import Settings

Row = dict[str, Any]
TABLES = ("mod", "driver", "sys", "api_key", "authority", "user")
_T = TypeVar("_T")


class Database(Protocol):
    """What services ask of it. Every method raises BackendError."""

    name: str

    async def check(self) -> None:
        """Answers a trivial query."""

    async def get(self, table: str, key: str) -> Row | None:
        """One row."""

    async def find(self, table: str, **fields: object) -> list[Row]:
        """The rows whose fields are these, by id."""

    async def put(self, table: str, row: Row) -> None:
        """Write a row, whether or not it is there."""

    async def create(self) -> None:
        """Make what is missing of the tables."""

    async def search(self, table: str, text: str) -> list[Row]:
        """Full text search."""

    async def close(self) -> None:
        """Disconnect."""


class _Connected:
    """One connection, made anew when the last use of it failed; one that died between two uses is noticed."""

    name = ""
    errors: tuple[type[BaseException], ...] = (OSError, TimeoutError)

    def __init__(self, address: str, timeout: float) -> None:
        self._address = address
        self._timeout = timeout
        self._connection: Any = None
        self._lock = asyncio.Lock()

    async def _connect(self) -> Any:
        raise NotImplementedError

    def _drop(self, connection: Any) -> None:
        raise NotImplementedError

    async def _use(self, work: Callable[[Any], Awaitable[_T]]) -> _T:
        async with self._lock:
            for fresh in (self._connection is None, True):
                try:
                    async with asyncio.timeout(self._timeout):
                        if self._connection is None:
                            self._connection = await self._connect()
                        return await work(self._connection)
                except self.errors as error:
                    self._drop(self._connection)
                    self._connection = None
                    if fresh or isinstance(error, TimeoutError):
                        raise BackendError(self.name, connect_error(self._address, error)) from error
        raise AssertionError

    async def close(self) -> None:
        if self._connection is not None:
            self._drop(self._connection)


class Postgres(_Connected):
    """Tables of (id, data)."""

    name = "postgres"

    def __init__(self, url: str, timeout: float) -> None:
        import asyncpg

        self.errors = (OSError, TimeoutError, asyncpg.PostgresError, asyncpg.InterfaceError)
        super().__init__(url.rpartition("@")[2].partition("/")[0], timeout)
        self._url = url

    async def _connect(self) -> Any:
        import asyncpg

        return await asyncpg.connect(self._url, ssl=False, timeout=self._timeout)

    def _drop(self, connection: Any) -> None:
        if connection is not None:
            connection.terminate()

    async def check(self) -> None:
        await self._use(lambda connection: connection.fetchval("SELECT 1"))

    async def get(self, table: str, key: str) -> Row | None:
        text = await self._use(lambda c: c.fetchval(f'SELECT data FROM "{table}" WHERE id = $1', key))
        return None if text is None else json.loads(text)

    async def find(self, table: str, **fields: object) -> list[Row]:
        query = f'SELECT data FROM "{table}" WHERE data @> $1::jsonb ORDER BY id'
        return [json.loads(row["data"]) for row in await self._use(lambda c: c.fetch(query, json.dumps(fields)))]

    async def put(self, table: str, row: Row) -> None:
        query = f'INSERT INTO "{table}" VALUES ($1, $2) ON CONFLICT (id) DO UPDATE SET data = excluded.data'
        await self._use(lambda c: c.execute(query, row["id"], json.dumps(row)))

    async def create(self) -> None:
        for table in TABLES:
            query = f'CREATE TABLE IF NOT EXISTS "{table}" (id TEXT PRIMARY KEY, data JSONB NOT NULL)'
            await self._use(functools.partial(_execute, query))

    async def search(self, table: str, text: str) -> list[Row]:
        vector = "to_tsvector('simple', data->>'name')"
        where = f"WHERE {vector} @@ plainto_tsquery('simple', $1)" if text else "WHERE $1 = ''"
        query = f'SELECT data FROM "{table}" {where} ORDER BY id'
        return [json.loads(row["data"]) for row in await self._use(lambda c: c.fetch(query, text))]


class Rethink(_Connected):
    """Tables of documents."""

    name = "rethinkdb"

    def __init__(self, settings: Settings) -> None:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # the driver's own
            from rethinkdb import RethinkDB
            from rethinkdb.errors import ReqlError
        self.errors = (OSError, TimeoutError, ReqlError, ValueError)  # ValueError: a handshake that was cut off
        super().__init__(f"{settings.rethinkdb_host}:{settings.rethinkdb_port}", settings.backend_timeout)
        self._settings = settings
        self._r = RethinkDB()
        self._r.set_loop_type("asyncio")

    async def _connect(self) -> Any:
        one = self._settings
        return await self._r.connect(
            host=one.rethinkdb_host,
            port=one.rethinkdb_port,
            db=one.rethinkdb_db,
            user=one.rethinkdb_user,
            password=one.rethinkdb_password,
            timeout=max(1, int(self._timeout)),
        )

    def _drop(self, connection: Any) -> None:
        if connection is not None and connection._instance is not None and connection._instance._streamwriter:
            connection._instance._streamwriter.close()

    async def _rows(self, term: Any) -> list[Row]:
        async def read(connection: Any) -> list[Row]:
            cursor = await term.run(connection)
            if isinstance(cursor, list):
                return cursor
            rows = []
            while await cursor.fetch_next():
                rows.append(await cursor.next())
            return rows

        return await self._use(read)

    async def check(self) -> None:
        await self._use(self._r.expr([1]).run)

    async def get(self, table: str, key: str) -> Row | None:
        return await self._use(self._r.table(table).get(key).run)

    async def find(self, table: str, **fields: object) -> list[Row]:
        rows = await self._rows(self._r.table(table).filter(fields))
        return sorted(rows, key=lambda row: str(row["id"]))

    async def put(self, table: str, row: Row) -> None:
        await self._use(self._r.table(table).insert(row, conflict="replace").run)

    async def create(self) -> None:
        name = self._settings.rethinkdb_db
        if name not in await self._use(self._r.db_list().run):
            await self._use(self._r.db_create(name).run)
        for table in set(TABLES) - set(await self._use(self._r.db(name).table_list().run)):
            await self._use(self._r.db(name).table_create(table).run)
            await self._use(self._r.db(name).table(table).wait(wait_for="all_replicas_ready", timeout=10).run)

    async def search(self, table: str, text: str) -> list[Row]:
        raise NotImplementedError("this generation lists from Elasticsearch")


async def _execute(query: str, connection: Any) -> None:
    await connection.execute(query)


def connect(settings: Settings) -> Database:
    """The database of this generation; connects when first asked."""
    if settings.postgres_url:
        return Postgres(settings.postgres_url, settings.backend_timeout)
    return Rethink(settings)
