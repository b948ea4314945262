"""A bare client: writes the frames itself, so that a test decides about every byte."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import os
import socket
import struct
from collections import defaultdict, deque
from typing import Any, Self

from tests.servers.process import LOOPBACK

MAGIC = bytes.fromhex("c3bdc234")
_HEADER = struct.Struct("<QL")


class EndedError(EOFError):
    """The server closed the connection."""


class BareClient:
    """One connection to a server on loopback."""

    def __init__(self, port: int, timeout: float = 10.0) -> None:
        self.socket = socket.create_connection((LOOPBACK, port), timeout=timeout)
        self._buffer = b""
        self._answers: dict[int, deque[dict[str, Any]]] = defaultdict(deque)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.socket.close()

    def login(self, user: str = "admin", password: str = "") -> dict[str, Any]:
        """The whole handshake; the server's last message, a success or not."""
        bare = f"n={user},r={base64.b64encode(os.urandom(18)).decode()}"
        first = {"protocol_version": 0, "authentication_method": "SCRAM-SHA-256", "authentication": f"n,,{bare}"}
        self.send(MAGIC + json.dumps(first).encode() + b"\0")
        self.message()
        challenge = self.message()["authentication"]
        fields = dict(part.split("=", 1) for part in challenge.split(","))
        salted = hashlib.pbkdf2_hmac("sha256", password.encode(), base64.b64decode(fields["s"]), int(fields["i"]))
        key = hmac.digest(salted, b"Client Key", "sha256")
        final = f"c=biws,r={fields['r']}"
        text = f"{bare},{challenge},{final}".encode()
        signature = hmac.digest(hashlib.sha256(key).digest(), text, "sha256")
        proof = base64.b64encode(bytes(a ^ b for a, b in zip(key, signature, strict=True))).decode()
        self.send(json.dumps({"authentication": f"{final},p={proof}"}).encode() + b"\0")
        return self.message()

    def send(self, data: bytes) -> None:
        self.socket.sendall(data)

    def message(self) -> dict[str, Any]:
        """The next message of the handshake. Raises EndedError."""
        value: dict[str, Any] = json.loads(self.text())
        return value

    def text(self) -> bytes:
        """What the server says up to the next NUL."""
        while b"\0" not in self._buffer:
            self._fill()
        text, _, self._buffer = self._buffer.partition(b"\0")
        return text

    def query(self, token: int, body: Any) -> None:
        """Send a frame; `body` is JSON, or bytes to be sent as they are."""
        data = body if isinstance(body, bytes) else json.dumps(body).encode()
        self.send(_HEADER.pack(token, len(data)) + data)

    def answer(self, token: int) -> dict[str, Any]:
        """The next answer for `token`, whatever the order in which answers come. Raises EndedError, TimeoutError."""
        while not self._answers[token]:
            number, body = self._frame()
            self._answers[number].append(json.loads(body))
        return self._answers[token].popleft()

    def ask(self, token: int, term: Any) -> dict[str, Any]:
        """The answer to START with `term`."""
        self.query(token, [1, term, {}])
        return self.answer(token)

    def ended(self) -> bool:
        """Wait for the end of the connection; False when the server says something instead."""
        try:
            return self.socket.recv(1) == b""
        except ConnectionResetError:
            return True

    def _frame(self) -> tuple[int, bytes]:
        while len(self._buffer) < _HEADER.size:
            self._fill()
        token, length = _HEADER.unpack_from(self._buffer)
        while len(self._buffer) < _HEADER.size + length:
            self._fill()
        end = _HEADER.size + length
        body, self._buffer = self._buffer[_HEADER.size : end], self._buffer[end:]
        return token, body

    def _fill(self) -> None:
        data = self.socket.recv(65536)
        if not data:
            raise EndedError
        self._buffer += data
