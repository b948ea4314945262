"""A server that authenticates a client as it should and then misbehaves."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import socket
from collections.abc import Callable
from typing import Any

from tests.servers.misbehaving import Server
from tests.servers.rethinkdb.handshake import HELLO, Password

Then = Callable[[Server, socket.socket], None]


def after_handshake(then: Then, *, iterations: int | None = None, honest: bool = True) -> Server:
    """Lets admin in without a password, then does `then`.

    `iterations`: what it claims for the hashing of the password; `honest` False: its own proof is wrong.
    """
    password = Password.make("")

    def handle(server: Server, conn: socket.socket) -> None:
        first = _message(server, conn, skip=4)
        _say(server, conn, HELLO)
        bare = first["authentication"].removeprefix("n,,")
        nonce = bare.split(",r=")[1] + "server"
        claimed = password.iterations if iterations is None else iterations
        challenge = f"r={nonce},s={base64.b64encode(password.salt).decode()},i={claimed}"
        _say(server, conn, {"authentication": challenge, "success": True})
        final = _message(server, conn)["authentication"].rpartition(",p=")[0]
        text = f"{bare},{challenge},{final}".encode()
        key = hmac.digest(password.salted, b"Server Key", "sha256")
        proof = hmac.digest(key, text, "sha256") if honest else hashlib.sha256(text).digest()
        _say(server, conn, {"authentication": f"v={base64.b64encode(proof).decode()}", "success": True})
        then(server, conn)

    return Server(handle)


def _message(server: Server, conn: socket.socket, skip: int = 0) -> dict[str, Any]:
    data = b""
    while not data.endswith(b"\0"):
        more = server.read_some(conn)
        if not more:
            raise ConnectionAbortedError
        data += more
    value: dict[str, Any] = json.loads(data[skip:-1])
    return value


def _say(server: Server, conn: socket.socket, message: dict[str, Any]) -> None:
    server.send(conn, json.dumps(message).encode() + b"\0")
