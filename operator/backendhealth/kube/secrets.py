"""Secrets of the cluster, read as the ServiceAccount that a BackendHealth names, where their owner allows it.

reader = SecretReader(api, ttl=60.0)
secrets = reader.of("placeos", "placeos", "backendhealth", hosts_of(probe.target))
Prober(build(probe, Context(dialer.bound(secrets.check_host), secrets)), secrets)
"""

from __future__ import annotations

import asyncio
import base64
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from http import HTTPStatus
from weakref import WeakValueDictionary

from backendhealth.core import secretuse
from backendhealth.core.reasons import Reason
from backendhealth.kube.api import Api, ApiError, ApiUnavailable, Json
from backendhealth.probes.exchange import ProbeError

DEFAULT_TTL = 60.0
"""Seconds after which a Secret is read again."""
REFUSED_TTL = 5.0
"""Seconds after which a refusal is looked at again: a grant should show soon."""
DISTRUSTED_TTL = 1.0
"""Seconds after which a Secret that the backend has refused is read again."""
KEPT_WITHOUT_SERVER = 900.0
"""Seconds for which a Secret is used while the API server can't be asked about it."""
_PATIENCE = 1.0  # seconds that an attempt waits for news of a Secret that it has
_RETRY = 5.0  # seconds between readings while the API server does not answer
_TIMEOUT = 3.0  # seconds of one request; less than an attempt's usual time-out, so that the cause can be told

_Key = tuple[str, str, str]  # namespace, ServiceAccount, Secret


@dataclass(frozen=True, slots=True)
class _Stored:
    data: Mapping[str, bytes] = field(repr=False)
    grant: secretuse.Grant


@dataclass(frozen=True, slots=True)
class _Refusal:
    reason: Reason
    message: str


@dataclass(slots=True, weakref_slot=True, eq=False)
class _Entry:
    """What is known of one Secret under one identity; times are the reader's clock's."""

    key: _Key
    answer: _Stored | _Refusal | None = None
    answered: float = 0.0
    distrusted: bool = False
    unavailable: str = ""
    """Why the API server could not be asked the last time; empty when it answered."""
    tried: float = 0.0
    reading: asyncio.Task[None] | None = None


class SecretReader:
    """A cache over all Secrets in use, each read again after `ttl` seconds; what nobody uses any more is forgotten."""

    def __init__(self, api: Api, *, ttl: float = DEFAULT_TTL, clock: Callable[[], float] = time.monotonic) -> None:
        self._api = api
        self._clock = clock
        self._entries: WeakValueDictionary[_Key, _Entry] = WeakValueDictionary()
        self._operator = ""
        self.ttl = ttl

    def of(
        self, namespace: str, backendhealth: str, service_account: str | None, hosts: frozenset[str]
    ) -> ClusterSecrets:
        """The Secrets of a namespace, as one BackendHealth may use them for a target on `hosts`."""
        return ClusterSecrets(self, namespace, backendhealth, service_account, hosts)

    async def close(self) -> None:
        """End what is being read."""
        readings = [entry.reading for entry in self._entries.values() if entry.reading]
        for reading in readings:
            reading.cancel()
        await asyncio.gather(*readings, return_exceptions=True)

    def entry(self, key: _Key) -> _Entry:
        """The one entry for `key`, for as long as somebody holds it."""
        return self._entries.setdefault(key, _Entry(key))

    async def current(self, entry: _Entry, ttl: float) -> _Stored:
        """The Secret, read anew when the answer is older than `ttl` seconds. Raises ProbeError."""
        if not self._is_fresh(entry, ttl):
            await self._renew(entry)
        if entry.answer is None or (entry.unavailable and self._age(entry) > KEPT_WITHOUT_SERVER):
            raise ProbeError(Reason.SECRET_UNAVAILABLE, entry.unavailable)
        if isinstance(entry.answer, _Refusal):
            raise ProbeError(entry.answer.reason, entry.answer.message)
        return entry.answer

    def _age(self, entry: _Entry) -> float:
        return self._clock() - entry.answered

    def _is_fresh(self, entry: _Entry, ttl: float) -> bool:
        if entry.distrusted:
            ttl = min(ttl, DISTRUSTED_TTL)
        if isinstance(entry.answer, _Refusal):
            ttl = min(ttl, REFUSED_TTL)
        return entry.answer is not None and self._age(entry) < ttl

    async def _renew(self, entry: _Entry) -> None:
        """Read once for all who ask meanwhile; who has something to go on with waits for a second at most."""
        if entry.reading is None:
            if entry.unavailable and self._clock() - entry.tried < _RETRY:
                return
            entry.reading = asyncio.create_task(self._read(entry))
        reading = entry.reading
        if not isinstance(entry.answer, _Stored):
            await asyncio.shield(reading)
        elif not entry.unavailable:
            await asyncio.wait([reading], timeout=_PATIENCE)
            if not reading.done():
                entry.unavailable = _unavailable(entry.key, "the API server does not answer")
                return
            reading.result()

    async def _read(self, entry: _Entry) -> None:
        try:
            answer = await self._ask(entry.key)
        except (ApiError, ApiUnavailable) as error:
            status = f"the API server answers {error.status}" if isinstance(error, ApiError) else str(error)
            entry.unavailable = _unavailable(entry.key, status)
        else:
            # the same object while nothing has changed, so that comparing costs nothing
            entry.answer = entry.answer if answer == entry.answer else answer
            entry.answered, entry.distrusted, entry.unavailable = self._clock(), False, ""
        finally:
            entry.tried, entry.reading = self._clock(), None

    async def _ask(self, key: _Key) -> _Stored | _Refusal:
        namespace, account, secret = key
        user = f"system:serviceaccount:{namespace}:{account}"
        try:
            path = f"/api/v1/namespaces/{namespace}/secrets/{secret}"
            found = await self._api.request("GET", path, headers={"Impersonate-User": user}, timeout=_TIMEOUT)
        except ApiError as error:
            if error.status == HTTPStatus.NOT_FOUND:
                told = f"Secret {secret} does not exist in namespace {namespace}"
                return _Refusal(Reason.SECRET_NOT_FOUND, told)
            if error.status != HTTPStatus.FORBIDDEN:
                raise
            told = secretuse.may_not_read(namespace, account, secret)
            if "cannot impersonate" in error.message:
                told = secretuse.may_not_impersonate(namespace, account, await self._own_name())
            return _Refusal(Reason.SECRET_FORBIDDEN, told)
        grant = secretuse.grant_of(found["metadata"].get("annotations") or {})
        return _Stored(secret_data(found), grant)

    async def _own_name(self) -> str:
        """Who the API server takes us for."""
        if not self._operator:
            review = {"apiVersion": "authentication.k8s.io/v1", "kind": "SelfSubjectReview"}
            path = "/apis/authentication.k8s.io/v1/selfsubjectreviews"
            told = await self._api.request("POST", path, body=review, timeout=_TIMEOUT)
            self._operator = told["status"]["userInfo"]["username"]
        return self._operator


class ClusterSecrets:
    """The Secrets that one target of one BackendHealth names: probes.secrets.LiveSecrets."""

    def __init__(
        self, reader: SecretReader, namespace: str, backendhealth: str, account: str | None, hosts: frozenset[str]
    ) -> None:
        self._reader = reader
        self._namespace = namespace
        self._backendhealth = backendhealth
        self._account = account
        self._hosts = hosts
        self._entries: dict[str, _Entry] = {}
        self._used: dict[str, list[_Stored]] = {}

    async def read(self, name: str) -> Mapping[str, bytes]:
        """The Secret's data. Raises ProbeError: SecretForbidden, SecretNotAllowed, …NotFound, …Unavailable."""
        stored = await self._allowed(name)
        used = self._used.setdefault(name, [])  # more than one where it changes while several connections are made
        if stored not in used:
            used.append(stored)
        return stored.data

    async def changed(self) -> bool:
        """Whether a Secret that was read since `release` has changed or may not be used any more."""
        for name, used in list(self._used.items()):
            try:
                if [await self._allowed(name)] != used:
                    return True
            except ProbeError:  # the attempt will meet it, too
                return True
        return False

    def distrust(self) -> None:
        """The backend refused what was read: read anew next time."""
        for entry in self._entries.values():
            entry.distrusted = True

    def release(self) -> None:
        """No connection is kept: what was read so far is in use no longer."""
        self._used.clear()

    def check_host(self, host: str) -> None:
        """Raise ProbeError (SecretNotAllowed) where a Secret in use is bound to other hosts than `host`."""
        for name, used in self._used.items():
            for stored in used:
                if not stored.grant.allows_host(host):
                    told = secretuse.host_not_allowed(self._namespace, name, stored.grant, host)
                    raise ProbeError(Reason.SECRET_NOT_ALLOWED, told)

    async def _allowed(self, name: str) -> _Stored:
        if self._account is None:
            told = secretuse.no_account(self._namespace, self._backendhealth, name)
            raise ProbeError(Reason.SECRET_FORBIDDEN, told)
        if name not in self._entries:
            self._entries[name] = self._reader.entry((self._namespace, self._account, name))
        entry = self._entries[name]
        stored = await self._reader.current(entry, self._reader.ttl)
        if self._refusal(name, stored):
            stored = await self._reader.current(entry, REFUSED_TTL)
            if told := self._refusal(name, stored):
                raise ProbeError(Reason.SECRET_NOT_ALLOWED, told)
        return stored

    def _refusal(self, name: str, stored: _Stored) -> str:
        if not stored.grant.allows(self._backendhealth):
            return secretuse.not_allowed(self._namespace, name, stored.grant, self._backendhealth)
        for host in sorted(self._hosts):
            if not stored.grant.allows_host(host):
                return secretuse.host_not_allowed(self._namespace, name, stored.grant, host)
        return ""


def secret_data(secret: Json) -> dict[str, bytes]:
    """The values of a Secret as the API server gives it."""
    return {key: base64.b64decode(value) for key, value in (secret.get("data") or {}).items()}


def _unavailable(key: _Key, why: str) -> str:
    return f"Secret {key[2]} can't be read: {why}"
