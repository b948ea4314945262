"""Probes anything that speaks HTTP: status, headers, body, JSON; over redirects, each hop through the dialer."""

from __future__ import annotations

import base64
from dataclasses import dataclass, field, replace

from yarl import URL

from backendhealth.core.observation import Fact, Finding, clip
from backendhealth.core.reasons import Reason
from backendhealth.core.spec.common import Tls
from backendhealth.core.spec.generic import HttpProbe
from backendhealth.probes.aiohttp_connector import (
    plain_errors,
    read_at_most,
)
from backendhealth.probes.endpoint import about_endpoint, host_port
from backendhealth.probes.exchange import ProbeError
from backendhealth.probes.http_expect import MAX_BODY, Answer, Expectation
from backendhealth.probes.http_session import HttpSession
from backendhealth.probes.matching import excerpt
from backendhealth.probes.registry import Context
from backendhealth.probes.secrets import load_credentials, load_tls, redacted
from backendhealth.probes.trace import Trace

_REDIRECTS = frozenset({301, 302, 303, 307, 308})
_KEEP_METHOD = frozenset({307, 308})
_SEE_OTHER = 303


def build(target: HttpProbe, context: Context) -> HttpExchange:
    """The exchange for `target`."""
    return HttpExchange(target, context)


@dataclass(frozen=True, slots=True)
class _Login:
    """The header that carries the credentials, and what of it no message may show."""

    headers: dict[str, str] = field(repr=False, default_factory=dict)
    secrets: tuple[str, ...] = field(repr=False, default=())


def _session(context: Context, tls: Tls | None) -> HttpSession:
    return HttpSession(context.dialer, tls, lambda: load_tls(context.secrets, tls))


@dataclass(frozen=True, slots=True)
class _Request:
    """One hop."""

    method: str
    url: URL
    body: str | None


class HttpExchange:
    """Keeps the connection, where the server lets it; to where it redirects, too."""

    def __init__(self, target: HttpProbe, context: Context) -> None:
        self._target = target
        self._context = context
        self._expectation = Expectation(target.expect)
        self._url = URL(target.url)
        self._endpoint = host_port(self._url.host or "", self._url.port or 0)
        # To another host goes no client certificate, and the name to verify is its own.
        elsewhere = target.tls and target.tls.model_copy(update={"cert_secret_ref": None, "server_name": None})
        self._home = _session(context, target.tls)
        self._away = _session(context, elsewhere)
        self._login: _Login | None = None

    async def attempt(self, trace: Trace, timeout: float) -> Finding:
        """Make the request, follow redirects, judge the last answer."""
        finding = await about_endpoint(self._attempt(trace), self._endpoint, trace, timeout)
        if self._login is not None:
            finding = _without(finding, self._login.secrets)
        if finding.reason is not Reason.PROBE_SUCCEEDED:
            self._login = None  # read anew: it may have been rotated
        return finding

    async def close(self) -> None:
        """Close all sockets at once."""
        self._login = None
        await self._home.close()
        await self._away.close()

    async def _attempt(self, trace: Trace) -> Finding:
        if self._login is None:
            self._login = await self._load_login()
        request = _Request(self._target.method, self._url, self._target.body)
        made: list[_Request] = []
        while True:
            answer = await self._exchange(request, self._login, trace)
            location = answer.headers.get("location") if answer.status in _REDIRECTS else None
            if not location or not self._target.max_redirects:
                break
            made.append(request)
            request = redirected(request, answer.status, location[0], self._login.secrets)
            self._check_redirect(request, made, self._login.secrets)
        finding = self._judge(answer, request.url, len(made), self._login.secrets)
        return self._away.check_expiry(self._home.check_expiry(finding))

    async def _exchange(self, request: _Request, login: _Login, trace: Trace) -> Answer:
        home = request.url.origin() == self._url.origin()
        headers = {"User-Agent": "backendhealth", "Accept-Encoding": "identity"}
        headers |= {header.name: header.value for header in self._target.headers}
        if home:
            headers |= login.headers
        session = (self._home if home else self._away).timed_by(trace)
        connecting = _connecting(trace)
        with plain_errors(host_port(request.url.host or "", request.url.port or 0)):
            try:
                with trace.step("request"):
                    response = await session.request(
                        request.method, request.url, headers=headers, data=request.body, allow_redirects=False
                    )
            finally:
                trace.steps["request"] -= _connecting(trace) - connecting  # which has steps of its own
            trace.contact = True
            try:
                with trace.step("body"):
                    body, whole = await read_at_most(response, MAX_BODY)
            finally:
                response.close() if not response.content.at_eof() else response.release()
        received: dict[str, list[str]] = {}
        for name, value in response.headers.items():
            received.setdefault(name.lower(), []).append(value)
        return Answer(response.status, received, body, whole)

    def _check_redirect(self, next_one: _Request, made: list[_Request], secrets: tuple[str, ...]) -> None:
        to = shown(next_one.url, secrets)
        if next_one in made:
            raise ProbeError(Reason.TOO_MANY_REDIRECTS, f"it redirects in a circle: {to} again")
        if len(made) > self._target.max_redirects:
            told = f"it redirects more than {self._target.max_redirects} times, at last to {to}"
            raise ProbeError(Reason.TOO_MANY_REDIRECTS, told)

    def _judge(self, answer: Answer, url: URL, redirects: int, secrets: tuple[str, ...]) -> Finding:
        shown_url = shown(url, secrets)
        facts: dict[str, Fact] = {"status": answer.status}
        if redirects:
            facts |= {"redirects": redirects, "finalUrl": clip(shown_url, 256)}
        if server := answer.headers.get("server"):
            facts["server"] = clip(redacted(server[0], secrets), 64)
        try:
            self._expectation.check(answer, secrets)
        except ProbeError as error:
            return Finding(error.reason, clip(error.message), facts=facts)
        told = f"{shown_url} answers {answer.status}"
        return Finding(Reason.PROBE_SUCCEEDED, clip(told), facts=facts)

    async def _load_login(self) -> _Login:
        auth, header = self._target.auth, self._target.api_key_header
        login = await load_credentials(self._context.secrets, auth, need=("token",) if header else ())
        if login is None or auth is None:
            return _Login()
        name = auth.secret_ref.name
        if login.token:
            if not (login.token.isascii() and login.token.isprintable()):
                raise ProbeError(Reason.SECRET_INVALID, f"Secret {name}, key token: not fit for a header")
            value = login.token if header else f"Bearer {login.token}"
            return _Login({header or "Authorization": value}, (login.token,))
        for key, given in (("username", login.username), ("password", login.password)):
            if not given:
                raise ProbeError(Reason.SECRET_KEY_MISSING, f"Secret {name} has no key {key}")
        basic = base64.b64encode(f"{login.username}:{login.password}".encode()).decode()
        return _Login({"Authorization": f"Basic {basic}"}, (login.password, basic))


def redirected(request: _Request, status: int, location: str, secrets: tuple[str, ...]) -> _Request:
    """The request that follows a redirect. Raises ProbeError for a place that HTTP can't go to."""
    try:
        url = request.url.join(URL(location)).with_fragment(None).with_user(None)
        host = url.host  # decodes the name, which may fail
    except ValueError:
        host = None
    if not host or url.scheme not in {"http", "https"}:
        to = excerpt(location.partition("?")[0], secrets)
        raise ProbeError(Reason.PROTOCOL_ERROR, f"it redirects to {to}, which is no place that HTTP can go to")
    if status in _KEEP_METHOD or request.method == "HEAD" or (status != _SEE_OTHER and request.method != "POST"):
        return replace(request, url=url)
    return _Request("GET", url, None)


def _without(finding: Finding, secrets: tuple[str, ...]) -> Finding:
    """`finding` without `secrets`: a redirect to a host that is named after one gets it into the network's errors."""
    subjects = tuple(replace(one, message=redacted(one.message, secrets)) for one in finding.subjects)
    return replace(finding, message=redacted(finding.message, secrets), subjects=subjects)


def shown(url: URL, secrets: tuple[str, ...]) -> str:
    """`url` as it may be shown: what follows the path may be secret, and the path may echo what we sent."""
    return redacted(str(url.with_query(None).with_fragment(None).with_user(None)), secrets)


def _connecting(trace: Trace) -> float:
    return sum(trace.steps.get(step, 0.0) for step in ("resolve", "connect", "tls"))
