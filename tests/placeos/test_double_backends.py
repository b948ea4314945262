"""Each backend away: what fails, how it reads, what goes on; and all is well when it is back."""

from __future__ import annotations

from typing import Any

import pytest

from tests.placeos.support import BASE, KINDS, PING, World, Worlds
from tests.servers.process import wait_until

_STEPS = {
    "health": ("GET", f"{BASE}/"),
    "version": ("GET", f"{BASE}/version"),
    "systems": ("GET", f"{BASE}/systems"),
    "modules": ("GET", f"{BASE}/modules?control_system_id=sys-probe"),
    "functions": ("GET", f"{BASE}/systems/sys-probe/functions/Probe_1"),
    "execute": ("POST", PING),
}
_ALL = dict.fromkeys(_STEPS, 200)
_TRAP = dict.fromkeys(("systems", "modules", "functions", "execute"), 401)


def _answers(world: World) -> dict[str, int]:
    return {name: world.call(method, path)[0] for name, (method, path) in _STEPS.items()}


def _expected(kind: str, backend: str) -> dict[str, int]:
    if backend == "etcd":
        return _ALL | {"health": 500, "execute": 500}
    if backend == "redis":
        return _ALL | {"health": 500, "functions": 500, "execute": 500}
    if backend == "elasticsearch":
        return _ALL if kind == "newest" else _ALL | {"systems": 500}
    return _ALL | {"health": 500} | _TRAP


_CASES = [
    (kind, backend)
    for kind in KINDS
    for backend in ("etcd", "redis", "database")
    if backend != "etcd" or kind in ("rethinkdb", "postgres-etcd")
]


@pytest.mark.parametrize(("kind", "backend"), _CASES)
def test_killed(worlds: Worlds, kind: str, backend: str) -> None:
    """What is broken and what still works, and how the log names it."""
    world = worlds.get(kind)
    try:
        world.backend(backend).kill()
        assert _answers(world) == _expected(kind, backend)
        if _expected(kind, backend)["health"] == 500:
            name = "postgres" if kind != "rethinkdb" else "rethinkdb"
            world.logged("api", f"connection check to {name if backend == 'database' else backend} failed")
    finally:
        world.heal()


def test_elasticsearch_killed(worlds: Worlds) -> None:
    """Only listing needs it, and not where PostgreSQL lists."""
    found = {kind: worlds.get(kind) for kind in KINDS}
    try:
        worlds.elasticsearch().kill()
        for kind, world in found.items():
            assert _answers(world) == _expected(kind, "elasticsearch"), kind
    finally:
        for world in found.values():
            world.heal()


def test_errors_are_hidden_in_production(platform: World) -> None:
    """Nothing, or `{}` where JSON is accepted."""
    platform.elasticsearch.kill()
    platform.redis.kill()
    for path in ("/", "/systems"):
        assert platform.call("GET", BASE + path) == (500, None)
        assert platform.call("GET", BASE + path, Accept="application/json") == (500, {})


def test_database_down_reads_as_a_wrong_key(world: World) -> None:
    """With a token it does not, and tokens can't be had."""
    bearer = {"Authorization": f"Bearer {world.token()}"}
    world.database.kill()
    assert world.call("GET", f"{BASE}/systems") == (401, {"error": "unknown X-API-Key"})
    assert world.platform.ask("api", "GET", f"{BASE}/systems", None, bearer) == (500, b"")
    grant = {"grant_type": "password", "username": world.platform.username, "password": world.platform.password}
    assert world.platform.ask("api", "POST", "/auth/oauth/token", grant)[0] == 500
    assert world.platform.ask("api", "GET", "/auth/authority?health=true")[0] == 500


def test_database_back_is_noticed_at_once(platform: World) -> None:
    """A connection that died meanwhile costs no request."""
    platform.database.kill()
    platform.database.start()
    assert platform.call("GET", f"{BASE}/modules?control_system_id=sys-probe")[0] == 200


@pytest.mark.parametrize("backend", ["etcd", "redis", "elasticsearch", "database"])
def test_depth_of_health_pages(worlds: Worlds, backend: str) -> None:
    """What each page looks at; shallow ones stay 200."""
    world = worlds.get("postgres-etcd")
    looks_at: dict[str, tuple[str, tuple[str, ...]]] = {
        "api": ("/api/engine/v2/", ("etcd", "redis", "database")),
        "core-0": ("/api/core/v1/", ("etcd", "redis", "database")),
        "triggers": ("/api/triggers/v2/", ()),
        "staff": ("/api/staff/v1", ()),
        "search-ingest": ("/api/search-ingest/v1", ("elasticsearch", "database")),
    }
    try:
        world.backend(backend).freeze()
        for service, (path, depth) in looks_at.items():
            assert world.platform.ask(service, "GET", path)[0] == (500 if backend in depth else 200), service
    finally:
        world.heal()


def test_etcd_down_shows_the_raw_connect_error(platform: World) -> None:
    assert platform.etcd is not None
    address = platform.etcd.members[0].address
    platform.backend("etcd").kill()
    told: dict[str, Any] = {"message": f"Error connecting to '{address}': Connection refused", "backtrace": []}
    assert platform.call("POST", PING, []) == (500, told)
    platform.redis.kill()
    assert platform.call("POST", PING, []) == (500, told)  # discovery comes before the module is looked up
    platform.logged("api", "when calling etcd")


def test_etcd_down_fails_triggers_whose_health_does_not_show_it(platform: World) -> None:
    platform.logged("triggers", "trigger fired")
    platform.backend("etcd").kill()
    platform.logged("triggers", "trigger failed: Error connecting to")
    assert platform.platform.ask("triggers", "GET", "/api/triggers/v2/")[0] == 200


def test_placement_cache(worlds: Worlds) -> None:
    """With it an etcd outage leaves execute working until the API restarts."""
    with worlds.fresh("postgres-etcd", services=("api", "core"), env={"DOUBLE_PLACEMENT_CACHE": "true"}) as world:
        wait_until(lambda: world.call("POST", PING, [])[0] == 200, 10, "execute works")
        world.backend("etcd").kill()
        assert world.call("POST", PING, []) == (200, "pong")


def test_a_frozen_elasticsearch_is_a_time_out_of_the_api(platform: World) -> None:
    platform.elasticsearch.freeze()
    assert platform.call("GET", f"{BASE}/systems")[0] == 408
