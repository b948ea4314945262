"""A real HTTP/1.1 or HTTPS server whose answers a test sets, path by path, while it runs.

with HttpServer() as server:
    server.on("/health", status=200, body=b"ok")
    ... probe http://127.0.0.1:server.port/health ...
"""

from __future__ import annotations

import ssl
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from socket import socket
from socketserver import BaseServer
from typing import Self, cast

from tests.servers.certs import Pair
from tests.servers.misbehaving import Server
from tests.servers.process import LOOPBACK


@dataclass(frozen=True, slots=True)
class Request:
    """What a client asked for; header names are lower case."""

    method: str
    path: str
    headers: dict[str, str]
    body: bytes


@dataclass(frozen=True, slots=True)
class Answer:
    """What to send back; `hangs` sends nothing until the server is closed."""

    status: int = 200
    body: bytes = b""
    headers: Mapping[str, str] = field(default_factory=dict)
    hangs: bool = False


def server_tls(pair: Pair, *, client_ca: Path | None = None) -> ssl.SSLContext:
    """A server's context for `pair`; with `client_ca` a client must show a certificate of that authority."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(pair.cert_file, pair.key_file)
    if client_ca is not None:
        context.verify_mode = ssl.CERT_REQUIRED
        context.load_verify_locations(client_ca)
    return context


class HttpServer:
    """Answers by path (query string included); 404 for a path that nobody set. Serves HTTPS when given `tls`."""

    def __init__(self, *, host: str = LOOPBACK, tls: ssl.SSLContext | None = None) -> None:
        self.requests: list[Request] = []
        self._routes: dict[str, Answer | Callable[[Request], Answer]] = {}
        self._server = Server(self._serve, host=host, tls=tls)
        self.port = self._server.port
        shown = f"[{host}]" if ":" in host else host
        self.url = f"{'https' if tls else 'http'}://{shown}:{self.port}"

    def __enter__(self) -> Self:
        self._server.__enter__()
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @property
    def connections(self) -> int:
        """Connections open right now."""
        return self._server.connections

    @property
    def accepted(self) -> int:
        """Connections accepted so far: it does not grow while a client reuses one."""
        return self._server.accepted

    @property
    def sent(self) -> int:
        """Bytes of bodies that the kernel took so far."""
        return self._server.sent

    def on(
        self,
        path: str,
        status: int = 200,
        body: bytes = b"",
        headers: Mapping[str, str] | None = None,
        *,
        hangs: bool = False,
    ) -> None:
        """Answer `path` like this from now on."""
        self._routes[path] = Answer(status, body, dict(headers or {}), hangs)

    def on_call(self, path: str, answer: Callable[[Request], Answer]) -> None:
        """Answer `path` with what `answer` says, from now on."""
        self._routes[path] = answer

    def close(self) -> None:
        """Stop listening and cut every connection."""
        self._server.close()

    def answer(self, request: Request) -> Answer:
        """What `request` gets now; remembers it."""
        self.requests.append(request)
        route = self._routes.get(request.path, Answer(404, b"nothing here"))
        return route if isinstance(route, Answer) else route(request)

    def _serve(self, server: Server, conn: socket) -> None:
        _Handler(conn, self, server)


class _Handler(BaseHTTPRequestHandler):
    """One connection, with the standard library's parser."""

    protocol_version = "HTTP/1.1"

    def __init__(self, conn: socket, owner: HttpServer, server: Server) -> None:
        self._owner = owner
        self._conn = conn
        self._tcp = server
        # Only its own subclass of BaseServer would read this argument.
        super().__init__(conn, ("", 0), cast("BaseServer", None))

    def _any(self) -> None:
        length = int(self.headers.get("Content-Length") or 0)
        headers = {name.lower(): value for name, value in self.headers.items()}
        answer = self._owner.answer(Request(self.command, self.path, headers, self.rfile.read(length)))
        if answer.hangs:
            self._tcp.drain(self._conn)
            self.close_connection = True
            return
        self.send_response(answer.status)
        for name, value in answer.headers.items():
            self.send_header(name, value)
        if not {"content-length", "transfer-encoding"} & {name.lower() for name in answer.headers}:
            self.send_header("Content-Length", str(len(answer.body)))
        self.end_headers()
        if self.command != "HEAD":
            self._tcp.send(self._conn, answer.body)

    do_GET = do_HEAD = do_POST = do_PUT = do_DELETE = do_OPTIONS = _any  # noqa: N815

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002
        """Silent: the test prints what matters."""
