"""Connections: found, kept, lost, found again, and none left over."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import socket
import threading
import time

import pytest

from backendhealth.core.hostlist import Address
from backendhealth.core.reasons import Reason
from backendhealth.core.verdict import Verdict
from backendhealth.probes.dialer import AddrInfo, Dialer
from backendhealth.probes.exchange import run_attempt
from tests.probes.checks import eventually, fails_with, resolves_to
from tests.probes.etcd.helpers import connections_to, exchange
from tests.probes.support import PLANTED, MemorySecrets, attempt_once, exchange_for, planted
from tests.servers import misbehaving
from tests.servers.etcd import Cluster, Member
from tests.servers.process import free_port


async def test_a_name_with_a_dead_address_before_the_good_one(healthy: Member) -> None:
    dialer = Dialer(resolver=resolves_to(("127.0.0.77", healthy.port), ("127.0.0.1", healthy.port)))
    async with exchange(f"http://etcd.example:{healthy.port}", dialer=dialer) as kept:
        assert (await run_attempt(kept, 5)).reason is Reason.PROBE_SUCCEEDED
        assert connections_to(healthy.port) == 1


async def test_a_name_that_does_not_exist() -> None:
    asked: list[tuple[str, int]] = []

    def resolver(host: str, port: int) -> list[AddrInfo]:
        asked.append((host, port))
        raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")

    finding = await attempt_once("etcd", {"endpoints": ["http://etcd.example"]}, dialer=Dialer(resolver=resolver))
    assert asked == [("etcd.example", 2379)]
    assert finding.reason is Reason.DNS_NAME_NOT_FOUND
    assert "the name etcd.example does not exist" in finding.message


async def test_a_resolver_that_does_not_answer_is_our_own_failure(healthy: Member) -> None:
    dialer = Dialer(resolver=fails_with(socket.EAI_AGAIN))
    finding = await attempt_once("etcd", {"endpoints": ["http://etcd.example", healthy.url]}, dialer=dialer)
    assert finding.reason is Reason.RESOLVER_UNAVAILABLE
    assert finding.verdict is Verdict.UNKNOWN
    assert "etcd.example" in finding.message


async def test_grpc_connects_only_where_the_guard_consented(healthy: Member) -> None:
    def guard(_: str, address: Address | None) -> str | None:
        return "loopback" if address and address.is_loopback else None

    finding = await attempt_once("etcd", {"endpoints": [healthy.url]}, dialer=Dialer(guard=guard))
    assert finding.reason is Reason.ADDRESS_REFUSED
    assert "loopback" in finding.message


async def test_a_proxy_in_the_environment_is_ignored(healthy: Member, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("http_proxy", "https_proxy", "grpc_proxy", "HTTP_PROXY", "HTTPS_PROXY"):
        monkeypatch.setenv(name, f"http://127.0.0.1:{free_port()}")
    assert (await attempt_once("etcd", {"endpoints": [healthy.url]})).reason is Reason.PROBE_SUCCEEDED


async def test_recovers_at_once_on_a_kept_exchange(member: Member) -> None:
    async with exchange(member.url) as kept:
        assert (await run_attempt(kept, 5)).reason is Reason.PROBE_SUCCEEDED
        member.process.kill()
        for _ in range(3):
            down = await run_attempt(kept, 5)
            assert down.reason is Reason.CONNECTION_REFUSED
            assert f"connection refused by {member.address}" in down.message
        member.restart()
        began = time.monotonic()
        assert (await run_attempt(kept, 5)).reason is Reason.PROBE_SUCCEEDED
        assert time.monotonic() - began < 1


async def test_restarted_between_two_attempts(member: Member) -> None:
    """A connection that the server closed while it was idle is replaced, and nothing is reported."""
    async with exchange(member.url) as kept:
        assert (await run_attempt(kept, 5)).reason is Reason.PROBE_SUCCEEDED
        member.process.kill()
        member.restart()
        finding = await run_attempt(kept, 5)
    assert finding.reason is Reason.PROBE_SUCCEEDED
    assert "connect" in finding.steps


async def test_killed_in_the_middle_of_an_attempt(member: Member) -> None:
    async with exchange(member.url) as kept:
        assert (await run_attempt(kept, 5)).reason is Reason.PROBE_SUCCEEDED
        member.process.freeze()
        attempt = asyncio.create_task(run_attempt(kept, 30))
        await asyncio.wait((attempt,), timeout=0.2)  # it is waiting for the status now
        member.process.kill()
        finding = await attempt
    assert finding.reason is Reason.CONNECTION_REFUSED
    assert f"connection refused by {member.address}" in finding.message


async def test_a_kept_connection_that_breaks_while_new_ones_are_accepted(member: Member) -> None:
    with misbehaving.Server(_relay_to(member.port)) as relay:
        async with exchange(f"http://127.0.0.1:{relay.port}") as kept:
            assert (await run_attempt(kept, 5)).reason is Reason.PROBE_SUCCEEDED
            member.process.freeze()
            attempt = asyncio.create_task(run_attempt(kept, 30))
            await asyncio.wait((attempt,), timeout=0.2)
            with relay._lock:
                broken = list(relay._open)
            for connection in broken:
                connection.shutdown(socket.SHUT_RDWR)
            await asyncio.wait((attempt,), timeout=0.1)
            member.process.resume()
            finding = await attempt
    assert finding.reason is Reason.CONNECTION_RESET
    assert "the connection broke in the middle of the exchange; a new one is accepted" in finding.message


def _relay_to(port: int) -> misbehaving.Handler:
    """Passes bytes on to `port` and back."""

    def handle(server: misbehaving.Server, client: socket.socket) -> None:
        with socket.create_connection(("127.0.0.1", port)) as upstream:

            def back() -> None:
                with contextlib.suppress(OSError):  # the client is gone: that is what the tests are about
                    while data := upstream.recv(65536):
                        client.sendall(data)

            thread = threading.Thread(target=back, daemon=True)
            thread.start()
            while data := client.recv(65536):
                upstream.sendall(data)
            upstream.shutdown(socket.SHUT_RDWR)
            thread.join(5)

    return handle


async def test_nothing_is_left_after_close(trio: Cluster) -> None:
    ports = [member.port for member in trio.members]
    before = asyncio.all_tasks()
    kept = exchange_for("etcd", {"endpoints": trio.urls})
    assert (await run_attempt(kept, 5)).reason is Reason.PROBE_SUCCEEDED
    assert connections_to(*ports) == 3
    await kept.close()
    await eventually(lambda: connections_to(*ports) == 0, "the sockets closed", 2)
    assert asyncio.all_tasks() == before
    await kept.close()
    assert (await run_attempt(kept, 5)).reason is Reason.PROBE_SUCCEEDED
    await kept.close()
    await eventually(lambda: connections_to(*ports) == 0, "the sockets closed again", 2)


async def test_close_does_not_wait_for_a_frozen_server(member: Member) -> None:
    kept = exchange_for("etcd", {"endpoints": [member.url]})
    assert (await run_attempt(kept, 5)).reason is Reason.PROBE_SUCCEEDED
    with member.process.frozen():
        async with asyncio.timeout(1):
            await kept.close()
        await eventually(lambda: connections_to(member.port) == 0, "the socket closed", 2)


async def test_nothing_is_left_after_a_timeout(member: Member) -> None:
    kept = exchange_for("etcd", {"endpoints": [member.url]})
    assert (await run_attempt(kept, 5)).reason is Reason.PROBE_SUCCEEDED
    with member.process.frozen():
        finding = await run_attempt(kept, 0.5)
        assert finding.reason is Reason.TIMEOUT
        assert "it hung in step status" in finding.message
        await eventually(lambda: connections_to(member.port) == 0, "the socket closed", 2)


async def test_nothing_is_left_after_200_cancelled_first_attempts() -> None:
    before = asyncio.all_tasks()
    with misbehaving.silent() as server:
        exchanges = [exchange_for("etcd", {"endpoints": [f"http://127.0.0.1:{server.port}"]}) for _ in range(200)]
        attempts = [asyncio.create_task(run_attempt(each, 60)) for each in exchanges]
        await eventually(lambda: server.connections == 200, "200 connections")
        for attempt in attempts:
            attempt.cancel()
        await asyncio.wait(attempts, timeout=10)
        assert all(attempt.cancelled() for attempt in attempts)
        await eventually(lambda: server.connections == 0, "all sockets closed")
    assert connections_to(server.port) == 0
    assert asyncio.all_tasks() == before


async def test_nothing_is_left_after_cancelled_calls_on_kept_connections(member: Member) -> None:
    before = asyncio.all_tasks()
    exchanges = [exchange_for("etcd", {"endpoints": [member.url]}) for _ in range(50)]
    for each in exchanges:
        assert (await run_attempt(each, 10)).reason is Reason.PROBE_SUCCEEDED
    assert connections_to(member.port) == 50
    with member.process.frozen():
        attempts = [asyncio.create_task(run_attempt(each, 60)) for each in exchanges]
        await asyncio.wait(attempts, timeout=0.3)
        for attempt in attempts:
            attempt.cancel()
        await asyncio.wait(attempts, timeout=10)
        assert all(attempt.cancelled() for attempt in attempts)
        await eventually(lambda: connections_to(member.port) == 0, "all sockets closed")
    assert asyncio.all_tasks() == before
    assert (await run_attempt(exchanges[0], 5)).reason is Reason.PROBE_SUCCEEDED
    await exchanges[0].close()


async def test_the_planted_password_shows_nowhere(
    member: Member, caplog: pytest.LogCaptureFixture, capfd: pytest.CaptureFixture[str]
) -> None:
    caplog.set_level(logging.DEBUG)
    secrets = MemorySecrets({"etcd": {"username": "probe", "password": PLANTED}})
    auth = {"secretRef": {"name": "etcd"}}
    async with exchange(member.url, auth=auth, secrets=secrets) as kept:
        assert not planted(await run_attempt(kept, 5))
        member.process.freeze()
        assert not planted(await run_attempt(kept, 0.5))
        member.process.kill()
        assert not planted(await run_attempt(kept, 5))
        held = [repr(value) for each in kept._endpoints for value in vars(each).values()]  # type: ignore[attr-defined]
    assert PLANTED not in f"{vars(kept)!r}{held}"
    told = capfd.readouterr()
    assert PLANTED not in caplog.text + told.out + told.err
