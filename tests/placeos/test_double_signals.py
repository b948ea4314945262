"""SIGUSR1: what it toggles, and the lines that say so."""

from __future__ import annotations

import functools
import os
import signal

import pytest

from tests.placeos.support import World, Worlds
from tests.placeos.test_double_drivers import _driver_pids
from tests.servers.process import wait_until

_DEFAULT = "default log level changed to {}"
_REST = "action-controller.*, place_os.* log level changed to {}"


def _written(world: World, service: str, text: str, count: int) -> bool:
    return world.platform.log(service).count(text) == count


def _toggle(world: World, service: str, level: str, count: int) -> None:
    """Send the signal; its lines come, in this number so far."""
    world.platform.usr1(service)
    for line in (_DEFAULT, _REST):
        text = line.format(level)
        wait_until(functools.partial(_written, world, service, text, count), 10, text)


@pytest.mark.parametrize("service", ["api", "core-0", "triggers", "staff", "search-ingest"])
def test_toggles(platform: World, service: str) -> None:
    seen = platform.platform.log(service).count(_DEFAULT.format("Trace"))
    _toggle(platform, service, "Trace", seen + 1)
    _toggle(platform, service, "Info", seen + 1)
    file = platform.platform.processes[service].directory / "service.log"
    assert _REST.format("Trace") in file.read_text()


def test_trace_says_more(platform: World) -> None:
    platform.call("GET", "/api/engine/v2/version")
    assert "GET /api/engine/v2/version" not in platform.platform.log("api")
    _toggle(platform, "api", "Trace", platform.platform.log("api").count(_DEFAULT.format("Trace")) + 1)
    platform.call("GET", "/api/engine/v2/version")
    platform.logged("api", "GET /api/engine/v2/version")
    _toggle(platform, "api", "Info", platform.platform.log("api").count(_DEFAULT.format("Info")) + 1)


def test_outside_production_toggling_off_restores_debug(worlds: Worlds) -> None:
    with worlds.fresh("postgres-etcd", services=("staff",), env={"SG_ENV": "development"}) as world:
        _toggle(world, "staff", "Trace", 1)
        _toggle(world, "staff", "Debug", 1)


def test_drivers_trap_it(platform: World) -> None:
    for pid in _driver_pids(platform):
        os.kill(pid, signal.SIGUSR1)
    for key in ("drivers_probe_1a2b3c", "drivers_display_4d5e6f"):
        platform.logged("core-0", f"[{key}] {_DEFAULT.format('Trace')}")
        platform.logged("core-0", f"[{key}] {_REST.format('Trace')}")
