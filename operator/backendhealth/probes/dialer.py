"""The one way out: resolve, check the address really connected, connect, TLS; for every protocol, timed by step."""

from __future__ import annotations

import asyncio
import contextlib
import copy
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

from backendhealth.core.hostlist import Address
from backendhealth.core.reasons import Reason
from backendhealth.probes.endpoint import host_port
from backendhealth.probes.exchange import ProbeError
from backendhealth.probes.secrets import TlsMaterial
from backendhealth.probes.trace import Trace

AddrInfo = tuple[int, int, int, str, tuple[str, int] | tuple[str, int, int, int]]
Resolver = Callable[[str, int], list[AddrInfo]]
"""Blocking look-up of a host's TCP addresses; raises socket.gaierror. Run in a thread."""
Guard = Callable[[str, Address | None], str | None]
"""Why a host, as the spec or a server names it, must not be connected to at an address, or None.

Asked once without an address, before the name is looked up, and then about each address that it has.
"""
HostCheck = Callable[[str], None]
"""Asked about each host before it is looked up; raises ProbeError."""

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
    """Opens connections for all probes. `guard` is asked about each host and address before it is connected to."""

    def __init__(self, *, resolver: Resolver = system_resolver, guard: Guard | None = None) -> None:
        self._guard = guard
        self._check: HostCheck | None = None
        self._namespace = ""
        self._lookups = _Lookups(resolver)

    def bound(self, check: HostCheck, namespace: str = "") -> Dialer:
        """The same dialer for who may connect only to hosts that `check` lets pass.

        `namespace`: in a cluster, a name without a dot is a Service of that one, as it is for the pods in it; our own
        resolver would look in the namespace that we run in.
        """
        view = copy.copy(self)
        view._check = check  # noqa: SLF001 - our own
        view._namespace = namespace  # noqa: SLF001
        return view

    async def resolve(self, host: str, port: int, trace: Trace) -> list[AddrInfo]:
        """The addresses of `host` that may be connected to. Raises gaierror, or ProbeError (AddressRefused)."""
        if self._check:
            self._check(host)
        host = self._in_namespace(host)
        refusal = self._guard(host, None) if self._guard else None
        if refusal is not None:
            raise ProbeError(Reason.ADDRESS_REFUSED, f"not connected to {host}: {refusal}")
        with trace.step("resolve"):
            try:
                found = _literal(host, port) or await self._lookups.of(host, port)
            except socket.gaierror as error:
                raise _about(error, host) from None
        allowed, why = [], ""
        for info in found:
            refusal = self._guard(host, _address(info)) if self._guard else None
            if refusal is None:
                allowed.append(info)
            else:
                why = f"{info[4][0]} ({host}): {refusal}"
        if not allowed:
            raise ProbeError(Reason.ADDRESS_REFUSED, f"not connected to {why or host}")
        return allowed

    def _in_namespace(self, host: str) -> str:
        plain = self._namespace and not set(".:") & set(host) and host != "localhost"
        return f"{host}.{self._namespace}.svc" if plain else host

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


class _Lookups:
    """Look-ups of names in threads, shared by all who ask for the same."""

    def __init__(self, resolver: Resolver) -> None:
        self._resolver = resolver
        self._under_way: dict[Place, asyncio.Future[list[AddrInfo]]] = {}
        self._queue: deque[Place] = deque()
        self._threads = 0

    async def of(self, host: str, port: int) -> list[AddrInfo]:
        """Look up in a daemon thread, once for all who ask meanwhile: a hung resolver holds neither us nor our end."""
        place = (host, port)
        future = self._under_way.get(place)
        if future is None:
            future = self._under_way[place] = asyncio.get_running_loop().create_future()
            self._queue.append(place)
            self._start()
        return await asyncio.shield(future)

    def _start(self) -> None:
        while self._queue and self._threads < MAX_LOOKUPS:
            self._threads += 1
            place = self._queue.popleft()
            threading.Thread(target=self._look_up_blocking, args=(place, self._under_way[place]), daemon=True).start()

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
        del self._under_way[place]
        if isinstance(result, Exception):
            future.set_exception(result)
            future.exception()  # whoever asked may have given up: then nobody else retrieves it
        else:
            future.set_result(result)
        self._start()


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


def _address(info: AddrInfo) -> Address:
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
