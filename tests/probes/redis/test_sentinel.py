"""A Redis found by Sentinels: healthy, degraded, without a primary, through a failover."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from backendhealth.core.reasons import Reason
from backendhealth.core.verdict import Verdict
from backendhealth.probes.dialer import Connection, Dialer
from backendhealth.probes.exchange import run_attempt
from backendhealth.probes.secrets import TlsMaterial
from backendhealth.probes.trace import Trace
from tests.probes.redis.helpers import AUTH, assert_found, assert_healthy, exchange, reasons_of, until, until_found
from tests.probes.support import PLANTED, MemorySecrets, attempt_once, planted
from tests.servers import misbehaving
from tests.servers.certs import Authority
from tests.servers.process import free_port
from tests.servers.redis import SERVICE, RedisServer, SentinelGroup


@pytest.fixture(scope="module")
def shared() -> Iterator[SentinelGroup]:
    """A healthy group that no test breaks."""
    with SentinelGroup() as running:
        yield running


@pytest.fixture
def group() -> Iterator[SentinelGroup]:
    """A group of the test's own, to break."""
    with SentinelGroup() as running:
        yield running


def by_sentinels(*endpoints: str, name: str = SERVICE, **more: Any) -> dict[str, Any]:
    sentinel = {"endpoints": list(endpoints), "masterName": name}
    if "sentinelAuth" in more:
        sentinel["auth"] = more.pop("sentinelAuth")
    return {"sentinel": sentinel, **more}


def target(group: SentinelGroup, **more: Any) -> dict[str, Any]:
    return by_sentinels(*(sentinel.address for sentinel in group.sentinels), **more)


class Recorder(Dialer):
    """A dialer that remembers where it connected."""

    def __init__(self) -> None:
        super().__init__()
        self.opened: list[str] = []

    async def open(self, host: str, port: int, trace: Trace, tls: TlsMaterial | None = None) -> Connection:
        self.opened.append(f"{host}:{port}")
        return await super().open(host, port, trace, tls)


async def test_healthy_group(shared: SentinelGroup) -> None:
    dialer = Recorder()
    async with exchange(target(shared, writeCheck=True), dialer=dialer) as kept:
        finding = await run_attempt(kept, 5)
        again = await run_attempt(kept, 5)
    assert_healthy(finding)
    assert f"3 Sentinels name {shared.primary.address}, a primary with 1 replica" in finding.message
    assert "took a write" in finding.message
    assert reasons_of(finding) == {
        **{f"endpoint/{sentinel.address}": Reason.PROBE_SUCCEEDED for sentinel in shared.sentinels},
        f"node/{shared.primary.address}": Reason.PROBE_SUCCEEDED,
        f"node/{shared.replica.address}": Reason.PROBE_SUCCEEDED,
    }
    assert list(reasons_of(finding)) == sorted(reasons_of(finding))
    assert finding.facts["primary"] == shared.primary.address
    assert {name: finding.facts[name] for name in ("sentinels", "knownSentinels", "quorum", "replicas")} == {
        "sentinels": 3,
        "knownSentinels": 3,
        "quorum": 2,
        "replicas": 1,
    }
    assert list(finding.steps) == ["resolve", "connect", "sentinel", "ping", "info", "write"]
    assert list(again.steps) == ["sentinel", "ping", "info", "write"]
    assert sorted(dialer.opened) == sorted(server.address for server in shared.servers)  # learnt ones too, and once
    assert int(shared.primary.execute("TTL", "backendhealth:probe")) > 0


@pytest.mark.parametrize("role", ["replica", "any"])
async def test_healthy_by_role(shared: SentinelGroup, role: str) -> None:
    assert_healthy(await attempt_once("redis", target(shared, role=role)))


async def test_no_primary_of_that_name(shared: SentinelGroup) -> None:
    finding = await attempt_once("redis", target(shared, name="nobody"))
    assert_found(finding, Reason.NO_PRIMARY, "the Sentinels know no primary named nobody")
    assert set(reasons_of(finding).values()) == {Reason.NO_PRIMARY}


async def test_failover(group: SentinelGroup) -> None:
    async with exchange(target(group)) as kept:
        assert_healthy(await run_attempt(kept, 5))
        old, new = group.primary, group.replica
        old.kill()
        finding = await run_attempt(kept, 5)
        assert_found(finding, Reason.NO_PRIMARY, f"name {old.address} as the primary of {SERVICE}, but it is none")
        assert reasons_of(finding)[f"node/{old.address}"] in {Reason.CONNECTION_REFUSED, Reason.CONNECTION_RESET}

        finding = await until_found(kept, Reason.MEMBER_DOWN)
        assert_found(finding, Reason.MEMBER_DOWN, "works, but: ", f"connection refused by {old.address}")
        assert finding.verdict is Verdict.DEGRADED
        assert finding.facts["primary"] == new.address
        assert finding.facts["runId"] == new.info("server")["run_id"]

        old.start()  # as the primary it was, until the Sentinels tell it
        finding = await until_found(kept, Reason.PROBE_SUCCEEDED)
        assert f"3 Sentinels name {new.address}, a primary with 1 replica" in finding.message


async def test_sentinels_call_the_primary_down(group: SentinelGroup) -> None:
    group.replica.kill()  # nobody to fail over to
    group.primary.kill()
    await until(lambda: "o_down" in flags(group.sentinels[0]), "the primary called down")
    await until(lambda: "failover_in_progress" not in flags(group.sentinels[0]), "no failover under way")
    finding = await attempt_once("redis", by_sentinels(group.sentinels[0].address))
    assert_found(
        finding, Reason.NO_PRIMARY, f"connection refused by {group.primary.address}", "the Sentinels call it down"
    )


def flags(sentinel: RedisServer) -> str:
    fields = sentinel.execute("SENTINEL", "MASTER", SERVICE)
    return str(fields["flags"] if isinstance(fields, dict) else fields[fields.index("flags") + 1])


async def test_frozen_primary_is_a_finding_about_it(group: SentinelGroup) -> None:
    async with exchange(target(group)) as kept:
        assert_healthy(await run_attempt(kept, 1))
        with group.primary.frozen():
            finding = await run_attempt(kept, 1)
        assert_found(finding, Reason.NO_PRIMARY, group.primary.address, "no answer within 0.5 s", "step ping")
        assert reasons_of(finding)[f"node/{group.primary.address}"] is Reason.TIMEOUT
        assert reasons_of(finding)[f"node/{group.replica.address}"] is not Reason.TIMEOUT


async def test_primary_that_is_a_replica(server: RedisServer) -> None:
    """The Sentinels' knowledge is wrong: a person has turned the primary into a replica behind their back."""
    with RedisServer() as primary, watching(primary) as sentinel:
        # Sentinel would turn it back after 4 publish periods of 2 s
        primary.execute("REPLICAOF", server.host, server.port)
        finding = await attempt_once("redis", by_sentinels(sentinel.address))
    assert_found(finding, Reason.NO_PRIMARY, f"name {primary.address} as the primary", f"replica of {server.address}")


def watching(primary: RedisServer, name: str = SERVICE, **more: Any) -> RedisServer:
    """A Sentinel that watches `primary` alone."""
    lines = [f"monitor {name} {primary.host} {primary.port} 1", f"down-after-milliseconds {name} 60000"]
    if primary.password:
        lines.append(f"auth-pass {name} {primary.password}")
    return RedisServer(sentinel=True, options={"sentinel": lines}, **more)


async def test_primary_in_trouble_keeps_its_reason(server: RedisServer) -> None:
    server.execute("CONFIG", "SET", "maxmemory", 1)
    with watching(server) as sentinel:
        finding = await attempt_once("redis", by_sentinels(sentinel.address))
        assert_found(finding, Reason.OUT_OF_MEMORY, server.address, "maxmemory")
        server.execute("CONFIG", "SET", "maxmemory", 0, "min-replicas-to-write", 1)
        finding = await attempt_once("redis", by_sentinels(sentinel.address, writeCheck=True))
        assert_found(finding, Reason.NOT_ENOUGH_REPLICAS, server.address, "min-replicas-to-write")


async def test_no_replica_where_one_is_expected(server: RedisServer) -> None:
    with watching(server) as sentinel:
        finding = await attempt_once("redis", by_sentinels(sentinel.address, role="replica"))
    assert_found(finding, Reason.NOT_ENOUGH_REPLICAS, f"the Sentinels know no replica of {SERVICE}")


async def test_replica_down(group: SentinelGroup) -> None:
    group.replica.kill()
    finding = await attempt_once("redis", target(group))
    assert_found(finding, Reason.MEMBER_DOWN, "works, but: ", f"connection refused by {group.replica.address}")
    assert finding.verdict is Verdict.DEGRADED
    finding = await attempt_once("redis", target(group, role="replica"))
    assert_found(finding, Reason.CONNECTION_REFUSED, f"connection refused by {group.replica.address}")
    finding = await attempt_once("redis", target(group, role="any"))
    assert_found(finding, Reason.MEMBER_DOWN, group.replica.address)


async def test_sentinel_down_and_sentinel_frozen(group: SentinelGroup) -> None:
    down, frozen, _ = group.sentinels
    down.kill()
    finding = await attempt_once("redis", target(group))
    assert_found(finding, Reason.MEMBER_DOWN, f"Sentinel connection refused by {down.address}")
    assert finding.facts["sentinels"] == 2
    with frozen.frozen():
        finding = await attempt_once("redis", target(group), timeout=1)
    assert_found(finding, Reason.MEMBER_DOWN, f"Sentinel {frozen.address}: no answer within 0.4 s", "step sentinel")
    assert finding.facts["sentinels"] == 1


async def test_all_sentinels_down() -> None:
    ports = free_port(), free_port()
    finding = await attempt_once("redis", by_sentinels(*(f"127.0.0.1:{port}" for port in ports)))
    told = [f"connection refused by 127.0.0.1:{port}" for port in ports]
    assert_found(finding, Reason.CONNECTION_REFUSED, "no Sentinel answers", *told)
    assert set(reasons_of(finding)) == {f"endpoint/127.0.0.1:{port}" for port in ports}
    assert finding.contact


async def test_all_sentinels_silent() -> None:
    with misbehaving.silent() as silent:
        finding = await attempt_once("redis", by_sentinels(f"127.0.0.1:{silent.port}"), timeout=0.5)
    assert_found(finding, Reason.TIMEOUT, "no Sentinel answers", "no answer within 0.2 s")


async def test_sentinels_that_disagree(group: SentinelGroup, server: RedisServer) -> None:
    with watching(server) as stranger:
        endpoints = [stranger.address, *(sentinel.address for sentinel in group.sentinels)]
        finding = await attempt_once("redis", by_sentinels(*endpoints))
    told = f"Sentinel {stranger.address} names another primary than most: {server.address}"
    assert_found(finding, Reason.MEMBER_DOWN, told)
    assert finding.facts["primary"] == group.primary.address


async def test_url_server_where_a_sentinel_is_expected(server: RedisServer) -> None:
    finding = await attempt_once("redis", by_sentinels(server.address))
    assert_found(finding, Reason.PROTOCOL_ERROR, f"{server.address} is no Sentinel", "probe it by `url`")


@pytest.mark.parametrize("reply", [b"+fine\r\n", b"*1\r\n+x\r\n", b"*2\r\n$1\r\nh\r\n$3\r\nabc\r\n"])
async def test_garbage_sentinel(reply: bytes) -> None:
    with misbehaving.garbage(reply * 3) as garbage:
        finding = await attempt_once("redis", by_sentinels(f"127.0.0.1:{garbage.port}"))
    assert_found(finding, Reason.PROTOCOL_ERROR, "answers, but not as a Sentinel does")


async def test_learnt_address_is_guarded() -> None:
    def guard(_: str, address: object) -> str | None:
        return "not for you" if str(address) == "127.0.0.2" else None

    with RedisServer(host="127.0.0.2") as primary, watching(primary) as sentinel:
        finding = await attempt_once("redis", by_sentinels(sentinel.address), dialer=Dialer(guard=guard))
    assert_found(finding, Reason.ADDRESS_REFUSED, "127.0.0.2", "not for you")
    assert finding.verdict is Verdict.UNKNOWN


async def test_credentials_of_sentinels_and_servers() -> None:
    secrets = MemorySecrets({"redis": {"password": PLANTED}, "sentinel": {"password": PLANTED + "2"}})
    sentinel_auth = {"secretRef": {"name": "sentinel"}}
    with RedisServer(password=PLANTED) as primary, watching(primary, password=PLANTED + "2") as sentinel:
        both = by_sentinels(sentinel.address, auth=AUTH, sentinelAuth=sentinel_auth)
        assert_healthy(await attempt_once("redis", both, secrets))
        finding = await attempt_once("redis", by_sentinels(sentinel.address, auth=AUTH), secrets)
        assert_found(finding, Reason.AUTHENTICATION_FAILED, f"{sentinel.address} asks for a password")
        finding = await attempt_once("redis", by_sentinels(sentinel.address, sentinelAuth=sentinel_auth), secrets)
        assert_found(finding, Reason.AUTHENTICATION_FAILED, f"{primary.address} asks for a password")
        secrets.data["redis"]["password"] = PLANTED + "3"
        finding = await attempt_once("redis", both, secrets)
        assert_found(finding, Reason.AUTHENTICATION_FAILED, f"{primary.address} does not accept", "Secret redis")
        assert not planted(finding)


async def test_tls(authority: Authority) -> None:
    pair = authority.issue()
    secrets = MemorySecrets({"ca": {"ca.crt": authority.pem}})
    with RedisServer(tls=pair, authority=authority) as primary:
        lines = [f"monitor {SERVICE} 127.0.0.1 {primary.tls_port} 1"]
        options = {"sentinel": lines, "tls-replication": "yes"}
        with RedisServer(sentinel=True, tls=pair, authority=authority, options=options) as sentinel:
            spec = by_sentinels(f"127.0.0.1:{sentinel.tls_port}", tls={"caSecretRef": {"name": "ca"}})
            finding = await attempt_once("redis", spec, secrets)
    assert_healthy(finding)
    assert "tls" in finding.steps
    assert "certificateDaysLeft" in finding.facts
