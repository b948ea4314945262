"""One client's connection: frames, tokens, queries that run side by side, streams and feeds half read."""

from __future__ import annotations

import asyncio
import contextlib
import json
import struct
from typing import Any

from tests.servers.rethinkdb import terms
from tests.servers.rethinkdb.errors import ReqlError, client
from tests.servers.rethinkdb.handshake import shake_hands
from tests.servers.rethinkdb.node import Node
from tests.servers.rethinkdb.values import Feed, Rows, Stream

START, CONTINUE, STOP, NOREPLY_WAIT, SERVER_INFO = 1, 2, 3, 4, 5
ATOM, SEQUENCE, PARTIAL, WAIT_COMPLETE, INFO = 1, 2, 3, 4, 5
_HEADER = struct.Struct("<QL")
_END: dict[str, Any] = {"t": SEQUENCE, "r": [], "n": []}


class Session:
    """Serves one connection until it ends."""

    def __init__(self, node: Node, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._node = node
        self._reader = reader
        self._writer = writer
        self._user = ""
        self._running: dict[int, asyncio.Task[None]] = {}
        self._open: dict[int, Stream | Feed] = {}
        self._unanswered: set[asyncio.Task[None]] = set()

    async def serve(self) -> None:
        """Shake hands, then answer until the client closes."""
        self._node.clients += 1
        try:
            with contextlib.suppress(asyncio.IncompleteReadError, asyncio.LimitOverrunError, OSError):
                user = await shake_hands(self._reader, self._writer, self._node.metadata.password)
                if user is not None:
                    self._user = user
                    await self._queries()
        finally:
            self._node.clients -= 1
            for task in [*self._running.values(), *self._unanswered]:
                task.cancel()
            self._writer.close()

    async def _queries(self) -> None:
        while True:
            token, length = _HEADER.unpack(await self._reader.readexactly(_HEADER.size))
            body = await self._reader.readexactly(length)
            try:
                await self._query(token, body)
            except ReqlError as failure:
                self._send(token, failure.response())

    async def _query(self, token: int, body: bytes) -> None:
        kind, term, options = _parse(body)
        if kind == START:
            self._start(token, term, options)
        elif kind == CONTINUE:
            if token not in self._open:
                raise client(f"Token {token} not in stream cache.")
            self._spawn(token, self._continue(token))
        elif kind == STOP:
            self._stop(token)
        elif kind == NOREPLY_WAIT:
            if self._unanswered:
                await asyncio.wait(self._unanswered)
            self._send(token, {"t": WAIT_COMPLETE, "r": []})
        elif kind == SERVER_INFO:
            self._send(token, {"t": INFO, "r": [{"id": self._node.id, "name": self._node.name, "proxy": False}]})
        else:
            raise client(f"Server could not parse query: Unrecognized QueryType: {kind}.")

    def _start(self, token: int, term: Any, options: dict[str, Any]) -> None:
        if token in self._running or token in self._open:
            raise client(f"ERROR: duplicate token {token}")
        terms.check(term)
        db = options.get("db", [0, ["test"]])[1][0]
        evaluator = terms.Evaluator(self._node, self._user, db)
        if options.get("noreply"):
            task = asyncio.create_task(self._silently(evaluator, term))
            self._unanswered.add(task)
            task.add_done_callback(self._unanswered.discard)
        else:
            self._spawn(token, self._run(token, evaluator, term))

    def _spawn(self, token: int, coroutine: Any) -> None:
        task: asyncio.Task[None] = asyncio.create_task(self._guard(token, coroutine))
        self._running[token] = task

    async def _guard(self, token: int, coroutine: Any) -> None:
        try:
            await coroutine
        except ReqlError as failure:
            self._open.pop(token, None)
            self._send(token, failure.response())
        finally:
            if self._running.get(token) is asyncio.current_task():
                del self._running[token]

    async def _silently(self, evaluator: terms.Evaluator, term: Any) -> None:
        with contextlib.suppress(ReqlError):
            await evaluator.finish(await evaluator.run(term))

    async def _run(self, token: int, evaluator: terms.Evaluator, term: Any) -> None:
        value = await evaluator.finish(await evaluator.run(term))
        if isinstance(value, Feed):
            first = await value.first()
            self._open[token] = value
            self._reply(token, {"t": PARTIAL, "r": first, "n": value.notes})
        elif isinstance(value, Rows):
            self._open[token] = Stream(value)
            self._batch(token, self._open[token])
        else:
            self._reply(token, {"t": ATOM, "r": [value]})

    async def _continue(self, token: int) -> None:
        source = self._open[token]
        if isinstance(source, Feed):
            self._reply(token, {"t": PARTIAL, "r": await source.next(), "n": source.notes})
        else:
            self._batch(token, source)

    def _batch(self, token: int, source: Any) -> None:
        items, more = source.batch()
        if not more:
            del self._open[token]
        self._reply(token, {"t": PARTIAL if more else SEQUENCE, "r": items, "n": []})

    def _stop(self, token: int) -> None:
        """Both the query that is running and the STOP get an answer."""
        task, source = self._running.pop(token, None), self._open.pop(token, None)
        if task is None and source is None:
            raise client(f"Token {token} not in stream cache.")
        if task is not None:
            task.cancel()
            self._send(token, _END)
        self._send(token, _END)

    def _reply(self, token: int, answer: dict[str, Any]) -> None:
        """Answer the query that runs in this task; its token is free from now on."""
        self._running.pop(token, None)
        self._send(token, answer)

    def _send(self, token: int, answer: dict[str, Any]) -> None:
        body = json.dumps(answer, separators=(",", ":")).encode()
        if not self._writer.is_closing():
            self._writer.write(_HEADER.pack(token, len(body)) + body)


def _parse(body: bytes) -> tuple[int, Any, dict[str, Any]]:
    try:
        query = json.loads(body)
    except ValueError:
        raise client("Client is buggy (failed to deserialize query).") from None
    if not isinstance(query, list) or not 1 <= len(query) <= 3:
        found = len(query) if isinstance(query, list) else 0
        expected = "Expected 1 to 3 elements in the top-level query"
        raise client(f"Server could not parse query: {expected}, but found {found}.")
    kind, term, options = (*query, None, None)[:3]
    return kind, term, options or {}
