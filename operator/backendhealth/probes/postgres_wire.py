"""Lets asyncpg speak over a connection that the Dialer opened, behind a guard that checks each message's frame.

asyncpg trusts what answers: a zero byte where a message's type stands sends it into an endless loop that freezes the
whole process, and a text such as `HTTP/1.1` is taken for the header of a message of 1.4 GB to be collected.
"""

from __future__ import annotations

import asyncio
import struct
from collections.abc import Callable
from typing import Any

import asyncpg
from asyncpg.pgproto.pgproto import BufferError as AsyncpgBufferError

from backendhealth.core.reasons import Reason
from backendhealth.probes.dialer import Dialer
from backendhealth.probes.exchange import ProbeError
from backendhealth.probes.matching import SHOWN, excerpt
from backendhealth.probes.secrets import Credentials, TlsMaterial
from backendhealth.probes.trace import Trace

MAX_MESSAGE_BYTES = 1 << 20
MAX_ATTEMPT_BYTES = 4 << 20

MALFORMED = (
    asyncpg.InterfaceError,
    asyncpg.InternalClientError,
    ArithmeticError,
    AttributeError,
    AsyncpgBufferError,
    LookupError,
    TypeError,
    ValueError,
    struct.error,
)
"""What asyncpg lets out when it stumbles over messages that are framed well but make no sense."""
NONSENSE = "its answers make no sense"

_SSL_REQUEST = (8).to_bytes(4) + (80877103).to_bytes(4)
_HEADER = 5  # a byte for the type, four for the length, which counts itself
# what a server may send to a client that never asks for COPY
_TYPES = frozenset(b"RKSZENvTDCItAns123")


class FrameGuard(asyncio.Protocol):
    """Stands between the transport and asyncpg's protocol, and aborts when the frames are not PostgreSQL's.

    `fault` then says what was seen, and `too_much` whether it is the size only; `lost` is the error that the
    connection ended with, if it did by one. `settled` is whether a session was agreed on before.
    """

    def __init__(self) -> None:
        self.fault = ""
        self.too_much = False
        self.settled = False
        self.lost: Exception | None = None
        self._inner: Any = None
        self._transport: Any = None
        self._head = b""  # the beginning of a header that is not complete yet
        self._missing = 0  # bytes of the current message that are still to come
        self._budget = MAX_ATTEMPT_BYTES
        self._greeted = False

    def attach(self, inner: asyncio.Protocol) -> None:
        """Hand everything to `inner` from now on."""
        self._inner = inner
        inner.connection_made(self._transport)

    def allow(self) -> None:
        """A new attempt begins: it may receive MAX_ATTEMPT_BYTES."""
        self._budget = MAX_ATTEMPT_BYTES

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """asyncio: the transport is there."""
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        """asyncio: pass `data` on when it is sound."""
        if self.fault:
            return
        self._budget -= len(data)
        if self._budget < 0:
            self.fault, self.too_much = f"it sent more than {MAX_ATTEMPT_BYTES >> 20} MiB", True
        elif self._inner is None:
            self.fault = f"{self._quoted(data)} before it was asked"
        else:
            self.fault = self._scan(data)
        if not self.fault:
            try:
                self._inner.data_received(data)
            except MALFORMED:
                self.fault = NONSENSE
            self._greeted = True
        if self.fault:
            self._transport.abort()

    def connection_lost(self, exc: Exception | None) -> None:
        """asyncio: pass it on."""
        self.lost = exc
        if self._inner is not None:
            self._inner.connection_lost(exc)

    def pause_writing(self) -> None:
        """asyncio: pass it on."""
        self._inner.pause_writing()

    def resume_writing(self) -> None:
        """asyncio: pass it on."""
        self._inner.resume_writing()

    def _scan(self, data: bytes) -> str:
        """What is wrong with the frames in `data`; empty when nothing is."""
        rest = self._head + data[self._missing :]
        self._missing = max(0, self._missing - len(data))
        at = 0
        while at < len(rest):
            length = int.from_bytes(rest[at + 1 : at + _HEADER])
            complete = len(rest) - at >= _HEADER
            if self.settled and complete and length > MAX_MESSAGE_BYTES:
                self.too_much = True
                return f"it sent a value of more than {MAX_MESSAGE_BYTES >> 20} MiB"
            if rest[at] not in _TYPES or (complete and not _HEADER - 1 <= length <= MAX_MESSAGE_BYTES):
                return self._quoted(rest[at : at + SHOWN])
            if not complete:
                break
            at += 1 + length
        self._head = rest[at:]
        self._missing = max(self._missing, at - len(rest))
        return ""

    def _quoted(self, data: bytes) -> str:
        # Later it may have asked for the password, and echo it.
        return "it sent something else" if self._greeted else f"it sent {excerpt(data)}"


class _OpenedLoop:
    """The running loop, but whoever asks it for a connection gets the one that is open already, and no second one."""

    def __init__(self, transport: asyncio.Transport, guard: FrameGuard) -> None:
        self._loop = asyncio.get_running_loop()
        self._opened: tuple[asyncio.Transport, FrameGuard] | None = (transport, guard)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._loop, name)

    async def create_connection(
        self, factory: Callable[[], asyncio.Protocol], *_: object, **__: object
    ) -> tuple[asyncio.Transport, asyncio.Protocol]:
        if self._opened is None:
            # asyncpg wants to cancel a query over a second connection: dropping the first must do
            raise ConnectionAbortedError
        transport, guard = self._opened
        self._opened = None
        protocol = factory()
        guard.attach(protocol)
        return transport, protocol


def not_postgres(seen: str) -> ProbeError:
    """Something else answers there."""
    return ProbeError(Reason.PROTOCOL_ERROR, f"what answers there does not speak PostgreSQL: {seen}")


async def open_stream(
    dialer: Dialer, host: str, port: int, trace: Trace, tls: TlsMaterial | None
) -> tuple[asyncio.Transport, FrameGuard]:
    """A connection on which PostgreSQL's start-up may begin, over TLS when `tls` is given.

    Raises OSError, ssl.SSLError or ProbeError.
    """
    loop = asyncio.get_running_loop()
    sock = await dialer.connect(host, port, trace)
    try:
        if tls is None:
            return await loop.create_connection(FrameGuard, sock=sock)
        with trace.step("tls"):
            await _ask_for_tls(loop, sock)
            name = tls.server_name or host
            return await loop.create_connection(FrameGuard, sock=sock, ssl=tls.context, server_hostname=name)
    except BaseException:
        sock.close()
        raise


async def _ask_for_tls(loop: asyncio.AbstractEventLoop, sock: Any) -> None:
    await loop.sock_sendall(sock, _SSL_REQUEST)
    # one byte and no more: what follows belongs to TLS, or was slipped in by somebody
    match await loop.sock_recv(sock, 1):
        case b"S":
            return
        case b"N":
            raise ProbeError(Reason.TLS_FAILURE, "the server does not speak TLS: remove tls, or set ssl = on there")
        case b"":
            raise ConnectionResetError
        case other:
            raise not_postgres(f"it sent {_seen(other, sock)} when asked for TLS")


def _seen(first: bytes, sock: Any) -> str:
    try:
        more = sock.recv(SHOWN)
    except OSError:  # nothing more yet, or gone
        more = b""
    return excerpt(first + more)


async def start_session(
    transport: asyncio.Transport, guard: FrameGuard, login: Credentials, database: str, *, named_statements: bool
) -> asyncpg.Connection:
    """Start up and authenticate. Every setting is given, so that no PG… variable or file of ours gets a say."""
    client = await asyncpg.connect(
        host="opened",
        port=1,
        user=login.username,
        password=login.password,
        database=database,
        ssl=False,
        direct_tls=False,
        target_session_attrs="any",
        gsslib="gssapi",
        statement_cache_size=8 if named_statements else 0,
        server_settings={"application_name": "backendhealth"},
        timeout=None,  # the attempt's deadline holds
        loop=_OpenedLoop(transport, guard),
    )
    guard.settled = True
    return client
