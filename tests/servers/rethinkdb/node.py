"""One server: its identity, what it knows of the cluster, and the rows of the system tables."""

from __future__ import annotations

import asyncio
import contextlib
import os
import sys
import time
import uuid
from pathlib import Path
from typing import Any

from tests.servers.rethinkdb.availability import OUTDATED, READS, WRITES, Availability, Timings
from tests.servers.rethinkdb.errors import OP_INDETERMINATE, failed, runtime
from tests.servers.rethinkdb.handshake import SERVER_VERSION
from tests.servers.rethinkdb.links import HOST, Links, Peer, PeerLostError
from tests.servers.rethinkdb.metadata import Document, Metadata

_NO_QUORUM = "The primary replica isn't connected to a quorum of replicas. The {} was not performed"
_OUTDATED_HINT = ', you can do an outdated read using `read_mode="outdated"`.'
_NON_TRANSITIVE_ID = "5ca75800-8f5a-58cf-947c-a5ed2545e96e"


def _time(epoch: float) -> Document:
    return {"$reql_type$": "TIME", "epoch_time": round(epoch, 3), "timezone": "+00:00"}


class Node:
    """A server of the cluster, without its clients."""

    def __init__(
        self, name: str, directory: Path, *, port: int, cluster_port: int, password: str, timings: Timings
    ) -> None:
        directory.mkdir(parents=True, exist_ok=True)
        self.name = name
        self.port = port
        self.timings = timings
        self.clients = 0
        self.metadata = Metadata(directory / "metadata.json", password)
        self.metadata.changed = self._announce
        self.id = self._identity(directory / "server_id")
        self.links = Links(name, cluster_port, timings.heartbeat_timeout)
        self.links.hello = self._hello
        self.links.on_join = self._joined
        self.links.on_loss = self._lost
        self.links.on_metadata = self._adopt
        self._cluster_port = cluster_port
        self._tables: dict[str, Availability] = {}
        self._gone: dict[str, tuple[str, float]] = {}  # server id by name, and until when it is still spoken of
        self._silent_until = 0.0
        for table in self.metadata.tables():
            self._course(table).start(self.connected)
        self._document = self._own_document()

    @staticmethod
    def _identity(path: Path) -> str:
        if not path.exists():
            path.write_text(str(uuid.uuid4()))
        return path.read_text()

    @property
    def connected(self) -> frozenset[str]:
        """Names of the servers that are there, this one included."""
        return frozenset({self.name, *self.links.peers})

    # the cluster

    def _hello(self) -> Document:
        return {
            "id": self.id,
            "name": self.name,
            "cluster_port": self._cluster_port,
            "addresses": self.links.addresses(),
            "document": self._document,
            "metadata": self.metadata.data,
            "courses": {key: [course.primary, course.leader] for key, course in self._tables.items()},
        }

    def _joined(self, peer: Peer) -> None:
        self._adopt(peer.hello["metadata"])
        for key, (primary, leader) in peer.hello["courses"].items():
            course = self._tables.get(key)
            if course is not None and course.primary is None:
                course.primary, course.leader = primary, leader
        self._update()

    def _lost(self, peer: Peer, silent: bool) -> None:
        self._gone[peer.name] = (peer.hello["id"], time.monotonic() + max(self.timings.status_lag, 0.1))
        if silent:
            self._silent_until = time.monotonic() + self.timings.non_transitive
        self._update(silent_loss=silent)

    def _update(self, *, silent_loss: bool = False) -> None:
        for course in self._tables.values():
            course.update(self.connected, silent_loss=silent_loss)

    def _announce(self) -> None:
        self.links.broadcast({"metadata": self.metadata.data})
        self._refresh()

    def _adopt(self, data: Document) -> None:
        self.metadata.adopt(data)
        self._refresh()

    def _refresh(self) -> None:
        """Follow the shared document: new tables are ready at once, dropped ones go, changed ones are replaced."""
        tables = {table["id"]: table for table in self.metadata.tables()}
        for key in self._tables.keys() - tables.keys():
            del self._tables[key]
        for key, table in tables.items():
            if key not in self._tables:
                self._course(table).begin(self.connected)
            else:
                moved = self._tables[key].table["shards"] != table["shards"]
                self._tables[key].table = table
                if moved:
                    self._tables[key].begin(self.connected)

    def _course(self, table: Document) -> Availability:
        self._tables[table["id"]] = Availability(self.name, table, self.timings)
        return self._tables[table["id"]]

    # tables

    def course(self, table: Document) -> Availability:
        """How available a table is."""
        return self._tables[table["id"]]

    async def read(self, table: Document, mode: str) -> None:
        """Return when a read is possible; raises what the server answers when it is not."""
        if mode != "outdated":
            await self._reach_primary(table, "read", READS, _OUTDATED_HINT)

    async def write(self, table: Document) -> None:
        """As `read`, for a write."""
        await self._reach_primary(table, "write", WRITES, ".")

    async def _reach_primary(self, table: Document, what: str, needed: int, hint: str) -> None:
        course = self.course(table)
        phase = course.phase
        if phase.readiness < needed:
            if phase.primaries == (self.name,) and not course.quorum:
                raise failed(f"Cannot perform {what}: {_NO_QUORUM.format(what)}{hint}")
            raise failed(f'Cannot perform {what}: primary replica for shard ["", +inf) not available')
        peer = self.links.peers.get(course.primary or "")
        if peer is None:
            return
        try:
            await self.links.ask(peer)
        except PeerLostError:
            message = f"Cannot perform {what}: lost contact with primary replica"
            raise runtime(OP_INDETERMINATE, message) if what == "write" else failed(message) from None

    def subscribe(self, table: Document) -> None:
        """Raises when a changefeed of the table can't be opened."""
        course = self.course(table)
        if course.phase.readiness == OUTDATED:
            name = f"{table['db']}.{table['name']}"
            raise failed(f"cannot subscribe to table `{name}`: {_NO_QUORUM.format('read')}{_OUTDATED_HINT}")

    # rows of the system tables

    async def table_status(self) -> list[Document]:
        """Asks every server, so it hangs while one of them is frozen."""
        await self.links.ask_all()
        return [course.status() for course in self._tables.values()]

    async def current_issues(self) -> list[Document]:
        await self.links.ask_all()
        issues = [issue for course in self._tables.values() if (issue := course.issue())]
        return issues + self._non_transitive()

    def _non_transitive(self) -> list[Document]:
        if time.monotonic() >= self._silent_until:
            return []
        info = {"message": "Server connectivity is non-transitive.", "servers": sorted(self.connected)}
        text = "There are currently servers that cannot see every server in the cluster."
        return [
            {
                "critical": False,
                "description": f"{text} This may cause table availability issues.",
                "id": _NON_TRANSITIVE_ID,
                "info": info,
                "type": "non_transitive_error",
            }
        ]

    def server_status(self) -> list[Document]:
        """Lists who is connected; a server that just went is still spoken of, by its id."""
        now = time.monotonic()
        ghosts = {gone: True for gone, until in self._gone.values() if until > now}
        documents = [self._document, *(peer.hello["document"] for peer in self.links.peers.values())]
        return [self._with_connections(document, ghosts) for document in documents]

    def _with_connections(self, document: Document, ghosts: dict[str, bool]) -> Document:
        seen = {name: True for name in sorted(self.connected) if name != document["name"]}
        return document | {"network": document["network"] | {"connected_to": seen | ghosts}}

    def server_config(self) -> list[Document]:
        return [
            {"cache_size_mb": 64, "id": document["id"], "name": document["name"], "tags": ["default"]}
            for document in (self._document, *(peer.hello["document"] for peer in self.links.peers.values()))
        ]

    async def stats(self) -> Document:
        """The cluster's row; a frozen server delays it by five seconds."""
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self.links.ask_all(), 5)
        engine = {"client_connections": self.clients, "clients_active": 1, "queries_per_sec": 1}
        return {"id": ["cluster"], "query_engine": engine | {"read_docs_per_sec": 0, "written_docs_per_sec": 0}}

    def _own_document(self) -> Document:
        started = _time(time.time())
        network: dict[str, Any] = {
            "canonical_addresses": [{"host": HOST, "port": self._cluster_port}],
            "cluster_port": self._cluster_port,
            "connected_to": {},
            "hostname": self.name,
            "http_admin_port": "<no http admin>",
            "reql_port": self.port,
            "time_connected": started,
        }
        process = {
            "argv": sys.argv,
            "cache_size_mb": 64,
            "pid": os.getpid(),
            "time_started": started,
            "version": f"rethinkdb {SERVER_VERSION}",
        }
        return {"id": self.id, "name": self.name, "network": network, "process": process}
