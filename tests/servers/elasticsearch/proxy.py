"""A small reverse proxy that gives a node what no published module does: TLS, authentication, and a gateway's errors.

Its behaviour is read anew for every request, from a JSON file (`Rules`): a test changes it under a kept connection.
Run as a process of its own (`python -m tests.servers.elasticsearch.proxy`), so that it can be frozen and killed.
"""

from __future__ import annotations

import argparse
import asyncio
import base64
import contextlib
import json
import ssl
import sys
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from tests.servers.certs import Pair
from tests.servers.process import LOOPBACK, Process, free_port, port_answers

_PROJECT = Path(__file__).parents[3]
_HEADERS = {"X-elastic-product": "Elasticsearch", "Content-Type": "application/json"}


@dataclass(frozen=True, slots=True)
class Answer:
    """What the proxy says by itself: a status, headers, a body and then `flood` more bytes."""

    status: int
    body: str = ""
    headers: Mapping[str, str] = field(default_factory=lambda: {"Content-Type": "text/html"})
    flood: int = 0


@dataclass(frozen=True, slots=True)
class Rules:
    """Who may do what. With neither users, keys nor tokens everyone may do everything.

    `denied` maps a user's name to the paths' beginnings that are forbidden to it; `answers` maps a path's beginning
    to an answer that is given without asking the server.
    """

    users: Mapping[str, str] = field(default_factory=dict)
    api_keys: tuple[str, ...] = ()
    tokens: tuple[str, ...] = ()
    denied: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    answers: Mapping[str, Answer] = field(default_factory=dict)


class Proxy(Process):
    """The proxy in front of the node on `upstream`'s port; with `pair` it speaks TLS. Up in 0.2 s."""

    def __init__(self, upstream: int, rules: Rules | None = None, *, pair: Pair | None = None) -> None:
        self.port = free_port()
        self._scheme = "https" if pair else "http"
        super().__init__("elasticsearch-proxy", [], ready=lambda: port_answers(self.port), cwd=_PROJECT)
        self._rules_file = self.directory / "rules.json"
        tls = ["--cert", str(pair.cert_file), "--key", str(pair.key_file)] if pair else []
        self.argv = [
            sys.executable, "-m", "tests.servers.elasticsearch.proxy", "--port", str(self.port),
            "--upstream", str(upstream), "--rules", str(self._rules_file), *tls,
        ]  # fmt: skip
        self.rule(rules or Rules())

    @property
    def url(self) -> str:
        return f"{self._scheme}://{LOOPBACK}:{self.port}"

    def rule(self, rules: Rules) -> None:
        """Behave so from the next request on."""
        new = self._rules_file.with_suffix(".new")
        new.write_text(json.dumps(asdict(rules)))
        new.replace(self._rules_file)  # never read half written


async def _read_message(reader: asyncio.StreamReader) -> tuple[str, dict[str, str], bytes] | None:
    """(first line, headers, body) of a request or an answer with a Content-Length or chunks; None at the end."""
    try:
        head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1")
    except (asyncio.IncompleteReadError, ConnectionError):
        return None
    first, *lines = head.rstrip("\r\n").split("\r\n")
    headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines)}
    if "chunked" in headers.get("transfer-encoding", ""):
        return first, headers, await _read_chunks(reader)
    return first, headers, await reader.readexactly(int(headers.get("content-length", 0)))


async def _read_chunks(reader: asyncio.StreamReader) -> bytes:
    body = b""
    while size := int((await reader.readuntil(b"\r\n")).split(b";")[0], 16):
        body += await reader.readexactly(size)
        await reader.readexactly(2)
    await reader.readexactly(2)
    return body


def _message(first: str, headers: Mapping[str, str], body: bytes) -> bytes:
    kept = {name: value for name, value in headers.items() if name not in ("transfer-encoding", "content-length")}
    return _head(first, {**kept, "content-length": str(len(body))}) + body


def _head(first: str, headers: Mapping[str, str]) -> bytes:
    return "\r\n".join([first, *(f"{name}: {value}" for name, value in headers.items()), "", ""]).encode("latin-1")


def _security_error(status: int, reason: str) -> Answer:
    """The shape in which Elasticsearch's own security module refuses."""
    cause = {"type": "security_exception", "reason": reason}
    headers = dict(_HEADERS)
    if status == 401:
        headers["WWW-Authenticate"] = 'Basic realm="security", charset="UTF-8"'
    return Answer(status, json.dumps({"error": {"root_cause": [cause], **cause}, "status": status}), headers)


def _refusal(rules: Mapping[str, Any], path: str, authorization: str) -> Answer | None:
    """The 401 or 403 that `authorization` deserves at `path`, None when it is let through."""
    if not (rules["users"] or rules["api_keys"] or rules["tokens"]):
        return None
    scheme, _, credentials = authorization.partition(" ")
    user = ""
    if scheme == "Basic":
        user, _, password = base64.b64decode(credentials).decode().partition(":")
        known = user in rules["users"] and rules["users"][user] == password
    else:
        known = credentials in rules[{"ApiKey": "api_keys", "Bearer": "tokens"}.get(scheme, "tokens")]
    if not authorization:
        return _security_error(401, f"missing authentication credentials for REST request [{path}]")
    if not known:
        return _security_error(401, f"unable to authenticate user [{user}] for REST request [{path}]")
    if path.startswith(tuple(rules["denied"].get(user, ()))):
        reason = f"action is unauthorized for user [{user}] with effective roles [], this action is granted by others"
        return _security_error(403, reason)
    return None


async def _answer(writer: asyncio.StreamWriter, answer: Answer) -> None:
    body = answer.body.encode()
    headers = {**answer.headers, "Content-Length": str(len(body) + answer.flood)}
    writer.write(_head(f"HTTP/1.1 {answer.status} Test", headers) + body)
    for _ in range(0, answer.flood, 65536):
        writer.write(b" " * 65536)
        await writer.drain()


async def _forward(port: int, request: bytes) -> bytes | None:
    try:
        reader, writer = await asyncio.open_connection(LOOPBACK, port)
    except OSError:
        return None
    try:
        writer.write(request)
        message = await _read_message(reader)
        return _message(*message) if message else None
    finally:
        writer.close()


async def _serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, upstream: int, rules_file: Path) -> None:
    while message := await _read_message(reader):
        first, headers, body = message
        path = first.split(" ")[1]
        rules = json.loads(rules_file.read_text())
        prepared = [Answer(**answer) for start, answer in rules["answers"].items() if path.startswith(start)]
        own = prepared[0] if prepared else _refusal(rules, path, headers.get("authorization", ""))
        if own is not None:
            await _answer(writer, own)
            continue
        answer = await _forward(upstream, _message(first, headers, body))
        if answer is None:
            await _answer(writer, Answer(502, "<html><h1>502 Bad Gateway</h1></html>"))
        else:
            writer.write(answer)
        await writer.drain()


async def _main(arguments: argparse.Namespace) -> None:
    context = None
    if arguments.cert:
        context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        context.load_cert_chain(arguments.cert, arguments.key)

    async def connected(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.closing(writer), contextlib.suppress(ConnectionError):
            await _serve(reader, writer, arguments.upstream, Path(arguments.rules))

    server = await asyncio.start_server(connected, LOOPBACK, arguments.port, ssl=context)
    await server.serve_forever()


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser()
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--upstream", type=int, required=True)
    parser.add_argument("--rules", required=True)
    parser.add_argument("--cert")
    parser.add_argument("--key")
    return parser.parse_args()


if __name__ == "__main__":
    asyncio.run(_main(_arguments()))
