"""The engine after a restart, in fake time: what was believed stands, and the first attempts don't come as a herd."""

from __future__ import annotations

import asyncio
from collections import Counter
from typing import Any

import pytest

from backendhealth.core.restoring import written_status
from backendhealth.core.spec.backendhealth import BackendHealth
from backendhealth.core.spec.status import BackendHealthStatus
from backendhealth.core.timing import FIRST_VERDICTS
from backendhealth.engine.engine import Engine
from backendhealth.engine.scheduler import TICK
from tests.unit.rig import EPOCH, Rig, one
from tests.unit.support import GOOD, REFUSED, SILENT, probe, resource
from tests.unit.test_annotations import annotated
from tests.unit.world import QUICK, World

pytestmark = pytest.mark.looptime

SLOW: dict[str, Any] = {"interval": "60s", "retryInterval": "2s"}


async def restarted(rig: Rig, declared: BackendHealth, *, spread: bool = False) -> BackendHealthStatus:
    """Another engine, which finds the status that the first one has written."""
    before = rig.engine.status(declared.key)
    await rig.engine.close()
    rig.opened.clear()
    rig.told.clear()
    rig.engine = rig.new_engine()
    raw = before.model_dump(mode="json", by_alias=True, exclude_none=True)
    await rig.engine.apply(declared, restored=written_status(raw), spread=spread)
    return before


async def failing(rig: Rig, declared: BackendHealth) -> None:
    rig.prepare = lambda prober: setattr(prober, "finding", REFUSED)
    await rig.engine.apply(declared)
    await asyncio.sleep(10.5)


# What stands


async def test_a_failure_stands_and_is_told_as_it_was(rig: Rig):
    await failing(rig, one())
    before = await restarted(rig, one())
    await asyncio.sleep(60)
    assert before.incident is not None
    assert [(at, status) for at, _, status in rig.told] == [(10.5, before)]


async def test_a_failure_stands_until_successes_in_a_row(rig: Rig):
    await failing(rig, one(successThreshold=3))
    rig.prepare = lambda prober: setattr(prober, "finding", GOOD)
    await restarted(rig, one(successThreshold=3))
    await asyncio.sleep(30)
    assert rig.began()[:4] == [10.5, 12.5, 14.5, 24.5]
    assert rig.states() == [(10.5, "Unhealthy"), (14.5, "Healthy")]


async def test_a_silent_failure_is_neither_doubted_nor_forgotten(rig: Rig):
    declared = resource(probe("a"), probe("b", initialDelay="50s"), **{**SLOW, "failureThreshold": 1})
    rig.prepare = lambda prober: setattr(prober, "finding", SILENT if prober.declared.name == "a" else GOOD)
    await rig.engine.apply(declared)
    await asyncio.sleep(120)
    assert rig.engine.status("default/demo").probes[0].reason == "Timeout"
    before = await restarted(rig, declared)
    await asyncio.sleep(40)  # b is not heard before 50
    assert rig.began(0)[0] == 120
    assert rig.opened[1].began == []
    await asyncio.sleep(200)
    assert [status for _, _, status in rig.told] == [before]


async def test_a_changed_spec_is_probed_at_once_and_the_incident_goes_on(rig: Rig):
    await failing(rig, one())
    changed = one(failureThreshold=1).model_copy(
        update={"metadata": one().metadata.model_copy(update={"generation": 2})}
    )
    before = await restarted(rig, changed)
    assert rig.states() == [(10.5, "Unknown")]
    await asyncio.sleep(1)
    assert rig.states() == [(10.5, "Unknown"), (10.5, "Unhealthy")]
    assert rig.engine.status("default/demo").incident == before.incident


async def test_what_is_known_already_is_not_restored_again(rig: Rig):
    await failing(rig, one())
    old = rig.engine.status("default/demo")
    rig.opened[0].finding = GOOD
    await asyncio.sleep(30)
    await rig.engine.apply(one(), restored=old)
    assert rig.engine.status("default/demo").probes[0].verdict == "Healthy"


async def test_one_that_nobody_has_written_a_status_of(rig: Rig):
    await rig.engine.apply(one(), restored=written_status({"observedGeneration": -1}), spread=False)
    assert rig.states() == [(0, "Unknown")]
    await asyncio.sleep(5)
    assert rig.states()[-1] == (2, "Healthy")


# First attempts


async def many(rig: Rig, count: int, restored: BackendHealthStatus | None, **own: Any) -> list[float]:
    """When the first attempts on `count` targets were made, in seconds since all came at once."""
    began, rig.engine, rig.opened = rig.now, rig.new_engine(), []
    for number in range(count):
        declared = resource(probe("a", f"h{number}", **own), name=f"r{number}", namespace=f"n{number % 7}", **SLOW)
        await rig.engine.apply(declared, restored=restored, spread=True)
    await asyncio.sleep(100)
    await rig.engine.close()
    return [prober.began[0] - began for prober in rig.opened]


def healthy() -> BackendHealthStatus:
    world = World(resource(probe("a"), **QUICK))
    world.see("a", GOOD, EPOCH)
    return world.cycle.status("default/demo")


async def test_a_thousand_at_once_are_spread_over_the_interval(rig: Rig):
    first = await many(rig, 1000, healthy())
    assert len(first) == 1000
    assert max(Counter(int(at / TICK) for at in first).values()) <= 10
    tenths = Counter(int(at / 6) for at in first)
    assert set(tenths) == set(range(10))
    assert all(60 < count < 140 for count in tenths.values())


async def test_those_that_nothing_is_believed_of_are_spread_over_a_few_seconds(rig: Rig):
    first = await many(rig, 1000, None)
    assert len(first) == 1000
    assert 0.95 * FIRST_VERDICTS < max(first) <= FIRST_VERDICTS
    assert max(Counter(int(at / TICK) for at in first).values()) <= 30


async def test_the_probes_of_one_resource_are_spread_too(rig: Rig):
    await rig.engine.apply(resource(*(probe(f"p{number}") for number in range(100)), **SLOW), spread=True)
    await asyncio.sleep(10)
    ticks = Counter(int(prober.began[0] / TICK) for prober in rig.opened)
    assert max(ticks.values()) <= 7


@pytest.mark.parametrize("restored", [None, healthy()], ids=["fresh", "restored"])
async def test_each_has_its_place_at_every_start(rig: Rig, restored: BackendHealthStatus | None):
    first, second = [await many(rig, 50, restored) for _ in range(2)]
    assert all(abs(one - other) <= TICK for one, other in zip(first, second, strict=True))
    assert len(set(first)) > 20


async def test_without_spread_they_are_made_at_once(rig: Rig):
    for number in range(50):
        await rig.engine.apply(resource(probe("a"), name=f"r{number}", namespace=f"n{number}", **SLOW))
    await asyncio.sleep(1)
    assert {prober.began[0] for prober in rig.opened} == {0.0}


@pytest.mark.parametrize("restored", [None, healthy()], ids=["fresh", "restored"])
async def test_the_initial_delay_is_respected(rig: Rig, restored: BackendHealthStatus | None):
    first = await many(rig, 50, restored, initialDelay="30s")
    assert min(first) >= 30 - TICK
    assert len(set(first)) > 20


# Requests


async def test_a_request_that_was_answered_is_not_answered_again(rig: Rig):
    asked = annotated(resource(probe("a"), **SLOW), asked="x")
    await rig.engine.apply(asked)
    await asyncio.sleep(10)
    await restarted(rig, asked, spread=True)
    assert rig.engine.status("default/demo").probe_requested_at == "x"
    await asyncio.sleep(0.1)
    assert not rig.opened[0].began
    assert len(rig.told) == 1


async def test_its_removal_meanwhile_asks_for_nothing(rig: Rig):
    await rig.engine.apply(annotated(resource(probe("a"), **SLOW), asked="x"))
    await asyncio.sleep(10)
    before = await restarted(rig, resource(probe("a"), **SLOW), spread=True)
    await asyncio.sleep(0.1)
    assert not rig.opened[0].began
    assert [status for _, _, status in rig.told] == [before]


async def test_a_request_that_is_open_at_a_restart_is_answered(rig: Rig):
    await rig.engine.apply(annotated(resource(probe("a"), probe("b"), **SLOW), asked="x"))
    await asyncio.sleep(10)
    await restarted(rig, annotated(resource(probe("a"), probe("b"), **SLOW), asked="y"), spread=True)
    assert rig.engine.status("default/demo").probe_requested_at == "x"
    await asyncio.sleep(0.1)
    assert [prober.began for prober in rig.opened] == [[10.0], [10.0]]
    assert rig.engine.status("default/demo").probe_requested_at == "y"


# Lateness


def block(seconds: float) -> None:
    loop = asyncio.get_running_loop()
    until = loop.time() + seconds
    while loop.time() < until:  # as somebody's long computation does
        pass


@pytest.mark.looptime(False)
async def test_a_blocked_loop_is_seen_in_the_lateness():
    rig = Rig()
    late: list[float] = []
    engine: Engine = rig.new_engine(lateness=late.append)
    await engine.apply(resource(probe("a"), **SLOW))
    assert engine.most_late() < 0.1
    block(0.3)
    assert 0.25 < engine.most_late() < 2
    while not late:
        await asyncio.sleep(0)
    assert 0.25 < late[0] < 2
    assert engine.most_late() == 0
    await engine.close()


async def test_who_is_in_time_is_not_late(rig: Rig):
    late: list[float] = []
    rig.engine = rig.new_engine(lateness=late.append)
    assert rig.engine.most_late() == 0
    await rig.engine.apply(one())
    await asyncio.sleep(41)
    assert rig.began() == [0, 2, 12, 22, 32]
    assert len(late) == 5
    assert max(late) < 0.001
    assert rig.engine.most_late() == 0


async def test_slow_attempts_are_no_lateness_of_ours(rig: Rig):
    late: list[float] = []
    rig.engine = rig.new_engine(lateness=late.append)
    rig.prepare = lambda prober: setattr(prober, "took", 5)
    await rig.engine.apply(one(interval="5s", retryInterval="1s"))
    await asyncio.sleep(60)
    assert len(late) >= 10
    assert max(late) < 0.001


async def test_nothing_is_late_once_it_is_removed_or_closed(rig: Rig):
    await rig.engine.apply(one(initialDelay="10s"))
    await rig.engine.remove("default/demo")
    await asyncio.sleep(20)
    assert rig.engine.most_late() == 0
    await rig.engine.apply(one())
    await rig.engine.close()
    await asyncio.sleep(20)
    assert rig.engine.most_late() == 0


async def test_the_clock_of_beliefs_is_the_wall_clock(rig: Rig):
    await rig.engine.apply(one(successThreshold=1))
    await asyncio.sleep(1)
    assert rig.recorded[0].at == EPOCH
