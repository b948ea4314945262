"""The guard's say before and after the look-up, with the rules of Reach and real sockets; dialers bound to hosts."""

from __future__ import annotations

import asyncio
import socket
import threading

import pytest

from backendhealth.core.observation import Finding
from backendhealth.core.reach import Reach
from backendhealth.core.reasons import Reason
from backendhealth.probes.dialer import AddrInfo, Dialer
from backendhealth.probes.exchange import ProbeError
from backendhealth.probes.trace import Trace
from tests.probes.support import attempt_once
from tests.servers import misbehaving

LOCAL = "127.0.0.1"
ANY_LOOPBACK = ("127.0.0.0/8", "::1", "0.0.0.0")


class Asked:
    """A resolver that writes down who asks, and answers when it is let go."""

    def __init__(self) -> None:
        self.hosts: list[str] = []
        self.free = threading.Event()

    def __call__(self, host: str, port: int) -> list[AddrInfo]:
        self.hosts.append(host)
        assert self.free.wait(20)
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (LOCAL, port))]


def guarded(*, allow: tuple[str, ...] = (), deny: tuple[str, ...] = ()) -> Dialer:
    return Dialer(guard=Reach(allow, deny, frozenset()).refusal)


async def connect(dialer: Dialer, host: str, port: int) -> Finding:
    return await attempt_once("tcp", {"host": host, "port": port}, dialer=dialer)


@pytest.mark.parametrize("host", [LOCAL, "localhost", "::1", "::ffff:127.0.0.1", "2130706433", "0x7f.1", "0.0.0.0"])
async def test_loopback_in_any_spelling_is_refused_until_it_is_allowed(host: str):
    with misbehaving.silent(host="::1" if host == "::1" else LOCAL) as server:
        finding = await connect(guarded(), host, server.port)
        assert finding.reason is Reason.ADDRESS_REFUSED
        assert server.accepted == 0
        finding = await connect(guarded(allow=ANY_LOOPBACK), host, server.port)
        assert finding.reason is Reason.PROBE_SUCCEEDED, finding.message


async def test_a_name_that_is_refused_is_not_even_looked_up():
    resolver = Asked()
    dialer = Dialer(resolver=resolver, guard=Reach((), ("*.internal",), frozenset()).refusal)
    finding = await connect(dialer, "db.internal", 80)
    assert finding.reason is Reason.ADDRESS_REFUSED
    assert "not connected to db.internal: its name is on the deny-list" in finding.message
    assert not finding.contact
    assert resolver.hosts == []


async def test_a_bound_dialer_asks_before_it_looks_up():
    resolver = Asked()
    finding = await connect(Dialer(resolver=resolver).bound(only_one), "two.test", 80)
    assert finding.reason is Reason.SECRET_NOT_ALLOWED
    assert "not with two.test" in finding.message
    assert not finding.contact
    assert resolver.hosts == []


async def test_a_bound_dialer_shares_the_look_ups_and_leaves_the_other_unbound():
    resolver = Asked()
    dialer = Dialer(resolver=resolver)
    asking = [asyncio.create_task(one.resolve("one.test", 80, Trace())) for one in (dialer, dialer.bound(only_one))]
    async with asyncio.timeout(10):
        while not resolver.hosts:
            await asyncio.sleep(0)
    resolver.free.set()
    await asyncio.gather(*asking)
    assert resolver.hosts == ["one.test"]
    assert await dialer.resolve("two.test", 80, Trace())


async def test_a_bound_dialer_is_guarded_all_the_same():
    with misbehaving.silent() as server:
        finding = await connect(guarded().bound(lambda _host: None), LOCAL, server.port)
        assert server.accepted == 0
    assert finding.reason is Reason.ADDRESS_REFUSED


def only_one(host: str) -> None:
    if host != "one.test":
        raise ProbeError(Reason.SECRET_NOT_ALLOWED, f"not with {host}")


@pytest.mark.parametrize(
    ("named", "asked"),
    [
        ("etcd", "etcd.shop.svc"),
        ("etcd.other", "etcd.other"),
        ("etcd.example.org", "etcd.example.org"),
        ("localhost", "localhost"),
    ],
)
async def test_a_name_without_a_dot_is_a_service_of_the_namespace(named: str, asked: str):
    resolver = Asked()
    resolver.free.set()
    await Dialer(resolver=resolver).bound(lambda _: None, "shop").resolve(named, 80, Trace())
    assert resolver.hosts == [asked]


async def test_an_address_is_no_name_of_a_namespace():
    dialer = Dialer(resolver=Asked()).bound(lambda _: None, "shop")
    assert [info[4][0] for info in await dialer.resolve("::1", 80, Trace())] == ["::1"]
