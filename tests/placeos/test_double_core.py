"""core: joining, leaving, losing its registration; several cores; starting without backends."""

from __future__ import annotations

import json
from typing import Any

import pytest

from tests.placeos.support import BASE, PING, World, Worlds
from tests.servers import etcd
from tests.servers.process import Process, wait_until

_TINY = ("core",)


def _registered(world: World) -> dict[str, str]:
    """Key → value of the cores in etcd."""
    assert world.etcd is not None
    from backendhealth.probes import etcd_stubs

    request = etcd_stubs.messages().RangeRequest(key=b"service/core/", range_end=b"service/core0")
    with etcd.admin(world.etcd.members[0]) as stubs:
        return {one.key.decode(): one.value.decode() for one in stubs.kv.Range(request, timeout=5).kvs}


def _ended(process: Process) -> bool:
    return not process.running


def test_registration_in_etcd(platform: World) -> None:
    (key,) = _registered(platform)
    assert key == f"service/core/{platform.nodes()[0]}"
    assert len(key.rpartition("/")[2]) == 26
    assert list(_registered(platform).values()) == [platform.platform.services["core-0"]]
    platform.platform.terminate("core-0")
    assert _registered(platform) == {}


def test_registration_in_redis(by_redis: World) -> None:
    (node,) = by_redis.nodes()
    uri = by_redis.platform.services["core-0"]
    with by_redis.redis.client() as client:
        assert client.hgetall("{service_core}_lookup") == {f"{{service_core}}.{node}": uri}
        told: Any = client.get(f"{{service_core}}.{node}")
        assert json.loads(told) == {"u": uri, "v": "1", "r": True}
        assert 0 < client.ttl(f"{{service_core}}.{node}") <= 2
    by_redis.platform.terminate("core-0")
    assert not by_redis.redis.execute("EXISTS", "{service_core}_lookup")


def test_runtime_keys(platform: World) -> None:
    with platform.redis.client() as client:
        assert client.hget("system/sys-probe", "Probe/1") == "mod-probe"
        metadata: Any = client.get("interface/mod-probe")
        assert "ping" in json.loads(metadata)["interface"]
        assert client.hget("status/mod-probe", "connected") == "true"


@pytest.mark.parametrize("kind", ["postgres-etcd", "postgres"])
def test_registers_again(worlds: Worlds, kind: str) -> None:
    """With the discovery gone for longer than the registration lasts, and without what it knew."""
    world = worlds.get(kind)
    before = world.nodes()
    backend = world.backend("etcd" if world.etcd else "redis")
    backend.freeze()
    world.logged("core-0", "when calling")
    backend.kill()
    world.heal()
    wait_until(lambda: world.nodes() == before, 10, "registered again")


def test_older_builds_never_register_again(worlds: Worlds) -> None:
    env = {"REREGISTER": "false", "ETCD_TTL": "1"}
    with worlds.fresh("postgres-etcd", services=("api", "core"), env=env) as world:
        assert len(_registered(world)) == 1
        world.backend("etcd").kill()
        world.logged("core-0", "when calling etcd")
        world.backend("etcd").start()
        wait_until(lambda: not _registered(world), 10, "lease expired")
        status, body = world.call("POST", PING, [])
        assert (status, body["message"]) == (500, "No registered core instances")
        assert world.core("/ready")[0] == 200
        world.platform.restart("core-0")
        wait_until(lambda: world.call("POST", PING, [])[0] == 200, 10, "a restart of core is the remedy")


@pytest.mark.parametrize("kind", ["postgres-etcd", "postgres"])
def test_stale_core(worlds: Worlds, kind: str) -> None:
    """A core in discovery that is not there: omitted from the list; in Redis a live leader prunes it."""
    world = worlds.get(kind)
    world.platform.add_stale_core()
    try:
        wait_until(lambda: len(world.nodes()) == 1, 10, "the stale one is not shown")
        if kind == "postgres":
            lookup = "{service_core}_lookup"
            wait_until(lambda: len(world.redis.execute("HGETALL", lookup)) <= 2, 10, "pruned")
    finally:
        world.platform.remove_stale_core()
        world.heal()


def test_two_cores_share_the_modules_and_stand_in(worlds: Worlds) -> None:
    with worlds.fresh("postgres-etcd", cores=2, services=("api", "core")) as world:

        def modules() -> list[list[str]]:
            loaded = [world.core("/status/loaded", core)[1]["local"] for core in world.platform.cores]
            return sorted(sorted(module for part in one.values() for module in part) for one in loaded)

        wait_until(lambda: sum(len(one) for one in modules()) == 2, 10, "each module is loaded once")
        wait_until(world.works, 10, "all works")
        assert len(world.nodes()) == 2
        world.platform.terminate("core-0")
        wait_until(world.works, 10, "the other stands in")
        loaded = world.core("/status/loaded", "core-1")[1]["local"]
        assert sorted(module for part in loaded.values() for module in part) == ["mod-display", "mod-probe"]
        world.platform.start("core-0")
        world.logged("core-1", "cluster rebalance")
        wait_until(lambda: len(world.nodes()) == 2, 10, "back")
        wait_until(world.works, 10, "all works again")


@pytest.mark.parametrize("backend", ["etcd", "redis", "database"])
def test_core_aborts_without_a_backend(worlds: Worlds, backend: str) -> None:
    world = worlds.get("postgres-etcd")
    world.platform.terminate("core-0")
    process = world.platform.processes["core-0"]
    environment = dict(process.env or {})
    dead = {"etcd": {"ETCD_PORT": "1"}, "redis": {"REDIS_URL": "redis://127.0.0.1:1"}}
    dead["database"] = {"PG_DATABASE_URL": "postgresql://a:b@127.0.0.1:1/c"}
    process.env = environment | dead[backend] | {"DOUBLE_ABORT_AFTER": "0.5"}
    try:
        process.start(wait=False)
        wait_until(lambda: _ended(process), 10, "aborted")
        assert "Upstream services are unavailable" in world.platform.log("core-0")
        name = "postgres" if backend == "database" else backend
        assert f"connection check to {name} failed" in world.platform.log("core-0")
    finally:
        process.env = environment
        world.heal()


def test_core_is_not_ready_before_it_started(platform: World) -> None:
    platform.platform.terminate("core-0")
    platform.backend("etcd").kill()
    platform.platform.start("core-0", wait=False)

    def waits() -> bool:
        try:
            return platform.core("/ready")[0] == 503
        except OSError:
            return False

    wait_until(waits, 10, "up, and not ready")
    assert platform.core("/status")[1]["run_count"]["local"] == {"drivers": 0, "modules": 0}


def test_api_needs_its_backends_at_start(platform: World) -> None:
    platform.backend("etcd").kill()
    platform.platform.terminate("api")
    platform.platform.start("api", wait=False)
    platform.logged("api", "connection check to etcd failed")
    with pytest.raises(OSError, match="refused"):
        platform.call("GET", f"{BASE}/version")
    platform.backend("etcd").start()
    platform.platform.processes["api"].wait_ready()
