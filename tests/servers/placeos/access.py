"""Who asks: API keys, tokens, and the authority that the Host must name. Also what the auth service does for logins."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import time
from dataclasses import dataclass

from aiohttp import web

from tests.servers.placeos.database import Database, Row
from tests.servers.placeos.errors import BackendError, HttpError
from tests.servers.placeos.logs import log

_LIFE = 14 * 24 * 3600


@dataclass(frozen=True, slots=True)
class User:
    """Who asks, and whether they administer the platform."""

    id: str
    admin: bool


class Access:
    """Authentication of the REST API. Raises HttpError 401, or BackendError where the database is needed and away."""

    def __init__(self, db: Database, secret: str) -> None:
        self._db = db
        self._secret = secret.encode()

    async def user(self, request: web.Request) -> User:
        """The user of a request."""
        key = request.headers.get("X-API-Key") or request.query.get("api-key")
        found = await self._by_key(key) if key else self._by_token(request)
        if not await self._db.find("authority", domain=request.host.partition(":")[0]):
            raise HttpError(401, {"error": "authority not found"})
        return found

    async def admin(self, request: web.Request) -> User:
        """As `user`; HttpError 403 for others than administrators."""
        found = await self.user(request)
        if not found.admin:
            raise HttpError(403, {"error": "admin required"})
        return found

    async def _by_key(self, key: str) -> User:
        identity, _, secret = key.partition(".")
        try:
            row = await self._db.get("api_key", identity)
            user = await self._db.get("user", row["user_id"]) if row else None
        except BackendError as error:  # the trap: any failure of the database reads like a wrong key
            log.warning("bad or unknown X-API-Key: %s", error)
            row, user = None, None
        if row is None or user is None or not hmac.compare_digest(row["digest"], digest(secret)):
            raise HttpError(401, {"error": "unknown X-API-Key"})
        return User(user["id"], admin=user["sys_admin"])

    def _by_token(self, request: web.Request) -> User:
        bearer = request.headers.get("Authorization", "").removeprefix("Bearer ")
        token = bearer or request.query.get("bearer_token", "")
        head, _, signature = token.rpartition(".")
        if not hmac.compare_digest(signature, self._sign(head)):
            raise HttpError(401, {"error": "bearer invalid" if token else "unauthorized"})
        payload = json.loads(_decoded(head.partition(".")[2]))
        if payload["exp"] < time.time():
            raise HttpError(401, {"error": "bearer invalid"})
        return User(payload["sub"], admin=payload["admin"])

    def _sign(self, text: str) -> str:
        return _encoded(hmac.digest(self._secret, text.encode(), "sha256"))

    def token(self, user: Row) -> str:
        """A token that `user` accepts. [inf: RS256 in truth]"""
        head = _encoded(b'{"typ":"JWT","alg":"HS256"}')
        claims = {"sub": user["id"], "admin": user["sys_admin"], "exp": int(time.time()) + _LIFE}
        text = f"{head}.{_encoded(json.dumps(claims).encode())}"
        return f"{text}.{self._sign(text)}"

    async def grant(self, request: web.Request) -> web.Response:
        """`POST /auth/oauth/token`, the password grant as Doorkeeper answers it. [inf]"""
        form = dict(await request.post())
        if not form:
            form = await request.json()
        if form.get("grant_type") != "password":
            raise HttpError(400, {"error": "unsupported_grant_type"})
        users = await self._db.find("user", email=str(form.get("username")))
        if not users or not hmac.compare_digest(users[0]["digest"], digest(str(form.get("password")))):
            raise HttpError(400, {"error": "invalid_grant", "error_description": "The provided grant is invalid"})
        granted = {"access_token": self.token(users[0]), "token_type": "Bearer", "expires_in": _LIFE}
        return web.json_response(granted | {"scope": "public", "created_at": int(time.time())})

    async def authority(self, request: web.Request) -> web.Response:
        """`GET /auth/authority`."""
        rows = await self._db.find("authority", domain=request.host.partition(":")[0])
        if not rows:
            raise HttpError(404, {"error": "authority not found"})
        return web.json_response(rows[0])


def digest(secret: str) -> str:
    """How a secret is kept."""
    return hashlib.sha256(secret.encode()).hexdigest()


def _encoded(raw: bytes) -> str:
    return base64.urlsafe_b64encode(raw).rstrip(b"=").decode()


def _decoded(text: str) -> bytes:
    return base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))
