"""The connections between the servers of a cluster: who is there, who fell silent, and questions to a peer.

One JSON document a line. A killed peer shows at once (end of file), a frozen one only after the heartbeat time-out,
and until then a question to it hangs: this is what makes the status tables of the real server hang.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import json
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from tests.servers.rethinkdb.metadata import Document

HOST = "127.0.0.1"
_BEAT = 1.0
_REDIAL = 0.1
_LINE_LIMIT = 64 * 1024 * 1024


class PeerLostError(Exception):
    """The peer went away before it answered."""


@dataclass(eq=False)
class Peer:
    """A connected server; `hello` is what it said of itself."""

    hello: Document
    dialed_by: str
    writer: asyncio.StreamWriter
    heard: float = field(default_factory=time.monotonic)
    asked: dict[int, asyncio.Future[Document]] = field(default_factory=dict)

    @property
    def name(self) -> str:
        name: str = self.hello["name"]
        return name


class Links:
    """All links of one server. `hello` makes its greeting, the callbacks tell of peers, changes and questions."""

    def __init__(self, name: str, port: int, heartbeat_timeout: float) -> None:
        self.peers: dict[str, Peer] = {}
        self.hello: Callable[[], Document] = dict
        self.on_join: Callable[[Peer], None] = lambda _peer: None
        self.on_loss: Callable[[Peer, bool], None] = lambda _peer, _silent: None
        self.on_metadata: Callable[[Document], None] = lambda _data: None
        self.answer: Callable[[], Document] = dict
        self._name = name
        self._port = port
        self._timeout = heartbeat_timeout
        self._addresses: dict[int, str | None] = {}
        self._numbers = itertools.count()
        self._tasks: set[asyncio.Task[None]] = set()
        self._server: asyncio.Server | None = None

    async def start(self, join: list[int]) -> None:
        """Listen, and dial the servers at the ports `join`."""
        self._addresses = dict.fromkeys(join)
        self._server = await asyncio.start_server(self._accepted, HOST, self._port, limit=_LINE_LIMIT)
        self._spawn(self._beat())
        self._spawn(self._dial_all())

    def broadcast(self, message: Document) -> None:
        for peer in self.peers.values():
            _send(peer.writer, message)

    async def ask(self, peer: Peer) -> Document:
        """The peer's answer, however long it takes. Raises PeerLostError."""
        number = next(self._numbers)
        future: asyncio.Future[Document] = asyncio.get_running_loop().create_future()
        peer.asked[number] = future
        _send(peer.writer, {"ask": number})
        try:
            return await future
        finally:
            peer.asked.pop(number, None)

    async def ask_all(self) -> None:
        """Return when every peer has answered or is gone."""
        await asyncio.gather(*map(self.ask, self.peers.values()), return_exceptions=True)

    def _spawn(self, coroutine: Any) -> None:
        task = asyncio.ensure_future(coroutine)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _dial_all(self) -> None:
        while True:
            linked = {peer.hello["cluster_port"] for peer in self.peers.values()}
            for port, name in list(self._addresses.items()):
                # Of two servers that know each other the one with the smaller name dials.
                if port not in linked and (name is None or self._name < name):
                    with contextlib.suppress(OSError):
                        reader, writer = await asyncio.open_connection(HOST, port, limit=_LINE_LIMIT)
                        await self._link(reader, writer, dialed=True, patience=_BEAT)
            await asyncio.sleep(_REDIAL)

    async def _accepted(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await self._link(reader, writer, dialed=False, patience=30)

    async def _link(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, *, dialed: bool, patience: float
    ) -> None:
        _send(writer, self.hello())
        try:
            async with asyncio.timeout(patience):
                line = await reader.readline()
        except (OSError, TimeoutError):
            line = b""
        if not line:
            writer.close()
            return
        hello = json.loads(line)
        peer = Peer(hello, self._name if dialed else hello["name"], writer)
        known = self.peers.get(peer.name)
        if known is not None and known.dialed_by <= peer.dialed_by:
            writer.close()
            return
        if known is not None:
            self._drop(known)
        self._addresses |= {port: name for port, name in hello["addresses"] if port != self._port}
        self._addresses[hello["cluster_port"]] = peer.name
        self.peers[peer.name] = peer
        self.on_join(peer)
        self._spawn(self._listen(peer, reader))

    async def _listen(self, peer: Peer, reader: asyncio.StreamReader) -> None:
        with contextlib.suppress(OSError, ValueError):
            while line := await reader.readline():
                peer.heard = time.monotonic()
                self._handle(peer, json.loads(line))
        self._lose(peer, silent=False)

    def _handle(self, peer: Peer, message: Document) -> None:
        if "ask" in message:
            _send(peer.writer, {"reply": message["ask"], "body": self.answer()})
        elif "reply" in message and message["reply"] in peer.asked:
            future = peer.asked[message["reply"]]
            if not future.done():
                future.set_result(message["body"])
        elif "metadata" in message:
            self.on_metadata(message["metadata"])

    async def _beat(self) -> None:
        sent = 0.0
        while True:
            await asyncio.sleep(min(0.1, self._timeout / 10))
            now = time.monotonic()
            if now - sent >= min(_BEAT, self._timeout / 5):
                sent = now
                self.broadcast({"beat": True})
            for peer in list(self.peers.values()):
                if now - peer.heard > self._timeout:
                    self._lose(peer, silent=True)

    def _lose(self, peer: Peer, *, silent: bool) -> None:
        if self.peers.get(peer.name) is peer:
            self._drop(peer)
            self.on_loss(peer, silent)

    def _drop(self, peer: Peer) -> None:
        self.peers.pop(peer.name, None)
        peer.writer.close()
        for future in peer.asked.values():
            if not future.done():
                future.set_exception(PeerLostError(peer.name))

    def addresses(self) -> list[tuple[int, str | None]]:
        return list(self._addresses.items())


def _send(writer: asyncio.StreamWriter, message: Document) -> None:
    if not writer.is_closing():
        writer.write(json.dumps(message).encode() + b"\n")
