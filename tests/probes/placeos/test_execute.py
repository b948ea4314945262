"""Each way in which executing a function can end, on a real platform where it can be made there."""

from __future__ import annotations

import json

import pytest

from backendhealth.core.reasons import Reason
from tests.placeos.support import World
from tests.probes.placeos.conftest import Make
from tests.probes.placeos.helpers import part, target_for
from tests.servers.http import HttpServer

PATH = "/api/engine/v2/systems/sys/Probe_1/ping"


def short(world: World, **more: object) -> dict[str, object]:
    return target_for(world) | {"services": {}} | more


async def test_it_is_really_executed(world: World, make: Make) -> None:
    target = short(world, function="set_status", arguments='["planted", "by the probe"]')
    assert part(await make("placeos", target).attempt(), "execute").reason is Reason.PROBE_SUCCEEDED
    assert world.redis.execute("HGET", "status/mod-probe", "planted") == '"by the probe"'


async def test_a_module_that_is_not_there(world: World, make: Make) -> None:
    finding = await make("placeos", short(world, module="Absent_1")).attempt()
    assert part(finding, "execute").reason is Reason.MODULE_NOT_FOUND
    assert "could not find module" in part(finding, "execute").message
    assert part(finding, "modules").reason is Reason.MODULE_NOT_FOUND
    assert part(finding, "websocket-new").reason is Reason.MODULE_NOT_FOUND


async def test_a_system_that_is_not_there(world: World, make: Make) -> None:
    finding = await make("placeos", short(world, system="sys-absent")).attempt()
    assert part(finding, "modules").reason is Reason.MODULE_NOT_FOUND
    assert "no such system" in part(finding, "modules").message


async def test_metadata_that_redis_has_lost(world: World, make: Make) -> None:
    probe = make("placeos", short(world))
    await probe.healthy()
    world.platform.stop("core-0")  # it would write them again
    world.redis.execute("FLUSHALL")
    finding = await probe.attempt(2)
    assert part(finding, "execute").reason is Reason.MODULE_NOT_FOUND
    assert part(finding, "modules").reason is Reason.MODULE_NOT_FOUND


async def test_a_function_that_is_not_there_is_the_specs_fault(world: World, make: Make) -> None:
    finding = await make("placeos", short(world, function="absent")).attempt()
    assert part(finding, "execute").reason is Reason.FUNCTION_NOT_FOUND
    assert part(finding, "modules").reason is Reason.FUNCTION_NOT_FOUND
    assert "could not find function absent" in part(finding, "execute").message


async def test_a_privileged_function(world: World, make: Make) -> None:
    target = short(world, function="admin_only", apiKeySecretRef={"name": "api", "key": "plain"})
    finding = await make("placeos", target).attempt()
    assert part(finding, "execute").reason is Reason.PERMISSION_DENIED
    assert "attempted to access privileged function admin_only" in part(finding, "execute").message
    assert part(finding, "login").reason is Reason.PROBE_SUCCEEDED


async def test_no_core_is_registered(world: World, make: Make) -> None:
    probe = make("placeos", short(world))
    await probe.healthy()
    world.platform.deregister("core-0")
    finding = await probe.until(lambda found: part(found, "execute").reason is not Reason.PROBE_SUCCEEDED)
    world.platform.restart("core-0")
    assert part(finding, "execute").reason is Reason.NO_CORE_INSTANCES
    assert "No registered core instances" in part(finding, "execute").message


async def test_a_stale_placement(world: World, make: Make) -> None:
    probe = make("placeos", short(world))
    await probe.healthy()
    world.platform.kill("core-0")
    finding = await probe.attempt()
    assert part(finding, "execute").reason is Reason.CONNECT_FAILED
    assert "Connection refused" in part(finding, "execute").message


async def test_core_refuses(world: World, make: Make) -> None:
    probe = make("placeos", short(world))
    await probe.healthy()
    world.platform.crash_driver("driver-probe")
    finding = await probe.until(lambda found: part(found, "execute").reason is not Reason.PROBE_SUCCEEDED)
    world.platform.crash_driver("driver-probe", on=False)
    assert part(finding, "execute").reason is Reason.CORE_REFUSED
    assert "unexpected response code 500" in part(finding, "execute").message
    await probe.healthy()


async def test_the_drivers_own_exception_is_not_infrastructure(world: World, make: Make) -> None:
    finding = await make("placeos", short(world, function="fail", arguments='["the lamp is broken", 500]')).attempt()
    assert part(finding, "execute").reason is Reason.MODULE_RAISED
    assert "module raised: the lamp is broken" in part(finding, "execute").message
    assert part(finding, "execute").verdict == "Degraded"


async def test_a_function_that_hangs(world: World, make: Make) -> None:
    probe = make("placeos", short(world, function="wait", arguments="[3]"))
    finding = await probe.until(lambda found: bool(found.parts), each=0.9)  # a busy machine may come to its end late
    assert part(finding, "execute").reason is Reason.TIMEOUT
    assert part(finding, "login").reason is Reason.PROBE_SUCCEEDED


@pytest.mark.parametrize(
    ("status", "body", "reason"),
    [
        (500, {"error": "unexpected failure", "message": "unexpected response code 500"}, Reason.CORE_REFUSED),
        (500, {"error": "unexpected failure", "message": "no core instances registered!"}, Reason.NO_CORE_INSTANCES),
        (500, {"error": "unexpected failure", "message": "Hostname lookup for core-1 failed"}, Reason.CONNECT_FAILED),
        (500, {"message": "LOADING Redis is loading", "backtrace": []}, Reason.EXECUTE_FAILED),
        (418, {"error": "request failed", "message": "module raised: teapot"}, Reason.MODULE_RAISED),
        (408, {}, Reason.REQUEST_FAILED),
        (403, {"error": "no"}, Reason.PERMISSION_DENIED),
        (500, {"message": 5}, Reason.REQUEST_FAILED),
        (500, [], Reason.REQUEST_FAILED),
    ],
)
async def test_answers_in_so_many_words(
    server: HttpServer, make: Make, status: int, body: object, reason: Reason
) -> None:
    server.on("/api/engine/v2/version", body=b'{"version": "1"}')
    server.on(PATH, status, json.dumps(body).encode())
    where = {"system": "sys", "module": "Probe_1", "function": "ping", "websocket": False}
    target = {"url": server.url, "apiKeySecretRef": {"name": "api", "key": "key"}, **where}
    found = part(await make("placeos", target).attempt(), "execute")
    assert found.reason is reason
    if isinstance(body, dict) and isinstance(body.get("message"), str):
        assert body["message"] in found.message
