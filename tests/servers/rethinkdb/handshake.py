"""The server's side of the V1_0 handshake: magic number, JSON ended by NUL, SCRAM-SHA-256."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import hmac
import json
import os
import struct
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

V1_0 = 0x34C2BDC3
V0_4 = 0x400C2D20
SERVER_VERSION = "2.4.4"
WRONG_PROTOCOL = (
    b"ERROR: Received an unsupported protocol version. This port is for RethinkDB queries. "
    b"Does your client driver version not match the server?\n\0"
)
HELLO = {"max_protocol_version": 0, "min_protocol_version": 0, "server_version": SERVER_VERSION, "success": True}
MAX_MESSAGE = 16 * 1024


@dataclass(frozen=True, slots=True)
class Password:
    """What the server keeps of a password."""

    salt: bytes
    iterations: int
    salted: bytes

    @classmethod
    def make(cls, text: str) -> Password:
        """One iteration for the empty password, 4096 for any other, as the real server does."""
        salt, iterations = os.urandom(16), 4096 if text else 1
        return cls(salt, iterations, hashlib.pbkdf2_hmac("sha256", text.encode(), salt, iterations))

    @property
    def empty(self) -> bool:
        return self.iterations == 1

    def to_json(self) -> dict[str, Any]:
        return {"salt": self.salt.hex(), "iterations": self.iterations, "salted": self.salted.hex()}

    @classmethod
    def from_json(cls, data: dict[str, Any]) -> Password:
        return cls(bytes.fromhex(data["salt"]), data["iterations"], bytes.fromhex(data["salted"]))


class RefusedError(Exception):
    """The handshake failed: the error is sent, then the connection is closed."""

    def __init__(self, code: int, error: str) -> None:
        super().__init__(error)
        self.code = code


Lookup = Callable[[str], Password | None]


async def shake_hands(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, lookup: Lookup) -> str | None:
    """Authenticate one client; the user's name, or None when it was refused (the answer is sent already)."""
    magic = struct.unpack("<L", await reader.readexactly(4))[0]
    if magic == V0_4:
        return await _old_protocol(reader, writer)
    if magic != V1_0:
        writer.write(WRONG_PROTOCOL)
        return None
    _send(writer, HELLO)
    try:
        return await _scram(reader, writer, lookup)
    except RefusedError as refused:
        _send(writer, {"error": str(refused), "error_code": refused.code, "success": False})
        return None


async def _old_protocol(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> str:
    length = struct.unpack("<L", await reader.readexactly(4))[0]
    await reader.readexactly(min(length, MAX_MESSAGE) + 4)
    writer.write(b"SUCCESS\0")
    return "admin"


async def _scram(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, lookup: Lookup) -> str:
    first = await _receive(reader)
    if first.get("protocol_version") != 0:
        raise RefusedError(2, "Unsupported `protocol_version`.")
    if first.get("authentication_method") != "SCRAM-SHA-256":
        raise RefusedError(4, "Unsupported `authentication_method`.")
    message = _authentication(first)
    if not message.startswith("n,"):
        raise RefusedError(15, "Channel binding is not supported")
    bare = message.split(",", 2)[2]
    fields = _fields(bare)
    name = fields.get("n", "").replace("=2C", ",").replace("=3D", "=")
    known = lookup(name)
    # An unknown user gets a salt of its own and learns only after the proof that it is unknown.
    password = known or Password(os.urandom(16), 4096, os.urandom(32))
    nonce = fields.get("r", "") + base64.b64encode(os.urandom(15)).decode()
    challenge = f"r={nonce},s={base64.b64encode(password.salt).decode()},i={password.iterations}"
    _send(writer, {"authentication": challenge, "success": True})
    final = _authentication(await _receive(reader))
    signature = _check(final, nonce, f"{bare},{challenge}", password, known is not None)
    _send(writer, {"authentication": f"v={base64.b64encode(signature).decode()}", "success": True})
    return name


def _check(final: str, nonce: str, so_far: str, password: Password, known: bool) -> bytes:
    without_proof, _, proof = final.rpartition(",p=")
    if not proof:
        raise RefusedError(10, "Invalid encoding")
    if not known:
        raise RefusedError(17, "Unknown user")
    message = f"{so_far},{without_proof}".encode()
    client_key = hmac.digest(password.salted, b"Client Key", "sha256")
    signature = hmac.digest(hashlib.sha256(client_key).digest(), message, "sha256")
    expected = bytes(a ^ b for a, b in zip(client_key, signature, strict=True))
    try:
        given = base64.b64decode(proof, validate=True)
    except ValueError as error:
        raise RefusedError(10, "Invalid encoding") from error
    if _fields(without_proof).get("r") != nonce or not hmac.compare_digest(given, expected):
        raise RefusedError(12, "Wrong password")
    return hmac.digest(hmac.digest(password.salted, b"Server Key", "sha256"), message, "sha256")


def _fields(message: str) -> dict[str, str]:
    return dict(part.split("=", 1) for part in message.split(",") if "=" in part)


def _authentication(message: dict[str, Any]) -> str:
    value = message.get("authentication")
    if not isinstance(value, str):
        raise RefusedError(5, "Expected a string for `authentication`.")
    return value


async def _receive(reader: asyncio.StreamReader) -> dict[str, Any]:
    text = (await reader.readuntil(b"\0"))[:-1]
    try:
        value = json.loads(text)
    except ValueError:
        value = None
    if not isinstance(value, dict):
        raise RefusedError(8, "Invalid JSON object.")
    return value


def _send(writer: asyncio.StreamWriter, value: dict[str, Any]) -> None:
    writer.write(json.dumps(value, separators=(",", ":")).encode() + b"\0")
