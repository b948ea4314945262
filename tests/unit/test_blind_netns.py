"""Blind on a real network: two namespaces of the test's own, a cable between them, and what happens when it is cut.

All addresses are inside these namespaces, which have no way out.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.cli.support import environment, resource
from tests.servers.netns import ip, missing, namespace
from tests.servers.process import Process, wait_until

HOSTS = {"a": "10.77.0.2", "b": "10.77.0.3", "c": "10.77.0.4"}
PORT = 6379
_LINE = re.compile(r"  default/demo  (\w+)  (?:\w+ -> )?(\w+)  (\w+):")


@dataclass(frozen=True)
class Network:
    """The client's and the servers' namespace, joined by the interfaces `near` and `far`."""

    client: str
    servers: str

    def cut(self) -> None:
        ip("-n", self.servers, "link", "set", "far", "down")

    def mend(self) -> None:
        ip("-n", self.servers, "link", "set", "far", "up")

    def take(self, name: str) -> None:
        """The host vanishes: nobody has its address any more."""
        ip("-n", self.servers, "address", "del", f"{HOSTS[name]}/24", "dev", "far")

    def give_back(self, name: str) -> None:
        ip("-n", self.servers, "address", "add", f"{HOSTS[name]}/24", "dev", "far")


@pytest.fixture
def network() -> Iterator[Network]:
    if told := missing("redis-server"):
        pytest.skip(told)
    with namespace("near") as client, namespace("far") as servers:
        network = Network(client, servers)
        ip("-n", network.client, "link", "add", "near", "type", "veth", "peer", "name", "far", "netns", network.servers)
        ip("-n", network.client, "address", "add", "10.77.0.1/24", "dev", "near")
        for host in HOSTS.values():
            ip("-n", network.servers, "address", "add", f"{host}/24", "dev", "far")
        ip("-n", network.client, "link", "set", "near", "up")
        network.mend()
        yield network


@pytest.fixture
def redis(network: Network) -> Iterator[Process]:
    """One real server that answers on all three addresses."""
    options = ["--port", str(PORT), "--bind", "0.0.0.0", "--protected-mode", "no", "--save", ""]
    argv = ["ip", "netns", "exec", network.servers, "redis-server", *options]
    server = Process("redis", argv, ready=lambda: "Ready to accept connections" in server.log())
    try:
        yield server.start()
    finally:
        server.close()


class Watching:
    """`backendhealth check --watch` in the client's namespace."""

    def __init__(self, process: Process) -> None:
        self.process = process
        self.begin = 0

    def changes(self) -> list[tuple[str, str, str]]:
        """Component, verdict and reason of each change that was printed since `mark`."""
        return _LINE.findall(self.process.log(tail=1_000_000))[self.begin :]

    def mark(self) -> None:
        self.begin += len(self.changes())

    def now(self) -> dict[str, tuple[str, str]]:
        """Verdict and reason of each component."""
        found = _LINE.findall(self.process.log(tail=1_000_000))
        return {component: (verdict, reason) for component, verdict, reason in found}

    def wait(self, condition: Callable[[dict[str, tuple[str, str]]], bool], what: str) -> None:
        try:
            wait_until(lambda: condition(self.now()), 40, what)
        except TimeoutError as error:
            raise AssertionError(f"{error}\n{self.process.log()}") from error
        assert self.process.running


@pytest.fixture
def watching(network: Network, redis: Process, tmp_path: Path) -> Iterator[Watching]:
    probes = [{"name": name, "redis": {"url": f"redis://{host}:{PORT}"}} for name, host in HOSTS.items()]
    spec = resource(
        *probes, retryInterval="200ms", failureThreshold=2, successThreshold=1, flapDetection={"changes": 20}
    )
    (tmp_path / "demo.yaml").write_text(spec)
    argv = ["ip", "netns", "exec", network.client, sys.executable, "-m", "backendhealth"]
    argv += ["check", "-f", str(tmp_path / "demo.yaml"), "--watch"]
    process = Process("watch", argv, env=environment(), ready=lambda: True)
    try:
        watching = Watching(process.start())
        watching.wait(all_are("Healthy", "ProbeSucceeded"), "all healthy")
        watching.mark()
        yield watching
    finally:
        process.close()


def all_are(verdict: str, reason: str) -> Callable[[dict[str, tuple[str, str]]], bool]:
    return lambda now: now == dict.fromkeys(HOSTS, (verdict, reason))


def test_a_cut_cable_is_blind_and_nobody_is_accused(network: Network, watching: Watching):
    network.cut()
    watching.wait(all_are("Unknown", "Blind"), "all blind")
    network.mend()
    watching.wait(all_are("Healthy", "ProbeSucceeded"), "all healthy again")
    assert {verdict for _, verdict, _ in watching.changes()} == {"Unknown", "Healthy"}


def test_one_host_that_vanishes_is_unhealthy_and_the_others_stay_healthy(network: Network, watching: Watching):
    network.take("b")
    watching.wait(lambda now: now["b"][0] == "Unhealthy", "b unhealthy")
    assert watching.now()["b"][1] in ("Timeout", "HostUnreachable")
    network.give_back("b")
    watching.wait(all_are("Healthy", "ProbeSucceeded"), "all healthy again")
    assert {component for component, _, _ in watching.changes()} == {"b"}


def test_one_that_was_refused_is_blind_too_when_the_cable_is_cut(network: Network, redis: Process, watching: Watching):
    redis.kill()
    watching.wait(all_are("Unhealthy", "ConnectionRefused"), "all refused")
    network.cut()
    watching.wait(all_are("Unknown", "Blind"), "all blind")
    network.mend()
    watching.wait(all_are("Unhealthy", "ConnectionRefused"), "all refused again")
    redis.start()
    watching.wait(all_are("Healthy", "ProbeSucceeded"), "all healthy again")
