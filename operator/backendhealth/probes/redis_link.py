"""One connection to a Redis or Sentinel server: through the dialer, kept between attempts, its replies bounded."""

from __future__ import annotations

import asyncio
import datetime as dt
import ssl
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeAlias, cast

import redis.exceptions as redis_errors
from redis.asyncio.connection import Connection as RedisConnection
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff

from backendhealth.core.observation import clip
from backendhealth.core.reasons import Reason
from backendhealth.core.spec.common import Auth, Tls
from backendhealth.probes.dialer import Connection, Dialer
from backendhealth.probes.endpoint import host_port
from backendhealth.probes.exchange import ProbeError, classify
from backendhealth.probes.secrets import Secrets, load_credentials, load_tls, redacted
from backendhealth.probes.trace import Trace

MAX_REPLY_BYTES = 1 << 20
MAX_REPLY_LINES = 20_000

Command: TypeAlias = Sequence[str | int]


@dataclass(frozen=True, slots=True)
class ErrorReply:
    """The server's own error: its first word, e.g. `LOADING`, and the rest on one line without our password."""

    code: str
    text: str


Reply: TypeAlias = "str | int | ErrorReply | list[Reply] | None"


@dataclass(frozen=True, slots=True)
class Access:
    """How servers of one target are reached: by whose credentials, and whether by TLS."""

    dialer: Dialer
    secrets: Secrets
    auth: Auth | None
    tls: Tls | None
    encrypted: bool


def split_address(endpoint: str) -> tuple[str, int]:
    """Host and port of `host:port`; the host of an IPv6 address without its brackets."""
    host, _, port = endpoint.rpartition(":")
    return host.strip("[]"), int(port)


class _BoundedReader:
    """A stream reader for redis-py's parser that ends a reply which is far too large, or is not in lines at all."""

    def __init__(self, reader: asyncio.StreamReader, address: str) -> None:
        self._reader = reader
        self._address = address
        self.refill()

    def refill(self) -> None:
        """Allow one more reply."""
        self._bytes, self._lines = MAX_REPLY_BYTES, MAX_REPLY_LINES

    async def readline(self) -> bytes:
        line = await self._reader.readline()
        self._take(len(line), 1)
        if line.startswith(b"HTTP/"):
            raise ProbeError(Reason.PROTOCOL_ERROR, f"{self._address} is an HTTP server, not Redis")
        if line.endswith(b"\n") and not line.endswith(b"\r\n"):
            raise _not_redis(self._address)
        return line

    async def readexactly(self, count: int) -> bytes:
        self._take(count, 0)
        return await self._reader.readexactly(count)

    def at_eof(self) -> bool:
        return self._reader.at_eof()

    def _take(self, count: int, lines: int) -> None:
        self._bytes -= count
        self._lines -= lines
        if self._bytes < 0 or self._lines < 0:
            raise ProbeError(
                Reason.PROTOCOL_ERROR,
                f"{self._address} sends a reply of more than {MAX_REPLY_BYTES} bytes: that is not Redis",
            )


def _not_redis(address: str) -> ProbeError:
    return ProbeError(Reason.PROTOCOL_ERROR, f"{address} answers, but not in Redis's protocol")


class Link(RedisConnection):
    """redis-py's connection on the dialer's streams; made once, dialled as often as needed, never retried.

    `ready` before `ask`. Any exception drops the connection, since replies may be outstanding.
    """

    def __init__(self, access: Access, host: str, port: int, db: int = 0) -> None:
        super().__init__(
            host=host,
            port=port,
            db=db,
            protocol=2,
            retry=Retry(NoBackoff(), 0),
            driver_info=None,  # else the constructor reads package metadata and each log-in sends it
            decode_responses=True,
            encoding_errors="replace",
            socket_timeout=None,  # the attempt has one deadline
            socket_connect_timeout=None,
        )
        self.address = host_port(host, port)
        self.not_after: dt.datetime | None = None
        self._access = access
        self._opened: Connection | None = None
        self._answered = False
        self._secret_text = ""

    async def ready(self, trace: Trace) -> None:
        """Have an open, logged-in connection: the kept one, or a new one when that is gone."""
        kept = self._opened
        if kept is not None:
            gone = kept.reader.at_eof() or kept.reader.exception() is not None or kept.writer.is_closing()
            if not gone:
                return
        self.drop()
        try:
            await self._dial(trace)
        except BaseException:
            self.drop()
            raise

    async def ask(self, trace: Trace, *commands: tuple[str, Command]) -> list[Reply]:
        """Send (step, command) pairs in one go and read their replies, each timed under its step."""
        writer, replies = cast("asyncio.StreamWriter", self._writer), []
        writer.writelines(self.pack_commands([command for _, command in commands]))
        try:
            for step, _ in commands:
                with trace.step(step):
                    replies.append(await self._read())
                trace.contact = True
        except BaseException:
            self.drop()
            raise
        return replies

    def drop(self) -> None:
        """Close the socket at once, without the peer."""
        if self._opened is not None:
            self._opened.abort()
            self._opened = None
        self._reader = self._writer = None

    async def _connect(self) -> None:
        raise NotImplementedError("ready() is the only way to connect")  # never around the dialer

    async def _dial(self, trace: Trace) -> None:
        access = self._access
        credentials = await load_credentials(access.secrets, access.auth, need=("password",))
        tls = await load_tls(access.secrets, access.tls) if access.encrypted else None
        self._opened = await access.dialer.open(self.host, self.port, trace, tls)
        self.not_after = self._opened.not_after
        self._answered = False
        self._reader = cast("asyncio.StreamReader", _BoundedReader(self._opened.reader, self.address))
        self._writer = self._opened.writer
        self._parser.on_connect(self)  # type: ignore[no-untyped-call]
        if credentials is not None:
            self._secret_text = credentials.password
            names = [credentials.username] if credentials.username else []
            self._logged_in(*await self.ask(trace, ("auth", ["AUTH", *names, credentials.password])))
        if self.db:
            self._selected(*await self.ask(trace, ("auth", ["SELECT", self.db])))

    def _logged_in(self, reply: Reply) -> None:
        # the server's text is not shown: it may quote the password
        if isinstance(reply, ErrorReply):
            secret = self._access.auth.secret_ref.name if self._access.auth else ""
            told = f"does not accept the credentials of Secret {secret}"
            if "without any password" in reply.text or "no password is set" in reply.text:
                told = f"asks for no password, but auth names Secret {secret}: remove one of the two"
            elif "wrong number of arguments" in reply.text:
                told = f"knows no user names (before Redis 6): remove the key username from Secret {secret}"
            raise ProbeError(Reason.AUTHENTICATION_FAILED, f"{self.address} {told}")
        if reply != "OK":
            raise _not_redis(self.address)

    def _selected(self, reply: Reply) -> None:
        if isinstance(reply, ErrorReply) and reply.code == "NOPERM":
            raise ProbeError(Reason.PERMISSION_DENIED, f"{self.address}: the user may not run SELECT: grant +select")
        if isinstance(reply, ErrorReply) and reply.code != "LOADING":  # PING tells that one
            raise ProbeError(Reason.DATABASE_MISSING, f"{self.address} has no database {self.db}: {reply.text}")

    async def _read(self) -> Reply:
        cast("_BoundedReader", self._reader).refill()
        try:
            reply = cast("Reply", await self.read_response(disconnect_on_error=False))
        except redis_errors.InvalidResponse:
            raise _not_redis(self.address) from None
        except redis_errors.RedisError as error:
            reply = self._error_reply(error)
        except (ValueError, RecursionError):  # a length that is no number, a line without end, lists in lists in lists
            raise _not_redis(self.address) from None
        self._answered = True
        return reply

    def _error_reply(self, error: redis_errors.RedisError) -> ErrorReply:
        """The server's error as a value; raises when it is no reply but a broken connection, or ends the connection."""
        text = str(error)
        if error.status_code is None and not isinstance(error, redis_errors.ResponseError):
            raise self._broken(error)
        code, rest = (error.status_code, text) if error.status_code else text.partition(" ")[::2]
        rest = redacted(rest, [self._secret_text])
        reply = ErrorReply(clip(code, 32), clip(rest, 200))
        if "max number of clients" in rest:
            raise ProbeError(
                Reason.TOO_MANY_CLIENTS, f"{self.address} turns new clients away: its maxclients is reached"
            )
        if code == "NOAUTH":
            raise ProbeError(
                Reason.AUTHENTICATION_FAILED, f"{self.address} asks for a password, but the probe has none: set auth"
            )
        if code == "DENIED":
            raise ProbeError(
                Reason.PERMISSION_DENIED, f"{self.address} is in protected mode: it serves its own host only"
            )
        return reply

    def _broken(self, error: redis_errors.RedisError) -> Exception:
        """What really happened: redis-py hides the socket's error behind its own."""
        cause = error.__context__
        if isinstance(cause, ssl.SSLError):
            return cause
        reason, told = classify(cause) if isinstance(cause, OSError) else (Reason.CONNECTION_RESET, "")
        if reason is not Reason.CONNECTION_RESET:
            return ProbeError(reason, f"{told}: {self.address}")
        hint = ""
        if not self._answered:
            wants = "a client certificate (tls.certSecretRef)" if self._access.encrypted else "TLS (rediss://)"
            hint = f" at the first request: a port that wants {wants} does that"
        return ProbeError(reason, f"{self.address} broke the connection{hint}")
