"""The one way out: resolve, check the address really connected, connect, TLS; for every protocol, timed by step."""

from __future__ import annotations

import asyncio
import contextlib
import datetime as dt
import ipaddress
import re
import socket
import ssl
import threading
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeVar

import aiohappyeyeballs

from backendhealth.core.reasons import Reason
from backendhealth.probes.endpoint import host_port
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
"""Threads that look names up at the same time; other names wait, under their own attempt's deadline."""
STREAM_LIMIT = 1 << 20  # bytes a reader buffers before it stops reading

_Protocol = TypeVar("_Protocol", bound=asyncio.BaseProtocol)

Place = tuple[str, int]


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
        self._lookups: dict[Place, asyncio.Future[list[AddrInfo]]] = {}
        self._queue: deque[Place] = deque()
        self._threads = 0

    async def resolve(self, host: str, port: int, trace: Trace) -> list[AddrInfo]:
        """The addresses of `host` that may be connected to. Raises gaierror, or ProbeError (AddressRefused)."""
        with trace.step("resolve"):
            try:
                found = _literal(host, port) or await self._look_up(host, port)
            except socket.gaierror as error:
                raise _about(error, host) from None
        allowed, why = [], ""
        for info in found:
            refusal = self._guard(_address(info)) if self._guard else None
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
                raise _about(_plain(error), host_port(host, port)) from None
        trace.contact = True
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        return sock

    async def open(self, host: str, port: int, trace: Trace, tls: TlsMaterial | None = None) -> Connection:
        """A connection to `host`, over TLS when `tls` is given. Raises OSError, ssl.SSLError or ProbeError."""
        sock = await self.connect(host, port, trace)
        try:
            address = sock.getpeername()[:2]  # fails when the other side has reset it already
            reader, writer = await self._streams(sock, (host, port), trace, tls)
        except BaseException as error:
            sock.close()
            if isinstance(error, OSError) and not hasattr(error, "target"):
                _about(error, host_port(host, port))
            raise
        return Connection(reader, writer, address, peer_not_after(writer))

    async def _streams(
        self, sock: socket.socket, place: Place, trace: Trace, tls: TlsMaterial | None
    ) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        loop = asyncio.get_running_loop()
        reader = asyncio.StreamReader(limit=STREAM_LIMIT)
        protocol = asyncio.StreamReaderProtocol(reader)
        if tls is None:
            transport, _ = await loop.create_connection(lambda: protocol, sock=sock)
        else:
            transport, _ = await over_tls(lambda: protocol, sock, place, trace, tls)
        return reader, asyncio.StreamWriter(transport, protocol, reader, loop)

    async def _look_up(self, host: str, port: int) -> list[AddrInfo]:
        """Look up in a daemon thread, once for all who ask meanwhile: a hung resolver holds neither us nor our end."""
        place = (host, port)
        future = self._lookups.get(place)
        if future is None:
            future = self._lookups[place] = asyncio.get_running_loop().create_future()
            self._queue.append(place)
            self._start_lookups()
        return await asyncio.shield(future)

    def _start_lookups(self) -> None:
        while self._queue and self._threads < MAX_LOOKUPS:
            self._threads += 1
            place = self._queue.popleft()
            threading.Thread(target=self._look_up_blocking, args=(place, self._lookups[place]), daemon=True).start()

    def _look_up_blocking(self, place: Place, future: asyncio.Future[list[AddrInfo]]) -> None:
        result: list[AddrInfo] | Exception
        try:
            result = self._resolver(*place)
        except UnicodeError:
            result = socket.gaierror(socket.EAI_NONAME, "not a host name")
        except Exception as error:  # noqa: BLE001 - raised again by whoever waits
            result = error
        with contextlib.suppress(RuntimeError):  # the loop has ended meanwhile: nobody waits any more
            future.get_loop().call_soon_threadsafe(self._looked_up, place, future, result)

    def _looked_up(
        self, place: Place, future: asyncio.Future[list[AddrInfo]], result: list[AddrInfo] | Exception
    ) -> None:
        self._threads -= 1
        del self._lookups[place]
        if isinstance(result, Exception):
            future.set_exception(result)
            future.exception()  # whoever asked may have given up: then nobody else retrieves it
        else:
            future.set_result(result)
        self._start_lookups()


async def over_tls(
    factory: Callable[[], _Protocol], sock: socket.socket, place: Place, trace: Trace, tls: TlsMaterial
) -> tuple[asyncio.Transport, _Protocol]:
    """A TLS session with the host of `place` on a connected socket, spoken by the protocol that `factory` makes."""
    with trace.step("tls"):
        try:
            session = await asyncio.get_running_loop().create_connection(
                factory, sock=sock, ssl=tls.context, server_hostname=tls.server_name or place[0]
            )
        except ConnectionError as error:
            raise _about(error, f"{host_port(*place)} in the TLS handshake") from None
    # A TLS 1.3 server refuses a client's certificate after the handshake. A write into its reset would lose what it
    # says, so let the loop read that first.
    await asyncio.sleep(0)
    return session


def _literal(host: str, port: int) -> list[AddrInfo] | None:
    """The address itself when `host` is one: no thread for what needs no look-up."""
    try:
        ip = ipaddress.ip_address(host.strip("[]"))
    except ValueError:
        return None
    if isinstance(ip, ipaddress.IPv6Address):
        return [(socket.AF_INET6, socket.SOCK_STREAM, socket.IPPROTO_TCP, "", (str(ip), port, 0, 0))]
    return [(socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP, "", (str(ip), port))]


def _address(info: AddrInfo) -> ipaddress.IPv4Address | ipaddress.IPv6Address:
    """What is really connected to: `::ffff:127.0.0.1` is 127.0.0.1."""
    address = ipaddress.ip_address(info[4][0].partition("%")[0])
    return (address.ipv4_mapped or address) if isinstance(address, ipaddress.IPv6Address) else address


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
