"""A Redis Cluster: whole, with slots that nobody serves, with dead and frozen nodes."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any

import pytest
from redis.crc import key_slot

from backendhealth.core.reasons import Reason
from backendhealth.core.verdict import Verdict
from backendhealth.probes.exchange import ProbeError, run_attempt
from backendhealth.probes.redis_topology import parse_map, show, unassigned, write_key_for
from tests.probes.redis.helpers import (
    AUTH,
    assert_found,
    assert_healthy,
    exchange,
    password,
    reasons_of,
    until,
    until_found,
)
from tests.probes.redis.test_sentinel import Recorder
from tests.probes.support import PLANTED, MemorySecrets, attempt_once, planted
from tests.servers import misbehaving
from tests.servers.certs import Authority
from tests.servers.process import free_port
from tests.servers.redis import RedisCluster, RedisServer

STILL = {"cluster-replica-no-failover": "yes"}  # replicas stay replicas, so that a test sees what it made


@pytest.fixture(scope="module")
def whole() -> Iterator[RedisCluster]:
    """A cluster of three primaries with a replica each; tests leave it as they found it."""
    with RedisCluster(replicas=1, node_timeout=15_000, options=STILL) as running:
        yield running


def by_cluster(*nodes: RedisServer | str, **more: Any) -> dict[str, Any]:
    endpoints = [node if isinstance(node, str) else node.address for node in nodes]
    return {"cluster": {"endpoints": endpoints}, **more}


async def test_healthy_cluster(whole: RedisCluster) -> None:
    dialer = Recorder()
    async with exchange(by_cluster(whole.replicas[1], writeCheck=True), dialer=dialer) as kept:
        finding = await run_attempt(kept, 5)
        again = await run_attempt(kept, 5)
    assert_healthy(finding)
    assert "all 16384 slots served by 3 primaries, 6 nodes answer" in finding.message
    assert reasons_of(finding) == {f"node/{node.address}": Reason.PROBE_SUCCEEDED for node in whole.servers}
    assert list(reasons_of(finding)) == sorted(reasons_of(finding))
    by_subject = {subject.subject: subject.facts for subject in finding.subjects}
    for node in whole.servers:
        facts = by_subject[f"node/{node.address}"]
        assert facts["nodeId"] == whole.node_id(node)
        assert facts["role"] == ("primary" if node in whole.primaries else "replica")
    expected = {"clusterState": "ok", "clusterSize": 3, "knownNodes": 6, "answeringNodes": 6, "slotsAssigned": 16384}
    assert {name: finding.facts[name] for name in expected} == expected
    assert list(finding.steps) == ["resolve", "connect", "ping", "info", "cluster", "write"]
    assert list(again.steps) == ["ping", "info", "cluster", "write"]
    assert sorted(dialer.opened) == sorted(node.address for node in whole.servers)  # learnt ones too, and once
    for node in whole.primaries:  # a key of its own in each
        (key,) = node.execute("KEYS", "backendhealth:probe*")
        assert 0 < int(node.execute("TTL", key)) <= 60


async def test_dead_seed_beside_a_living_one(whole: RedisCluster) -> None:
    dead = f"127.0.0.1:{free_port()}"
    finding = await attempt_once("redis", by_cluster(dead, whole.primaries[0]))
    assert_found(finding, Reason.MEMBER_DOWN, "works, but: ", f"connection refused by {dead}")
    assert reasons_of(finding)[f"endpoint/{dead}"] is Reason.CONNECTION_REFUSED


async def test_no_seed_answers() -> None:
    dead = [f"127.0.0.1:{free_port()}" for _ in range(2)]
    finding = await attempt_once("redis", by_cluster(*dead))
    assert_found(finding, Reason.CONNECTION_REFUSED, "no node of the cluster answers", *dead)
    assert set(reasons_of(finding)) == {f"endpoint/{address}" for address in dead}


async def test_node_of_another_cluster_is_told(whole: RedisCluster) -> None:
    with RedisServer(options={"cluster-enabled": "yes", "cluster-port": str(free_port())}) as stranger:
        finding = await attempt_once("redis", by_cluster(whole.primaries[0], stranger))
        assert_found(finding, Reason.MEMBER_DOWN, f"{stranger.address} calls the cluster failed")
        assert reasons_of(finding)[f"endpoint/{stranger.address}"] is Reason.SLOTS_UNCOVERED
        finding = await attempt_once("redis", by_cluster(stranger))
        assert_found(finding, Reason.SLOTS_UNCOVERED, "slots 0-16383 are assigned to no node")


async def test_frozen_replica_is_a_finding_about_it(whole: RedisCluster) -> None:
    replica = whole.replicas[0]
    async with exchange(by_cluster(whole.primaries[0])) as kept:
        assert_healthy(await run_attempt(kept, 1))
        with replica.frozen():
            finding = await run_attempt(kept, 1)
            assert_found(finding, Reason.MEMBER_DOWN, f"{replica.address}: no answer within 0.3 s", "step ping")
            assert finding.verdict is Verdict.DEGRADED
            wrong = {subject for subject, reason in reasons_of(finding).items() if reason is not Reason.PROBE_SUCCEEDED}
            assert wrong == {f"node/{replica.address}"}
        assert_healthy(await run_attempt(kept, 1))


async def test_frozen_primary_leaves_its_slots_unserved(whole: RedisCluster) -> None:
    primary = whole.primaries[1]
    async with exchange(by_cluster(whole.primaries[0])) as kept:
        with primary.frozen():
            finding = await run_attempt(kept, 1)
        told = f"slots 5461-10921 are served by nobody: {primary.address} is down (no answer within 0.3 s"
        assert_found(finding, Reason.SLOTS_UNCOVERED, told)
        assert reasons_of(finding)[f"node/{primary.address}"] is Reason.TIMEOUT
        assert_healthy(await run_attempt(kept, 5))


async def test_node_in_trouble_keeps_its_reason(whole: RedisCluster) -> None:
    primary, replica = whole.primaries[2], whole.replicas[2]
    async with exchange(by_cluster(whole.primaries[0])) as kept:
        with set_back(primary, "maxmemory", 1, 0):
            assert_found(await run_attempt(kept, 5), Reason.OUT_OF_MEMORY, primary.address, "maxmemory")
        with set_back(replica, "maxclients", 1, 1000):
            finding = await run_attempt(kept, 5)
            assert_found(finding, Reason.MEMBER_DOWN, replica.address, "its maxclients (1) is reached")
            assert reasons_of(finding)[f"node/{replica.address}"] is Reason.TOO_MANY_CLIENTS
        assert_healthy(await run_attempt(kept, 5))


@contextlib.contextmanager
def set_back(server: RedisServer, option: str, value: int, former: int) -> Iterator[None]:
    with server.client() as client:
        client.config_set(option, value)
        try:
            yield
        finally:
            client.config_set(option, former)


async def test_write_that_hangs_is_a_finding_about_its_node(whole: RedisCluster) -> None:
    primary = whole.primaries[2]
    primary.execute("CLIENT", "PAUSE", 60_000, "WRITE")
    finding = await attempt_once("redis", by_cluster(whole.primaries[0], writeCheck=True), timeout=1)
    primary.execute("CLIENT", "UNPAUSE")
    assert_found(finding, Reason.TIMEOUT, f"{primary.address}: no answer within 0.3 s", "step write")


async def test_write_that_is_refused(whole: RedisCluster) -> None:
    primary = whole.primaries[2]
    with set_back(primary, "min-replicas-to-write", 5, 0):
        finding = await attempt_once("redis", by_cluster(whole.primaries[0], writeCheck=True))
    assert_found(finding, Reason.NOT_ENOUGH_REPLICAS, primary.address, "min-replicas-to-write")


async def test_slot_on_the_move_is_no_fault(whole: RedisCluster) -> None:
    source, goal = whole.primaries[:2]
    slot = source.execute("CLUSTER", "KEYSLOT", write_key_for(((0, 5460),)))
    source.execute("FLUSHALL")
    source.execute("CLUSTER", "SETSLOT", slot, "MIGRATING", whole.node_id(goal))
    finding = await attempt_once("redis", by_cluster(source, writeCheck=True))
    assert source.execute("DBSIZE") == 0  # the server answered ASK
    source.execute("CLUSTER", "SETSLOT", slot, "STABLE")
    assert_healthy(finding)
    assert_healthy(await attempt_once("redis", by_cluster(source, writeCheck=True)))
    assert source.execute("DBSIZE") == 1


async def test_url_of_a_node_with_a_write_check(whole: RedisCluster) -> None:
    spec = {"writeCheck": True}
    found = [await attempt_once("redis", {"url": f"redis://{one.address}", **spec}) for one in whole.primaries]
    good = [finding for finding in found if finding.reason is Reason.PROBE_SUCCEEDED]
    assert len(good) == 1  # the key's slot has one owner
    moved = next(finding for finding in found if finding.reason is Reason.PROTOCOL_ERROR)
    assert_found(moved, Reason.PROTOCOL_ERROR, "is a node of a Redis Cluster", "by `cluster` instead of `url`")


async def test_single_server_where_a_cluster_is_expected(server: RedisServer) -> None:
    finding = await attempt_once("redis", by_cluster(server))
    assert_found(finding, Reason.PROTOCOL_ERROR, f"{server.address} is no node of a Cluster", "probe it by `url`")


async def test_loading_node() -> None:
    options = {"cluster-enabled": "yes", "cluster-port": str(free_port())}
    with RedisServer(options=options) as server:
        server.execute("CLUSTER", "ADDSLOTSRANGE", 0, 16383)
        await until(lambda: "cluster_state:ok" in str(server.execute("CLUSTER", "INFO")), "the cluster is ok")
        assert_healthy(await attempt_once("redis", by_cluster(server)))
        server.load_slowly()
        finding = await attempt_once("redis", by_cluster(server))
    assert_found(finding, Reason.LOADING, server.address, "is loading")


async def test_slot_that_belongs_to_nobody(whole: RedisCluster) -> None:
    owner = whole.primaries[0]
    async with exchange(by_cluster(*whole.primaries)) as kept:
        assert_healthy(await run_attempt(kept, 5))
        owner.execute("CLUSTER", "DELSLOTS", 7, 100, 101)
        finding = await run_attempt(kept, 5)
        assert_found(finding, Reason.SLOTS_UNCOVERED, "slots 7, 100-101 are assigned to no node")
        owner.execute("CLUSTER", "ADDSLOTS", 7, 100, 101)
        await until(lambda: whole.cluster_info(owner)["cluster_state"] == "ok", "the cluster is ok again")
        assert_healthy(await run_attempt(kept, 5))


async def test_nodes_die_one_after_the_other() -> None:
    """A replica, then its primary: what is told before the cluster notices, after it has, and when it need not care."""
    partial = {**STILL, "cluster-require-full-coverage": "no"}
    with RedisCluster(replicas=1, node_timeout=500, options=partial) as cluster:
        primary, replica = cluster.primaries[0], cluster.replicas[0]
        async with exchange(by_cluster(*cluster.primaries[1:], writeCheck=True)) as kept:
            assert_healthy(await run_attempt(kept, 5))
            replica.kill()
            finding = await run_attempt(kept, 5)
            assert_found(finding, Reason.MEMBER_DOWN, "works, but: ", replica.address)
            assert finding.verdict is Verdict.DEGRADED
            primary.kill()
            finding = await run_attempt(kept, 5)
            assert_found(
                finding, Reason.SLOTS_UNCOVERED, f"slots 0-5460 are served by nobody: {primary.address} is down"
            )
            await until(lambda: slots_fail(cluster) == 5461, "the cluster has noticed")
            finding = await run_attempt(kept, 5)
            assert_found(
                finding, Reason.SLOTS_UNCOVERED, f"slots 0-5460 are served by nobody: {primary.address} is down"
            )
            assert finding.facts["clusterState"] == "ok"  # because it need not cover all slots
            assert finding.facts["slotsOk"] == 16384 - 5461


def slots_fail(cluster: RedisCluster) -> int:
    return int(cluster.cluster_info(cluster.primaries[1])["cluster_slots_fail"])


async def test_failover_ends_with_all_slots_served() -> None:
    with RedisCluster(replicas=1, node_timeout=500) as cluster:
        primary, replica = cluster.primaries[0], cluster.replicas[0]
        async with exchange(by_cluster(*cluster.primaries, writeCheck=True)) as kept:
            assert_healthy(await run_attempt(kept, 5))
            primary.kill()
            assert_found(await run_attempt(kept, 5), Reason.SLOTS_UNCOVERED, "slots 0-5460", primary.address)
            finding = await until_found(kept, Reason.MEMBER_DOWN)
            assert_found(finding, Reason.MEMBER_DOWN, "works, but: ", f"connection refused by {primary.address}")
            assert replica.info("replication")["role"] == "master"


async def test_majority_lost() -> None:
    with RedisCluster(node_timeout=500) as cluster:
        alone = cluster.primaries[0]
        for node in cluster.primaries[1:]:
            node.kill()
        await until(lambda: cluster.cluster_info(alone)["cluster_state"] == "fail", "the last node gives up")
        finding = await attempt_once("redis", by_cluster(alone))
    told = [f"{node.address} is down" for node in cluster.primaries[1:]]
    assert_found(finding, Reason.SLOTS_UNCOVERED, "slots 5461-10921 are served by nobody", *told)
    assert "calls the cluster failed" not in finding.message  # that follows from it
    assert reasons_of(finding)[f"node/{alone.address}"] is Reason.SLOTS_UNCOVERED


async def test_password() -> None:
    with RedisCluster(password=PLANTED, node_timeout=5000) as cluster:
        spec = by_cluster(cluster.primaries[0], auth=AUTH, writeCheck=True)
        assert_healthy(await attempt_once("redis", spec, password(PLANTED)))
        finding = await attempt_once("redis", by_cluster(cluster.primaries[0]))
        assert_found(finding, Reason.AUTHENTICATION_FAILED, f"{cluster.primaries[0].address} asks for a password")
        cluster.primaries[2].execute("CONFIG", "SET", "requirepass", "another")
        finding = await attempt_once("redis", spec, password(PLANTED))
        assert_found(finding, Reason.AUTHENTICATION_FAILED, f"{cluster.primaries[2].address} does not accept")
        assert finding.verdict is Verdict.UNKNOWN
        assert not planted(finding)


async def test_acl_denies_cluster(whole: RedisCluster) -> None:
    node = whole.primaries[0]
    node.execute("ACL", "SETUSER", "probe", "on", ">secret", "-@all", "+ping", "+info")
    finding = await attempt_once("redis", by_cluster(node, auth=AUTH), password("secret", username="probe"))
    node.execute("ACL", "DELUSER", "probe")
    assert_found(finding, Reason.PERMISSION_DENIED, node.address, "may not run CLUSTER")


async def test_tls(authority: Authority) -> None:
    secrets = MemorySecrets({"ca": {"ca.crt": authority.pem}})
    options = {"cluster-enabled": "yes", "cluster-port": str(free_port()), "tls-cluster": "yes"}
    with RedisServer(tls=authority.issue(), authority=authority, options=options) as server:
        server.execute("CLUSTER", "ADDSLOTSRANGE", 0, 16383)
        await until(lambda: "cluster_state:ok" in str(server.execute("CLUSTER", "INFO")), "the cluster is ok")
        spec = by_cluster(f"127.0.0.1:{server.tls_port}", tls={"caSecretRef": {"name": "ca"}})
        finding = await attempt_once("redis", spec, secrets)
    assert_healthy(finding)
    assert "tls" in finding.steps
    assert "certificateDaysLeft" in finding.facts


INFO_REPLY = b"$33\r\n#\r\nredis_version:1\r\nrole:master\r\n\r\n"


@pytest.mark.parametrize(
    "nodes", [b"", b"nonsense", b"a b c d e f g h", b"i h:x@1 myself,master - 0 0 1 connected 0-1"]
)
async def test_garbage_node(nodes: bytes) -> None:
    answer = b"+PONG\r\n" + INFO_REPLY

    def handle(server: misbehaving.Server, conn: Any) -> None:
        server.read_some(conn)
        server.send(conn, answer)
        server.read_some(conn)
        server.send(conn, b"$16\r\ncluster_state:ok\r\n" + b"$%d\r\n%s\r\n" % (len(nodes), nodes))
        server.drain(conn)

    with misbehaving.Server(handle) as garbage:
        finding = await attempt_once("redis", by_cluster(f"127.0.0.1:{garbage.port}"))
    assert_found(finding, Reason.PROTOCOL_ERROR, "answers CLUSTER NODES, but not as Redis does")


NODES = """\
07c3 127.0.0.1:30004@31004,host4 slave e7d1 0 1426238317239 4 connected
67ed ::1:30002@31002 master - 0 1426238316232 2 connected 5461-10922 [93-<-292f]
292f :0@0 master,noaddr - 0 1426238318243 3 disconnected 12000
e7d1 :30001@31001 myself,master - 0 0 1 connected 0-5460 11000-11001
"""


def test_map_is_read() -> None:
    known = parse_map("cluster_state:ok\r\ncluster_size:3\r\n", NODES, "10.0.0.1", 30001)
    assert known.state == "ok"
    assert known.number("cluster_size") == 3
    assert known.number("unheard_of") == 0
    assert [node.address for node in known.nodes] == ["127.0.0.1:30004", "[::1]:30002", ":0", "10.0.0.1:30001"]
    assert [node.known for node in known.nodes] == [True, True, False, True]
    assert known.me.slots == ((0, 5460), (11000, 11001))
    assert known.nodes[1].slots == ((5461, 10922),)


def test_slots_without_a_node() -> None:
    known = parse_map("", NODES, "10.0.0.1", 30001)
    free = unassigned(known.nodes)
    assert free == ((10923, 10999), (11002, 11999), (12001, 16383))
    assert show(free) == "slots 10923-10999, 11002-11999, 12001-16383"
    assert show(tuple((n * 2, n * 2) for n in range(7))) == "slots 0, 2, 4, 6, 8, 2 more ranges"


def test_map_without_its_own_node() -> None:
    with pytest.raises(ProbeError) as caught:
        parse_map("", NODES.replace("myself,", ""), "10.0.0.1", 30001)
    assert caught.value.reason is Reason.PROTOCOL_ERROR


@pytest.mark.parametrize("slots", [((0, 5460),), ((5461, 10922),), ((10923, 16383),), ((77, 77),)])
def test_key_for_slots(slots: tuple[tuple[int, int], ...]) -> None:
    key = write_key_for(slots)
    assert key.startswith("backendhealth:probe")
    assert any(first <= key_slot(key.encode()) <= last for first, last in slots)
