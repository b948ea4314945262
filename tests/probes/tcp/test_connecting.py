"""Reaching a port: what can go wrong before a byte is exchanged."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import threading
import time

import pytest

from backendhealth.core.observation import Finding
from backendhealth.core.reasons import Reason
from backendhealth.core.verdict import Verdict
from backendhealth.probes.dialer import AddrInfo, Dialer
from backendhealth.probes.exchange import run_attempt
from tests.probes.checks import eventually, fails_with, nothing_left, resolves_to
from tests.probes.support import attempt_once, exchange_for
from tests.servers import misbehaving
from tests.servers.process import free_port


async def connect(host: str, port: int, *, dialer: Dialer | None = None, timeout: float = 3) -> Finding:
    return await attempt_once("tcp", {"host": host, "port": port}, dialer=dialer, timeout=timeout)


async def test_an_accepted_connection_is_healthy_and_is_closed_again() -> None:
    with misbehaving.silent() as server:
        finding = await connect("127.0.0.1", server.port)
        await eventually(lambda: server.accepted == 1 and server.connections == 0, "the probe closed its end")
    assert finding.reason is Reason.PROBE_SUCCEEDED
    assert finding.message == f"127.0.0.1:{server.port} accepts connections"
    assert [subject.subject for subject in finding.subjects] == [f"endpoint/127.0.0.1:{server.port}"]
    assert finding.steps.keys() >= {"resolve", "connect"}
    assert finding.contact


async def test_ipv6() -> None:
    with misbehaving.silent(host="::1") as server:
        finding = await connect("::1", server.port)
    assert finding.reason is Reason.PROBE_SUCCEEDED
    assert finding.subjects[0].subject == f"endpoint/[::1]:{server.port}"


async def test_refused() -> None:
    port = free_port()
    finding = await connect("127.0.0.1", port)
    assert finding.reason is Reason.CONNECTION_REFUSED
    assert finding.message == f"connection refused by 127.0.0.1:{port}"
    assert finding.contact
    assert finding.subjects[0].reason is Reason.CONNECTION_REFUSED


async def test_packets_that_vanish_are_a_timeout_in_connect() -> None:
    with misbehaving.unreachable() as port:
        finding = await connect("127.0.0.1", port, timeout=0.3)
    assert finding.reason is Reason.TIMEOUT
    assert finding.message == f"127.0.0.1:{port}: no answer within 0.3 s: it hung in step connect"
    assert not finding.contact


async def test_a_name_that_does_not_exist() -> None:
    finding = await connect("nowhere.test", 80, dialer=Dialer(resolver=fails_with(socket.EAI_NONAME)))
    assert finding.reason is Reason.DNS_NAME_NOT_FOUND
    assert finding.message == "the name nowhere.test does not exist"
    assert finding.contact


async def test_a_resolver_that_fails_for_now_is_our_own_fault() -> None:
    finding = await connect("backend.test", 80, dialer=Dialer(resolver=fails_with(socket.EAI_AGAIN)))
    assert finding.reason is Reason.RESOLVER_UNAVAILABLE
    assert "backend.test could not be looked up" in finding.message
    assert finding.verdict is Verdict.UNKNOWN


async def test_a_resolver_that_hangs_is_our_own_fault() -> None:
    hanging = threading.Event()

    def resolve(_host: str, _port: int) -> list[AddrInfo]:
        hanging.wait(10)
        return []

    try:
        finding = await connect("backend.test", 80, dialer=Dialer(resolver=resolve), timeout=0.2)
    finally:
        hanging.set()
    assert finding.reason is Reason.RESOLVER_UNAVAILABLE
    assert "the resolver did not answer within 0.2 s" in finding.message
    assert not finding.contact


async def test_an_address_that_must_not_be_connected_to() -> None:
    with misbehaving.silent() as server:
        guarded = Dialer(
            resolver=resolves_to(("127.0.0.1", server.port)),
            guard=lambda _, address: "loopback" if address and address.is_loopback else None,
        )
        by_name = await connect("backend.test", server.port, dialer=guarded)
        by_address = await connect("127.0.0.1", server.port, dialer=guarded)
        assert server.accepted == 0
    for finding in (by_name, by_address):
        assert finding.reason is Reason.ADDRESS_REFUSED
        assert "not connected to 127.0.0.1" in finding.message
        assert finding.message.endswith("loopback")


@pytest.mark.parametrize("dead", ["127.0.0.9", "::1"], ids=["refused", "refused over IPv6"])
async def test_two_addresses_of_which_one_refuses(dead: str) -> None:
    with misbehaving.silent() as server:
        dialer = Dialer(resolver=resolves_to((dead, free_port(dead)), ("127.0.0.1", server.port)))
        finding = await connect("backend.test", server.port, dialer=dialer)
    assert finding.reason is Reason.PROBE_SUCCEEDED


async def test_two_addresses_of_which_one_swallows_packets() -> None:
    with misbehaving.unreachable("127.0.0.3") as dead, misbehaving.silent() as server:
        dialer = Dialer(resolver=resolves_to(("127.0.0.3", dead), ("127.0.0.1", server.port)))
        began = time.monotonic()
        finding = await connect("backend.test", server.port, dialer=dialer)
        assert time.monotonic() - began < 2, "the second address is tried beside the first"
    assert finding.reason is Reason.PROBE_SUCCEEDED


async def test_two_addresses_that_are_both_dead() -> None:
    dialer = Dialer(resolver=resolves_to(("127.0.0.9", free_port("127.0.0.9")), ("::1", free_port("::1"))))
    finding = await connect("backend.test", 80, dialer=dialer)
    assert finding.reason is Reason.CONNECTION_REFUSED
    assert finding.message == "connection refused by backend.test:80"


async def test_nothing_is_left_of_200_cancelled_attempts() -> None:
    with misbehaving.silent() as server:
        target = {"host": "127.0.0.1", "port": server.port, "expect": "never"}
        async with nothing_left():
            exchanges = [exchange_for("tcp", target) for _ in range(200)]
            attempts = [asyncio.create_task(run_attempt(exchange, 30)) for exchange in exchanges]
            await eventually(lambda: server.connections == 200, "all are connected", timeout=20)
            for attempt in attempts:
                attempt.cancel()
            for attempt in attempts:
                with contextlib.suppress(asyncio.CancelledError):
                    await attempt
            await eventually(lambda: server.connections == 0, "all are closed")
