"""Which addresses are the cluster's own, learnt from a real API server, and refused over real sockets."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import socket
import time
from collections.abc import AsyncIterator, Iterator
from ipaddress import ip_address
from pathlib import Path

import pytest

from backendhealth.core.observation import Finding
from backendhealth.core.reach import UNKNOWN_CLUSTER
from backendhealth.core.reasons import Reason
from backendhealth.kube import targets as targets_module
from backendhealth.kube.api import Api, connect
from backendhealth.kube.targets import Targets
from backendhealth.probes.dialer import AddrInfo, Dialer, Resolver
from tests.probes.support import attempt_once
from tests.servers import misbehaving
from tests.servers.http import HttpServer
from tests.servers.kubernetes import ControlPlane
from tests.servers.process import wait_until

OF_CLUSTER = "an address of a node or of the API server"
LOOPBACK = ("127.0.0.0/8", "::1")


def node(plane: ControlPlane, name: str, *addresses: str) -> None:
    """Create a node with these addresses; nothing runs on it."""
    created = {"apiVersion": "v1", "kind": "Node", "metadata": {"name": name}}
    plane.request("POST", "/api/v1/nodes", created)
    kinds = [("Hostname", name), *(("InternalIP", address) for address in addresses)]
    created["status"] = {"addresses": [{"type": kind, "address": address} for kind, address in kinds]}
    plane.request("PUT", f"/api/v1/nodes/{name}/status", created)


def endpoints_of_server(plane: ControlPlane, *addresses: str) -> None:
    """What the API server would publish of itself, were it not on loopback."""
    created = {
        "apiVersion": "discovery.k8s.io/v1",
        "kind": "EndpointSlice",
        "metadata": {"name": "kubernetes", "labels": {"kubernetes.io/service-name": "kubernetes"}},
        "addressType": "IPv4",
        "endpoints": [{"addresses": list(addresses)}],
        "ports": [{"port": 6443}],
    }
    plane.request("POST", "/apis/discovery.k8s.io/v1/namespaces/default/endpointslices", created)


@pytest.fixture
def nodes(control_plane: ControlPlane) -> Iterator[None]:
    """Two nodes, one with both kinds of addresses, and an API server's endpoints."""
    node(control_plane, "node-a", "10.9.0.1", "fd00:9::1")
    node(control_plane, "node-b", "10.9.0.2")
    endpoints_of_server(control_plane, "10.8.0.1")
    yield
    control_plane.kubectl("delete", "nodes", "--all")
    control_plane.kubectl("delete", "endpointslices", "kubernetes")


@pytest.fixture
async def stranger(control_plane: ControlPlane, namespace: str) -> AsyncIterator[Api]:
    """The API server as a ServiceAccount that may do nothing."""
    control_plane.kubectl("-n", namespace, "create", "serviceaccount", "nobody")
    async with await connect(str(control_plane.token_kubeconfig(namespace, "nobody")), None) as api:
        yield api


def refused(targets: Targets, *addresses: str) -> dict[str, str | None]:
    """What the guard says of each address."""
    return {address: targets.guard("db.test", ip_address(address)) for address in addresses}


# What is learnt


@pytest.mark.usefixtures("nodes")
async def test_nodes_and_api_servers_are_known_after_one_look(api: Api):
    targets = Targets(api, allow=(), deny=(), environ={"KUBERNETES_SERVICE_HOST": "10.96.0.1", "NODE_IP": "10.9.0.3"})
    own = ("10.9.0.1", "fd00:9::1", "10.9.0.2", "10.9.0.3", "10.8.0.1", "10.96.0.1", "::ffff:10.9.0.1")
    assert refused(targets, *own, "10.9.0.4") == dict.fromkeys((*own, "10.9.0.4"), UNKNOWN_CLUSTER)
    assert await targets.refresh()
    assert refused(targets, *own) == dict.fromkeys(own, OF_CLUSTER)
    assert refused(targets, "10.9.0.4") == {"10.9.0.4": None}


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost"])
async def test_the_api_server_that_we_talk_to_is_refused(control_plane: ControlPlane, tmp_path: Path, host: str):
    config = tmp_path / "config"
    config.write_text(control_plane.kubeconfig.read_text().replace("127.0.0.1", host))
    async with await connect(str(config), None) as api:
        targets = Targets(api, allow=("127.0.0.0/8",), deny=(), environ={})
        assert await targets.refresh()
        assert ip_address("127.0.0.1") in targets._reach._cluster  # type: ignore[operator]


async def test_a_node_that_comes_later_is_learnt(
    control_plane: ControlPlane, api: Api, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(targets_module, "REFRESH", 0.05)
    targets = Targets(api, allow=(), deny=(), environ={})
    running = asyncio.create_task(targets.run())
    try:
        await until_guard(targets, "10.9.0.7", None)
        node(control_plane, "node-late", "10.9.0.7")
        await until_guard(targets, "10.9.0.7", OF_CLUSTER)
        control_plane.kubectl("delete", "node", "node-late")
        await until_guard(targets, "10.9.0.7", None)
    finally:
        running.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await running


async def until_guard(targets: Targets, address: str, told: str | None) -> None:
    deadline = time.monotonic() + 20
    while targets.guard("db.test", ip_address(address)) != told:
        assert time.monotonic() < deadline
        await asyncio.sleep(0.02)


# What can't be learnt


@pytest.mark.usefixtures("nodes")
async def test_without_the_right_to_list_the_pods_own_node_is_kept_from(
    stranger: Api, caplog: pytest.LogCaptureFixture
):
    targets = Targets(
        stranger, allow=(), deny=(), environ={"NODE_IP": "10.9.0.2", "KUBERNETES_SERVICE_HOST": "10.96.0.1"}
    )
    with caplog.at_level(logging.DEBUG, "backendhealth"):
        for _ in range(3):
            assert await targets.refresh()
    own = ("10.9.0.2", "10.96.0.1")
    assert refused(targets, *own) == dict.fromkeys(own, OF_CLUSTER)
    assert refused(targets, "10.9.0.1") == {"10.9.0.1": None}
    told = [record.getMessage().partition(": ") for record in caplog.records]
    assert [(path.removeprefix("may not read "), rest) for path, _, rest in told] == [
        (targets_module._NODES, "of these addresses probes are kept from 10.9.0.2 (NODE_IP)"),
        (targets_module._SLICE, "of these addresses probes are kept from 10.96.0.1 (KUBERNETES_SERVICE_HOST)"),
    ]


@pytest.mark.usefixtures("nodes")
async def test_while_the_server_is_away_what_was_learnt_stays(control_plane: ControlPlane, api: Api):
    targets, late = (Targets(api, allow=("10.1.0.0/16",), deny=(), environ={}) for _ in range(2))
    assert await targets.refresh()
    control_plane.stop_api()
    try:
        assert await targets.refresh()
        assert refused(targets, "10.9.0.1") == {"10.9.0.1": OF_CLUSTER}
        assert not await late.refresh()
        assert refused(late, "10.2.0.1", "10.1.0.1") == {"10.2.0.1": UNKNOWN_CLUSTER, "10.1.0.1": None}
    finally:
        control_plane.start_api()
    assert await late.refresh()


async def test_a_setting_that_cannot_be_read_is_named(api: Api):
    with pytest.raises(ValueError, match=r"'10\.0\.0\.0/99' is neither"):
        Targets(api, allow=(), deny=("10.0.0.0/99",))


# Over real sockets


def resolving(address: str) -> Resolver:
    def resolve(host: str, port: int) -> list[AddrInfo]:
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (address, port))]

    return resolve


async def tcp(targets: Targets, host: str, port: int, resolver: Resolver | None = None) -> Finding:
    dialer = Dialer(guard=targets.guard, resolver=resolver) if resolver else Dialer(guard=targets.guard)
    return await attempt_once("tcp", {"host": host, "port": port}, dialer=dialer)


async def test_what_is_not_allowed_is_not_connected_to_by_whatever_way(api: Api):
    targets = Targets(api, allow=("127.0.0.1", "127.0.0.2"), deny=(), environ={})
    assert await targets.refresh()
    with misbehaving.silent(host="127.0.0.5") as forbidden:
        for host, resolver in (("127.0.0.5", None), ("::ffff:127.0.0.5", None), ("db.test", resolving("127.0.0.5"))):
            finding = await tcp(targets, host, forbidden.port, resolver)
            assert finding.reason is Reason.ADDRESS_REFUSED, finding.message
            assert not finding.contact
        with HttpServer() as server:
            server.on("/", 302, headers={"Location": f"http://127.0.0.5:{forbidden.port}/"})
            dialer = Dialer(guard=targets.guard)
            finding = await attempt_once("http", {"url": f"{server.url}/", "maxRedirects": 2}, dialer=dialer)
        assert finding.reason is Reason.ADDRESS_REFUSED
        assert "a loopback address" in finding.message
        assert forbidden.accepted == 0


async def test_before_the_first_answer_a_probe_can_tell_nothing(api: Api):
    finding = await tcp(Targets(api, allow=(), deny=(), environ={}), "192.0.2.1", 80)
    assert finding.reason is Reason.ADDRESS_REFUSED
    assert finding.message.endswith(f"not connected to 192.0.2.1 (192.0.2.1): {UNKNOWN_CLUSTER}")


async def test_the_setting_decides(api: Api):
    with misbehaving.silent() as server:
        outcomes = [
            await tcp(targets, "localhost", server.port)
            for targets in (
                Targets(api, allow=(), deny=(), environ={}),
                Targets(api, allow=LOOPBACK, deny=(), environ={}),
                Targets(api, allow=LOOPBACK, deny=("127.0.0.1", "::1"), environ={}),
                Targets(api, allow=LOOPBACK, deny=("local*",), environ={}),
            )
        ]
        wait_until(lambda: server.accepted == 1, 5, "the one connection accepted")
    refusal = Reason.ADDRESS_REFUSED
    assert [finding.reason for finding in outcomes] == [refusal, Reason.PROBE_SUCCEEDED, refusal, refusal]
    assert "its name is on the deny-list" in outcomes[3].message
