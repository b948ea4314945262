"""The one way out: resolve, check the address really connected, connect, TLS; for every protocol, timed by step."""

from __future__ import annotations

import asyncio
import datetime as dt
import ipaddress
import re
import socket
import ssl
import threading
from collections.abc import Callable
from dataclasses import dataclass

import aiohappyeyeballs

from backendhealth.core.reasons import Reason
from backendhealth.probes.exchange import ProbeError
from backendhealth.probes.secrets import TlsMaterial
from backendhealth.probes.trace import Trace

AddrInfo = tuple[int, int, int, str, tuple[str, int] | tuple[str, int, int, int]]
Resolver = Callable[[str, int], list[AddrInfo]]
"""Blocking look-up of a host's TCP addresses; raises socket.gaierror. Run in a thread."""
Guard = Callable[[ipaddress.IPv4Address | ipaddress.IPv6Address], str | None]
"""Why an address must not be connected to, or None."""

HAPPY_EYEBALLS_DELAY = 0.25  # seconds before the next address is tried beside the first, as in RFC 8305
MAX_LOOKUPS = 16
STREAM_LIMIT = 1 << 20  # bytes a reader buffers before it stops reading


def system_resolver(host: str, port: int) -> list[AddrInfo]:
    """The operating system's resolver: /etc/hosts, search domains and all."""
    return socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, proto=socket.IPPROTO_TCP)  # type: ignore[return-value]


@dataclass(frozen=True, slots=True)
class Connection:
    """An open stream to one address; `not_after` is the end of the server's certificate where it was verified."""

    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter
    address: tuple[str, int]
    not_after: dt.datetime | None = None

    def abort(self) -> None:
        """Close the socket at once."""
        self.writer.transport.abort()


class Dialer:
    """Opens connections for all probes. `guard` is asked about each address before it is connected to."""

    def __init__(self, *, resolver: Resolver = system_resolver, guard: Guard | None = None) -> None:
        self._resolver = resolver
        self._guard = guard
        self._lookups: dict[tuple[str, int], asyncio.Future[list[AddrInfo]]] = {}

    async def resolve(self, host: str, port: int, trace: Trace) -> list[AddrInfo]:
        """The addresses of `host` that may be connected to. Raises gaierror, or ProbeError (AddressRefused)."""
        with trace.step("resolve"):
            try:
                found = _literal(host, port) or await self._look_up(host, port)
            except socket.gaierror as error:
                raise _about(error, host) from None
        allowed, why = [], ""
        for info in found:
            refusal = self._guard(ipaddress.ip_address(info[4][0].partition("%")[0])) if self._guard else None
            if refusal is None:
                allowed.append(info)
            else:
                why = f"{info[4][0]} ({host}): {refusal}"
        if not allowed:
            raise ProbeError(Reason.ADDRESS_REFUSED, f"not connected to {why or host}")
        return allowed

    async def connect(self, host: str, port: int, trace: Trace) -> socket.socket:
        """A connected, non-blocking socket to the first of the host's addresses that answers."""
        infos = await self.resolve(host, port, trace)
        with trace.step("connect"):
            try:
                sock = await aiohappyeyeballs.start_connection(infos, happy_eyeballs_delay=HAPPY_EYEBALLS_DELAY)
            except OSError as error:
                raise _about(_plain(error), f"{host}:{port}") from None
        trace.contact = True
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        return sock

    async def open(self, host: str, port: int, trace: Trace, tls: TlsMaterial | None = None) -> Connection:
        """A connection to `host`, over TLS when `tls` is given. Raises OSError, ssl.SSLError or ProbeError."""
        sock = await self.connect(host, port, trace)
        address = sock.getpeername()[:2]
        try:
            reader, writer = await self._streams(sock, host, port, trace, tls)
        except BaseException:
            sock.close()
            raise
        return Connection(reader, writer, address, peer_not_after(writer))

    async def _streams(
        self, sock: socket.socket, host: str, port: int, trace: Trace, tls: TlsMaterial | None
    ) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        if tls is None:
            return await asyncio.open_connection(sock=sock, limit=STREAM_LIMIT)
        with trace.step("tls"):
            try:
                return await asyncio.open_connection(
                    sock=sock, limit=STREAM_LIMIT, ssl=tls.context, server_hostname=tls.server_name or host
                )
            except ConnectionError as error:
                raise _about(error, f"{host}:{port} in the TLS handshake") from None

    async def _look_up(self, host: str, port: int) -> list[AddrInfo]:
        """Look up in a daemon thread, once for all who ask meanwhile: a hung resolver holds neither us nor our end."""
        key = (host, port)
        future = self._lookups.get(key)
        if future is None:
            if len(self._lookups) >= MAX_LOOKUPS:
                raise socket.gaierror(socket.EAI_AGAIN, "too many look-ups hang already")
            future = self._lookups[key] = asyncio.get_running_loop().create_future()
            future.add_done_callback(lambda done: (self._lookups.pop(key, None), done.cancelled() or done.exception()))
            threading.Thread(target=self._look_up_blocking, args=(host, port, future), daemon=True).start()
        return await asyncio.shield(future)

    def _look_up_blocking(self, host: str, port: int, future: asyncio.Future[list[AddrInfo]]) -> None:
        def settle(result: list[AddrInfo] | None, error: BaseException | None) -> None:
            if future.done():
                return
            if error is not None:
                future.set_exception(error)
            else:
                future.set_result(result or [])

        result, failed = None, None
        try:
            result = self._resolver(host, port)
        except (OSError, UnicodeError) as error:
            failed = error if isinstance(error, OSError) else socket.gaierror(socket.EAI_NONAME, "not a host name")
        try:
            future.get_loop().call_soon_threadsafe(settle, result, failed)
        except RuntimeError:  # the loop has ended meanwhile: nobody waits any more
            return


def _literal(host: str, port: int) -> list[AddrInfo] | None:
    """The address itself when `host` is one: no thread for what needs no look-up."""
    try:
        ip = ipaddress.ip_address(host.strip("[]"))
    except ValueError:
        return None
    family = socket.AF_INET6 if ip.version == 6 else socket.AF_INET
    sockaddr = (str(ip), port, 0, 0) if ip.version == 6 else (str(ip), port)
    return [(family, socket.SOCK_STREAM, socket.IPPROTO_TCP, "", sockaddr)]


def _about(error: OSError, target: str) -> OSError:
    """The same error, with what it was about, for the message."""
    error.target = target  # type: ignore[attr-defined]
    return error


def _plain(error: OSError) -> OSError:
    """One error for several addresses that failed in different ways: a refusal says most."""
    if error.errno is not None:
        return error
    numbers = [int(number) for number in re.findall(r"\[Errno (\d+)\]", str(error))]
    for kind in (ConnectionRefusedError, ConnectionResetError):
        for number in numbers:
            if type(OSError(number, "")) is kind:
                return OSError(number, str(error))
    return OSError(numbers[0], str(error)) if numbers else error


def peer_not_after(stream: asyncio.StreamWriter | asyncio.BaseTransport) -> dt.datetime | None:
    """End of the certificate that the peer showed; None without TLS or where it was not verified."""
    certificate = stream.get_extra_info("peercert")
    if not certificate:
        return None
    return dt.datetime.fromtimestamp(ssl.cert_time_to_seconds(certificate["notAfter"]), dt.UTC)
