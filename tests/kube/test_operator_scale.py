"""Many resources: created, changed, deleted, and the memory is back near where it was."""

from __future__ import annotations

import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from tests.kube.operator import Operator, Resources, tcp
from tests.servers.kubernetes import ControlPlane
from tests.servers.misbehaving import Server, silent
from tests.servers.process import wait_until


@pytest.fixture
def target() -> Iterator[Server]:
    with silent() as server:
        yield server


def resident(operator: Operator) -> int:
    """Memory in KiB."""
    lines = Path(f"/proc/{operator.pid}/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("VmRSS"))


@pytest.mark.parametrize("count", [100, pytest.param(1000, marks=pytest.mark.long)])
@pytest.mark.timeout(900)
def test_created_changed_deleted(control_plane: ControlPlane, resources: Resources, target: Server, count: int):
    names = [f"many-{number}" for number in range(count)]
    patience = 20 + count / 5

    def create(name: str) -> None:
        resources.apply(name, *(tcp(target, probe) for probe in ("a", "b", "c")), interval="10s", timeout="5s")

    def change(name: str) -> None:
        resources.apply(name, *(tcp(target, probe) for probe in ("a", "b", "d")), interval="10s", timeout="5s")

    with Operator(control_plane, resources.namespace) as operator, ThreadPoolExecutor(8) as pool:
        empty = resident(operator)
        began = time.monotonic()
        list(pool.map(create, names))
        wait_until(lambda: operator.metric("backendhealth_state", state="Healthy") == count, patience, "all healthy")
        settled = time.monotonic() - began
        full = resident(operator)
        list(pool.map(change, names))
        wait_until(lambda: changed(control_plane, resources) == count, patience, "all changed")
        writes = operator.metric("backendhealth_api_requests_total", method="PUT", resource="backendhealths/status")
        list(pool.map(resources.delete, names))
        wait_until(lambda: operator.metric("backendhealth_state") == 0, patience, "all forgotten")
        wait_until(lambda: target.connections == 0, 10, "all connections closed")
        after = resident(operator)
        print(
            f"{count} resources: settled in {settled:.1f} s; {empty} KiB empty, {full} full, {after} after; "
            f"{writes:.0f} writes"
        )
        assert after < empty + 0.5 * (full - empty) + 30_000
        assert operator.get("/healthz")[0] == 200
        assert "Traceback" not in operator.log(1_000_000)


def changed(control_plane: ControlPlane, resources: Resources) -> int:
    """How many have told of the new probe that it is healthy."""
    path = f"/apis/backendhealth.dev/v1alpha1/namespaces/{resources.namespace}/backendhealths"
    items = control_plane.request("GET", path)["items"]
    rows = ((row["name"], row["verdict"]) for item in items for row in item["status"].get("probes", ()))
    return sum(row == ("d", "Healthy") for row in rows)
