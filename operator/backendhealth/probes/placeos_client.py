"""HTTP with one of PlaceOS's services: one request, its answer bounded and read as JSON; and WebSockets."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Coroutine, Mapping
from dataclasses import dataclass, replace
from typing import Any, TypeVar

import aiohttp
from yarl import URL

from backendhealth.core.observation import Finding
from backendhealth.core.reasons import Reason
from backendhealth.core.spec.common import Tls
from backendhealth.probes.aiohttp_connector import (
    plain_errors,
    read_at_most,
)
from backendhealth.probes.endpoint import host_port
from backendhealth.probes.exchange import ProbeError
from backendhealth.probes.http_expect import MAX_BODY, Answer, unpacked
from backendhealth.probes.http_session import HttpSession
from backendhealth.probes.matching import excerpt
from backendhealth.probes.registry import Context
from backendhealth.probes.secrets import TlsMaterial, load_tls, redacted
from backendhealth.probes.trace import Trace

QUOTED = 300
"""Characters of an answer's own error text that a message quotes: signatures look for theirs in it."""
SECRET_TIME = 2.0
"""Seconds for reading a Secret, and less where the attempt has less: a hung API server is not PlaceOS's fault."""
OK, MULTIPLE_CHOICES, SERVER_ERROR = 200, 300, 500
UNAUTHORIZED, FORBIDDEN, NOT_FOUND = 401, 403, 404

_T = TypeVar("_T")


@dataclass(frozen=True, slots=True)
class Reply:
    """What came back: the status, the body's text without our secrets, and its JSON (None where it is none)."""

    status: int
    text: str
    json: Any
    whole: bool

    @property
    def good(self) -> bool:
        """Whether the status says success."""
        return OK <= self.status < MULTIPLE_CHOICES

    @property
    def told(self) -> str:
        """Status and the service's own words, for messages."""
        said = self.said
        return f"status {self.status}" + (f", {excerpt(said, limit=QUOTED)}" if said else ", and says no more")

    @property
    def said(self) -> str:
        """The service's own words: `message` or `error` of its JSON, else the body."""
        if isinstance(self.json, dict):
            words = [text for key in ("error", "message") if isinstance(text := self.json.get(key), str) and text]
            return ": ".join(words)
        return self.text


async def in_time(reading: Coroutine[Any, Any, _T], timeout: float = SECRET_TIME) -> _T:
    """What `reading` a Secret gives. Raises ProbeError (SecretUnavailable) when it takes too long."""
    try:
        async with asyncio.timeout(timeout):
            return await reading
    except TimeoutError:
        told = f"reading its Secrets took longer than {timeout:g} s: nothing was sent to the backend"
        raise ProbeError(Reason.SECRET_UNAVAILABLE, told) from None


class Client:
    """One service: kept connections, made when first needed. `secrets` are blotted out of every text."""

    def __init__(self, url: str, context: Context, tls: Tls | None, host: str | None = None) -> None:
        self.url = URL(url)
        self.trace = Trace()
        self.secrets: tuple[str, ...] = ()
        self._context = context
        self._tls = tls
        self._headers = {"User-Agent": "backendhealth", "Accept-Encoding": "identity", "Accept": "application/json"}
        if host is not None:
            self._headers["Host"] = host
        self._session = HttpSession(context.dialer, tls, self._load_tls)

    @property
    def place(self) -> str:
        """`host:port`."""
        return host_port(self.url.host or "", self.url.port or 0)

    def begin(self) -> None:
        """Start an attempt: connections are timed, and signs of life counted, from now on."""
        self.trace = Trace()

    async def ask(
        self,
        method: str,
        path: str,
        *,
        headers: Mapping[str, str] | None = None,
        data: str | Mapping[str, str] | None = None,
        query: Mapping[str, str] | None = None,
    ) -> Reply:
        """One request; redirects are not followed. Raises ProbeError and what a broken connection raises."""
        url = self.url.with_path(path).with_query(query or {})
        with plain_errors(self.place):
            response = await self._session.timed_by(self.trace).request(
                method, url, headers=self._headers | dict(headers or {}), data=data, allow_redirects=False
            )
            self.trace.contact = True
            try:
                body, whole = await read_at_most(response, MAX_BODY)
            finally:
                response.close() if not response.content.at_eof() else response.release()
        encoding = tuple(response.headers.getall("Content-Encoding", ()))
        body, whole = unpacked(Answer(response.status, {"content-encoding": encoding} if encoding else {}, body, whole))
        text = redacted(body.decode("utf-8", "replace"), self.secrets)
        return Reply(response.status, text, _json(text), whole)

    async def open_socket(self, path: str, headers: Mapping[str, str]) -> aiohttp.ClientWebSocketResponse:
        """A WebSocket. Raises aiohttp.WSServerHandshakeError for an answer that is none, and as `ask` does."""
        url = self.url.with_path(path)
        with plain_errors(self.place):
            try:
                socket = await self._session.timed_by(self.trace).ws_connect(
                    url,
                    headers=self._headers | dict(headers),
                    max_msg_size=MAX_BODY,
                    timeout=aiohttp.ClientWSTimeout(ws_close=0.5),
                )
            except aiohttp.WSServerHandshakeError as error:
                self.trace.contact = True
                raise HandshakeRefused(error.status) from None
        self.trace.contact = True
        return socket

    async def close(self) -> None:
        """Close all sockets at once."""
        await self._session.close()

    def check_expiry(self, finding: Finding) -> Finding:
        """`finding`, Degraded when it is healthy and the certificate ends soon."""
        return self._session.check_expiry(finding)

    async def _load_tls(self) -> TlsMaterial:
        return await in_time(load_tls(self._context.secrets, self._tls))


def _json(text: str) -> Any:
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        return None


def without(finding: Finding, secrets: tuple[str, ...]) -> Finding:
    """`finding`, subjects and parts included, without `secrets`: JSON may have spelt them in another way."""
    if not secrets:
        return finding
    subjects = tuple(replace(one, message=redacted(one.message, secrets)) for one in finding.subjects)
    facts = {name: redacted(one, secrets) if isinstance(one, str) else one for name, one in finding.facts.items()}
    parts = {name: without(one, secrets) for name, one in finding.parts.items()}
    told = redacted(finding.message, secrets)
    return replace(finding, message=told, subjects=subjects, facts=facts, parts=parts)


class HandshakeRefused(Exception):  # noqa: N818 - no error of the program
    """A WebSocket was asked for and another answer came."""

    def __init__(self, status: int) -> None:
        super().__init__(f"status {status}")
        self.status = status
