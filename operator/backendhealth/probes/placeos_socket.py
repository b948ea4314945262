"""WebSockets: one that stays open from attempt to attempt, as users' do, and a new one in each."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import Mapping

import aiohttp

from backendhealth.core.observation import Finding, clip
from backendhealth.core.reasons import Reason
from backendhealth.core.spec.placeos import PlaceosProbe
from backendhealth.probes.exchange import ProbeError
from backendhealth.probes.matching import excerpt
from backendhealth.probes.placeos_client import FORBIDDEN, QUOTED, UNAUTHORIZED, Client, HandshakeRefused
from backendhealth.probes.placeos_steps import failed_execute, skipped
from backendhealth.probes.secrets import redacted

_PATH = "/api/engine/v2/systems/control"
_MAX_UNANSWERED = 3
"""Pings without an answer, one an attempt, after which an open WebSocket counts as gone: its other end may be."""
_MAX_FRAMES = 1000
"""Frames that are read while an answer is waited for; a busy variable may change often, but not for ever."""

Socket = aiohttp.ClientWebSocketResponse


class KeptSocket:
    """The WebSocket that stays open."""

    def __init__(self, client: Client) -> None:
        self._client = client
        self._socket: Socket | None = None
        self._unanswered = 0
        self.lost = False
        """Whether one was open, has ended by no wish of ours, and none has taken its place."""

    @property
    def open(self) -> bool:
        """Whether there is one."""
        return self._socket is not None

    def keep(self, socket: Socket) -> None:
        """Keep a new one."""
        self._socket, self._unanswered, self.lost = socket, 0, False

    async def check(self, timeout: float) -> Finding:
        """Whether it is still alive: it is pinged."""
        socket = self._socket
        if socket is None:
            gone = "the WebSocket that was open has ended, and no new one could be opened"
            return Finding(Reason.WEBSOCKET_LOST, gone) if self.lost else skipped("no WebSocket is open yet")
        try:
            async with asyncio.timeout(timeout):
                await self._ping(socket)
        except TimeoutError:
            return self._silent(timeout)
        except (OSError, _EndedError) as error:
            return self._gone(f"the WebSocket that was open has ended{_why(error)}")
        self._unanswered = 0
        return Finding(Reason.PROBE_SUCCEEDED, "the WebSocket that was opened before is still open and answers")

    def _silent(self, timeout: float) -> Finding:
        self._unanswered += 1
        told = f"the WebSocket that is open does not answer within {timeout:.3g} s"
        # a frozen server may wake up and users' sockets with it: only one that stays silent is given up
        return Finding(Reason.TIMEOUT, told) if self._unanswered < _MAX_UNANSWERED else self._gone(told)

    def _gone(self, told: str) -> Finding:
        self._socket, self.lost = None, True
        return Finding(Reason.WEBSOCKET_LOST, told)

    async def _ping(self, socket: Socket) -> None:
        await socket.send_str("ping")
        for _ in range(_MAX_FRAMES):
            message = await socket.receive()
            if message.type is aiohttp.WSMsgType.TEXT:
                if message.data == "pong":
                    return
            elif message.type is not aiohttp.WSMsgType.BINARY:
                raise _EndedError(socket.close_code)
        raise _EndedError(None)

    def forget(self) -> None:
        """It was closed by us."""
        self._socket, self._unanswered = None, 0


class _EndedError(Exception):
    """A WebSocket has ended; `code` is what the other side gave."""

    def __init__(self, code: int | None) -> None:
        super().__init__(f"code {code}")
        self.code = code


def _why(error: Exception) -> str:
    code = error.code if isinstance(error, _EndedError) else None
    return f" (code {code})" if code else ""


async def open_new(client: Client, target: PlaceosProbe, headers: Mapping[str, str]) -> tuple[Finding, Socket | None]:
    """A new WebSocket with a variable bound, or why there is none. Raises what a broken connection raises."""
    try:
        socket = await client.open_socket(_PATH, headers)
    except HandshakeRefused as error:
        return _not_opened(error.status), None
    try:
        finding = await _bound(client, socket, target)
    except _EndedError as error:
        finding = Finding(Reason.BIND_FAILED, f"a new WebSocket ends before the variable is bound{_why(error)}")
    except BaseException:
        socket._response.close()  # noqa: SLF001 - at once: close() would wait for the other side
        raise
    if finding.reason is not Reason.PROBE_SUCCEEDED:
        await end(socket)
        return finding, None
    return finding, socket


async def end(socket: Socket) -> None:
    """Close it as the protocol asks, without waiting for long."""
    with contextlib.suppress(OSError, TimeoutError):
        await socket.close()


def _not_opened(status: int) -> Finding:
    if status == UNAUTHORIZED:
        return skipped(f"PlaceOS lets us in with no request (status {status}): see login")
    if status == FORBIDDEN:
        return Finding(Reason.PERMISSION_DENIED, f"the user may open no WebSocket: status {status}")
    return Finding(Reason.REQUEST_FAILED, f"a new WebSocket can't be opened: status {status}, and says no more")


async def _bound(client: Client, socket: Socket, target: PlaceosProbe) -> Finding:
    name, _, index = (target.module or "").rpartition("_")
    where = {"sys": target.system, "mod": name, "index": int(index or 1), "name": target.binding}
    await socket.send_str(json.dumps({"id": 1, "cmd": "bind", **where}))
    for _ in range(_MAX_FRAMES):
        message = await socket.receive()
        if message.type is aiohttp.WSMsgType.TEXT:
            answer = _parsed(message.data)
            if answer.get("id") == 1 or answer.get("type") == "error":
                return _judged(client, target, answer)
        elif message.type is not aiohttp.WSMsgType.BINARY:
            raise _EndedError(socket.close_code)
    raise ProbeError(Reason.PROTOCOL_ERROR, "a new WebSocket sends much, but no answer to the command bind")


def _parsed(text: str) -> dict[str, object]:
    try:
        answer = json.loads(text)
    except (ValueError, RecursionError):
        answer = None
    if not isinstance(answer, dict):
        raise ProbeError(Reason.PROTOCOL_ERROR, "what answers on the WebSocket is not PlaceOS: a frame is no object")
    return answer


def _judged(client: Client, target: PlaceosProbe, answer: Mapping[str, object]) -> Finding:
    if answer.get("type") == "success":
        return Finding(Reason.PROBE_SUCCEEDED, f"a new WebSocket opens, and {target.binding} is bound over it")
    words = answer.get("msg") or answer.get("message") or ""
    said = redacted(str(words), client.secrets)
    reason, meaning = failed_execute(said)
    if reason in (Reason.EXECUTE_FAILED, Reason.CONNECT_FAILED):
        reason, meaning = Reason.BIND_FAILED, "the command bind fails"
    return Finding(reason, clip(f"a new WebSocket opens, but {meaning}: {excerpt(said, limit=QUOTED)}"))
