"""WebSockets: bindings, and what an outage does to open and to new ones."""

from __future__ import annotations

import contextlib
import json
from collections.abc import AsyncIterator
from typing import Any

import aiohttp
import pytest

from tests.placeos.support import BASE, World, Worlds
from tests.servers.process import wait_until

_AT = {"sys": "sys-probe", "mod": "Probe", "index": 1}


class _Client:
    """A socket whose notifications are kept apart from its answers."""

    def __init__(self, socket: aiohttp.ClientWebSocketResponse) -> None:
        self.socket = socket
        self._number = 0
        self._notified: list[dict[str, Any]] = []

    async def ask(self, command: str, name: str, *args: object) -> dict[str, Any]:
        self._number += 1
        await self.socket.send_json({"id": self._number, "cmd": command, "name": name, "args": args, **_AT})
        while True:
            answer: dict[str, Any] = await self.socket.receive_json(timeout=10)
            if answer.get("id") == self._number:
                return answer
            self._notified.append(answer)

    async def notified(self, value: object) -> dict[str, Any]:
        """The notification of that value, however many came before it."""
        while True:
            one = self._notified.pop(0) if self._notified else await self.socket.receive_json(timeout=10)
            if one["type"] == "notify" and json.loads(one["value"]) == value:
                found: dict[str, Any] = one
                return found


@contextlib.asynccontextmanager
async def _open(world: World) -> AsyncIterator[_Client]:
    headers = {"X-API-Key": world.platform.api_key}
    async with (
        aiohttp.ClientSession() as session,
        session.ws_connect(f"{world.platform.api_url}{BASE}/systems/control", headers=headers) as socket,
    ):
        yield _Client(socket)


async def _refused(world: World) -> int:
    with pytest.raises(aiohttp.WSServerHandshakeError) as refused:
        async with _open(world):
            pass
    return refused.value.status


async def test_bind_and_ignore(world: World) -> None:
    async with _open(world) as client:
        await client.socket.send_str("ping")
        assert await client.socket.receive_str(timeout=10) == "pong"
        answer = await client.ask("bind", "power")
        assert (answer["type"], answer["mod_id"]) == ("success", "mod-probe")
        assert (await client.ask("exec", "set_status", "power", "on"))["type"] == "success"
        told = await client.notified("on")
        assert told["meta"] == {**_AT, "name": "power"}
        assert (await client.ask("bind", "power"))["value"] == "on"
        await client.ask("ignore", "power")
        await client.ask("exec", "set_status", "power", "off")
        await client.ask("bind", "other")
        await client.ask("exec", "set_status", "other", "x")
        await client.notified("x")


async def test_errors(platform: World) -> None:
    async with _open(platform) as client:
        answer = await client.ask("exec", "nothing")
        assert (answer["type"], answer["code"], answer["msg"]) == ("error", 1, "could not find function nothing")
        answer = await client.ask("exec", "fail", "no lamp")
        assert (answer["code"], answer["msg"]) == (3, "module raised: no lamp")


async def test_database_down_leaves_open_sockets_alone(world: World) -> None:
    async with _open(world) as client:
        await client.ask("bind", "power")
        world.database.kill()
        await client.ask("exec", "set_status", "power", "still")
        await client.notified("still")
        assert await _refused(world) == 401


@pytest.mark.parametrize("kind", ["rethinkdb", "postgres-etcd"])
async def test_etcd_down_refuses_new_sockets(worlds: Worlds, kind: str) -> None:
    world = worlds.get(kind)
    async with _open(world) as client:
        await client.ask("bind", "power")
        world.backend("etcd").kill()
        try:
            assert await _refused(world) == 500
            with world.redis.client() as redis:
                redis.publish("status/mod-probe/power", '"went on"')
            await client.notified("went on")
            assert "Connection refused" in (await client.ask("exec", "ping"))["msg"]
        finally:
            world.heal()  # here, not in a thread: servers end with the thread that started them


async def test_redis_down_stops_updates_until_it_is_back(platform: World) -> None:
    async with _open(platform) as client:
        await client.ask("bind", "power")
        platform.redis.kill()
        assert "Connection refused" in (await client.ask("bind", "other"))["msg"]
        platform.logged("api", "redis subscription failed")
        platform.heal()
        await client.ask("exec", "set_status", "power", "back")
        await client.notified("back")


async def test_some_builds_lose_their_subscription(worlds: Worlds) -> None:
    with worlds.fresh("postgres-etcd", services=("api", "core"), env={"RESUBSCRIBE": "false"}) as world:
        async with _open(world) as client:
            wait_until(lambda: world.redis.execute("EXISTS", "interface/mod-probe") == 1, 10, "loaded")
            await client.ask("bind", "power")
            world.redis.kill()
            world.logged("api", "redis subscription failed")
            world.redis.start()
            wait_until(lambda: world.redis.execute("EXISTS", "interface/mod-probe") == 1, 10, "metadata back")
            assert world.redis.execute("PUBSUB", "NUMPAT") == 0
            with pytest.raises(TimeoutError):
                await client.socket.receive(timeout=0.5)
