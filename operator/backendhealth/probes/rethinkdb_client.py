"""The official driver's asyncio connection on streams of the dialer, bounded, and closed without the server's help."""

from __future__ import annotations

import asyncio
import json
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from rethinkdb.asyncio_net import net_asyncio
from rethinkdb.errors import ReqlAuthError, ReqlDriverError, ReqlError, ReqlPermissionError

from backendhealth.core.observation import clip
from backendhealth.core.reasons import Reason
from backendhealth.probes.exchange import ProbeError

if TYPE_CHECKING:
    from backendhealth.probes.dialer import Connection
    from backendhealth.probes.secrets import Credentials
    from backendhealth.probes.trace import Trace

MAX_ANSWER = 16 << 20  # bytes; the status tables of hundreds of tables are far below
MAX_ITERATIONS = 100_000  # of PBKDF2, which the server asks for and which would block the loop; it uses 4096
_FIRST_USER_ERROR, _LAST_USER_ERROR = 10, 20  # error codes of the handshake that are about the user
_TLS_ALERT = b"\x15\x03"


@dataclass(frozen=True, slots=True)
class Refusal:
    """The server's refusal of one query; `permission` when it is about a missing grant."""

    text: str
    permission: bool = False


class Client:
    """One authenticated connection."""

    def __init__(self, stream: Connection, target: str, credentials: Credentials | None) -> None:
        user = (credentials.username if credentials else "") or "admin"
        if not user.isascii():
            raise ProbeError(Reason.SECRET_INVALID, "the RethinkDB driver takes ASCII user names only")
        self.user = user
        self.stream = stream
        self._target = target
        self._closed = False
        # The driver encodes the password as Latin-1, the server expects UTF-8.
        password = (credentials.password if credentials else "").encode().decode("latin-1")
        self._connection = net_asyncio.Connection(
            target, 0, None, None, user, password, None, {}, None, stream=stream, user_name=user
        )
        self._connection._conn_type = _Instance  # noqa: SLF001  (the driver has no other way in)

    async def authenticate(self, trace: Trace) -> None:
        """The handshake. Raises ProbeError or OSError."""
        with trace.step("auth"):
            try:
                await self._connection.reconnect(noreply_wait=False)
            except asyncio.IncompleteReadError as error:
                self._ended(error)
            except ConnectionError:
                raise self._reset("in the handshake") from None
            except asyncio.LimitOverrunError:
                raise _not_rethinkdb("a long answer without an end") from None

    def _ended(self, error: asyncio.IncompleteReadError) -> None:
        self.check()
        if error.partial:
            raise _not_rethinkdb(_excerpt(error.partial)) from None
        hint = "" if self.stream.writer.get_extra_info("ssl_object") else " (is it a TLS port? then set tls)"
        raise self._reset(f"in the handshake{hint}") from None

    @property
    def usable(self) -> bool:
        """Whether it is open as far as one can tell without using it."""
        return bool(self._connection.is_open()) and not self.stream.writer.transport.is_closing()

    async def ask(self, term: Any) -> Any:
        """The value of a ReQL term, or a Refusal; after a Refusal ask `check`."""
        try:
            return await term.run(self._connection)
        except ReqlPermissionError as error:
            return Refusal(error.message, permission=True)
        except ReqlError as error:
            return Refusal(error.message)

    def check(self) -> None:
        """Raises ProbeError or ConnectionResetError when the connection broke meanwhile."""
        if self._closed:
            raise ProbeError(Reason.INTERNAL_ERROR, "the probe was closed while it was running")
        instance = self._connection._instance  # noqa: SLF001
        broken = instance.broken if instance is not None else None
        if isinstance(broken, OSError | EOFError):
            raise self._reset("while a query was running")
        if isinstance(broken, ProbeError):
            raise broken
        if broken is not None:
            raise ProbeError(Reason.PROTOCOL_ERROR, f"{self._target} sent an answer that can't be understood")

    def _reset(self, when: str) -> ConnectionResetError:
        error = ConnectionResetError(when)
        error.target = f"{self._target}, {when}"  # type: ignore[attr-defined]
        return error

    async def close(self) -> None:
        """Close the socket at once."""
        self._closed = True
        self.stream.abort()
        instance = self._connection._instance  # noqa: SLF001
        if instance is not None:
            await instance.close()


class _Instance(net_asyncio.ConnectionInstance):  # type: ignore[misc]
    """The driver's connection, on a stream that is open already."""

    _closing: bool
    _user_queries: dict[int, tuple[Any, asyncio.Future[Any]]]
    _cursor_cache: dict[int, Any]
    _reader_task: asyncio.Future[None] | None

    def __init__(self, parent: Any, stream: Connection, user_name: str) -> None:
        super().__init__(parent)
        self._user = user_name
        self.broken: Exception | None = None
        self._stream = stream
        self._streamreader = _BoundedReader(stream.reader)
        self._streamwriter = stream.writer

    async def connect(self, timeout: float | None) -> Any:  # noqa: ARG002  (the driver's signature)
        handshake = self._parent.handshake
        handshake.reset()
        request, answer = handshake.next_message(None), b""
        while request is not None:
            if request:
                self._streamwriter.write(request)
            answer = (await self._stream.reader.readuntil(b"\0"))[:-1]
            request = _next_message(handshake, answer, self._user)
        self._reader_task = asyncio.ensure_future(self._reader())
        return self._parent

    async def close(
        self, _noreply_wait: bool = False, _token: int | None = None, exception: Exception | None = None
    ) -> None:
        """Called by the driver's reader with the exception that ended it, and by `Client.close`; waits for nobody."""
        if not self._closing:
            self._closing = True
            self.broken = exception
            for _, future in self._user_queries.values():
                if not future.done():
                    future.set_exception(ReqlDriverError("Connection is closed."))
            self._user_queries = {}
            self._cursor_cache = {}
            self._stream.abort()
        if exception is None and self._reader_task is not None:
            self._reader_task.cancel()
            await asyncio.wait([self._reader_task])


class _BoundedReader:
    """What the driver's reader needs of a stream; refuses answers that would fill the memory."""

    def __init__(self, reader: asyncio.StreamReader) -> None:
        self._reader = reader
        self.at_eof = reader.at_eof

    async def readexactly(self, count: int) -> bytes:
        if count > MAX_ANSWER:
            raise ProbeError(Reason.PROTOCOL_ERROR, f"an answer of {count} bytes was announced: too large to be true")
        return await self._reader.readexactly(count)


def _next_message(handshake: Any, answer: bytes, user: str) -> bytes | str | None:
    """The driver's next message; its many ways to fail on a strange answer become one."""
    try:
        told = json.loads(answer)
    except (ValueError, RecursionError):
        raise _not_rethinkdb(_excerpt(answer)) from None
    if not isinstance(told, dict):
        raise _not_rethinkdb(_excerpt(answer))
    if not told.get("success"):
        raise _refused(told, user)
    iterations = re.search(r"(?:^|,)i=(\d+)", str(told.get("authentication", "")))
    if iterations and int(iterations[1][:9]) > MAX_ITERATIONS:
        raise _not_rethinkdb("it asks for more password hashing than any server does")
    try:
        message: bytes | str | None = handshake.next_message(answer)
    except ReqlAuthError:
        raise _not_rethinkdb("it could not prove that it knows the password") from None
    except (ReqlDriverError, KeyError, TypeError, ValueError, AttributeError):
        raise _not_rethinkdb(_excerpt(answer)) from None
    return message


def _refused(told: dict[str, Any], user: str) -> ProbeError:
    code, text = told.get("error_code"), clip(str(told.get("error", "no reason given")), 200)
    if isinstance(code, int) and _FIRST_USER_ERROR <= code <= _LAST_USER_ERROR:
        return ProbeError(Reason.AUTHENTICATION_FAILED, f"the server does not let user {user} in: {text}")
    return ProbeError(Reason.PROTOCOL_ERROR, f"the server refused the handshake: {text}")


def _not_rethinkdb(what: str) -> ProbeError:
    return ProbeError(Reason.PROTOCOL_ERROR, f"the other side does not speak RethinkDB's protocol: {what}")


def _excerpt(answer: bytes) -> str:
    if answer.startswith(_TLS_ALERT):
        return "it is a TLS port: set tls"
    return f"it answered “{clip(answer[:400].decode(errors='replace'), 120)}”"
