"""Rows of RethinkDB's system tables, checked for their shape."""

from __future__ import annotations

from typing import Any, TypeVar

from pydantic import BaseModel, ConfigDict, TypeAdapter, ValidationError

from backendhealth.core.reasons import Reason
from backendhealth.probes.exchange import ProbeError


class _Row(BaseModel):
    model_config = ConfigDict(frozen=True, extra="ignore")


class Replica(_Row):
    """A copy of a shard; `state` is ready, disconnected, backfilling, transitioning or some kind of waiting."""

    server: str
    state: str


class Shard(_Row):
    """A part of a table; without an entry in `primary_replicas` it takes neither reads nor writes."""

    primary_replicas: list[str] = []
    replicas: list[Replica] = []

    @property
    def served(self) -> bool:
        """Whether a primary is there and ready: the four status fields alone can be stale."""
        ready = {replica.server for replica in self.replicas if replica.state == "ready"}
        return any(primary in ready for primary in self.primary_replicas)


class Flags(_Row):
    """The four fields of `status`."""

    all_replicas_ready: bool = False
    ready_for_outdated_reads: bool = False
    ready_for_reads: bool = False
    ready_for_writes: bool = False


class TableRow(_Row):
    """A row of table_status; `error` when the server knows nothing about the table's state."""

    db: str
    name: str
    raft_leader: str | None = None
    shards: list[Shard] | None = None
    status: Flags | None = None
    error: str | None = None

    @property
    def full_name(self) -> str:
        """`database.table`."""
        return f"{self.db}.{self.name}"

    @property
    def flags(self) -> Flags:
        """`status`, all false where the server gives none."""
        return self.status or Flags()

    @property
    def served(self) -> bool:
        """Whether every shard has a primary that is ready."""
        return bool(self.shards) and all(shard.served for shard in self.shards or ())

    def servers(self, *states: str, other: bool = False) -> list[str]:
        """Names of the servers with a replica in one of `states`, or (`other`) in none of them."""
        replicas = [replica for shard in self.shards or () for replica in shard.replicas]
        return sorted({replica.server for replica in replicas if (replica.state in states) is not other})


class _Process(_Row):
    version: str = ""


class ServerRow(_Row):
    """A row of server_status: a server that is connected now."""

    name: str
    process: _Process = _Process()


class IssueRow(_Row):
    """A row of current_issues."""

    id: str
    type: str
    critical: bool = False
    description: str
    info: dict[str, Any] = {}


_SERVERS = TypeAdapter(list[ServerRow])
_TABLES = TypeAdapter(list[TableRow])
_ISSUES = TypeAdapter(list[IssueRow])
_NAMES = TypeAdapter(list[str])
_Parsed = TypeVar("_Parsed")


def servers(value: object) -> list[ServerRow]:
    """The rows of server_status. Raises ProbeError (ProtocolError) for anything else, as all of these do."""
    found = _checked(_SERVERS, value, "server_status")
    return sorted(found, key=lambda row: row.name)


def tables(value: object) -> list[TableRow]:
    """The rows of table_status."""
    found = _checked(_TABLES, value, "table_status")
    return sorted(found, key=lambda row: (row.db, row.name))


def issues(value: object) -> list[IssueRow]:
    """The rows of current_issues."""
    found = _checked(_ISSUES, value, "current_issues")
    return sorted(found, key=lambda row: (row.type, row.id))


def names(value: object, what: str) -> list[str]:
    """A list of names."""
    found = _checked(_NAMES, value, what)
    return sorted(found)


def _checked(adapter: TypeAdapter[_Parsed], value: object, what: str) -> _Parsed:
    try:
        return adapter.validate_python(value)
    except ValidationError:
        raise ProbeError(Reason.PROTOCOL_ERROR, f"the answer to {what} does not have RethinkDB's shape") from None
