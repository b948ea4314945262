"""The bare exchanges: the same client-library calls that a probe makes, on a kept connection, and nothing else."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol, cast
from urllib.parse import urlsplit

from backendhealth.engine.scheduler import TICK
from bench.sut import INTERVAL, Target

Login = Mapping[str, str]
"""`username` and `password`, for a server that asks for them."""


class Bare(Protocol):
    """One target. The first exchange connects; later ones use the kept connection."""

    async def exchange(self) -> None:
        """Ask once; raises whatever the client raises."""

    async def close(self) -> None:
        """Close the connection."""


class Nothing:
    """No exchange at all: what is left is the timer, the task and the timeout."""

    def __init__(self, target: Target, login: Login) -> None:
        """Takes what the others take."""

    async def exchange(self) -> None:
        return

    async def close(self) -> None:
        return


class Tcp:
    """A new connection each time, as the probe makes."""

    def __init__(self, target: Target, login: Login) -> None:
        self._address = target["host"], target["port"]

    async def exchange(self) -> None:
        _, writer = await asyncio.open_connection(*self._address)
        writer.transport.abort()

    async def close(self) -> None:
        return


class Http:
    """One GET by aiohttp."""

    def __init__(self, target: Target, login: Login) -> None:
        self._url = target["url"]
        self._session: Any = None

    async def exchange(self) -> None:
        if self._session is None:
            import aiohttp

            self._session = aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=1))
        async with self._session.get(self._url) as answer:
            await answer.read()

    async def close(self) -> None:
        if self._session is not None:
            await self._session.close()


class Redis:
    """PING and INFO in one go, by redis-py's connection."""

    def __init__(self, target: Target, login: Login) -> None:
        url = urlsplit(target["url"])
        self._address = cast("str", url.hostname), cast("int", url.port)
        self._connection: Any = None

    async def exchange(self) -> None:
        if self._connection is None:
            from redis.asyncio.connection import Connection

            host, port = self._address
            self._connection = Connection(
                host=host,
                port=port,
                protocol=2,
                decode_responses=True,
                socket_timeout=None,
                socket_connect_timeout=None,
            )
            await self._connection.connect()
        connection = self._connection
        await connection.send_packed_command(connection.pack_commands([("PING",), ("INFO",)]))
        await connection.read_response()
        await connection.read_response()

    async def close(self) -> None:
        if self._connection is not None:
            await self._connection.disconnect(nowait=True)


class Etcd:
    """Status, linearizable read, alarm list and member list, by etcd3's stubs on grpc.aio."""

    def __init__(self, target: Target, login: Login) -> None:
        self._address = urlsplit(target["endpoints"][0]).netloc
        self._channel: Any = None
        self._stubs: Any = None

    async def exchange(self) -> None:
        from backendhealth.probes import etcd_stubs

        if self._channel is None:
            import grpc

            options = [("grpc.use_local_subchannel_pool", 1)]  # a connection for each target, as the probe has
            self._channel = grpc.aio.insecure_channel(self._address, options=options)
            self._stubs = etcd_stubs.stubs(self._channel)
        rpc, stubs = etcd_stubs.messages(), self._stubs
        await stubs.maintenance.Status(rpc.StatusRequest())
        await stubs.kv.Range(rpc.RangeRequest(key=b"backendhealth", limit=1, keys_only=True))
        await stubs.maintenance.Alarm(rpc.AlarmRequest())
        await stubs.cluster.MemberList(rpc.MemberListRequest())

    async def close(self) -> None:
        if self._channel is not None:
            await self._channel.close()


class Elasticsearch:
    """Cluster health and cluster state, by the official client."""

    def __init__(self, target: Target, login: Login) -> None:
        self._url = target["urls"][0]
        self._client: Any = None

    async def exchange(self) -> None:
        from backendhealth.probes.elasticsearch_answers import HEALTH_FIELDS, STATE_FIELDS

        if self._client is None:
            from elasticsearch import AsyncElasticsearch

            self._client = AsyncElasticsearch(self._url, max_retries=0, connections_per_node=1)
        cluster = self._client.cluster
        await cluster.health(level="cluster", master_timeout="1s", timeout="0s", filter_path=HEALTH_FIELDS)
        await cluster.state(metric=("master_node", "nodes", "blocks"), filter_path=STATE_FIELDS)

    async def close(self) -> None:
        if self._client is not None:
            await self._client.close()


class Postgres:
    """The probe's status query, by asyncpg."""

    def __init__(self, target: Target, login: Login) -> None:
        self._target = target
        self._login = login
        self._connection: Any = None

    async def exchange(self) -> None:
        from backendhealth.probes.postgres import _STATUS

        if self._connection is None:
            import asyncpg

            host, port = self._target["host"], self._target["port"]
            self._connection = await asyncpg.connect(
                host=host,
                port=port,
                database="postgres",
                user=self._login["username"],
                password=self._login["password"],
                ssl=False,
            )
        await self._connection.fetchrow(_STATUS)

    async def close(self) -> None:
        if self._connection is not None:
            self._connection.terminate()


class Rethinkdb:
    """The system tables and a read of each table, side by side, by the official driver."""

    def __init__(self, target: Target, login: Login) -> None:
        self._target = target
        self._connection: Any = None

    async def exchange(self) -> None:
        from rethinkdb import r

        if self._connection is None:
            r.set_loop_type("asyncio")
            self._connection = await r.connect(host=self._target["host"], port=self._target["port"])
        system, database = r.db("rethinkdb"), self._target["database"]
        status = system.table("table_status").filter({"db": database})
        terms = (
            r.db_list(),
            system.table("server_status").pluck("name", "process").coerce_to("array"),
            status.pluck("db", "name", "raft_leader", "shards", "status", "error").coerce_to("array"),
            system.table("current_issues").pluck("id", "type", "critical", "description", "info").coerce_to("array"),
        )
        await asyncio.gather(*(term.run(self._connection) for term in terms), self._read_tables(r.db(database)))

    async def _read_tables(self, database: Any) -> None:
        names = await database.table_list().run(self._connection)
        await asyncio.gather(*(database.table(name).limit(1).count().run(self._connection) for name in names))

    async def close(self) -> None:
        if self._connection is not None:
            await self._connection.close(noreply_wait=False)


FLOORS: Mapping[str, Callable[[Target, Login], Bare]] = {
    "nothing": Nothing,
    "tcp": Tcp,
    "http": Http,
    "redis": Redis,
    "etcd": Etcd,
    "postgres": Postgres,
    "elasticsearch": Elasticsearch,
    "rethinkdb": Rethinkdb,
}


class Loop:
    """Makes the exchanges of `bares` every INTERVAL, spread evenly over it, each under a timeout, and counts them."""

    def __init__(self, bares: Sequence[Bare]) -> None:
        self.made = 0
        self._bares = bares
        self._spread = INTERVAL / len(bares)

    async def alone(self) -> None:
        """Every target has a task of its own that sleeps until it is due: what one writes first."""
        began = asyncio.get_running_loop().time()
        async with asyncio.TaskGroup() as group:
            for number, bare in enumerate(self._bares):
                group.create_task(self._forever(bare, began + number * self._spread))

    async def together(self) -> None:
        """What is due within the same TICK shares one wake-up of the loop, as in the engine."""
        loop = asyncio.get_running_loop()
        due = loop.time()
        ahead = itertools.cycle(self._bares)
        async with asyncio.TaskGroup() as group:
            while True:
                await asyncio.sleep(due - loop.time())
                until = loop.time() + TICK
                while due <= until:
                    group.create_task(self._once(next(ahead)))
                    due += self._spread

    async def _forever(self, bare: Bare, due: float) -> None:
        loop = asyncio.get_running_loop()
        while True:
            await asyncio.sleep(due - loop.time())
            await self._once(bare)
            due += INTERVAL

    async def _once(self, bare: Bare) -> None:
        async with asyncio.timeout(INTERVAL):
            await bare.exchange()
        self.made += 1
