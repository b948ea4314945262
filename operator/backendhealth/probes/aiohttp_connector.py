"""HTTP by aiohttp over our own dialer: the same guard, timing by step and errors as for every other protocol.

connector = DialerConnector(dialer, partial(load_tls, secrets, target.tls))
session = open_session(connector)
connector.trace = trace                     # at the beginning of each attempt
with plain_errors("api:3000"):
    async with session.get(url) as response:
        body, whole = await read_at_most(response, 1 << 20)
await close_session(session, connector)
"""

from __future__ import annotations

import asyncio
import contextlib
import datetime as dt
import select
from collections.abc import Awaitable, Callable, Iterator
from typing import Any

import aiohttp
from aiohttp.client_proto import ResponseHandler

from backendhealth.core.reasons import Reason
from backendhealth.probes.dialer import Dialer, over_tls, peer_not_after
from backendhealth.probes.exchange import ProbeError
from backendhealth.probes.secrets import TlsMaterial
from backendhealth.probes.trace import Trace

KEEP_ALIVE = 120.0  # seconds; NATs and load balancers silently forget connections that are idle for longer


class DialerConnector(aiohttp.BaseConnector):
    """Connections by the dialer, kept for reuse. `load_tls` is asked for each new TLS connection: Secrets may rotate.

    `not_after` is the earliest end of the certificates that were verified, None where there was none.
    """

    def __init__(self, dialer: Dialer, load_tls: Callable[[], Awaitable[TlsMaterial]]) -> None:
        super().__init__(keepalive_timeout=KEEP_ALIVE)
        self.trace = Trace()
        self.not_after: dt.datetime | None = None
        self._dialer = dialer
        self._load_tls = load_tls

    @property
    def alive(self) -> bool:
        """Whether a kept connection can be used again, as far as can be told without using it."""
        kept = [protocol for connections in self._conns.values() for protocol, _ in connections]
        return any(protocol.is_connected() and not _has_news(protocol.transport) for protocol in kept)

    def abort(self) -> None:
        """Close every socket at once, without the peer's help (close() would wait for the TLS shutdown)."""
        kept = [protocol for connections in self._conns.values() for protocol, _ in connections]
        for protocol in (*kept, *self._acquired):
            transport = getattr(protocol, "transport", None)  # a connection still being made has none
            if transport is not None:
                transport.abort()

    async def _create_connection(self, req: aiohttp.ClientRequest, *_unused: Any) -> ResponseHandler:
        host, port = req.url.host or "", req.url.port or 0
        tls = await self._load_tls() if req.is_ssl() else None
        sock = await self._dialer.connect(host, port, self.trace)
        try:
            if tls is None:
                _, plain = await self._loop.create_connection(self._factory, sock=sock)
                return plain
            transport, protocol = await over_tls(self._factory, sock, (host, port), self.trace, tls)
        except BaseException:
            sock.close()
            raise
        end = peer_not_after(transport)
        if end is not None:
            self.not_after = min(end, self.not_after or end)
        return protocol


def _has_news(transport: asyncio.BaseTransport | None) -> bool:
    """Whether something waits to be read: on an idle connection that can only be its end."""
    sock = transport.get_extra_info("socket") if transport else None
    if sock is None:
        return True
    poll = select.poll()
    poll.register(sock.fileno(), select.POLLIN)  # errors and hang-ups are always reported
    return bool(poll.poll(0))


def open_session(connector: DialerConnector, *, auto_decompress: bool = True) -> aiohttp.ClientSession:
    """Make a session that does exactly what it is told: no retry, no cookies, no proxy, no time-out of its own."""
    session = aiohttp.ClientSession(
        connector=connector,
        cookie_jar=aiohttp.DummyCookieJar(),
        timeout=aiohttp.ClientTimeout(total=None),
        auto_decompress=auto_decompress,
    )
    session._retry_connection = False  # noqa: SLF001  # it would hide that a kept connection had died
    return session


async def close_session(session: aiohttp.ClientSession, connector: DialerConnector) -> None:
    """Close the session and all its sockets at once; closing twice does nothing."""
    connector.abort()
    await session.close()


async def read_at_most(response: aiohttp.ClientResponse, limit: int) -> tuple[bytes, bool]:
    """Up to `limit` bytes of the body, and whether that was all of it."""
    body = bytearray()
    async for piece in response.content.iter_any():
        body += piece
        if len(body) > limit:
            return bytes(body[:limit]), False
    return bytes(body), True


@contextlib.contextmanager
def plain_errors(target: str) -> Iterator[None]:
    """Turn aiohttp's exceptions into what `run_attempt` knows: the dialer's own, broken connections, ProbeError.

    `target` is `host:port`, for the messages.
    """
    try:
        yield
    except aiohttp.ClientError as error:
        raise _plain(error, target) from None


def _plain(error: aiohttp.ClientError, target: str) -> Exception:
    if isinstance(error, aiohttp.ClientResponseError):
        return ProbeError(Reason.PROTOCOL_ERROR, f"what answers at {target} does not speak HTTP")
    if isinstance(error, OSError):
        # the dialer's or the socket's own, which aiohttp wraps; else the subclass that belongs to errno
        plain = error.__cause__ if isinstance(error.__cause__, OSError) else OSError(error.errno, error.strerror)
    elif isinstance(error, aiohttp.ServerDisconnectedError | aiohttp.ClientPayloadError):
        plain = ConnectionResetError("closed before the end of the answer")
    else:
        return error
    if not hasattr(plain, "target"):
        plain.target = target  # type: ignore[attr-defined]
    return plain
