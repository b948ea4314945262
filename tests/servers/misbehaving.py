"""TCP servers that misbehave in one precise way each, for any probe's tests.

Each function is a context manager that yields a `Server` on loopback; `.port` is where it listens:

    with misbehaving.silent() as server:
        ... probe 127.0.0.1:server.port ...

They run in threads of their own, so a blocked or busy event loop does not change how they behave.
"""

from __future__ import annotations

import contextlib
import socket
import ssl
import struct
import threading
from collections.abc import Callable, Iterator, Mapping
from typing import Self

from tests.servers.process import LOOPBACK

_CHUNK = 64 * 1024
_RESET = struct.pack("ii", 1, 0)  # SO_LINGER on, for 0 s: close() sends RST instead of FIN

Handler = Callable[["Server", socket.socket], None]
Make = Callable[[], "Server"]


class Server:
    """A listener that gives every accepted connection to `handler` in a thread of its own."""

    def __init__(self, handler: Handler, *, host: str = LOOPBACK, tls: ssl.SSLContext | None = None) -> None:
        self.host = host
        self.accepted = 0  # connections accepted so far
        self.received: list[bytes] = []  # what the clients sent, in pieces, in order
        self.sent = 0  # bytes that the kernel took from us, over all connections
        self.stopping = threading.Event()
        self._handler = handler
        self._tls = tls
        self._lock = threading.Lock()
        self._open: set[socket.socket] = set()
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        self._listener = socket.create_server((host, 0), family=family, backlog=512)
        self.port: int = self._listener.getsockname()[1]
        self._thread = threading.Thread(target=self._accept, name=f"misbehaving-{self.port}", daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @property
    def connections(self) -> int:
        """Connections open right now: 0 proves that the client closed its end."""
        with self._lock:
            return len(self._open)

    @property
    def request(self) -> bytes:
        """All that the clients sent so far."""
        return b"".join(self.received)

    def send(self, conn: socket.socket, data: bytes) -> None:
        """Send all of `data`, counting what the kernel took."""
        view = memoryview(data)
        while view:
            taken = conn.send(view[:_CHUNK])
            with self._lock:
                self.sent += taken
            view = view[taken:]

    def read_some(self, conn: socket.socket) -> bytes:
        """Wait for the client's next bytes; empty when it closed."""
        data = conn.recv(_CHUNK)
        if data:
            self.received.append(data)
        return data

    def drain(self, conn: socket.socket) -> None:
        """Swallow what the client sends until it closes."""
        while self.read_some(conn):
            pass

    def close(self) -> None:
        """Stop listening and close every connection."""
        self.stopping.set()
        _shut(self._listener)
        self._thread.join(5)
        with self._lock:
            left = list(self._open)
        for conn in left:
            _shut(conn)

    def _accept(self) -> None:
        while not self.stopping.is_set():
            try:
                conn, _ = self._listener.accept()
            except OSError:
                return
            with self._lock:
                self.accepted += 1
                self._open.add(conn)
            threading.Thread(target=self._serve, args=(conn,), daemon=True).start()

    def _serve(self, raw: socket.socket) -> None:
        try:
            with contextlib.suppress(OSError):  # the client went away, or close() cut it off: both are expected
                conn = raw
                conn.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                if self._tls is not None:
                    # The wrapped socket shares the descriptor that close() shuts down.
                    conn = self._shake_hands(raw, self._tls)
                with conn:
                    self._handler(self, conn)
        finally:
            raw.close()
            with self._lock:
                self._open.discard(raw)

    def _shake_hands(self, raw: socket.socket, tls: ssl.SSLContext) -> ssl.SSLSocket:
        try:
            return tls.wrap_socket(raw.dup(), server_side=True)
        except ssl.SSLError:
            # As real servers do: a reset would overtake the alert that says why.
            raw.shutdown(socket.SHUT_WR)
            self.drain(raw)
            raise


def _shut(sock: socket.socket) -> None:
    """Close a socket so that a thread blocked in it wakes up."""
    with contextlib.suppress(OSError):
        sock.shutdown(socket.SHUT_RDWR)
    with contextlib.suppress(OSError):
        sock.close()


def silent(*, host: str = LOOPBACK, tls: ssl.SSLContext | None = None) -> Server:
    """Accepts and never answers (with `tls`: shakes hands, then never answers)."""
    return Server(lambda server, conn: server.drain(conn), host=host, tls=tls)


def garbage(
    data: bytes = b"\x00\xffthis is not the protocol you are looking for\r\n",
    *,
    greets: bool = False,
    closes: bool = False,
    host: str = LOOPBACK,
    tls: ssl.SSLContext | None = None,
) -> Server:
    """Answers whatever the client sends with `data`; `greets`: at once, unasked; `closes`: hangs up afterwards."""

    def handle(server: Server, conn: socket.socket) -> None:
        if greets:
            server.send(conn, data)
        while not (greets and closes) and server.read_some(conn):
            server.send(conn, data)
            if closes:
                return

    return Server(handle, host=host, tls=tls)


def flood(
    total_bytes: int,
    prefix: bytes = b"",
    *,
    greets: bool = False,
    fill: bytes = b"x",
    host: str = LOOPBACK,
    tls: ssl.SSLContext | None = None,
) -> Server:
    """Answers the first bytes (`greets`: the connection) with `prefix` and `total_bytes` more, then hangs up.

    `.sent` says how much the client let it send.
    """

    def handle(server: Server, conn: socket.socket) -> None:
        if not greets and not server.read_some(conn):
            return
        server.send(conn, prefix)
        chunk = (fill * (_CHUNK // len(fill) + 1))[:_CHUNK]
        left = total_bytes
        while left > 0:
            server.send(conn, chunk[:left])
            left -= len(chunk)

    return Server(handle, host=host, tls=tls)


def closes_at_once(*, after_request: bool = False, host: str = LOOPBACK, tls: ssl.SSLContext | None = None) -> Server:
    """Accepts and closes (FIN); `after_request`: only once the client said something."""

    def handle(server: Server, conn: socket.socket) -> None:
        if after_request:
            server.read_some(conn)

    return Server(handle, host=host, tls=tls)


def resets(*, after_request: bool = False, host: str = LOOPBACK) -> Server:
    """Accepts and resets (RST); `after_request`: only once the client said something."""

    def handle(server: Server, conn: socket.socket) -> None:
        if after_request:
            server.read_some(conn)
        conn.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)

    return Server(handle, host=host)


def drip(
    prefix: bytes = b"",
    *,
    byte: bytes = b"x",
    interval: float = 0.05,
    greets: bool = False,
    host: str = LOOPBACK,
    tls: ssl.SSLContext | None = None,
) -> Server:
    """Answers with `prefix`, then one `byte` each `interval` seconds for ever: data flows, no answer ever ends."""

    def handle(server: Server, conn: socket.socket) -> None:
        if not greets and not server.read_some(conn):
            return
        server.send(conn, prefix)
        while not server.stopping.wait(interval):
            server.send(conn, byte)

    return Server(handle, host=host, tls=tls)


def http_like(
    status: int = 200,
    headers: Mapping[str, str] | None = None,
    body: bytes = b"",
    *,
    host: str = LOOPBACK,
    tls: ssl.SSLContext | None = None,
) -> Server:
    """Answers every HTTP/1.1 request (without a body) with the same status, headers and body, keeping the connection.

    Content-Length is added unless `headers` name it or Transfer-Encoding. Reasons are not spelt: `HTTP/1.1 503 -`.
    """
    fields = dict(headers or {})
    if not {"content-length", "transfer-encoding"} & {name.lower() for name in fields}:
        fields["Content-Length"] = str(len(body))
    head = "".join(f"{name}: {value}\r\n" for name, value in fields.items())
    answer = f"HTTP/1.1 {status} -\r\n{head}\r\n".encode() + body

    def handle(server: Server, conn: socket.socket) -> None:
        pending = b""
        while data := server.read_some(conn):
            pending += data
            while (end := pending.find(b"\r\n\r\n")) >= 0:
                pending = pending[end + 4 :]
                server.send(conn, answer)

    return Server(handle, host=host, tls=tls)


@contextlib.contextmanager
def unreachable(host: str = LOOPBACK) -> Iterator[int]:
    """A port whose connects neither succeed nor fail: its queue is full, so the kernel drops every SYN (Linux)."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with contextlib.ExitStack() as stack:
        listener = stack.enter_context(socket.create_server((host, 0), family=family, backlog=0))
        port: int = listener.getsockname()[1]
        for _ in range(4):
            filler = stack.enter_context(socket.socket(family))
            filler.setblocking(False)
            filler.connect_ex((host, port))
        yield port
