"""Evaluation of the ReQL terms that a health check, its tests and the recordings use."""

from __future__ import annotations

import asyncio
import copy
import time
import uuid
from collections.abc import Awaitable, Callable
from typing import Any

from rethinkdb.ql2_pb2 import Term

from tests.servers.rethinkdb import tables
from tests.servers.rethinkdb.errors import (
    NON_EXISTENCE,
    RESOURCE_LIMIT,
    USER,
    ReqlError,
    compile_error,
    failed,
    logic,
    runtime,
)
from tests.servers.rethinkdb.metadata import SYSTEM, Document
from tests.servers.rethinkdb.node import Node
from tests.servers.rethinkdb.values import Database, Row, Rows, Several, Table

T = Term.TermType
ARRAY_LIMIT = 100_000
_ARRAY_LIMIT_TEXT = (
    f"Array over size limit `{ARRAY_LIMIT}`.  To raise the number of allowed elements, modify the `array_limit` option "
    "to `.run` (not available in the Data Explorer), or use an index."
)
_STEPS_PER_SECOND = 5_000_000  # of a mapped range: long enough to be killed or stopped meanwhile
Options = dict[str, Any]


def check(term: Any) -> None:
    """Refuse unknown terms and wrong numbers of arguments before anything runs."""
    if isinstance(term, dict):
        for value in term.values():
            check(value)
    if not isinstance(term, list):
        return
    kind, args = term[0], (term[1] if len(term) > 1 else [])
    if kind not in _TERMS:
        raise compile_error(f"Unrecognized TermType: {kind}.")
    _, least, most = _TERMS[kind]
    if not least <= len(args) <= most:
        wanted = f"between {least} and {most} arguments" if least != most else f"{least} argument{'s' * (least != 1)}"
        raise compile_error(f"Expected {wanted} but found {len(args)}.")
    for arg in args:
        check(arg)


class Evaluator:
    """Runs one query of one user on one server."""

    def __init__(self, node: Node, user: str, default_db: str) -> None:
        self.node = node
        self.user = user
        self.default_db = default_db

    async def run(self, term: Any) -> Any:
        """The value of a term. Raises ReqlError, whose path leads to the term at fault."""
        if isinstance(term, dict):
            return {key: await self.run(value) for key, value in term.items()}
        if not isinstance(term, list):
            return term
        kind, args = term[0], (term[1] if len(term) > 1 else [])
        options: Options = {key: await self.run(value) for key, value in (term[2] if len(term) > 2 else {}).items()}
        if kind == T.FUNC:
            return term
        values = []
        for index, arg in enumerate(args):
            try:
                values.append(await self.run(arg))
            except ReqlError as failure:
                failure.path.insert(0, index)
                raise
        return await _TERMS[kind][0](self, values, options)

    async def finish(self, value: Any) -> Any:
        """What a query's value becomes on its way to the client: rows are read, tables become sequences."""
        if isinstance(value, Row):
            return await tables.read_row(self, value)
        if isinstance(value, Table):
            items = await tables.read_all(self, value)
            return Rows(items, len(items))
        if isinstance(value, Several):
            items = await tables.read_several(self, value)
            return Rows(items, len(items))
        return value

    def denied_unless(self, permission: str, db: str | None = None, table: Document | None = None) -> None:
        self.node.metadata.require(self.user, permission, db, table)

    # names

    async def db(self, args: list[Any], _: Options) -> Any:
        self.node.metadata.check_database(args[0])
        return Database(args[0])

    async def table(self, args: list[Any], options: Options) -> Any:
        db = args[0].name if isinstance(args[0], Database) else self.default_db
        name = args[-1]
        if db == SYSTEM:
            if name not in tables.SYSTEM_TABLES:
                raise failed(f"Table `{db}.{name}` does not exist.")
            return Table(db, name)
        return Table(db, name, self.node.metadata.table(db, name), options.get("read_mode", "single"))

    async def db_list(self, _args: list[Any], _: Options) -> Any:
        return self.node.metadata.databases()

    async def db_create(self, args: list[Any], _: Options) -> Any:
        self.denied_unless("config")
        if args[0] in self.node.metadata.databases():
            raise failed(f"Database `{args[0]}` already exists.")
        self.node.metadata.data["dbs"][args[0]] = key = str(uuid.uuid4())
        self.node.metadata.commit()
        return {"config_changes": [{"new_val": {"id": key, "name": args[0]}, "old_val": None}], "dbs_created": 1}

    async def db_drop(self, args: list[Any], _: Options) -> Any:
        if args[0] not in self.node.metadata.data["dbs"]:
            raise failed(f"Database `{args[0]}` does not exist.")
        self.denied_unless("config", args[0])
        gone = self.node.metadata.tables(args[0])
        for table in gone:
            del self.node.metadata.data["tables"][table["id"]]
        key = self.node.metadata.data["dbs"].pop(args[0])
        self.node.metadata.commit()
        change = {"new_val": None, "old_val": {"id": key, "name": args[0]}}
        return {"config_changes": [change], "dbs_dropped": 1, "tables_dropped": len(gone)}

    async def table_list(self, args: list[Any], _: Options) -> Any:
        db = args[0].name if args else self.default_db
        if db == SYSTEM:
            return sorted(tables.SYSTEM_TABLES)
        return sorted(table["name"] for table in self.node.metadata.tables(db))

    async def table_create(self, args: list[Any], options: Options) -> Any:
        db = args[0].name if isinstance(args[0], Database) else self.default_db
        self.denied_unless("config", db)
        name = args[-1]
        if any(table["name"] == name for table in self.node.metadata.tables(db)):
            raise failed(f"Table `{db}.{name}` already exists.")
        servers = sorted(self.node.connected, key=lambda server: (server != self.node.name, server))
        wanted = options.get("replicas", 1)
        if wanted > len(servers):
            raise failed(
                f"Can't put {wanted} replicas on servers with the tag `default` because there are only "
                f"{len(servers)} servers with the tag `default`. It's impossible to have more replicas of "
                "the data than there are servers."
            )
        replicas = servers[:wanted]
        config = tables.new_config(db, name, replicas)
        self.node.metadata.data["tables"][config["id"]] = {**config, "rows": {}}
        self.node.metadata.commit()
        return {"config_changes": [{"new_val": config, "old_val": None}], "tables_created": 1}

    async def table_drop(self, args: list[Any], _: Options) -> Any:
        db = args[0].name if isinstance(args[0], Database) else self.default_db
        table = self.node.metadata.table(db, args[-1])
        self.denied_unless("config", db, table)
        del self.node.metadata.data["tables"][table["id"]]
        self.node.metadata.commit()
        change = {"new_val": None, "old_val": tables.config_of(table)}
        return {"config_changes": [change], "tables_dropped": 1}

    # what tables are asked about themselves

    async def status(self, args: list[Any], _: Options) -> Any:
        await self.node.links.ask_all()
        return self.node.course(args[0].table).status()

    async def config(self, args: list[Any], _: Options) -> Any:
        self.denied_unless("config", args[0].db, args[0].table)
        return Row(Table(SYSTEM, "table_config"), args[0].table["id"])

    async def wait(self, args: list[Any], options: Options) -> Any:
        until = time.monotonic() + options.get("timeout", 1e9)
        wanted = options.get("wait_for", "all_replicas_ready")
        while True:
            status = self.node.course(args[0].table).status()["status"]
            if status[wanted]:
                return {"ready": 1}
            if time.monotonic() >= until:
                raise failed("Timed out while waiting for tables.")
            await asyncio.sleep(0.02)

    # reading

    async def get(self, args: list[Any], _: Options) -> Any:
        return Row(args[0], args[1])

    async def get_all(self, args: list[Any], options: Options) -> Any:
        return Several(args[0], args[1:], options.get("index", "id"))

    async def sequence(self, value: Any) -> list[Any]:
        """The items of anything that can be read as a sequence."""
        value = await self.finish(value)
        if isinstance(value, Rows):
            return list(value.items)
        if isinstance(value, list):
            return value
        raise logic(f"Cannot convert {tables.type_name(value)} to SEQUENCE")

    async def count(self, args: list[Any], _: Options) -> Any:
        if isinstance(args[0], Rows) and args[0].size > ARRAY_LIMIT:
            await asyncio.sleep(args[0].size / _STEPS_PER_SECOND)
            return args[0].size
        return len(await self.sequence(args[0]))

    async def filter(self, args: list[Any], _: Options) -> Any:
        wanted = args[1].items()
        rows = [row for row in await self.sequence(args[0]) if all(row.get(k) == v for k, v in wanted)]
        return Rows(rows, len(rows))

    async def pluck(self, args: list[Any], _: Options) -> Any:
        rows = [{key: row[key] for key in args[1:] if key in row} for row in await self.sequence(args[0])]
        return Rows(rows, len(rows))

    async def limit(self, args: list[Any], _: Options) -> Any:
        rows = (await self.sequence(args[0]))[: args[1]]
        return Rows(rows, len(rows))

    async def range(self, args: list[Any], _: Options) -> Any:
        start, stop = (0, args[0]) if len(args) == 1 else args
        return Rows(range(start, stop), stop - start)

    async def map(self, args: list[Any], _: Options) -> Any:
        return args[0]

    async def coerce_to(self, args: list[Any], _: Options) -> Any:
        value = args[0]
        if isinstance(value, Table) and value.table is None:
            try:
                return await tables.read_all(self, value)
            except ReqlError as failure:
                # The real server loses the reason here: a missing grant reads like a type error.
                raise logic("Cannot coerce TABLE to ARRAY (failed to produce intermediate stream).") from failure
        if isinstance(value, Rows) and value.size > ARRAY_LIMIT:
            raise runtime(RESOURCE_LIMIT, _ARRAY_LIMIT_TEXT)
        return await self.sequence(value)

    async def bracket(self, args: list[Any], _: Options) -> Any:
        value = await self.finish(args[0])
        if not isinstance(value, dict):
            printed = "null" if value is None else str(value)
            message = f"Cannot perform bracket on a non-object non-sequence `{printed}`."
            raise runtime(NON_EXISTENCE, message, [0])
        if args[1] not in value:
            raise runtime(NON_EXISTENCE, f"No attribute `{args[1]}` in object:\n{tables.pretty(value)}")
        return value[args[1]]

    async def changes(self, args: list[Any], options: Options) -> Any:
        return await tables.feed(self, args[0], options)

    # plain values

    async def make_array(self, args: list[Any], _: Options) -> Any:
        return args

    async def add(self, args: list[Any], _: Options) -> Any:
        total: float = 0
        for value in args:
            if isinstance(value, bool) or not isinstance(value, int | float):
                raise logic(f"Expected type NUMBER but found {tables.type_name(value)}.")
            total += value
        return total

    async def now(self, _args: list[Any], _: Options) -> Any:
        return {"$reql_type$": "TIME", "epoch_time": round(time.time(), 3), "timezone": "+00:00"}

    async def error(self, args: list[Any], _: Options) -> Any:
        raise runtime(USER, args[0])

    async def func(self, args: list[Any], _: Options) -> Any:
        raise logic("A function is not a value.")

    # writing

    async def insert(self, args: list[Any], options: Options) -> Any:
        documents = args[1] if isinstance(args[1], list) else [args[1]]
        return await tables.insert(self, args[0], copy.deepcopy(documents), options.get("conflict", "error"))

    async def update(self, args: list[Any], _: Options) -> Any:
        return await tables.change(self, args[0], args[1])

    async def delete(self, args: list[Any], _: Options) -> Any:
        return await tables.change(self, args[0], None)

    async def grant(self, args: list[Any], _: Options) -> Any:
        self.denied_unless("write", SYSTEM)
        target = args[0] if len(args) == 3 else None
        scope = ""
        if isinstance(target, Database):
            scope = f"db:{target.name}"
        elif isinstance(target, Table) and target.table is not None:
            scope = f"table:{target.table['id']}"
        return self.node.metadata.grant(args[-2], scope, args[-1])


_Handler = Callable[[Evaluator, list[Any], Options], Awaitable[Any]]
_MANY = 1000
_TERMS: dict[int, tuple[_Handler, int, int]] = {
    T.DB: (Evaluator.db, 1, 1),
    T.TABLE: (Evaluator.table, 1, 2),
    T.DB_LIST: (Evaluator.db_list, 0, 0),
    T.DB_CREATE: (Evaluator.db_create, 1, 1),
    T.DB_DROP: (Evaluator.db_drop, 1, 1),
    T.TABLE_LIST: (Evaluator.table_list, 0, 1),
    T.TABLE_CREATE: (Evaluator.table_create, 1, 2),
    T.TABLE_DROP: (Evaluator.table_drop, 1, 2),
    T.STATUS: (Evaluator.status, 1, 1),
    T.CONFIG: (Evaluator.config, 1, 1),
    T.WAIT: (Evaluator.wait, 1, 1),
    T.GET: (Evaluator.get, 2, 2),
    T.GET_ALL: (Evaluator.get_all, 1, _MANY),
    T.COUNT: (Evaluator.count, 1, 1),
    T.FILTER: (Evaluator.filter, 2, 2),
    T.PLUCK: (Evaluator.pluck, 1, _MANY),
    T.LIMIT: (Evaluator.limit, 2, 2),
    T.RANGE: (Evaluator.range, 1, 2),
    T.MAP: (Evaluator.map, 2, 2),
    T.COERCE_TO: (Evaluator.coerce_to, 2, 2),
    T.BRACKET: (Evaluator.bracket, 2, 2),
    T.CHANGES: (Evaluator.changes, 1, 1),
    T.MAKE_ARRAY: (Evaluator.make_array, 0, _MANY),
    T.ADD: (Evaluator.add, 1, _MANY),
    T.NOW: (Evaluator.now, 0, 0),
    T.ERROR: (Evaluator.error, 0, 1),
    T.FUNC: (Evaluator.func, 2, 2),
    T.VAR: (Evaluator.func, 1, 1),
    T.INSERT: (Evaluator.insert, 2, 2),
    T.UPDATE: (Evaluator.update, 2, 2),
    T.DELETE: (Evaluator.delete, 1, 1),
    T.GRANT: (Evaluator.grant, 2, 3),
}
