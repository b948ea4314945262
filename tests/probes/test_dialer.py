"""The one way out, over real sockets: names, addresses, the guard, TLS, and what is left behind."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from backendhealth.core.hostlist import Address
from backendhealth.core.observation import Finding
from backendhealth.core.reasons import Reason
from backendhealth.core.spec.common import Tls
from backendhealth.probes.dialer import MAX_LOOKUPS, AddrInfo, Connection, Dialer, Resolver
from backendhealth.probes.exchange import run_attempt
from backendhealth.probes.secrets import TlsMaterial, load_tls
from backendhealth.probes.trace import Trace
from tests.probes.support import MemorySecrets
from tests.servers import misbehaving
from tests.servers.certs import Authority
from tests.servers.http import server_tls
from tests.servers.process import free_port, wait_until

LOCAL = "127.0.0.1"


class Opening:
    """An exchange that opens a connection and no more."""

    def __init__(self, dialer: Dialer, host: str, port: int, tls: TlsMaterial | None = None) -> None:
        self.dialer, self.host, self.port, self.tls = dialer, host, port, tls
        self.connection: Connection | None = None

    async def attempt(self, trace: Trace, timeout: float) -> Finding:
        self.connection = await self.dialer.open(self.host, self.port, trace, self.tls)
        return Finding(Reason.PROBE_SUCCEEDED, "{}:{}".format(*self.connection.address))

    async def close(self) -> None:
        if self.connection is not None:
            self.connection.abort()
            self.connection = None


async def attempt(
    host: str, port: int, *, dialer: Dialer | None = None, tls: TlsMaterial | None = None, timeout: float = 5
) -> Finding:
    exchange = Opening(dialer or Dialer(), host, port, tls)
    try:
        return await run_attempt(exchange, timeout)
    finally:
        await exchange.close()
        await asyncio.sleep(0)  # the transport closes its socket in the loop's next turn


def resolving(*addresses: str) -> Resolver:
    """A resolver that gives these addresses for any name."""

    def resolve(host: str, port: int) -> list[AddrInfo]:
        return [
            (socket.AF_INET6, socket.SOCK_STREAM, 6, "", (address, port, 0, 0))
            if ":" in address
            else (socket.AF_INET, socket.SOCK_STREAM, 6, "", (address, port))
            for address in addresses
        ]

    return resolve


def failing(error: Exception) -> Resolver:
    def resolve(host: str, port: int) -> list[AddrInfo]:
        raise error

    return resolve


@pytest.fixture
def no_socket_left() -> Iterator[None]:
    before = _sockets()
    yield
    # the servers' ends are ours as well, and their threads close them in their own time
    wait_until(lambda: _sockets() <= before, 5, "all sockets closed")


def _sockets() -> set[str]:
    found = set()
    for entry in Path("/proc/self/fd").iterdir():
        with contextlib.suppress(FileNotFoundError):  # the folder's own, closed meanwhile
            found.add(str(entry.readlink()))
    return {what for what in found if what.startswith("socket:")}


pytestmark = pytest.mark.usefixtures("no_socket_left")


# Reaching it


async def test_a_connection():
    with misbehaving.silent() as server:
        finding = await attempt(LOCAL, server.port)
    assert finding.reason is Reason.PROBE_SUCCEEDED
    assert finding.message == f"127.0.0.1:{server.port}"
    assert list(finding.steps) == ["resolve", "connect"]
    assert finding.contact


async def test_ipv6():
    with misbehaving.silent(host="::1") as server:
        assert (await attempt("::1", server.port)).message == f"::1:{server.port}"


async def test_localhost_by_the_systems_resolver():
    with misbehaving.silent() as server:
        assert (await attempt("localhost", server.port)).reason is Reason.PROBE_SUCCEEDED


async def test_refused():
    port = free_port()
    finding = await attempt(LOCAL, port)
    assert finding.reason is Reason.CONNECTION_REFUSED
    assert finding.message == f"connection refused by 127.0.0.1:{port}"
    assert finding.contact


async def test_reset_at_once_is_a_reset_and_leaves_no_socket():
    with misbehaving.resets() as server:
        for _ in range(20):  # now before, now after our end has looked at the connection
            finding = await attempt(LOCAL, server.port)
            assert finding.reason in (Reason.PROBE_SUCCEEDED, Reason.CONNECTION_RESET)
            assert finding.reason is Reason.PROBE_SUCCEEDED or str(server.port) in finding.message


async def test_no_answer():
    with misbehaving.unreachable("127.0.0.3") as port:
        finding = await attempt("127.0.0.3", port, timeout=0.3)
    assert finding.reason is Reason.TIMEOUT
    assert finding.message == "no answer within 0.3 s: it hung in step connect"
    assert not finding.contact
    assert 0.29 < finding.steps["connect"] < 3


@pytest.mark.parametrize("addresses", [("127.0.0.9", LOCAL), (LOCAL, "127.0.0.9"), ("::1", LOCAL)])
async def test_two_addresses_of_which_one_refuses(addresses: tuple[str, ...]):
    with misbehaving.silent() as server:
        finding = await attempt("two.test", server.port, dialer=Dialer(resolver=resolving(*addresses)))
    assert finding.message == f"127.0.0.1:{server.port}"


@pytest.mark.parametrize("addresses", [("127.0.0.3", LOCAL), (LOCAL, "127.0.0.3")])
async def test_two_addresses_of_which_one_is_silent(addresses: tuple[str, ...]):
    with misbehaving.unreachable("127.0.0.3") as port, socket.create_server((LOCAL, port)):
        finding = await attempt("two.test", port, dialer=Dialer(resolver=resolving(*addresses)), timeout=3)
    assert finding.message == f"127.0.0.1:{port}"
    assert finding.steps["connect"] < 2  # not the time-out of 3


async def test_all_addresses_refuse():
    port = free_port()
    finding = await attempt("two.test", port, dialer=Dialer(resolver=resolving("127.0.0.8", "::1")))
    assert finding.reason is Reason.CONNECTION_REFUSED
    assert finding.message == f"connection refused by two.test:{port}"


# Names


@pytest.mark.parametrize("code", [socket.EAI_NONAME, socket.EAI_NODATA])
async def test_a_name_that_does_not_exist_is_the_targets(code: int):
    finding = await attempt("no.test", 1, dialer=Dialer(resolver=failing(socket.gaierror(code, "no such name"))))
    assert finding.reason is Reason.DNS_NAME_NOT_FOUND
    assert finding.message == "the name no.test does not exist"
    assert finding.contact


async def test_a_name_that_cannot_be_one():
    finding = await attempt("a" * 64 + ".test", 1)
    assert finding.reason is Reason.DNS_NAME_NOT_FOUND
    assert "does not exist" in finding.message


@pytest.mark.parametrize("code", [socket.EAI_AGAIN, socket.EAI_FAIL])
async def test_a_resolver_that_fails_is_ours(code: int):
    finding = await attempt("some.test", 1, dialer=Dialer(resolver=failing(socket.gaierror(code, "try again"))))
    assert finding.reason is Reason.RESOLVER_UNAVAILABLE
    assert "some.test could not be looked up" in finding.message
    assert not finding.contact


async def test_a_resolver_that_hangs_is_ours():
    free = threading.Event()
    dialer = Dialer(resolver=lambda host, port: resolving(LOCAL)(host, port) if free.wait(20) else [])
    try:
        finding = await attempt("some.test", 1, dialer=dialer, timeout=0.2)
    finally:
        free.set()
    assert finding.reason is Reason.RESOLVER_UNAVAILABLE
    assert finding.message == "the resolver did not answer within 0.2 s"
    assert not finding.contact


async def test_a_fault_in_the_resolver_is_a_fault_and_not_a_hang():
    finding = await attempt("some.test", 1, dialer=Dialer(resolver=failing(ZeroDivisionError("ours"))), timeout=3)
    assert finding.reason is Reason.INTERNAL_ERROR
    assert "ZeroDivisionError" in finding.message


class Counting:
    """A resolver that counts who is in it and waits until it is let go."""

    def __init__(self) -> None:
        self.free = threading.Event()
        self.lock = threading.Lock()
        self.asked: list[str] = []
        self.inside = self.most = 0

    def __call__(self, host: str, port: int) -> list[AddrInfo]:
        with self.lock:
            self.asked.append(host)
            self.inside += 1
            self.most = max(self.most, self.inside)
        assert self.free.wait(20)
        with self.lock:
            self.inside -= 1
        return resolving(LOCAL)(host, port)


async def until(condition: Callable[[], bool], timeout: float = 10) -> None:
    deadline = time.monotonic() + timeout
    while not condition():
        assert time.monotonic() < deadline, "not in time"
        await asyncio.sleep(0.01)


async def test_a_name_is_looked_up_once_for_all_who_ask_meanwhile():
    resolver = Counting()
    dialer = Dialer(resolver=resolver)
    asking = [asyncio.create_task(dialer.resolve("one.test", 80, Trace())) for _ in range(50)]
    await until(lambda: bool(resolver.asked))
    asking[0].cancel()  # who gives up takes nothing from the others
    resolver.free.set()
    found = await asyncio.gather(*asking[1:])
    assert resolver.asked == ["one.test"]
    assert {addresses[0][4][0] for addresses in found} == {LOCAL}
    await dialer.resolve("one.test", 80, Trace())
    assert len(resolver.asked) == 2  # nothing is cached: a name may move


async def test_many_names_wait_for_a_thread_and_are_all_looked_up():
    resolver = Counting()
    dialer = Dialer(resolver=resolver)
    names = [f"n{number}.test" for number in range(5 * MAX_LOOKUPS)]
    asking = [asyncio.create_task(dialer.resolve(name, 80, Trace())) for name in names]
    await until(lambda: resolver.inside == MAX_LOOKUPS)
    resolver.free.set()
    await asyncio.gather(*asking)
    assert resolver.most == MAX_LOOKUPS
    assert sorted(resolver.asked) == sorted(names)


async def test_literal_addresses_need_no_look_up():
    def never(host: str, port: int) -> list[AddrInfo]:
        raise AssertionError(host)

    with misbehaving.silent() as server:
        assert (await attempt(LOCAL, server.port, dialer=Dialer(resolver=never))).reason is Reason.PROBE_SUCCEEDED
        finding = await attempt("::1", server.port, dialer=Dialer(resolver=never))
        assert finding.reason is Reason.CONNECTION_REFUSED


# The guard


def no_loopback(_: str, address: Address | None) -> str | None:
    return "a loopback address" if address and address.is_loopback else None


@pytest.mark.parametrize(
    ("host", "addresses"),
    [
        (LOCAL, ()),
        ("::1", ()),
        ("::ffff:127.0.0.1", ()),
        ("evil.test", (LOCAL,)),
        ("evil.test", ("127.0.0.9", "::1", "::ffff:127.0.0.1")),
    ],
)
async def test_the_guard_refuses_literal_and_resolved_addresses(host: str, addresses: tuple[str, ...]):
    with misbehaving.silent() as server:
        dialer = Dialer(resolver=resolving(*addresses), guard=no_loopback)
        finding = await attempt(host, server.port, dialer=dialer)
        assert server.accepted == 0
    assert finding.reason is Reason.ADDRESS_REFUSED
    assert "a loopback address" in finding.message
    assert host in finding.message
    assert not finding.contact


async def test_only_addresses_that_the_guard_allows_are_connected_to():
    def only_second(_: str, address: Address | None) -> str | None:
        return "not this one" if address and str(address) != "127.0.0.2" else None

    with misbehaving.silent() as first, socket.create_server(("127.0.0.2", first.port)):
        dialer = Dialer(resolver=resolving(LOCAL, "127.0.0.2"), guard=only_second)
        finding = await attempt("two.test", first.port, dialer=dialer)
        assert finding.message == f"127.0.0.2:{first.port}"
        assert first.accepted == 0


# TLS


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(tmp_path_factory.mktemp("authority"))


async def trusting(authority: Authority, server_name: str | None = None) -> TlsMaterial:
    tls = Tls.model_validate({"caSecretRef": {"name": "ca"}, "serverName": server_name})
    return await load_tls(MemorySecrets({"ca": {"ca.crt": authority.pem}}), tls)


async def test_tls(authority: Authority):
    tls = await trusting(authority)
    with misbehaving.silent(tls=server_tls(authority.issue(days=30))) as server:
        exchange = Opening(Dialer(), LOCAL, server.port, tls)
        finding = await run_attempt(exchange, 5)
        assert list(finding.steps) == ["resolve", "connect", "tls"]
        assert exchange.connection is not None
        assert exchange.connection.not_after is not None
        await exchange.close()
        await until(lambda: server.connections == 0)


async def test_tls_failures(authority: Authority, tmp_path: Path):
    tls = await trusting(authority)
    cases = [
        (Authority(tmp_path).issue(), Reason.TLS_FAILURE, "unable to get local issuer certificate"),
        (authority.issue("elsewhere.test"), Reason.TLS_FAILURE, "IP address mismatch"),
        (authority.issue(days=-1), Reason.CERTIFICATE_EXPIRED, "certificate has expired"),
    ]
    for pair, reason, told in cases:
        with misbehaving.silent(tls=server_tls(pair)) as server:
            finding = await attempt(LOCAL, server.port, tls=tls)
            await until(lambda: server.connections == 0)
        assert finding.reason is reason
        assert told in finding.message
        assert finding.contact


async def test_the_name_to_verify_can_be_given(authority: Authority):
    with misbehaving.silent(tls=server_tls(authority.issue("elsewhere.test"))) as server:
        finding = await attempt(LOCAL, server.port, tls=await trusting(authority, "elsewhere.test"))
    assert finding.reason is Reason.PROBE_SUCCEEDED


async def test_tls_to_a_plain_port(authority: Authority):
    with misbehaving.garbage() as server:
        finding = await attempt(LOCAL, server.port, tls=await trusting(authority))
    assert finding.reason is Reason.TLS_FAILURE
    assert finding.message == "the port does not speak TLS"


async def test_nonsense_in_tls_records(authority: Authority):
    with misbehaving.garbage(b"\x16\x03\x03\x00\x05hello") as server:
        finding = await attempt(LOCAL, server.port, tls=await trusting(authority))
    assert finding.reason is Reason.TLS_FAILURE
    assert finding.message.startswith("TLS failed: ")


@pytest.mark.parametrize("server", [misbehaving.closes_at_once, misbehaving.resets])
async def test_the_other_side_hangs_up_in_the_handshake(
    authority: Authority, server: Callable[..., misbehaving.Server]
):
    with server(after_request=True) as rude:
        finding = await attempt(LOCAL, rude.port, tls=await trusting(authority))
    assert finding.reason in (Reason.CONNECTION_RESET, Reason.TLS_FAILURE)
    assert finding.contact


async def test_a_handshake_that_hangs(authority: Authority):
    with misbehaving.silent() as server:
        finding = await attempt(LOCAL, server.port, tls=await trusting(authority), timeout=0.3)
        await until(lambda: server.connections == 0)
    assert finding.reason is Reason.TIMEOUT
    assert finding.message == "no answer within 0.3 s: it hung in step tls"
    assert finding.contact
    assert 0.2 < finding.steps["tls"] < 3


# Cancelled


@pytest.mark.parametrize("with_tls", [False, True])
async def test_cancelled_in_the_middle_it_leaves_no_socket(authority: Authority, *, with_tls: bool):
    tls = await trusting(authority) if with_tls else None
    with misbehaving.silent() as server, misbehaving.unreachable("127.0.0.3") as hole:
        port, host = (server.port, LOCAL) if with_tls else (hole, "127.0.0.3")
        attempts = [asyncio.create_task(attempt(host, port, tls=tls, timeout=30)) for _ in range(20)]
        if with_tls:
            await until(lambda: server.connections == 20)
        else:
            await asyncio.wait(attempts, timeout=0.05)
        for one in attempts:
            one.cancel()
        done = await asyncio.gather(*attempts, return_exceptions=True)
        assert {type(one) for one in done} == {asyncio.CancelledError}
        await until(lambda: server.connections == 0)


async def test_cancelled_while_two_addresses_are_tried_it_leaves_no_socket():
    with misbehaving.unreachable("127.0.0.3") as port:
        dialer = Dialer(resolver=resolving("127.0.0.3", "127.0.0.3"))
        finding = await attempt("two.test", port, dialer=dialer, timeout=0.5)
    assert finding.reason is Reason.TIMEOUT
