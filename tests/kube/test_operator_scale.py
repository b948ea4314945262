"""Many resources: created, changed, deleted, and the memory is back near where it was."""

from __future__ import annotations

import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from tests.kube.operator import Operator, Resources, tcp
from tests.servers.kubernetes import ControlPlane
from tests.servers.misbehaving import Server
from tests.servers.process import wait_until


def resident(operator: Operator) -> int:
    """Memory in KiB."""
    lines = Path(f"/proc/{operator.pid}/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("VmRSS"))


@pytest.mark.parametrize("count", [100, pytest.param(1000, marks=pytest.mark.long)])
@pytest.mark.timeout(900)
def test_created_changed_deleted(control_plane: ControlPlane, resources: Resources, target: Server, count: int):
    """Twice: what the interpreter keeps of the first wave's memory it uses for the second, unless something leaks."""
    with Operator(control_plane, resources.namespace) as operator:
        empty = resident(operator)
        first = wave(operator, resources, target, [f"first-{number}" for number in range(count)])
        second = wave(operator, resources, target, [f"second-{number}" for number in range(count)])
        writes = operator.metric("backendhealth_api_requests_total", method="PUT", resource="backendhealths/status")
        print(f"{count} resources, twice: KiB {empty} empty, {first} and {second} after; {writes:.0f} status writes")
        assert second < first + 0.15 * (first - empty) + 4_000
        assert writes <= 2 * count * 6
        assert operator.get("/healthz")[0] == 200
        assert "Traceback" not in operator.log(10_000_000)


def wave(operator: Operator, resources: Resources, target: Server, names: list[str]) -> int:
    """Create, change and delete them all; the memory in use afterwards, in KiB."""
    patience = 20 + len(names) / 5

    def apply(name: str, *probes: str) -> None:
        resources.apply(name, *(tcp(target, probe) for probe in probes), interval="10s", timeout="5s")

    with ThreadPoolExecutor(8) as pool:
        began = time.monotonic()
        list(pool.map(lambda name: apply(name, "a", "b", "c"), names))
        wait_until(lambda: operator.metric("backendhealth_state", state="Healthy") == len(names), patience, "all seen")
        print(f"settled in {time.monotonic() - began:.1f} s, with {resident(operator)} KiB")
        list(pool.map(lambda name: apply(name, "a", "b", "d"), names))
        wait_until(lambda: changed(resources) == len(names), patience, "all changed")
        list(pool.map(resources.delete, names))
    wait_until(lambda: operator.metric("backendhealth_state") == 0, patience, "all forgotten")
    wait_until(lambda: target.connections == 0, 10, "all connections closed")
    return resident(operator)


def changed(resources: Resources) -> int:
    """How many have told of the new probe that it is healthy."""
    path = f"/apis/backendhealth.dev/v1alpha1/namespaces/{resources.namespace}/backendhealths"
    items = resources.plane.request("GET", path)["items"]
    rows = ((row["name"], row["verdict"]) for item in items for row in item["status"].get("probes", ()))
    return sum(row == ("d", "Healthy") for row in rows)
