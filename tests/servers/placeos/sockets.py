"""The API's WebSocket: bindings to status variables, which Redis publishes."""

from __future__ import annotations

import asyncio
import contextlib
import json
from dataclasses import dataclass, field
from typing import Any

from aiohttp import WSMsgType, web
from redis.asyncio.client import PubSub
from redis.exceptions import RedisError

from tests.servers.placeos import redisclient
from tests.servers.placeos.access import Access, User
from tests.servers.placeos.errors import BackendError
from tests.servers.placeos.logs import log
from tests.servers.placeos.redisclient import Runtime
from tests.servers.placeos.remote import Cores, Remote, RemoteError
from tests.servers.placeos.settings import Settings

_CODES = {"unexpected failure": 0, "bad request": 1, "access denied": 2, "request failed": 3, "module not found": 4}


@dataclass(eq=False)
class _Session:
    """One client; bindings: (module, variable) → what the client calls it."""

    socket: web.WebSocketResponse
    user: User
    bindings: dict[tuple[str, str], dict[str, Any]] = field(default_factory=dict)

    async def notify(self, module: str, name: str, value: str) -> None:
        meta = self.bindings.get((module, name))
        if meta is not None and not self.socket.closed:
            with contextlib.suppress(ConnectionError):  # the client left just now
                await self.socket.send_json({"type": "notify", "value": value, "meta": meta})


class Sockets:
    """All clients, and one subscription to Redis for them."""

    def __init__(self, settings: Settings, access: Access, cores: Cores, remote: Remote, runtime: Runtime) -> None:
        self._settings = settings
        self._access = access
        self._cores = cores
        self._remote = remote
        self._runtime = runtime
        self._sessions: set[_Session] = set()

    async def open(self, request: web.Request) -> web.StreamResponse:
        """`/systems/control`: a new socket needs the database for its login and the discovery of cores."""
        user = await self._access.user(request)
        await self._cores.nodes()
        socket = web.WebSocketResponse()
        await socket.prepare(request)
        session = _Session(socket, user)
        self._sessions.add(session)
        try:
            async for message in socket:
                if message.type == WSMsgType.TEXT:
                    await self._on_text(session, message.data)
        finally:
            self._sessions.discard(session)
        return socket

    async def _on_text(self, session: _Session, text: str) -> None:
        if text == "ping":
            await session.socket.send_str("pong")
            return
        try:
            asked = json.loads(text)
            answer = await self._answer(session, asked)
        except (ValueError, KeyError, TypeError) as error:
            answer = {"type": "error", "code": _CODES["bad request"], "msg": f"bad request: {error!r}"}
        except RemoteError as error:
            answer = {"id": asked["id"], "type": "error", "code": _CODES[error.kind], "msg": str(error)}
        except BackendError as error:
            answer = {"id": asked["id"], "type": "error", "code": _CODES["unexpected failure"], "msg": str(error)}
        await session.socket.send_json(answer)

    async def _answer(self, session: _Session, asked: dict[str, Any]) -> dict[str, Any]:
        meta = {"sys": asked["sys"], "mod": asked["mod"], "index": asked.get("index", 1), "name": asked["name"]}
        answer: dict[str, Any] = {"id": asked["id"], "type": "success", "meta": meta}
        where = (asked["sys"], asked["mod"], meta["index"])
        if asked["cmd"] == "exec":
            result = await self._remote.execute(*where, asked["name"], asked.get("args", []), admin=session.user.admin)
            return answer | {"value": result}
        module = await self._runtime.module_id(*where)
        if module is None:
            raise RemoteError("module not found", "could not find module")
        key = (module, asked["name"])
        if asked["cmd"] in ("unbind", "ignore"):
            session.bindings.pop(key, None)
        elif asked["cmd"] == "bind":
            value = await self._runtime.status(*key)
            session.bindings[key] = meta
            return answer | {"mod_id": module, "value": None if value is None else json.loads(value)}
        else:
            raise ValueError(f"unknown command {asked['cmd']}")
        return answer

    async def listen(self) -> None:
        """Pass on what Redis publishes; subscribe again when it was away, unless this is a build that does not."""
        while True:
            redis = redisclient.client(self._settings)
            try:
                async with redis.pubsub() as subscription:
                    await subscription.psubscribe("status/*")
                    await self._catch_up()
                    await self._pass_on(subscription)
            except (RedisError, OSError, BackendError) as error:
                log.error("redis subscription failed: %s", error)
                if not self._settings.resubscribe:
                    return
            finally:
                await redis.aclose()
            await asyncio.sleep(0.2)

    async def _pass_on(self, subscription: PubSub) -> None:
        while True:
            message = await subscription.get_message(ignore_subscribe_messages=True, timeout=1)
            if message is not None:
                module, _, name = message["channel"].removeprefix("status/").partition("/")
                for session in list(self._sessions):
                    await session.notify(module, name, message["data"])

    async def _catch_up(self) -> None:
        """What changed while nothing was heard."""
        for session in list(self._sessions):
            for module, name in list(session.bindings):
                value = await self._runtime.status(module, name)
                if value is not None:
                    await session.notify(module, name, value)
