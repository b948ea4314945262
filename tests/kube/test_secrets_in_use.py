"""Secrets of the cluster in the hands of real probes: kept connections, rotated passwords, servers that name others."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from typing import Any, Self

import pytest

from backendhealth.core.observation import Finding
from backendhealth.core.reasons import Reason
from backendhealth.core.spec.backendhealth import Probe
from backendhealth.core.spec.hosts import hosts_of
from backendhealth.probes.dialer import Dialer
from backendhealth.probes.prober import Prober
from backendhealth.probes.registry import Context, build
from tests.kube.secretshelp import World, world
from tests.probes.support import PLANTED, planted
from tests.servers.http import HttpServer
from tests.servers.kubernetes import ControlPlane
from tests.servers.process import wait_until
from tests.servers.redis import SERVICE, RedisServer

AUTH = {"secretRef": {"name": "backend"}}
PASSWORD = {"password": PLANTED}


@pytest.fixture
async def granted(control_plane: ControlPlane, namespace: str) -> AsyncIterator[World]:
    async with world(control_plane, namespace) as found:
        yield found


@pytest.fixture
def redis() -> Iterator[RedisServer]:
    with RedisServer(password=PLANTED) as server:
        yield server


class Probing:
    """A prober as the operator makes it, closed at the end."""

    def __init__(self, granted: World, **member: Any) -> None:
        probe = Probe.model_validate({"name": "probe", **member})
        secrets = granted.secrets(*hosts_of(probe.target))
        self._prober = Prober(build(probe, Context(Dialer().bound(secrets.check_host), secrets)), secrets)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._prober.close()

    async def attempt(self) -> Finding:
        """One attempt, whose finding shows no secret."""
        finding = await self._prober.attempt(5)
        assert not planted(finding)
        return finding

    async def reason(self) -> Reason:
        """The reason of one attempt."""
        return (await self.attempt()).reason


def at(redis: RedisServer, **more: Any) -> dict[str, Any]:
    return {"redis": {"url": f"redis://{redis.address}", "auth": AUTH, **more}}


def own_connections(redis: RedisServer) -> set[str]:
    """Ids of the probe's connections: those that last asked for INFO, but for a Sentinel's."""
    listed = [dict(pair.split("=", 1) for pair in line.split()) for line in clients(redis)]
    return {one["id"] for one in listed if one["cmd"] == "info" and not one["name"]}


def clients(redis: RedisServer) -> list[str]:
    """The lines of CLIENT LIST."""
    return str(redis.execute("CLIENT", "LIST")).strip().splitlines()


async def test_a_rotated_password_renews_the_kept_connection(granted: World, redis: RedisServer):
    granted.put("backend", PASSWORD, allow="placeos")
    async with Probing(granted, **at(redis)) as probing:
        assert await probing.reason() is Reason.PROBE_SUCCEEDED
        granted.put("backend", {"password": "of another server"}, allow="placeos")
        assert await probing.reason() is Reason.PROBE_SUCCEEDED  # not known yet, and the old one works
        granted.clock.now += 61
        assert await probing.reason() is Reason.AUTHENTICATION_FAILED
        granted.put("backend", PASSWORD, allow="placeos")
        granted.clock.now += 2  # a refused password is looked at again at once
        assert await probing.reason() is Reason.PROBE_SUCCEEDED


async def test_an_unchanged_secret_keeps_the_connection(granted: World, redis: RedisServer):
    granted.put("backend", PASSWORD, allow="placeos")
    async with Probing(granted, **at(redis)) as probing:
        assert await probing.reason() is Reason.PROBE_SUCCEEDED
        kept = own_connections(redis)
        for _ in range(3):
            granted.clock.now += 61
            granted.kubectl("label", "--overwrite", "secret", "backend", f"at=t{int(granted.clock.now)}")
            assert await probing.reason() is Reason.PROBE_SUCCEEDED
            assert own_connections(redis) == kept
    assert len(kept) == 1
    assert granted.reads == [200] * 4


@pytest.mark.parametrize("taken", ["allow", "secret", "grant"])
async def test_what_is_taken_away_ends_the_use_of_a_kept_connection(granted: World, redis: RedisServer, taken: str):
    granted.put("backend", PASSWORD, allow="placeos")
    async with Probing(granted, **at(redis)) as probing:
        assert await probing.reason() is Reason.PROBE_SUCCEEDED
        expected = {
            "allow": Reason.SECRET_NOT_ALLOWED,
            "secret": Reason.SECRET_NOT_FOUND,
            "grant": Reason.SECRET_FORBIDDEN,
        }[taken]
        if taken == "allow":
            granted.put("backend", PASSWORD, allow="other")
        elif taken == "secret":
            granted.kubectl("delete", "secret", "backend")
        else:
            granted.kubectl("delete", "rolebinding", "reads")
            await granted.outcome(granted.secrets(), "another", Reason.SECRET_NOT_FOUND)
        granted.clock.now += 61
        finding = await probing.attempt()
        assert finding.reason is expected, finding.message
        assert not finding.contact
        await asyncio.sleep(0)  # the transport closes its socket in the loop's next turn
        wait_until(lambda: not own_connections(redis), 5, "the kept connection closed")


async def test_a_key_that_is_missing_is_named(granted: World, redis: RedisServer):
    granted.put("backend", {"passwort": PLANTED}, allow="placeos")
    async with Probing(granted, **at(redis)) as probing:
        finding = await probing.attempt()
        assert (finding.reason, finding.message) == (Reason.SECRET_KEY_MISSING, "Secret backend has no key password")
        granted.put("backend", PASSWORD, allow="placeos")
        granted.clock.now += 61
        assert await probing.reason() is Reason.PROBE_SUCCEEDED


async def test_a_target_that_the_secret_is_not_bound_to_is_not_connected_to(granted: World, redis: RedisServer):
    granted.put("backend", PASSWORD, allow="placeos", allow_hosts="redis.db.svc")
    taken = redis.info("stats")["total_connections_received"]
    async with Probing(granted, **at(redis)) as probing:
        finding = await probing.attempt()
    assert finding.reason is Reason.SECRET_NOT_ALLOWED
    assert "127.0.0.1" in finding.message
    assert redis.info("stats")["total_connections_received"] == taken + 1  # our own question


@pytest.mark.parametrize(
    ("hosts", "reason"),
    [("127.0.0.1", Reason.SECRET_NOT_ALLOWED), ("127.0.0.1,127.0.0.2", Reason.PROBE_SUCCEEDED)],
)
async def test_a_server_that_sentinels_name_must_be_allowed_too(granted: World, hosts: str, reason: Reason):
    granted.put("backend", PASSWORD, allow="placeos", allow_hosts=hosts)
    with RedisServer(host="127.0.0.2", password=PLANTED) as primary:
        lines = [
            f"monitor {SERVICE} 127.0.0.2 {primary.port} 1",
            f"down-after-milliseconds {SERVICE} 60000",
            f"auth-pass {SERVICE} {PLANTED}",
        ]
        with RedisServer(sentinel=True, options={"sentinel": lines}) as sentinel:
            target = {"sentinel": {"endpoints": [sentinel.address], "masterName": SERVICE}, "auth": AUTH}
            async with Probing(granted, redis=target) as probing:
                finding = await probing.attempt()
            assert finding.reason is reason, finding.message
            if reason is Reason.SECRET_NOT_ALLOWED:
                assert "does not allow its use with 127.0.0.2" in finding.message
                assert own_connections(primary) == set()


async def test_a_redirect_leads_nowhere_that_the_secret_is_not_bound_to(granted: World):
    granted.put("backend", {"token": PLANTED}, allow="placeos", allow_hosts="127.0.0.1")
    with HttpServer() as server, HttpServer(host="127.0.0.2") as other:
        other.on("/", 200)
        server.on("/", 302, headers={"Location": f"{other.url}/"})
        async with Probing(granted, http={"url": f"{server.url}/", "auth": AUTH, "maxRedirects": 3}) as probing:
            finding = await probing.attempt()
            assert finding.reason is Reason.SECRET_NOT_ALLOWED, finding.message
            assert other.accepted == 0
            granted.put("backend", {"token": PLANTED}, allow="placeos", allow_hosts="127.0.0.0/8")
            granted.clock.now += 61
            assert await probing.reason() is Reason.PROBE_SUCCEEDED
