"""A server that lets the probe in and then sends rubbish."""

from __future__ import annotations

import json
import socket
import struct

import pytest

from backendhealth.core.reasons import Reason
from tests.probes.rethinkdb.helpers import target
from tests.probes.rethinkdb.rogue import after_handshake
from tests.probes.support import attempt_once
from tests.servers.misbehaving import Server
from tests.servers.process import wait_until

_HEADER = struct.Struct("<QL")


def _answers(*bodies: bytes) -> Server:
    """Answers the n-th query with the n-th body (the last one for all others)."""

    def then(server: Server, conn: socket.socket) -> None:
        count = 0
        pending = b""
        while data := server.read_some(conn):
            pending += data
            while len(pending) >= _HEADER.size:
                token, size = _HEADER.unpack_from(pending)
                pending = pending[_HEADER.size + size :]
                body = bodies[min(count, len(bodies) - 1)]
                count += 1
                server.send(conn, _HEADER.pack(token, len(body)) + body)

    return after_handshake(then)


_DEEP = b"[" * 5000 + b"]" * 5000


@pytest.mark.parametrize(
    ("body", "told"),
    [
        (b"", "can't be understood"),
        (b"not json", "can't be understood"),
        (b"[]", "can't be understood"),
        (b"{}", "can't be understood"),
        (b'{"t":1,"r":[]}', "can't be understood"),
        (b'{"t":1,"r":' + _DEEP + b"}", "can't be understood"),
        (b'{"t":1,"r":[1]}', "RethinkDB's shape"),
        (b'{"t":1,"r":[[1]]}', "RethinkDB's shape"),
        (b'{"t":1,"r":[[{"name":1}]]}', "RethinkDB's shape"),
        (b'{"t":2,"r":[1,2],"n":[]}', "RethinkDB's shape"),
        (b'{"t":3,"r":[1,2],"n":[]}', "RethinkDB's shape"),
        (b'{"t":4,"r":[]}', "RethinkDB's shape"),
        (b'{"t":77,"r":["x"]}', "the server refused to read server_status"),
        (b'{"t":16,"r":["what?"],"b":[]}', "the server refused to read server_status: what?"),
        (b'{"t":18,"e":1,"r":["what?"],"b":[]}', "the server refused to read server_status: what?"),
    ],
)
async def test_garbage_after_the_handshake(body: bytes, told: str) -> None:
    with _answers(body) as server:
        finding = await attempt_once("rethinkdb", target(server.port), timeout=2)
        wait_until(lambda: server.connections == 0, 5, "closed")
    assert finding.reason is Reason.PROTOCOL_ERROR
    assert told in finding.message
    assert finding.contact


async def test_an_answer_without_rows_is_not_healthy() -> None:
    with _answers(b'{"t":4,"r":[]}') as server:
        finding = await attempt_once("rethinkdb", {"host": "127.0.0.1", "port": server.port}, timeout=2)
    assert finding.reason is Reason.PROTOCOL_ERROR
    assert "RethinkDB's shape" in finding.message


async def test_rows_of_another_shape() -> None:
    rows = json.dumps({"t": 1, "r": [[{"db": "hc", "name": "jobs", "shards": "none"}]]}).encode()
    names = json.dumps({"t": 1, "r": [["hc"]]}).encode()
    with _answers(names, names, rows) as server:
        finding = await attempt_once("rethinkdb", target(server.port), timeout=2)
    assert finding.reason is Reason.PROTOCOL_ERROR
    assert "RethinkDB's shape" in finding.message


async def test_a_frame_of_100_mb_is_not_read() -> None:
    def then(server: Server, conn: socket.socket) -> None:
        token, _ = _HEADER.unpack_from(server.read_some(conn))
        server.send(conn, _HEADER.pack(token, 100 << 20))
        for _ in range(100):
            server.send(conn, b"x" * (1 << 20))

    with after_handshake(then) as server:
        finding = await attempt_once("rethinkdb", target(server.port), timeout=5)
        assert server.sent < 16 << 20
    assert finding.reason is Reason.PROTOCOL_ERROR
    assert "an answer of 104857600 bytes was announced" in finding.message


async def test_an_unasked_frame() -> None:
    def then(server: Server, conn: socket.socket) -> None:
        server.read_some(conn)
        body = b'{"t":1,"r":[1]}'
        server.send(conn, _HEADER.pack(4711, len(body)) + body)
        server.drain(conn)

    with after_handshake(then) as server:
        finding = await attempt_once("rethinkdb", target(server.port), timeout=2)
    assert finding.reason is Reason.PROTOCOL_ERROR
    assert "can't be understood" in finding.message


async def test_an_end_after_the_handshake() -> None:
    with after_handshake(lambda _server, _conn: None) as server:
        finding = await attempt_once("rethinkdb", target(server.port), timeout=2)
    assert finding.reason is Reason.CONNECTION_RESET
    assert str(server.port) in finding.message


async def test_silence_after_the_handshake() -> None:
    with after_handshake(lambda server, conn: server.drain(conn)) as server:
        finding = await attempt_once("rethinkdb", target(server.port), timeout=0.5)
    assert finding.reason is Reason.TIMEOUT
    assert "hung in step query" in finding.message
