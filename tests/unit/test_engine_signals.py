"""Signals in fake time: a prober says that something has changed. And who shares a prober."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from backendhealth.core.spec.backendhealth import BackendHealth
from backendhealth.engine.scheduler import TICK
from tests.unit.rig import KEY, Rig, one
from tests.unit.support import REFUSED, probe, resource

pytestmark = pytest.mark.looptime

SLOW: dict[str, Any] = {"interval": "60s", "successThreshold": 1, "failureThreshold": 1}


def named(name: str, namespace: str = "default", **spec: Any) -> BackendHealth:
    return resource(probe("a"), name=name, namespace=namespace, **{**SLOW, **spec})


async def started(rig: Rig, *resources: BackendHealth, took: float = 0.0) -> None:
    """All resources, 10 s after their first attempts began."""
    for declared in resources:
        await rig.engine.apply(declared)
    await asyncio.sleep(10)
    for prober in rig.opened:
        prober.took = took


async def test_a_signal_leads_to_an_attempt_within_a_tick_for_all_users(rig: Rig):
    await started(rig, named("x"), named("y"), named("z", "elsewhere"))
    rig.opened[0].finding = REFUSED
    rig.opened[0].signal()
    await asyncio.sleep(TICK)
    assert rig.began(0) == [0, 10]
    assert rig.began(1) == [0]
    assert {key: rig.engine.status(key).probes[0].verdict.value for key in ("default/x", "default/y")} == {
        "default/x": "Unhealthy",
        "default/y": "Unhealthy",
    }
    assert rig.engine.status("elsewhere/z").probes[0].verdict == "Healthy"
    assert sorted(key for at, key, _ in rig.told if at == 10) == ["default/x", "default/y"]


async def test_the_interval_runs_from_the_signalled_attempt(rig: Rig):
    await started(rig, named("x"))
    rig.opened[0].signal()
    await asyncio.sleep(100)
    assert rig.began() == [0, 10, 70]


async def test_a_signal_during_an_attempt_leads_to_one_more_after_it(rig: Rig):
    await started(rig, named("x"), named("y"), took=3)
    rig.engine.probe_now(("default/x", "a"))
    await asyncio.sleep(1)
    rig.opened[0].signal()
    await asyncio.sleep(40)
    assert rig.began() == [0, 10, 13]
    assert rig.opened[0].most_at_once == 1


async def test_signals_during_that_one_lead_to_one_more_again(rig: Rig):
    await started(rig, named("x"), took=3)
    rig.opened[0].signal()
    for _ in range(3):
        await asyncio.sleep(2.5)
        rig.opened[0].signal()  # at 12.5, 15 and 17.5
    await asyncio.sleep(40)
    assert rig.began() == [0, 10, 13, 16, 19]


@pytest.mark.parametrize("took", [0, 3])
async def test_a_burst_is_one_signal(rig: Rig, took: float):
    await started(rig, named("x"), named("y"), took=took)
    for _ in range(1000):
        rig.opened[0].signal()
    await asyncio.sleep(0.1)
    assert rig.began() == [0, 10]
    for _ in range(1000):
        rig.opened[0].signal()
    await asyncio.sleep(40)
    assert len(rig.began()) == 3


async def test_a_signal_during_an_attempt_that_nobody_waits_for_any_more(rig: Rig):
    """One began it and is removed; the other user must not be served with what was found before the signal."""
    await rig.engine.apply(named("x"))
    await rig.engine.apply(resource(probe("a", initialDelay="30s"), name="y", **SLOW))
    rig.opened[0].took = 3
    await asyncio.sleep(1)
    await rig.engine.remove("default/x")
    rig.opened[0].signal()
    await asyncio.sleep(20)
    assert rig.began() == [0, 3]


async def test_a_signal_before_the_first_attempt_makes_it_at_once(rig: Rig):
    await rig.engine.apply(named("x", initialDelay="30s"))
    rig.opened[0].signal()
    await asyncio.sleep(1)
    assert rig.began() == [0]


async def test_a_signal_while_it_is_opened(rig: Rig):
    rig.prepare = lambda prober: prober.signal()
    await rig.engine.apply(named("x"))
    await asyncio.sleep(30)
    assert rig.began() == [0]


@pytest.mark.parametrize("end", ["close", "remove", "suspend", "change"])
async def test_a_signal_after_its_end_does_nothing(rig: Rig, end: str):
    await started(rig, named("x"))
    match end:
        case "close":
            await rig.engine.close()
        case "remove":
            await rig.engine.remove("default/x")
        case "suspend":
            await rig.engine.apply(named("x", suspend=True))
        case "change":
            await rig.engine.apply(resource(probe("a", port=81), name="x", **SLOW))
    await asyncio.sleep(5)
    rig.opened[0].signal()
    await asyncio.sleep(30)
    assert rig.began(0) == [0]
    assert [rig.began(index) for index in range(1, len(rig.opened))] == ([[10]] if end == "change" else [])


async def test_a_signal_while_it_ends_does_nothing(rig: Rig):
    await started(rig, named("x"), took=3)
    rig.engine.probe_now(("default/x", "a"))
    await asyncio.sleep(1)
    ending = asyncio.ensure_future(rig.engine.remove("default/x"))
    await asyncio.sleep(0)
    rig.opened[0].signal()
    await ending
    await asyncio.sleep(30)
    assert rig.began() == [0, 10]


async def test_once_a_signal_asks_for_nothing_more(rig: Rig):
    rig.engine = rig.new_engine(once=True)
    await rig.engine.apply(one())
    rig.opened[0].took = 1
    asyncio.get_running_loop().call_later(0.5, rig.opened[0].signal)
    await rig.engine.run_once()
    rig.opened[0].signal()
    await asyncio.sleep(10)
    assert rig.began() == [0]


async def test_a_signal_joins_what_was_asked_for_anyway(rig: Rig):
    await started(rig, one(interval="60s", successThreshold=1))
    rig.engine.probe_now(KEY)
    rig.opened[0].signal()
    await asyncio.sleep(20)
    assert rig.began() == [0, 10]


# Who shares


SECRET = {"secretRef": {"name": "db"}}
TARGETS: dict[str, dict[str, Any]] = {
    "auth": {"redis": {"url": "redis://a:6379", "auth": SECRET}},
    "ca": {"redis": {"url": "rediss://a:6379", "tls": {"caSecretRef": {"name": "ca"}}}},
    "cert": {"redis": {"url": "rediss://a:6379", "tls": {"certSecretRef": {"name": "cert"}}}},
    "http": {"http": {"url": "http://a/", "auth": SECRET}},
    "postgres": {"postgres": {"host": "a", "auth": SECRET}},
    "etcd": {"etcd": {"endpoints": ["http://a:2379"], "auth": SECRET}},
}
OPEN: dict[str, dict[str, Any]] = {
    "tcp": {"tcp": {"host": "a", "port": 80}},
    "redis": {"redis": {"url": "redis://a:6379"}},
    "tls": {"redis": {"url": "rediss://a:6379", "tls": {"serverName": "a"}}},
    "pods": {"pods": {"selector": {"matchLabels": {"app": "core"}}}},
}


def asking(target: dict[str, Any], name: str, account: str | None = None, probe_name: str = "a") -> BackendHealth:
    spec: dict[str, Any] = {"serviceAccountName": account} if account else {}
    return resource({"name": probe_name, **target}, name=name, **spec)


@pytest.mark.parametrize("target", TARGETS.values(), ids=TARGETS)
async def test_what_a_secret_opens_is_not_shared_with_another_name_or_account(rig: Rig, target: dict[str, Any]):
    await rig.engine.apply(asking(target, "x", "reader"))
    await rig.engine.apply(asking(target, "y", "reader"))
    assert len(rig.opened) == 2
    await rig.engine.apply(asking(target, "x", "reader", probe_name="b"))  # another probe of the same resource
    assert [prober.closed for prober in rig.opened] == [1, 0, 0]


@pytest.mark.parametrize("target", TARGETS.values(), ids=TARGETS)
async def test_two_probes_of_one_resource_share_what_a_secret_opens(rig: Rig, target: dict[str, Any]):
    twice = resource({"name": "a", **target}, {"name": "b", **target}, serviceAccountName="reader")
    await rig.engine.apply(twice)
    assert len(rig.opened) == 1


@pytest.mark.parametrize("target", OPEN.values(), ids=OPEN)
async def test_what_needs_no_secret_is_shared(rig: Rig, target: dict[str, Any]):
    for name, account in (("x", "reader"), ("y", "other"), ("z", None)):
        await rig.engine.apply(asking(target, name, account))
    assert len(rig.opened) == 1
