"""Connections to one etcd address: dialled first, then handed to gRPC; and what else a port may speak."""

from __future__ import annotations

import asyncio
import ssl
import traceback
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlsplit

import grpc

from backendhealth.core.reasons import Reason
from backendhealth.core.spec.common import Tls
from backendhealth.probes import etcd_stubs
from backendhealth.probes.dialer import Connection
from backendhealth.probes.endpoint import host_port
from backendhealth.probes.exchange import ProbeError
from backendhealth.probes.registry import Context
from backendhealth.probes.secrets import TlsMaterial, load_tls
from backendhealth.probes.trace import Trace

DEFAULT_PORT = 2379
MAX_ANSWER = 4 << 20  # bytes; gRPC's own default, written down because it keeps a huge answer out

_HELLO = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + bytes((0, 0, 0, 4, 0, 0, 0, 0, 0))  # with an empty SETTINGS frame
_FRAME_HEADER, _TYPE_AT, _SETTINGS = 9, 3, 4  # RFC 9113: a frame's header, where its type stands, what comes first

_OPTIONS: tuple[tuple[str, int], ...] = (
    ("grpc.enable_http_proxy", 0),  # a proxy from the environment would lead past the dialer's guard
    ("grpc.use_local_subchannel_pool", 1),  # a new channel is a new connection, not another one's with its back-off
    ("grpc.enable_retries", 0),
    ("grpc.initial_reconnect_backoff_ms", 100),
    ("grpc.max_reconnect_backoff_ms", 1000),
    ("grpc.max_receive_message_length", MAX_ANSWER),
)


@dataclass(slots=True)
class Link:
    """A channel and what was made sure of when it was opened."""

    channel: grpc.aio.Channel
    stubs: etcd_stubs.Stubs
    connection: Connection
    tls: TlsMaterial | None
    token: str | None = field(default=None, repr=False)
    """None until signed in; empty when etcd asks nobody for a password."""

    @property
    def alive(self) -> bool:
        """Whether the connection still stands; gRPC notices at once when the other side closes it."""
        return self.channel.get_state() is grpc.ChannelConnectivity.READY

    async def call(self, method: Any, request: Any) -> Any:
        """One RPC, with the token. Raises AioRpcError, or ProbeError for an answer that can't be decoded."""
        try:
            answer = await method(request, metadata=(("token", self.token),) if self.token else ())
        except asyncio.CancelledError as error:
            # its frames hold the call, and the call holds the socket: closing must not wait for the exception's end
            traceback.clear_frames(error.__traceback__)
            raise
        if answer is None:  # that is how grpc.aio returns it
            raise ProbeError(Reason.PROTOCOL_ERROR, "what answers there is not etcd: its answer can't be decoded")
        return answer


class Address:
    """Where an endpoint's URL points, and how to connect to it."""

    def __init__(self, url: str, tls: Tls | None, context: Context) -> None:
        parts = urlsplit(url)
        self.host = parts.hostname or ""
        self.port = parts.port or DEFAULT_PORT
        self.encrypted = parts.scheme == "https"
        self._tls = tls
        self._context = context

    def __str__(self) -> str:
        return host_port(self.host, self.port)

    async def link(self, trace: Trace) -> Link:
        """Dial, then give gRPC the address that was really connected: it has the guard's consent."""
        connection, tls = await self.dial(trace)
        channel = self._channel(connection, tls)
        return Link(channel, etcd_stubs.stubs(channel), connection, tls)

    async def dial(self, trace: Trace) -> tuple[Connection, TlsMaterial | None]:
        """Make a connection, greet in HTTP/2 and close it: these errors are exact where gRPC's are not."""
        tls = None
        if self.encrypted:
            with trace.step("secret"):
                tls = await load_tls(self._context.secrets, self._tls)
            tls.context.set_alpn_protocols(["h2"])
        connection = await self._context.dialer.open(self.host, self.port, trace, tls)
        try:
            with trace.step("http2"):
                await self._greet(connection)
        finally:
            connection.abort()
        return connection, tls

    async def _greet(self, connection: Connection) -> None:
        """Exchange HTTP/2's first frames. In TLS 1.3 the server's word on our certificate arrives only here."""
        connection.writer.write(_HELLO)
        try:
            header = await connection.reader.readexactly(_FRAME_HEADER)
        except asyncio.IncompleteReadError as short:
            if not short.partial:
                raise ConnectionResetError(str(self)) from None
            header = short.partial
        except ConnectionError:
            raise ConnectionResetError(str(self)) from None
        if header.startswith(b"HTTP/1"):
            raise ProbeError(Reason.PROTOCOL_ERROR, f"{self}: an HTTP/1 server answers there, not etcd")
        if len(header) < _FRAME_HEADER or header[_TYPE_AT] != _SETTINGS:
            raise ProbeError(
                Reason.PROTOCOL_ERROR, f"{self}: what answers there does not speak HTTP/2, so it is not etcd"
            )

    async def mistaken(self) -> str:
        """Tell a server that is spoken to in plain but wants TLS, or the other way round; empty when it is neither."""
        if self.encrypted:
            return "the port does not speak TLS: etcd answers there to http://" if await self._speaks_plain() else ""
        return "the port speaks TLS, but the endpoint says http://: write https://" if await self._speaks_tls() else ""

    async def _speaks_tls(self) -> bool:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE  # nothing is sent over that connection
        try:
            connection = await self._context.dialer.open(self.host, self.port, Trace(), TlsMaterial(context, None, 0.0))
        except ssl.SSLError as error:
            return "ALERT" in (error.reason or "")  # it knows TLS well enough to object
        except (ProbeError, OSError):
            return False
        connection.abort()
        return True

    async def _speaks_plain(self) -> bool:
        try:
            connection = await self._context.dialer.open(self.host, self.port, Trace())
        except (ProbeError, OSError):
            return False
        try:
            await self._greet(connection)
        except (ProbeError, OSError):
            return False
        finally:
            connection.abort()
        return True

    def _channel(self, connection: Connection, tls: TlsMaterial | None) -> grpc.aio.Channel:
        host, port = connection.address
        target = f"ipv6:[{host.replace('%', '%25')}]:{port}" if ":" in host else f"ipv4:{host}:{port}"
        if tls is None:
            return grpc.aio.insecure_channel(target, options=[*_OPTIONS, ("grpc.default_authority", str(self))])
        name = ("grpc.ssl_target_name_override", tls.server_name or self.host)
        return grpc.aio.secure_channel(target, _credentials(tls), options=[*_OPTIONS, name])


def _credentials(tls: TlsMaterial) -> Any:
    """What gRPC verifies with: the same authorities that the dialer has just used."""
    roots = tls.ca
    if roots is None:
        loaded = tls.context.get_ca_certs(binary_form=True)
        roots = "".join(ssl.DER_cert_to_PEM_cert(certificate) for certificate in loaded).encode()
    return grpc.ssl_channel_credentials(roots, tls.key, tls.cert)
