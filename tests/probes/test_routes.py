"""Networks without a way and hosts that are not there, in a namespace of the test's own that has no way out."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.cli.support import command, environment, resource
from tests.servers.netns import ip, missing, namespace


@pytest.fixture(scope="module")
def island() -> Iterator[str]:
    """A namespace with one interface, 10.77.0.1/24, and nobody else on it."""
    if told := missing():
        pytest.skip(told)
    with namespace("island") as name:
        ip("-n", name, "link", "add", "near", "type", "veth", "peer", "name", "far")
        ip("-n", name, "address", "add", "10.77.0.1/24", "dev", "near")
        for interface in ("lo", "near", "far"):
            ip("-n", name, "link", "set", interface, "up")
        yield name


def probe_row(island: str, folder: Path, host: str) -> dict[str, str]:
    path = folder / "r.yaml"
    path.write_text(resource({"name": "x", "tcp": {"host": host, "port": 6379}}, timeout="8s", interval="10s"))
    done = subprocess.run(
        ["ip", "netns", "exec", island, *command("check", "-f", path, "-o", "json")],
        capture_output=True,
        text=True,
        env=environment(),
        timeout=60,
        check=False,
    )
    assert not done.stderr
    row: dict[str, str] = json.loads(done.stdout)["status"]["probes"][0]
    return row


def test_without_a_route_it_is_our_own_network(island: str, tmp_path: Path):
    row = probe_row(island, tmp_path, "10.99.0.1")
    assert (row["verdict"], row["reason"]) == ("Unknown", "NetworkUnreachable")
    assert "no route from here to that network: 10.99.0.1:6379" in row["message"]


def test_a_host_that_is_not_there(island: str, tmp_path: Path):
    row = probe_row(island, tmp_path, "10.77.0.9")
    assert (row["verdict"], row["reason"]) == ("Unhealthy", "HostUnreachable")
    assert "no route to the host: 10.77.0.9:6379" in row["message"]


def test_a_route_that_says_unreachable(island: str, tmp_path: Path):
    ip("-n", island, "route", "add", "unreachable", "10.98.0.0/24")
    assert probe_row(island, tmp_path, "10.98.0.1")["reason"] == "HostUnreachable"
