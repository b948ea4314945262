"""Every row of the table of what executing a function answers."""

from __future__ import annotations

from typing import Any

import pytest

from tests.placeos.support import BASE, PING, World, Worlds
from tests.servers.process import wait_until

_PROBE = f"{BASE}/systems/sys-probe"


def _failure(error: str, message: str, *, module: str = "Probe", index: int = 1) -> dict[str, Any]:
    where = {"sys_id": "sys-probe", "module_name": module, "index": index}
    return {"error": error, **where, "message": message, "backtrace": []}


def test_success(world: World) -> None:
    assert world.call("POST", PING, []) == (200, "pong")
    assert world.call("POST", f"{_PROBE}/Probe/echo", ["x"]) == (200, "x")


def test_what_the_caller_did(platform: World) -> None:
    assert platform.call("POST", f"{_PROBE}/Probe_2/ping", []) == (
        404,
        _failure("module not found", "could not find module", index=2),
    )
    assert platform.call("POST", f"{_PROBE}/Probe_1/nothing", []) == (
        400,
        _failure("bad request", "could not find function nothing"),
    )
    denied = _failure("access denied", "attempted to access privileged function admin_only")
    assert platform.call("POST", f"{_PROBE}/Probe_1/admin_only", [], key=platform.platform.plain_key) == (401, denied)
    assert platform.call("POST", f"{_PROBE}/Probe_1/admin_only", [])[0] == 200


def test_module_raised(platform: World) -> None:
    raised = _failure("request failed", "module raised: no lamp")
    assert platform.call("POST", f"{_PROBE}/Probe_1/fail", ["no lamp"]) == (500, raised)
    assert platform.call("POST", f"{_PROBE}/Probe_1/fail", ["no lamp", 418]) == (418, raised)


def test_metadata_missing(platform: World) -> None:
    platform.redis.execute("DEL", "interface/mod-probe")
    assert platform.call("POST", PING, []) == (404, _failure("module not found", "could not find module"))


def test_no_core_registered(world: World) -> None:
    world.platform.deregister()
    assert world.call("POST", PING, []) == (500, _failure("unexpected failure", "No registered core instances"))
    told = {"message": "no core instances registered!", "backtrace": []}
    assert world.call("POST", f"{BASE}/drivers/driver-probe/reload") == (500, told)
    assert world.call("GET", f"{BASE}/cluster") == (200, [])
    world.platform.restart("core-0")


def test_stale_placement(world: World) -> None:
    """A killed core is still placed: in etcd for the lease, in Redis until a live core prunes."""
    world.platform.kill("core-0")
    address = world.platform.services["core-0"].removeprefix("http://")
    told = _failure("unexpected failure", f"Error connecting to '{address}': Connection refused")
    assert world.call("POST", PING, []) == (500, told)
    assert world.call("GET", f"{BASE}/cluster") == (200, [])  # silently omitted
    if world.etcd is not None:
        gone = _failure("unexpected failure", "No registered core instances")
        wait_until(lambda: world.call("POST", PING, []) == (500, gone), 10, "lease expired")
    else:
        wait_until(lambda: not world.redis.execute("KEYS", "{service_core}.*"), 10, "key expired")
        assert world.call("POST", PING, []) == (500, told)


def test_core_frozen(platform: World) -> None:
    platform.platform.stop("core-0")
    status, body = platform.call("POST", PING, [])
    assert (status, body["error"]) == (500, "unexpected failure")
    assert body["message"].endswith("Read timed out")
    platform.platform.resume("core-0")


def test_core_refuses_and_says_why_in_its_log_only(worlds: Worlds) -> None:
    world = worlds.get("postgres-etcd")
    refused = (500, _failure("unexpected failure", "unexpected response code 500"))
    metadata = world.redis.execute("GET", "interface/mod-probe")
    for module, name, why in (
        ("mod-stopped", "Stopped", "it is stopped"),
        ("mod-nobody", "Nobody", "no matching database record"),
    ):
        world.redis.execute("HSET", "system/sys-probe", f"{name}/1", module)
        world.redis.execute("SET", f"interface/{module}", metadata)
        status, body = world.call("POST", f"{_PROBE}/{name}_1/ping", [])
        assert (status, body) == (refused[0], refused[1] | {"module_name": name})
        world.logged("core-0", f"Could not locate module {module}, {why}")
        world.redis.execute("DEL", f"interface/{module}")
    world.redis.execute("HDEL", "system/sys-probe", "Nobody/1")
    world.platform.break_compile("driver-probe")
    world.redis.execute("SET", "interface/mod-probe", metadata)
    assert world.call("POST", PING, []) == refused
    why = "it is running but not loaded. Check driver is compiled."
    world.logged("core-0", f"Could not locate module mod-probe, {why}")
    world.platform.break_compile("driver-probe", on=False)
    world.heal()


def test_driver_dies_meanwhile(platform: World) -> None:
    before = platform.driver()["launch_count"]
    told = _failure("unexpected failure", "unexpected response code 500")
    assert platform.call("POST", f"{_PROBE}/Probe_1/crash", []) == (500, told)
    wait_until(lambda: platform.driver()["launch_count"] > before, 10, "relaunched")
    assert platform.driver()["last_exit_code"] == 7
    platform.logged("core-0", "driver process exited with 7")


@pytest.mark.parametrize("frozen", [False, True])
def test_redis_down(platform: World, frozen: bool) -> None:
    """A failure without `error`: an exception that is not about executing."""
    platform.redis.freeze() if frozen else platform.redis.kill()
    status, body = platform.call("POST", PING, [])
    why = "Read timed out" if frozen else "Connection refused"
    told = f"Error connecting to '127.0.0.1:{platform.redis.port}': {why}"
    assert (status, body) == (500, {"message": told, "backtrace": []})
