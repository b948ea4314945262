"""PlaceOS's REST API as an action asks it: with Secrets read as the policy's ServiceAccount, by the guarded dialer.

http = PlaceosHttp(dialer, reader).of("placeos", "placeos", "placeos-remediator", notes)(action)
reply = await http.ask("GET", "/api/engine/v2/cluster")     # notes: GET http://api:3000/api/engine/v2/cluster → 200
"""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Mapping
from typing import Any

from yarl import URL

from backendhealth.actions.ports import Http, OpenHttp, Refused, Reply, Silent
from backendhealth.core import secretuse
from backendhealth.core.observation import Finding, clip
from backendhealth.core.reasons import Reason
from backendhealth.core.spec.actions import DriverAction
from backendhealth.core.spec.hosts import hosts_of
from backendhealth.kube.secrets import ClusterSecrets, SecretReader
from backendhealth.probes.dialer import Dialer
from backendhealth.probes.exchange import ProbeError, failure
from backendhealth.probes.placeos_client import UNAUTHORIZED, Client
from backendhealth.probes.placeos_login import Identity, Login
from backendhealth.probes.registry import Context
from backendhealth.probes.secrets import redacted
from backendhealth.probes.trace import Trace

_CONNECTING = frozenset({"resolve", "connect", "tls"})
"""Steps before anything of a request is sent."""
_LOGGING_IN = 10.0  # seconds for Secrets and, with a password, a token


class PlaceosHttp:
    """Opens what actions ask PlaceOS with. `dialer` is the guarded one, `secrets` the cluster's."""

    def __init__(self, dialer: Dialer, secrets: SecretReader) -> None:
        self._dialer = dialer
        self._secrets = secrets

    def of(self, namespace: str, policy: str, account: str, notes: list[str]) -> OpenHttp:
        """For one Remediation; `notes` gets a line for each request. A log-in is kept for as long as the result."""
        kept: list[tuple[DriverAction, Http]] = []

        def opened(action: DriverAction) -> Http:
            for known, service in kept:
                if known == action:
                    return service
            user = secretuse.policy(policy)
            secrets = self._secrets.of(namespace, user, account, hosts_of(action))
            context = Context(self._dialer.bound(secrets.check_host, namespace), secrets, namespace)
            kept.append((action, _Service(action, context, secrets, notes)))
            return kept[-1][1]

        return opened


class _Service:
    """One PlaceOS under one identity: actions.ports.Http."""

    def __init__(self, action: DriverAction, context: Context, secrets: ClusterSecrets, notes: list[str]) -> None:
        self._url = URL(action.url)
        self._secrets = secrets
        self._notes = notes
        self._client = Client(action.url, context, action.tls, action.host)
        self._login = Login(action, context, self._client)
        self._identity: Identity | None = None

    async def ask(
        self, method: str, path: str, *, query: Mapping[str, str] | None = None, timeout: float = 10.0
    ) -> Reply:
        """See actions.ports.Http. Redirects are not followed."""
        headers = await self._headers()
        about = f"{method} {self._url.with_path(path).with_query(query or {})}"
        self._client.begin()
        try:
            async with asyncio.timeout(timeout):
                reply = await self._client.ask(method, path, headers=headers, query=query)
        except (ProbeError, OSError, ssl.SSLError) as error:  # a time-out included
            raise self._failed(about, error, self._client.trace, timeout) from None
        self._note(about, str(reply.status))
        if reply.status == UNAUTHORIZED:
            self._login.forget()
            self._secrets.distrust()
        return Reply(reply.status, reply.text, self._hidden(reply.json))

    async def close(self) -> None:
        """Close all sockets at once."""
        await self._client.close()
        if self._login.auth is not self._client:
            await self._login.auth.close()

    async def _headers(self) -> Mapping[str, str]:
        """Who asks. Raises Refused: without it nothing is sent."""
        self._login.auth.begin()
        try:
            async with asyncio.timeout(_LOGGING_IN):
                identity = await self._login.identity()
        except (ProbeError, OSError, ssl.SSLError) as error:
            found = _finding(error, self._login.auth.trace, _LOGGING_IN)
            raise self._refused(f"not logged in: {found.message}", found.reason) from None
        if identity is not self._identity and identity.ends < float("inf"):
            self._note(f"POST {self._login.auth.url.with_path('/auth/oauth/token')}", "a token")
        self._identity = identity
        return identity.headers

    def _failed(self, about: str, error: Exception, trace: Trace, timeout: float) -> Refused | Silent:
        found = _finding(error, trace, timeout)
        # what fails before a connection stands, and what we ourselves refuse, was not sent
        ours = isinstance(error, ProbeError) and error.reason is not Reason.PROTOCOL_ERROR
        if ours or trace.failed_in in _CONNECTING:
            self._note(about, "not sent")
            return self._refused(found.message, found.reason)
        self._note(about, "no answer")
        return Silent(clip(self._blotted(found.message)))

    def _refused(self, message: str, reason: Reason) -> Refused:
        """With the line that would grant what is missing apart, where the message ends with one."""
        told, quote, line = self._blotted(message).partition(": `")
        whole = quote and line.endswith("`")
        return Refused(0, reason.value, clip(told if whole else told + quote + line), line[:-1] if whole else "")

    def _blotted(self, text: str) -> str:
        return redacted(text, self._client.secrets)

    def _hidden(self, json: Any) -> Any:
        """The same without secrets: JSON may have spelt them in another way than its text shows."""
        match json:
            case str():
                return self._blotted(json)
            case list():
                return [self._hidden(one) for one in json]
            case dict():
                return {self._blotted(key): self._hidden(one) for key, one in json.items()}
        return json

    def _note(self, about: str, outcome: str) -> None:
        """What is asked again and again with the same answer is noted once."""
        line = clip(self._blotted(f"{about} → {outcome}"))
        if line not in self._notes:
            self._notes.append(line)


def _finding(error: Exception, trace: Trace, timeout: float) -> Finding:
    if isinstance(error, TimeoutError) and error.errno is None:
        where = f"it hung in step {trace.failed_in}" if trace.failed_in in _CONNECTING else "it hung"
        return Finding(Reason.TIMEOUT, f"no answer within {timeout:g} s: {where}")
    return failure(error, trace)
