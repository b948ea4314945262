"""The API of a healthy platform, in each generation."""

from __future__ import annotations

import json

from tests.placeos.support import BASE, PING, World, Worlds


def test_health_of_every_service(world: World) -> None:
    platform = world.platform
    for service, path in {
        "api": "/api/engine/v2/",
        "core-0": "/api/core/v1/",
        "triggers": "/api/triggers/v2/",
        "staff": "/api/staff/v1",
        "search-ingest": "/api/search-ingest/v1",
    }.items():
        assert platform.ask(service, "GET", path) == (200, b""), service
    assert platform.ask("core-0", "GET", "/api/core/v1/ready")[0] == 200
    assert platform.ask("search-ingest", "GET", "/api/search-ingest/v1/ready")[0] == 200


def test_version_needs_no_login(world: World) -> None:
    status, body = world.platform.ask("api", "GET", f"{BASE}/version")
    assert status == 200
    assert json.loads(body)["service"] == "rest-api"


def test_reading(world: World) -> None:
    status, systems = world.call("GET", f"{BASE}/systems")
    assert (status, [one["id"] for one in systems]) == (200, ["sys-other", "sys-probe"])
    status, systems = world.call("GET", f"{BASE}/systems?q=Other")
    assert (status, [one["id"] for one in systems]) == (200, ["sys-other"])
    status, modules = world.call("GET", f"{BASE}/modules?control_system_id=sys-probe")
    assert (status, [one["id"] for one in modules]) == (200, ["mod-probe", "mod-stopped"])
    status, functions = world.call("GET", f"{BASE}/systems/sys-probe/functions/Probe_1")
    assert status == 200
    assert functions["ping"] == {"arity": 0, "params": {}, "order": []}
    status, drivers = world.call("GET", f"{BASE}/drivers")
    assert (status, [one["id"] for one in drivers]) == (200, ["driver-display", "driver-probe"])


def test_listing_by_postgres(worlds: Worlds) -> None:
    world = worlds.get("newest")
    for path, expected in {"": ["sys-other", "sys-probe"], "?q=probe": ["sys-probe"], "?q=nothing": []}.items():
        status, systems = world.call("GET", f"{BASE}/systems{path}")
        assert (status, [one["id"] for one in systems]) == (200, expected)


def test_login_by_password(world: World) -> None:
    bearer = {"Authorization": f"Bearer {world.token()}"}
    assert world.platform.ask("api", "POST", PING, [], bearer) == (200, b'"pong"')
    wrong = {"grant_type": "password", "username": world.platform.username, "password": "wrong"}
    status, body = world.platform.ask("api", "POST", "/auth/oauth/token", wrong)
    assert (status, json.loads(body)["error"]) == (400, "invalid_grant")


def test_who_is_refused(platform: World) -> None:
    wrong = {"error": "unknown X-API-Key"}
    assert platform.call("GET", f"{BASE}/systems", key="key-probe.wrong") == (401, wrong)
    assert platform.call("GET", f"{BASE}/systems", key="nobody.wrong") == (401, wrong)
    assert platform.call("GET", f"{BASE}/systems", Host="elsewhere.example") == (401, {"error": "authority not found"})
    assert platform.platform.ask("api", "GET", f"{BASE}/systems")[0] == 401
    bearer = {"Authorization": "Bearer forged.token.x"}
    assert platform.platform.ask("api", "GET", f"{BASE}/systems", None, bearer)[0] == 401
    assert platform.call("GET", f"{BASE}/cluster", key=platform.platform.plain_key)[0] == 403


def test_cluster(world: World) -> None:
    status, cores = world.call("GET", f"{BASE}/cluster?include_status=true")
    assert status == 200
    (core,) = cores
    assert core["uri"] == world.platform.services["core-0"]
    assert set(core) == {"id", "uri", "load", "status"}
    assert core["status"] == {
        "compiled_drivers": ["drivers_display_4d5e6f", "drivers_probe_1a2b3c"],
        "unavailable_drivers": [],
        "unavailable_repositories": [],
        "run_count": {"local": {"drivers": 2, "modules": 2}, "edge": {}},
    }
    status, drivers = world.call("GET", f"{BASE}/cluster/{core['id']}?include_status=true")
    assert status == 200
    probe = next(one for one in drivers if one["driver"] == "drivers_probe_1a2b3c")
    assert probe["local"]["modules"] == ["mod-probe"]
    assert probe["local"]["status"]["running"] is True
    assert set(probe["local"]["status"]) == {
        "running", "module_instances", "last_exit_code", "launch_count", "launch_time", "percentage_cpu",
        "memory_total", "memory_usage",
    }  # fmt: skip
    missing = {"error": "core not registered: 01NOBODY"}
    assert world.call("GET", f"{BASE}/cluster/01NOBODY?include_status=true") == (404, missing)


def test_reindex(platform: World) -> None:
    platform.elasticsearch.request("DELETE", "/sys")
    assert platform.call("GET", f"{BASE}/systems")[0] == 500
    assert platform.platform.ask("search-ingest", "POST", "/api/search-ingest/v1/reindex?backfill=true")[0] == 200
    assert platform.call("GET", f"{BASE}/systems")[0] == 200
    platform.elasticsearch.request("DELETE", "/sys")
    assert platform.call("POST", f"{BASE}/reindex")[0] == 200
    assert platform.call("GET", f"{BASE}/systems")[0] == 200
