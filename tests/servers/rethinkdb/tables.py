"""Reading and writing tables: the users' own, and the server's system tables."""

from __future__ import annotations

import copy
import json
import random
import uuid
from typing import TYPE_CHECKING, Any

from tests.servers.rethinkdb.errors import ReqlError, failed, logic
from tests.servers.rethinkdb.handshake import Password
from tests.servers.rethinkdb.metadata import SYSTEM, Document
from tests.servers.rethinkdb.values import Feed, Row, Several, Table

if TYPE_CHECKING:
    from tests.servers.rethinkdb.terms import Evaluator

SYSTEM_TABLES = frozenset(
    {
        "cluster_config",
        "current_issues",
        "db_config",
        "jobs",
        "logs",
        "permissions",
        "server_config",
        "server_status",
        "stats",
        "table_config",
        "table_status",
        "users",
    }
)
# The real server looks at these tables about once a second, and learns at once of servers that come and go.
_FEED_PERIOD = {"table_status": 1.0, "current_issues": 1.0}


def new_config(db: str, name: str, replicas: list[str]) -> Document:
    """The configuration of a new table, as table_config has it."""
    shard = {"nonvoting_replicas": [], "primary_replica": replicas[0], "replicas": replicas}
    return {
        "db": db,
        "durability": "hard",
        "id": str(uuid.uuid4()),
        "indexes": [],
        "name": name,
        "primary_key": "id",
        "shards": [shard],
        "write_acks": "majority",
        "write_hook": None,
    }


def config_of(table: Document) -> Document:
    """The row in table_config."""
    return {key: value for key, value in table.items() if key != "rows"}


def type_name(value: Any) -> str:
    """The server's name of a value's type."""
    if value is None:
        return "NULL"
    for types, name in (((bool,), "BOOL"), ((int, float), "NUMBER"), ((str,), "STRING"), ((list,), "ARRAY")):
        if isinstance(value, types):
            return name
    return "OBJECT" if isinstance(value, dict) else "TABLE"


def pretty(value: Any) -> str:
    """A value as error messages print it."""
    return json.dumps(value, indent="\t") if value else json.dumps(value)


async def read_all(run: Evaluator, source: Table) -> list[Document]:
    """All rows. Raises ReqlError: no grant, or not available."""
    run.denied_unless("read", source.db, source.table)
    if source.table is None:
        rows = await _system_rows(run, source.name)
        return random.sample(rows, len(rows))  # the real server's order changes from answer to answer
    await run.node.read(source.table, source.read_mode)
    return list(source.table["rows"].values())


async def read_several(run: Evaluator, wanted: Several) -> list[Document]:
    """The rows with one of the keys; only the primary key is an index here."""
    table = wanted.source
    if wanted.index != "id":
        raise failed(f"Index `{wanted.index}` was not found on table `{table.db}.{table.name}`.")
    return [row for row in await read_all(run, table) if row["id"] in wanted.keys]


async def read_row(run: Evaluator, row: Row) -> Document | None:
    """One row, or None."""
    source = row.source
    if source.name == "stats" and source.table is None:
        run.denied_unless("read", SYSTEM)
        return await run.node.stats() if row.key == ["cluster"] else None
    if source.name == "table_config" and source.table is None:
        table = run.node.metadata.data["tables"].get(row.key)
        return config_of(table) if table else None
    if source.table is not None:
        run.denied_unless("read", source.db, source.table)
        await run.node.read(source.table, source.read_mode)
        found: Document | None = source.table["rows"].get(_key(row.key))
        return found
    return next((doc for doc in await read_all(run, source) if doc["id"] == row.key), None)


def _key(value: Any) -> str:
    return json.dumps(value)


async def _system_rows(run: Evaluator, name: str) -> list[Document]:
    node, data = run.node, run.node.metadata.data
    if name == "table_status":
        return await node.table_status()
    if name == "current_issues":
        return await node.current_issues()
    if name == "stats":
        return [await node.stats()]
    rows: dict[str, list[Document]] = {
        "server_status": node.server_status(),
        "server_config": node.server_config(),
        "table_config": [config_of(table) for table in node.metadata.tables()],
        "db_config": [{"id": key, "name": db} for db, key in data["dbs"].items()],
        "users": [{"id": user, "password": stored["iterations"] > 1} for user, stored in data["users"].items()],
        "permissions": [
            {"id": [user, *scope.split(":")[1:]], "user": user, "permissions": given}
            for user, scopes in data["grants"].items()
            for scope, given in scopes.items()
        ],
        "jobs": [{"id": ["query", str(uuid.uuid4())], "type": "query", "servers": [node.name], "info": {}}],
    }
    return rows.get(name, [])


def _summary(**counts: int) -> Document:
    return dict.fromkeys(("deleted", "errors", "inserted", "replaced", "skipped", "unchanged"), 0) | counts


async def insert(run: Evaluator, target: Table, documents: list[Document], conflict: str) -> Document:
    """table.insert(documents)."""
    run.denied_unless("write", target.db, target.table)
    if target.table is None:
        return _insert_users(run, target, documents)
    await run.node.write(target.table)
    result = _summary()
    rows = target.table["rows"]
    for document in documents:
        key = _key(document.setdefault("id", str(uuid.uuid4())))
        old = rows.get(key)
        if old is not None and conflict == "error":
            result["errors"] += 1
            result.setdefault("first_error", f"Duplicate primary key `id`:\n{pretty(old)}\n{pretty(document)}")
            continue
        result["inserted" if old is None else "unchanged" if old == document else "replaced"] += 1
        rows[key] = document
    run.node.metadata.commit()
    return result


def _insert_users(run: Evaluator, target: Table, documents: list[Document]) -> Document:
    if target.name != "users":
        raise failed(f"It's illegal to insert new rows into the `{SYSTEM}.{target.name}` table.")
    users = run.node.metadata.data["users"]
    for document in documents:
        users[document["id"]] = Password.make(document["password"] or "").to_json()
    run.node.metadata.commit()
    return _summary(inserted=len(documents))


async def change(run: Evaluator, target: Any, patch: Document | None) -> Document:
    """Update the rows of a selection with `patch`, or delete them when it is None."""
    source = target.source if isinstance(target, Row) else target
    if not isinstance(source, Table):
        raise logic(f"Expected type SELECTION but found {type_name(target)}.")
    if source.db == SYSTEM and source.name == "table_config":
        return _reconfigure(run, target.key, patch or {})
    run.denied_unless("write", source.db, source.table)
    if source.table is None:
        return _change_system(run, source, target.key, patch)
    await run.node.write(source.table)
    keys = [_key(target.key)] if isinstance(target, Row) else list(source.table["rows"])
    result = _summary()
    for key in keys:
        _change_row(source.table["rows"], key, patch, result)
    run.node.metadata.commit()
    return result


def _change_row(rows: Document, key: str, patch: Document | None, result: Document) -> None:
    if key not in rows:
        result["skipped"] += 1
    elif patch is None:
        del rows[key]
        result["deleted"] += 1
    else:
        new = rows[key] | patch
        result["unchanged" if new == rows[key] else "replaced"] += 1
        rows[key] = new


def _change_system(run: Evaluator, source: Table, key: Any, patch: Document | None) -> Document:
    if source.name != "users":
        raise failed(f"It's illegal to write to the `{SYSTEM}.{source.name}` table.")
    if patch is None:
        return _summary(deleted=int(run.node.metadata.delete_user(key)))
    run.node.metadata.data["users"][key] = Password.make(patch["password"] or "").to_json()
    run.node.metadata.commit()
    return _summary(replaced=1)


def _reconfigure(run: Evaluator, key: str, patch: Document) -> Document:
    """Change a table's configuration: which servers hold it, and which of them is its primary."""
    tables = run.node.metadata.data["tables"]
    tables[key] = copy.deepcopy(tables[key]) | patch
    for shard in tables[key]["shards"]:
        shard.setdefault("nonvoting_replicas", [])
    run.node.metadata.commit()
    return _summary(replaced=1)


async def feed(run: Evaluator, source: Any, options: dict[str, Any]) -> Feed:
    """source.changes(), checked for grants and availability."""
    if not isinstance(source, Table):
        raise logic(f"Cannot call `changes` on {type_name(source)}.")

    def check() -> None:
        run.denied_unless("read", source.db, source.table)

    async def rows() -> list[Document]:
        return copy.deepcopy(await _rows_without_check(run, source))

    check()
    if source.table is not None:
        run.node.subscribe(source.table)
    period = _FEED_PERIOD.get(source.name, 0.02) if source.table is None else 0.02
    initial, states = options.get("include_initial", False), options.get("include_states", False)
    return Feed(rows, period, initial, states, check)


async def _rows_without_check(run: Evaluator, source: Table) -> list[Document]:
    if source.table is None:
        return await _system_rows(run, source.name)
    try:
        table = run.node.metadata.table(source.db, source.name)
    except ReqlError:
        return []
    return list(table["rows"].values())
