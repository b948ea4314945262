"""Where cores are: leased keys in etcd, or a hash and expiring keys in Redis."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import json
import os
import time
from typing import Any, Protocol

import aiohttp
from redis.asyncio import Redis
from redis.exceptions import RedisError

from tests.servers.placeos.errors import BackendError, connect_error
from tests.servers.placeos.redisclient import address_of, redis_text
from tests.servers.placeos.settings import Settings

CORE = "core"
_CROCKFORD = "0123456789ABCDEFGHJKMNPQRSTVWXYZ"
Nodes = dict[str, str]  # ULID → URI


def ulid() -> str:
    """A new ULID: 48 bits of time in ms, 80 of chance."""
    number = int(time.time() * 1000) << 80 | int.from_bytes(os.urandom(10), "big")
    return "".join(_CROCKFORD[number >> 5 * place & 31] for place in reversed(range(26)))


def owner(nodes: Nodes, what: str) -> str:
    """The id of the node that a module belongs to: the same answer everywhere. [inf: a hash ring in truth]"""
    return max(nodes, key=lambda node: hashlib.sha1(f"{node}/{what}".encode()).digest())


class Discovery(Protocol):
    """Every method raises BackendError."""

    name: str

    async def check(self) -> None:
        """The server answers."""

    async def nodes(self) -> Nodes:
        """What is registered, alive or not."""

    async def register(self, node: str, uri: str) -> None:
        """Join, not ready yet."""

    async def set_ready(self, node: str, uri: str) -> None:
        """Say that it is ready."""

    async def keep(self, node: str, uri: str) -> bool:
        """Renew; False when the registration was lost."""

    async def leave(self, node: str) -> None:
        """Deregister."""


class Etcd:
    """etcd's JSON gateway."""

    name = "etcd"

    def __init__(self, url: str, settings: Settings, session: aiohttp.ClientSession) -> None:
        self._url = url
        self._session = session
        self._timeout = settings.backend_timeout
        self._ttl = settings.etcd_ttl
        self._prefix = f"{settings.namespace}/{CORE}/"
        self._lease: str | None = None

    async def _call(self, path: str, body: dict[str, Any]) -> dict[str, Any]:
        try:
            async with asyncio.timeout(self._timeout), self._session.post(f"{self._url}/v3/{path}", json=body) as got:
                answer: dict[str, Any] = await got.json(content_type=None)
        except (aiohttp.ClientError, OSError, TimeoutError) as error:
            text = connect_error(self._url.partition("//")[2], error)
            raise BackendError(self.name, text) from error
        if got.status != 200:
            raise BackendError(self.name, str(answer.get("error", got.status)))
        return answer

    async def check(self) -> None:
        await self._call("kv/range", {"key": _b64("health")})  # linearizable: needs a leader

    async def nodes(self) -> Nodes:
        end = self._prefix[:-1] + chr(ord(self._prefix[-1]) + 1)
        answer = await self._call("kv/range", {"key": _b64(self._prefix), "range_end": _b64(end)})
        pairs = answer.get("kvs", [])
        return {_text(one["key"]).removeprefix(self._prefix): _text(one["value"]) for one in pairs}

    async def register(self, node: str, uri: str) -> None:
        self._lease = (await self._call("lease/grant", {"TTL": self._ttl}))["ID"]
        await self._put(f"{self._prefix}{node}", uri)
        await self._put(f"cluster/node_version/{node}", "1")
        await self._put("cluster/cluster_version", "1")
        await self._lead(node)

    async def set_ready(self, node: str, uri: str) -> None:
        """etcd's keys don't say it."""

    async def keep(self, node: str, uri: str) -> bool:
        if self._lease is None:
            return False
        answer = await self._call("lease/keepalive", {"ID": self._lease})
        if int(answer["result"].get("TTL", 0)) <= 0 or node not in await self.nodes():
            return False
        await self._lead(node)  # with a lease that expired this would be an error
        return True

    async def leave(self, node: str) -> None:
        """The key by name, too: after a time-out it may be attached to another lease than the last one."""
        await self._call("kv/deleterange", {"key": _b64(f"{self._prefix}{node}")})
        if self._lease is not None:
            await self._call("lease/revoke", {"ID": self._lease})
            self._lease = None

    async def _put(self, key: str, value: str) -> None:
        await self._call("kv/put", {"key": _b64(key), "value": _b64(value), "lease": self._lease})

    async def _lead(self, node: str) -> None:
        key = _b64("cluster/leader")
        put = {"request_put": {"key": key, "value": _b64(node), "lease": self._lease}}
        absent = {"key": key, "result": "EQUAL", "target": "CREATE", "create_revision": "0"}
        await self._call("kv/txn", {"compare": [absent], "success": [put]})


class InRedis:
    """`{service_core}_lookup` and the keys beside it; braces are part of the names."""

    name = "redis"
    lookup = "{service_core}_lookup"

    def __init__(self, settings: Settings, redis: Redis) -> None:
        self._redis = redis
        self._address = address_of(settings.redis_url)
        self._ttl = settings.discovery_ttl

    async def _call(self, *command: str | int) -> Any:
        try:
            return await self._redis.execute_command(*command)
        except (RedisError, OSError) as error:
            raise BackendError(self.name, redis_text(self._address, error)) from error

    async def check(self) -> None:
        await self._call("PING")

    async def nodes(self) -> Nodes:
        """The lookup alone: a field whose key has expired still counts, and so is called in vain."""
        found: dict[str, str] = await self._call("HGETALL", self.lookup)
        return {field.rpartition(".")[2]: uri for field, uri in found.items()}

    async def register(self, node: str, uri: str) -> None:
        await self._set(node, uri, ready=False)
        await self._call("HSET", self.lookup, _key(node), uri)

    async def set_ready(self, node: str, uri: str) -> None:
        await self._set(node, uri, ready=True)

    async def _set(self, node: str, uri: str, *, ready: bool) -> None:
        await self._call("SET", _key(node), json.dumps({"u": uri, "r": ready, "v": "1"}), "EX", self._ttl)

    async def keep(self, node: str, uri: str) -> bool:
        lost = not await self._call("EXISTS", _key(node)) or not await self._call("HEXISTS", self.lookup, _key(node))
        if lost:
            return False
        await self._call("EXPIRE", _key(node), self._ttl)
        await self._prune(node)
        return True

    async def leave(self, node: str) -> None:
        await self._call("HDEL", self.lookup, _key(node))
        await self._call("DEL", _key(node))

    async def _prune(self, node: str) -> None:
        """What only a live leader does; here the first of the live ones. [inf]"""
        registered = sorted(await self.nodes())
        alive = [one for one in registered if await self._call("EXISTS", _key(one))]
        if alive and alive[0] == node:
            for dead in set(registered) - set(alive):
                await self._call("HDEL", self.lookup, _key(dead))


def connect(settings: Settings, session: aiohttp.ClientSession, redis: Redis) -> Discovery:
    """The discovery of this generation."""
    if settings.etcd_url:
        return Etcd(settings.etcd_url, settings, session)
    return InRedis(settings, redis)


def _key(node: str) -> str:
    return "{service_core}." + node


def _b64(text: str) -> str:
    return base64.b64encode(text.encode()).decode()


def _text(encoded: str) -> str:
    return base64.b64decode(encoded).decode()
