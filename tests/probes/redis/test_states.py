"""What one Redis server can be in, each made by real means."""

from __future__ import annotations

import socket
import time

import pytest
import redis

from backendhealth.core.reasons import Reason
from backendhealth.probes.dialer import Dialer
from backendhealth.probes.exchange import run_attempt
from tests.probes.redis.helpers import AUTH, assert_found, assert_healthy, exchange, password, reasons_of, target
from tests.probes.support import attempt_once
from tests.servers.process import free_port, wait_until
from tests.servers.redis import RedisServer, ask


async def test_healthy_primary_tells_its_facts(server: RedisServer) -> None:
    finding = await attempt_once("redis", target(server))
    assert_healthy(finding)
    assert "primary with 0 replicas, Redis 7." in finding.message
    info = server.info()
    assert finding.facts["version"] == info["redis_version"]
    assert finding.facts["runId"] == info["run_id"]
    assert finding.facts["role"] == "primary"
    assert finding.facts["maxMemoryPolicy"] == "noeviction"
    assert isinstance(finding.facts["usedMemoryBytes"], int)
    assert finding.facts["usedMemoryBytes"] > 100_000
    assert reasons_of(finding) == {f"endpoint/{server.address}": Reason.PROBE_SUCCEEDED}
    assert list(finding.steps) == ["resolve", "connect", "ping", "info"]
    assert finding.contact


async def test_write_check_sets_a_key_that_expires(server: RedisServer) -> None:
    finding = await attempt_once("redis", target(server, writeCheck=True))
    assert_healthy(finding)
    assert "took a write" in finding.message
    assert "write" in finding.steps
    assert 0 < int(server.execute("TTL", "backendhealth:probe")) <= 60


async def test_without_write_check_nothing_is_written(server: RedisServer) -> None:
    assert_healthy(await attempt_once("redis", target(server)))
    assert server.execute("DBSIZE") == 0


async def test_database_of_the_url_is_used(server: RedisServer) -> None:
    spec = {"url": f"redis://{server.address}/3", "writeCheck": True}
    assert_healthy(await attempt_once("redis", spec))
    assert "db3" in server.info("keyspace")


async def test_database_that_does_not_exist_stays_missing(server: RedisServer) -> None:
    async with exchange({"url": f"redis://{server.address}/99"}) as kept:
        for _ in range(2):  # the connection on which SELECT failed must not be taken for a good one
            assert_found(await run_attempt(kept, 5), Reason.DATABASE_MISSING, "no database 99", server.address)


async def test_refused() -> None:
    port = free_port()
    finding = await attempt_once("redis", {"url": f"redis://127.0.0.1:{port}"})
    assert_found(finding, Reason.CONNECTION_REFUSED, f"connection refused by 127.0.0.1:{port}")
    assert finding.contact


async def test_name_that_does_not_exist() -> None:
    def resolver(host: str, port: int) -> list[object]:
        raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")

    finding = await attempt_once("redis", {"url": "redis://redis.nowhere.invalid"}, dialer=Dialer(resolver=resolver))  # type: ignore[arg-type]
    assert_found(finding, Reason.DNS_NAME_NOT_FOUND, "redis.nowhere.invalid")


async def test_client_pause_all_hangs_in_ping(server: RedisServer) -> None:
    server.execute("CLIENT", "PAUSE", 60_000, "ALL")
    finding = await attempt_once("redis", target(server), timeout=0.4)
    assert_found(finding, Reason.TIMEOUT, "0.4 s", "step ping")


async def test_client_pause_write_hangs_in_write_only(server: RedisServer) -> None:
    server.execute("CLIENT", "PAUSE", 60_000, "WRITE")
    assert_healthy(await attempt_once("redis", target(server)))
    finding = await attempt_once("redis", target(server, writeCheck=True), timeout=0.4)
    assert_found(finding, Reason.TIMEOUT, "0.4 s", "step write")


async def test_debug_sleep_hangs_in_ping(server: RedisServer) -> None:
    with socket.create_connection((server.host, server.port), timeout=5) as sleeper:
        sleeper.sendall(b"PING\r\n")
        assert sleeper.recv(16) == b"+PONG\r\n"
        sleeper.sendall(b"DEBUG SLEEP 30\r\n")
        finding = await attempt_once("redis", target(server), timeout=0.4)
    assert_found(finding, Reason.TIMEOUT, "0.4 s", "step ping")


async def test_sigstop_hangs_in_ping(server: RedisServer) -> None:
    with server.frozen():
        finding = await attempt_once("redis", target(server), timeout=0.4)
    assert_found(finding, Reason.TIMEOUT, "0.4 s", "step ping")
    assert_healthy(await attempt_once("redis", target(server)))


async def test_maxmemory_is_seen_without_writing(server: RedisServer) -> None:
    async with exchange(target(server)) as kept:
        assert_healthy(await run_attempt(kept, 5))
        fill(server)
        finding = await run_attempt(kept, 5)
        assert_found(
            finding, Reason.OUT_OF_MEMORY, server.address, "maxmemory (3145728 bytes) is reached, with noeviction"
        )
        assert finding.facts["maxMemoryBytes"] == 3 << 20
        server.execute("FLUSHALL")
        assert_healthy(await run_attempt(kept, 5))


async def test_maxmemory_with_eviction_is_healthy(server: RedisServer) -> None:
    fill(server)
    server.execute("CONFIG", "SET", "maxmemory-policy", "allkeys-lru")
    assert_healthy(await attempt_once("redis", target(server, writeCheck=True)))


async def test_nothing_to_evict_is_found_by_the_write(server: RedisServer) -> None:
    fill(server)
    server.execute("CONFIG", "SET", "maxmemory-policy", "volatile-lru")
    assert_healthy(await attempt_once("redis", target(server)))
    finding = await attempt_once("redis", target(server, writeCheck=True))
    assert_found(finding, Reason.OUT_OF_MEMORY, server.address, "refuses writes", "nothing may be evicted (OOM)")


def fill(server: RedisServer) -> None:
    """Fill the memory up to a maxmemory of 3 MiB, and see writes refused."""
    server.execute("DEBUG", "POPULATE", 40_000)
    server.execute("CONFIG", "SET", "maxmemory", 3 << 20)
    with pytest.raises(redis.exceptions.OutOfMemoryError):
        server.execute("SET", "one", "more")


async def test_misconf(server: RedisServer) -> None:
    server.break_persistence()
    for write_check in (False, True):
        finding = await attempt_once("redis", target(server, writeCheck=write_check))
        assert_found(finding, Reason.PERSISTENCE_FAILING, server.address, "cannot save to disk", "MISCONF")
        assert finding.facts["lastSaveOk"] is False


async def test_failed_save_that_stops_no_writes_is_a_fact_only(server: RedisServer) -> None:
    server.break_persistence()
    server.execute("CONFIG", "SET", "stop-writes-on-bgsave-error", "no")
    finding = await attempt_once("redis", target(server, writeCheck=True))
    assert_healthy(finding)
    assert finding.facts["lastSaveOk"] is False


async def test_loading(server: RedisServer) -> None:
    server.load_slowly()
    async with exchange(target(server)) as kept:
        finding = await run_attempt(kept, 5)
        assert_found(finding, Reason.LOADING, server.address, "is loading its data set")
        server.finish_loading()
        assert_healthy(await run_attempt(kept, 5))


async def test_replica_where_a_primary_is_expected(server: RedisServer) -> None:
    with RedisServer(replica_of=server) as replica:
        wait_linked(replica)
        finding = await attempt_once("redis", target(replica))
        assert_found(
            finding, Reason.READ_ONLY_REPLICA, f"{replica.address} refuses writes", f"replica of {server.address}"
        )
        assert finding.facts["link"] == "up"
        primary = await attempt_once("redis", target(server))
        assert "primary with 1 replica," in primary.message


async def test_replica_where_one_is_expected(server: RedisServer) -> None:
    with RedisServer(replica_of=server) as replica:
        wait_linked(replica)
        for role in ("replica", "any"):
            finding = await attempt_once("redis", target(replica, role=role))
            assert_healthy(finding)
            assert f"replica of {server.address} with its link up" in finding.message


@pytest.mark.parametrize("serves_stale", ["yes", "no"])
async def test_master_link_down(server: RedisServer, serves_stale: str) -> None:
    with RedisServer(replica_of=server, options={"replica-serve-stale-data": serves_stale}) as replica:
        wait_linked(replica)
        server.kill()
        wait_until(lambda: replica.info("replication")["master_link_status"] == "down", 10, "the link down")
        for role in ("replica", "any"):
            finding = await attempt_once("redis", target(replica, role=role))
            assert_found(finding, Reason.MASTER_LINK_DOWN, f"no link to its primary {server.address}", "stale")
            assert finding.facts["link"] == "down"
        finding = await attempt_once("redis", target(replica))
        assert_found(finding, Reason.READ_ONLY_REPLICA, "its link to that is down")


async def test_master_down_is_told_when_info_may_not_be_read(server: RedisServer) -> None:
    rules = ["probe on >secret ~* -@all +ping"]
    stale_no = {"replica-serve-stale-data": "no"}
    with RedisServer(replica_of=server, users=rules, options=stale_no) as replica:
        wait_linked(replica)
        server.kill()
        wait_until(lambda: replica.info("replication")["master_link_status"] == "down", 10, "the link down")
        spec = target(replica, role="replica", auth=AUTH)
        finding = await attempt_once("redis", spec, password("secret", username="probe"))
    assert_found(finding, Reason.MASTER_LINK_DOWN, "MASTERDOWN", replica.address)


async def test_write_to_a_replica_is_refused(server: RedisServer) -> None:
    """What INFO would tell is denied to this user: the write tells it."""
    with RedisServer(replica_of=server, users=["probe on >secret ~* -@all +ping +set"]) as replica:
        wait_linked(replica)
        spec = target(replica, auth=AUTH, writeCheck=True)
        finding = await attempt_once("redis", spec, password("secret", username="probe"))
    assert_found(finding, Reason.READ_ONLY_REPLICA, f"{replica.address} refuses writes: it is a read-only replica")


async def test_primary_where_a_replica_is_expected(server: RedisServer) -> None:
    finding = await attempt_once("redis", target(server, role="replica"))
    assert_found(finding, Reason.MASTER_LINK_DOWN, "a primary that follows nobody", "a replica is expected")


async def test_too_few_replicas_refuse_writes(server: RedisServer) -> None:
    server.execute("CONFIG", "SET", "min-replicas-to-write", 1)
    finding = await attempt_once("redis", target(server, writeCheck=True))
    assert_found(finding, Reason.NOT_ENOUGH_REPLICAS, "refuses writes", "min-replicas-to-write")


async def test_maxclients_refuses_a_new_connection(server: RedisServer) -> None:
    holders = occupy(server, 5)
    async with exchange(target(server)) as fresh:
        for _ in range(50):  # the server's word and its reset arrive in any order
            finding = await run_attempt(fresh, 5)
            assert_found(finding, Reason.TOO_MANY_CLIENTS, server.address, "turns new clients away: its maxclients")
        for holder in holders:
            holder.close()
        deadline = time.monotonic() + 5
        while (finding := await run_attempt(fresh, 5)).reason is Reason.TOO_MANY_CLIENTS:
            assert time.monotonic() < deadline
        assert_healthy(finding)


async def test_maxclients_is_seen_over_a_kept_connection(server: RedisServer) -> None:
    async with exchange(target(server)) as kept:
        assert_healthy(await run_attempt(kept, 5))
        holders = occupy(server, 5, taken=1)
        assert_found(await run_attempt(kept, 5), Reason.TOO_MANY_CLIENTS, "turns new clients away: its maxclients (5)")
        for holder in holders:
            holder.close()


def occupy(server: RedisServer, limit: int, taken: int = 0) -> list[socket.socket]:
    """Hold all of `limit` client slots, of which `taken` are held already."""
    server.execute("CONFIG", "SET", "maxclients", limit)
    wait_until(lambda: server.info("clients")["connected_clients"] == taken + 1, 5, "only the kept clients are left")
    holders: list[socket.socket] = []
    while len(holders) < limit - taken:
        holder = socket.create_connection((server.host, server.port), timeout=5)
        holder.sendall(b"PING\r\n")
        if holder.recv(64) == b"+PONG\r\n":
            holders.append(holder)
        else:  # the test's own client is not quite gone
            holder.close()
    return holders


async def test_script_that_blocks_the_server() -> None:
    with (
        RedisServer(options={"busy-reply-threshold": "50"}) as server,
        socket.create_connection((server.host, server.port), timeout=5) as runner,
    ):
        runner.sendall(b'EVAL "while true do end" 0\r\n')
        wait_until(lambda: b"BUSY" in ask(server.host, server.port, b"PING\r\n"), 10, "the server calls itself busy")
        finding = await attempt_once("redis", target(server))
        assert_found(finding, Reason.OVERLOADED, "blocked by a script", "SCRIPT KILL")


async def test_sentinel_behind_a_url() -> None:
    with RedisServer(sentinel=True) as sentinel:
        finding = await attempt_once("redis", target(sentinel))
    assert_found(finding, Reason.PROTOCOL_ERROR, "is a Sentinel", "probe it by `sentinel`")


async def test_write_to_a_cluster_that_is_down() -> None:
    with RedisServer(options={"cluster-enabled": "yes", "cluster-port": str(free_port())}) as node:  # without slots
        finding = await attempt_once("redis", target(node, writeCheck=True))
    assert_found(finding, Reason.SLOTS_UNCOVERED, node.address, "the cluster is down (CLUSTERDOWN)")


async def test_several_faults_the_cause_is_told(server: RedisServer) -> None:
    """A replica that is also out of client slots: that it is a replica comes first."""
    with RedisServer(replica_of=server) as replica:
        wait_linked(replica)
        async with exchange(target(replica)) as kept:
            assert_found(await run_attempt(kept, 5), Reason.READ_ONLY_REPLICA, replica.address)
            replica.execute("CONFIG", "SET", "maxclients", 1)
            assert_found(await run_attempt(kept, 5), Reason.READ_ONLY_REPLICA, replica.address)


def wait_linked(replica: RedisServer) -> None:
    wait_until(lambda: replica.info("replication")["master_link_status"] == "up", 10, "the replica follows")
