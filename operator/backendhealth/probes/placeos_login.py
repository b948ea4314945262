"""Who asks PlaceOS's API, and whose fault it is when that is refused."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping
from dataclasses import dataclass, field

from backendhealth.core.observation import Finding, clip
from backendhealth.core.reasons import Reason
from backendhealth.core.spec.placeos import SERVICES, PlaceosApi
from backendhealth.probes.exchange import ProbeError
from backendhealth.probes.matching import excerpt
from backendhealth.probes.placeos_client import (
    FORBIDDEN,
    NOT_FOUND,
    SERVER_ERROR,
    UNAUTHORIZED,
    Client,
    Reply,
    in_time,
)
from backendhealth.probes.registry import Context
from backendhealth.probes.secrets import load_credentials

_TOKEN_PATH = "/auth/oauth/token"  # noqa: S105
_USER_PATH = "/api/engine/v2/users/current"
_TOKEN_MARGIN = 60.0
"""Seconds before its end at which a token is replaced."""
_DATABASE = "the configuration database, then what stands between: do requests reach the services?"


@dataclass(frozen=True, slots=True)
class Identity:
    """The header that shows who asks; `ends` is when a token ends, in seconds of the monotonic clock."""

    headers: Mapping[str, str] = field(repr=False)
    secret: str = field(repr=False)
    ends: float = float("inf")


class Login:
    """Credentials of one target, kept between attempts; a password is exchanged for a token, which is kept, too."""

    def __init__(self, target: PlaceosApi, context: Context, api: Client) -> None:
        self._target = target
        self._context = context
        self._api = api
        own = target.auth_url is not None
        self.auth = Client(target.auth_url, context, target.tls, target.host) if own and target.auth_url else api
        self._identity: Identity | None = None
        self._accepted = ""
        """The secret that was accepted last: what it says later is not about itself."""

    async def identity(self) -> Identity:
        """Who asks. Raises ProbeError: a Secret's, AuthenticationFailed, LoginFailed."""
        if self._identity is None or self._identity.ends < time.monotonic():
            self._identity = await self._loaded()
        return self._identity

    async def check(self, identity: Identity, deep_health: asyncio.Task[Reply | None]) -> Finding:
        """Whether PlaceOS lets us in: the user is asked for, which needs the database and nothing else."""
        reply = await self._api.ask("GET", _USER_PATH, headers=identity.headers)
        if reply.status == UNAUTHORIZED and identity.ends < float("inf"):
            # the token may have been revoked, or the signing key replaced: a new one tells which
            self._identity = None
            identity = await self.identity()
            reply = await self._api.ask("GET", _USER_PATH, headers=identity.headers)
        if reply.status == UNAUTHORIZED:
            self._identity = None
            return await self._refused(reply, identity, deep_health)
        if reply.status == FORBIDDEN:
            return Finding(Reason.PERMISSION_DENIED, f"logged in, but the user may not see itself: {reply.told}")
        if not reply.good:
            return Finding(Reason.LOGIN_FAILED, clip(f"logging in fails: {reply.told}; look at {_DATABASE}"))
        if not isinstance(reply.json, dict):
            begins = excerpt(reply.text)
            return Finding(Reason.PROTOCOL_ERROR, f"what answers a log-in is not PlaceOS: the body begins {begins}")
        self._accepted = identity.secret
        return Finding(Reason.PROBE_SUCCEEDED, "logged in")

    def forget(self) -> None:
        """Read the credentials anew next time: they may have been rotated, or a token may have ended."""
        self._identity = None

    async def close(self) -> None:
        """Forget the credentials and close all sockets."""
        self.forget()
        await self.auth.close()

    async def _loaded(self) -> Identity:
        ref = self._target.api_key_secret_ref
        if ref is None:
            return await self._granted()
        data = await in_time(self._context.secrets.read(ref.name))
        if not data.get(ref.key):
            raise ProbeError(Reason.SECRET_KEY_MISSING, f"Secret {ref.name} has no key {ref.key}")
        key = data[ref.key].decode("utf-8", "replace").rstrip("\r\n")
        if not (key.isascii() and key.isprintable()):
            raise ProbeError(Reason.SECRET_INVALID, f"Secret {ref.name}, key {ref.key}: not fit for a header")
        self._hide(key, key.partition(".")[2])
        return Identity({"X-API-Key": key}, key)

    async def _granted(self) -> Identity:
        """A token for user and password."""
        auth = self._target.auth
        login = await in_time(load_credentials(self._context.secrets, auth, need=("username", "password")))
        if auth is None or login is None:
            raise ProbeError(Reason.STEP_SKIPPED, "no credentials are given")
        self._hide(login.password)
        form = {"grant_type": "password", "username": login.username, "password": login.password, "scope": "public"}
        if self._target.client_id is not None:
            form["client_id"] = self._target.client_id
        began = time.monotonic()
        reply = await self.auth.ask("POST", _TOKEN_PATH, data=form)
        if reply.status >= SERVER_ERROR or reply.status == NOT_FOUND:
            hint = " (is authUrl right?)" if reply.status == NOT_FOUND else f"; look at {_DATABASE}"
            raise ProbeError(Reason.LOGIN_FAILED, f"no token is granted: {reply.told}{hint}")
        if not reply.good:
            told = f"the auth service does not accept the credentials of Secret {auth.secret_ref.name}: {reply.told}"
            raise ProbeError(Reason.AUTHENTICATION_FAILED, told)
        token = reply.json.get("access_token") if isinstance(reply.json, dict) else None
        if not (isinstance(token, str) and token and token.isascii() and token.isprintable()):
            raise ProbeError(Reason.PROTOCOL_ERROR, "what answers at the auth service is not PlaceOS: it has no token")
        self._hide(login.password, token)
        life = reply.json.get("expires_in")
        lasts = float(life) if isinstance(life, int | float) and life > 0 else _TOKEN_MARGIN * 2
        ends = began + max(lasts - _TOKEN_MARGIN, lasts / 2)
        return Identity({"Authorization": f"Bearer {token}"}, login.password, ends)

    def _hide(self, *secrets: str) -> None:
        self._api.secrets = self.auth.secrets = tuple(filter(None, secrets))

    async def _refused(self, reply: Reply, identity: Identity, deep_health: asyncio.Task[Reply | None]) -> Finding:
        """Ours or PlaceOS's? Any failure of the database reads as 401 `unknown X-API-Key`: look for witnesses."""
        status = await self._witness()
        known = identity.secret == self._accepted
        if status is not None and status >= SERVER_ERROR:
            why = f"the auth service answers {status}, as it does without its database"
            return self._nobody(reply, why)
        health = await asyncio.shield(deep_health)
        failing = health is not None and health.status >= SERVER_ERROR
        if failing and known:
            return self._nobody(reply, "the same credentials were accepted before, and the API's health page fails")
        if failing and status is None:
            return self._nobody(reply, "the API's health page fails as well")
        if "authority" in reply.said:
            domain = self._target.host or self._api.url.host
            told = f"PlaceOS does not know the domain {domain}: {reply.told}; set host to one of its domains"
            return Finding(Reason.AUTHENTICATION_FAILED, clip(told))
        if known and status is None and health is None:
            return self._nobody(reply, "the same credentials were accepted before")
        told = f"PlaceOS does not accept the credentials: {reply.told}; its health pages show no other fault"
        return Finding(Reason.AUTHENTICATION_FAILED, clip(told))

    @staticmethod
    def _nobody(reply: Reply, why: str) -> Finding:
        told = f"logging in fails, and not by the credentials: {reply.told}, but {why}; look at {_DATABASE}"
        return Finding(Reason.LOGIN_FAILED, clip(told))

    async def _witness(self) -> int | None:
        """The status of the auth service's page that fails without the database; None where nothing tells."""
        path, _, query = SERVICES["auth"].partition("?")
        try:
            reply = await self.auth.ask("GET", path, query=dict([query.split("=")]))
        except (ProbeError, OSError):
            return None
        return None if reply.status == NOT_FOUND and "authority" not in reply.said else reply.status
