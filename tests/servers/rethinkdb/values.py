"""What a term can evaluate to besides plain JSON: databases, tables, single rows, sequences and feeds."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass, field
from typing import Any

from tests.servers.rethinkdb.metadata import Document

FIRST_BATCH = 125
BATCH = 500


@dataclass(frozen=True, slots=True)
class Database:
    """r.db(name), whether or not it exists."""

    name: str


@dataclass(frozen=True, slots=True)
class Table:
    """r.table(name): read only when something consumes it. `table` is None for a system table."""

    db: str
    name: str
    table: Document | None = None
    read_mode: str = "single"


@dataclass(frozen=True, slots=True)
class Row:
    """table.get(key): read only when something consumes it."""

    source: Table
    key: Any


@dataclass(frozen=True, slots=True)
class Several:
    """table.get_all(keys…, index=…): read only when something consumes it."""

    source: Table
    keys: list[Any]
    index: str


@dataclass(frozen=True, slots=True)
class Rows:
    """A sequence, sent in batches; `size` is how many there are when it is too long to hold."""

    items: Iterable[Any]
    size: int


@dataclass
class Feed:
    """A changefeed over documents by id: `source` is polled every `period` seconds."""

    source: Callable[[], Awaitable[list[Document]]]
    period: float
    include_initial: bool
    include_states: bool
    check: Callable[[], None] = lambda: None
    _known: dict[Any, Document] = field(default_factory=dict)

    @property
    def notes(self) -> list[int]:
        return [1, 5] if self.include_states else [1]

    async def first(self) -> list[Document]:
        """What is sent before any change."""
        self._known = await self._read()
        initial: list[Document] = [{"new_val": doc} for doc in self._known.values()] if self.include_initial else []
        if self.include_states:
            return [{"state": "initializing"}, *initial, {"state": "ready"}]
        return initial

    async def next(self) -> list[Document]:
        """Wait for changes."""
        while True:
            await asyncio.sleep(self.period)
            self.check()
            now = await self._read()
            keys = [*(key for key in self._known if key not in now), *now]
            changes: list[Document] = [
                {"new_val": now.get(key), "old_val": self._known.get(key)}
                for key in keys
                if now.get(key) != self._known.get(key)
            ]
            self._known = now
            if changes:
                return changes

    async def _read(self) -> dict[Any, Document]:
        return {str(doc["id"]): doc for doc in await self.source()}


class Stream:
    """A sequence of which a client has read a part."""

    def __init__(self, rows: Rows) -> None:
        self._left = iter(rows.items)
        self._count = 0
        self._size = rows.size

    def batch(self) -> tuple[list[Any], bool]:
        """The next items, and whether there may be more."""
        limit = BATCH if self._count else FIRST_BATCH
        items = [item for _, item in zip(range(limit), self._left, strict=False)]
        self._count += len(items)
        return items, self._count < self._size
