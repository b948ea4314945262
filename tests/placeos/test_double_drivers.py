"""Drivers: crashes, compile failures, silence, and the gentle remedies."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import pytest

from tests.placeos.support import BASE, PING, World, Worlds
from tests.servers.process import wait_until

_KEY = "drivers_probe_1a2b3c"
_DISPLAY = f"{BASE}/systems/sys-other/Display_1/ping"


def _driver_pids(world: World) -> list[int]:
    pid = world.platform.pid("core-0")
    found: list[int] = []
    for task in Path(f"/proc/{pid}/task").iterdir():
        found += [int(one) for one in (task / "children").read_text().split()]
    return found


def test_crash_loop(platform: World) -> None:
    before = platform.driver()["launch_count"]
    other = platform.driver(driver="driver-display")["launch_count"]
    platform.platform.crash_driver()
    wait_until(lambda: platform.driver()["launch_count"] > before + 3, 10, "relaunched again and again")
    assert platform.driver()["last_exit_code"] in (11, -signal.SIGKILL)
    wait_until(lambda: platform.driver()["last_exit_code"] == 11, 10, "crashed by itself")
    status, body = platform.call("POST", PING, [])
    assert (status, body["message"][:24]) in ((500, "unexpected response code"), (404, "could not find module"))
    assert platform.call("POST", _DISPLAY, []) == (200, "pong")
    assert platform.driver(driver="driver-display")["launch_count"] == other
    platform.logged("core-0", f"error launching driver: {_KEY}")
    platform.logged("core-0", "driver process exited with 11")
    platform.platform.crash_driver(on=False)
    wait_until(lambda: platform.driver()["running"], 10, "running again")


def test_crash_of_some_launches(platform: World) -> None:
    before = platform.driver()["launch_count"]
    platform.platform.crash_driver(launches=2)
    wait_until(lambda: platform.driver()["launch_count"] == before + 3, 10, "two crashes")
    wait_until(platform.works, 10, "the third launch holds")
    assert platform.driver()["launch_count"] == before + 3


def test_compile_failure(world: World) -> None:
    compiled = f"{BASE}/drivers/driver-probe/compiled"
    assert world.call("GET", compiled) == (200, None)
    world.platform.break_compile(output="In drivers/probe.cr:3: undefined method 'pong'")
    try:
        told = {"compilation_output": "In drivers/probe.cr:3: undefined method 'pong'"}
        assert world.call("GET", compiled) == (503, told)
        status = world.call("GET", f"{BASE}/cluster?include_status=true")[1][0]["status"]
        assert status["unavailable_drivers"] == [{"name": _KEY, "reason": told["compilation_output"]}]
        assert status["compiled_drivers"] == ["drivers_display_4d5e6f"]
        assert world.call("POST", PING, [])[0] in (404, 500)
        assert world.call("POST", _DISPLAY, []) == (200, "pong")
        assert world.call("POST", f"{BASE}/drivers/driver-probe/reload")[0] == 422
        world.logged("core-0", "failed to compile driver")
        world.platform.restart("core-0")
        assert world.call("GET", compiled) == (503, told)
    finally:
        world.platform.break_compile(on=False)
    assert world.call("POST", f"{BASE}/drivers/driver-probe/recompile")[0] == 200
    assert world.call("GET", compiled) == (200, None)


def test_an_unreachable_core_reads_as_not_compiled(platform: World) -> None:
    platform.platform.kill("core-0")
    compiled = f"{BASE}/drivers/driver-probe/compiled"
    assert platform.call("GET", compiled) == (404, {"error": "Driver not compiled yet"})


def test_remedies(platform: World) -> None:
    core = platform.nodes()[0]
    before = platform.driver()["launch_count"]
    assert platform.call("DELETE", f"{BASE}/cluster/{core}?driver={_KEY}") == (202, None)
    wait_until(lambda: platform.driver()["launch_count"] == before + 1, 10, "relaunched")
    wait_until(platform.works, 10, "works")
    assert platform.core(f"/chaos/terminate?path={_KEY}", method="POST")[0] == 200
    wait_until(lambda: platform.driver()["launch_count"] == before + 2, 10, "relaunched")
    wait_until(platform.works, 10, "works")
    assert platform.call("POST", f"{BASE}/drivers/driver-probe/reload")[0] == 200
    assert platform.call("POST", f"{BASE}/modules/mod-probe/load")[0] == 200
    assert platform.call("DELETE", f"{BASE}/cluster/01NOBODY?driver={_KEY}")[0] == 404


def test_reload_where_some_cores_fail(worlds: Worlds) -> None:
    with worlds.fresh("postgres-etcd", services=("api", "core"), cores=2) as world:
        wait_until(lambda: len(world.nodes()) == 2, 10, "both are there")
        world.platform.stop("core-1")
        assert world.call("POST", f"{BASE}/drivers/driver-probe/reload")[0] == 417
        world.platform.resume("core-1")


def test_drivers_relaunch_together_without_redis(platform: World) -> None:
    """The confounder: two failed pings end each driver, again and again."""
    names = ("driver-probe", "driver-display")
    before = [platform.driver(driver=name)["launch_count"] for name in names]
    platform.redis.kill()

    def relaunched() -> bool:
        now = [platform.driver(driver=name)["launch_count"] for name in names]
        return all(after > count for after, count in zip(now, before, strict=True))

    wait_until(relaunched, 10, "both relaunched")
    assert platform.driver()["last_exit_code"] == 1
    platform.logged("core-0", "redis ping failed")


@pytest.mark.parametrize("liveness", ["60", "0.3"])
def test_silent_driver(worlds: Worlds, liveness: str) -> None:
    """`loaded` says that the query failed; the liveness check, when it comes, restarts the driver."""
    env = {"DOUBLE_LIVENESS_INTERVAL": liveness, "DOUBLE_QUERY_TIMEOUT": "0.5"}
    with worlds.fresh("postgres-etcd", services=("core",), env=env) as world:
        pids = _driver_pids(world)
        assert len(pids) == 2
        for pid in pids:
            os.kill(pid, signal.SIGSTOP)
        try:
            if liveness == "60":
                failed = ["query failed: timeout"]
                assert world.core("/status/loaded")[1]["local"] == {_KEY: failed, "drivers_display_4d5e6f": failed}
            else:
                world.logged("core-0", f"[liveness] restarting unresponsive driver {_KEY}")
                wait_until(lambda: world.driver()["launch_count"] == 2 and world.driver()["running"], 10, "restarted")
        finally:
            for pid in set(pids) & set(_driver_pids(world)):
                os.kill(pid, signal.SIGCONT)


def test_drivers_end_with_core(platform: World) -> None:
    pids = _driver_pids(platform)
    assert len(pids) == 2
    platform.platform.kill("core-0")
    wait_until(lambda: not any(Path(f"/proc/{pid}/exe").exists() for pid in pids), 10, "drivers ended")
