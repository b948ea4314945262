"""A command in a container, over a WebSocket: within bounds of time and bytes, and never without saying how it ended.

Of what it came to only the server's error channel tells: when that stays empty, it is unknown.
"""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from http import HTTPStatus
from typing import Any

import aiohttp

from backendhealth.actions.ports import Executed
from backendhealth.core.observation import clip
from backendhealth.kube.api import Api, ApiError, ApiUnavailable, refusal

PROTOCOLS = ("v5.channel.k8s.io", "v4.channel.k8s.io")
MAX_OUTPUT = 64 << 10
"""Bytes of output that are kept."""
MAX_READ = 4 << 20
"""Bytes of output after which nobody listens any more."""
NOT_FOUND = "ExecutableNotFound"
"""`ApiError.reason` when the container's image has no such program."""
NOT_STARTED = "NotStarted"
"""`ApiError.reason` when the command was not started for another reason."""
_STDOUT, _STDERR, _ERROR = 1, 2, 3
_MAX_REFUSAL = 64 << 10
# What runtimes (runc, crun, runsc) say of a program that is not in the image. Only of the very program: what a
# program that has been started did not find is its own matter, and stands in its output.
_ABSENT = re.compile(r"executable file.{0,200}not found|exec: \"[^\"]*\": .{0,200}no such file or directory", re.DOTALL)
_UNSTARTED = re.compile(
    r"unable to start container process|container not found|CONTAINER_EXITED|container is not running"
    r"|dial tcp \S+: (connect: |i/o timeout)|error dialing backend: (dial|no |tls)"
)


async def execute(  # noqa: PLR0913, PLR0917 - where, what, as whom, how long
    api: Api, path: str, container: str, command: Sequence[str], headers: Mapping[str, str], timeout: float
) -> Executed:
    """Run a command; `path` is that of pods/NAME/exec.

    Raises ApiError: it has provably not been started; ApiUnavailable: unknown whether it was.
    """
    query = [("command", part) for part in command]
    query += [("container", container), ("stdout", "true"), ("stderr", "true")]
    url, sent = await api.prepared("GET", path, query, {**headers, "Accept": "*/*"})
    call = _Call()
    try:
        async with asyncio.timeout(timeout), call.session() as session:
            options = {**api.connection(), "max_msg_size": MAX_READ}
            async with session.ws_connect(url, headers=sent, protocols=PROTOCOLS, **options) as socket:
                call.opened = True
                await call.listen(socket)
    except aiohttp.WSServerHandshakeError as error:
        raise call.refused(error.status) from None
    except (aiohttp.ClientError, TimeoutError, OSError) as error:
        if not call.opened:
            told = "the deadline passed" if isinstance(error, TimeoutError) else f"{type(error).__name__} {error}"
            raise ApiUnavailable(f"the API server at {api.host} does not answer: {told.strip()}") from None
    return call.result()


@dataclass(slots=True)
class _Call:
    """What has come of one command so far."""

    opened: bool = False
    refusal: bytes = b""
    output: bytearray = field(default_factory=bytearray)
    heard: int = 0
    status: bytearray = field(default_factory=bytearray)

    def session(self) -> aiohttp.ClientSession:
        """One that keeps what the server says to a handshake which it refuses: the client itself throws that away."""
        tracing = aiohttp.TraceConfig()
        tracing.on_request_end.append(self._answered)
        return aiohttp.ClientSession(trust_env=True, trace_configs=[tracing])

    async def _answered(self, _session: object, _context: object, told: aiohttp.TraceRequestEndParams) -> None:
        if told.response.status != HTTPStatus.SWITCHING_PROTOCOLS:
            self.refusal = await told.response.content.read(_MAX_REFUSAL)

    def refused(self, status: int) -> ApiError | ApiUnavailable:
        """What to raise when there was no WebSocket."""
        error = refusal(_object(self.refusal), status)
        if status < HTTPStatus.INTERNAL_SERVER_ERROR or _UNSTARTED.search(error.message):
            return error
        return ApiUnavailable(f"the API server answered {error}")

    async def listen(self, socket: aiohttp.ClientWebSocketResponse) -> None:
        """Until the end: the server closes after the error channel has told."""
        async for message in socket:
            if message.type is not aiohttp.WSMsgType.BINARY or not message.data:
                continue
            channel, data = message.data[0], message.data[1:]
            if channel == _ERROR and len(self.status) < MAX_OUTPUT:
                self.status += data
            elif channel in (_STDOUT, _STDERR):
                self.output += data[: MAX_OUTPUT - len(self.output)]
                self.heard += len(data)
                if self.heard > MAX_READ:
                    return

    def result(self) -> Executed:
        """How it ended. Raises ApiError when it was not even started."""
        output = self.output.decode(errors="replace")
        told = _object(bytes(self.status))
        if told.get("status") == "Success":
            return Executed(0, output)
        if told.get("reason") == "NonZeroExitCode":
            return Executed(_exit_code(told), output)
        message = str(told.get("message") or "")
        if not self.heard and (_ABSENT.search(message) or _UNSTARTED.search(message)):
            reason = NOT_FOUND if _ABSENT.search(message) else NOT_STARTED
            raise ApiError(HTTPStatus.INTERNAL_SERVER_ERROR, reason, clip(message, 400))
        return Executed(None, f"{output}{message}")


def _exit_code(told: Mapping[str, Any]) -> int | None:
    details = told.get("details")
    causes = details.get("causes") if isinstance(details, dict) else None
    for cause in causes if isinstance(causes, list) else ():
        if isinstance(cause, dict) and cause.get("reason") == "ExitCode" and str(cause.get("message")).isdecimal():
            return int(cause["message"])
    return None


def _object(text: bytes) -> dict[str, Any]:
    try:
        told = json.loads(text)
    except (ValueError, RecursionError):
        return {}
    return told if isinstance(told, dict) else {}
