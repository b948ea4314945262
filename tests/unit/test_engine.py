"""The engine in fake time: when it probes, and how it ends."""

from __future__ import annotations

import asyncio
from itertools import pairwise
from typing import Any

import pytest

from backendhealth.core.spec.backendhealth import BackendHealth
from backendhealth.core.spec.status import BackendHealthStatus
from backendhealth.engine.engine import Engine
from tests.unit.rig import EPOCH, KEY, Rig, one
from tests.unit.support import GOOD, REFUSED, SILENT, probe, resource

pytestmark = pytest.mark.looptime


# When


async def test_interval_once_the_thresholds_have_decided(rig: Rig):
    await rig.engine.apply(one())
    await asyncio.sleep(41)
    assert rig.began() == [0, 2, 12, 22, 32]
    assert rig.states() == [(0, "Unknown"), (2, "Healthy")]


async def test_retry_interval_after_a_change_in_both_directions(rig: Rig):
    await rig.engine.apply(one())
    await asyncio.sleep(5)
    rig.opened[0].finding = REFUSED
    await asyncio.sleep(20)  # 12, 14, 16 decide
    rig.opened[0].finding = GOOD
    await asyncio.sleep(25)  # 26, 28 decide
    assert rig.began() == [0, 2, 12, 14, 16, 26, 28, 38, 48]
    assert rig.states() == [(0, "Unknown"), (2, "Healthy"), (16, "Unhealthy"), (28, "Healthy")]


async def test_a_single_odd_attempt_is_asked_again_soon_and_then_forgotten(rig: Rig):
    await rig.engine.apply(one())
    await asyncio.sleep(5)
    rig.opened[0].finding = REFUSED
    await asyncio.sleep(8)
    rig.opened[0].finding = GOOD
    await asyncio.sleep(20)
    assert rig.began() == [0, 2, 12, 14, 24]
    assert rig.states() == [(0, "Unknown"), (2, "Healthy")]


async def test_no_drift(rig: Rig):
    rig.prepare = lambda prober: setattr(prober, "took", 0.3)
    await rig.engine.apply(one(interval="1s", timeout="1s", retryInterval="1s"))
    await asyncio.sleep(1000)
    assert abs(len(rig.began()) - 1000) <= 1
    assert all(abs(at - index) < 0.06 for index, at in enumerate(rig.began()))


async def test_attempts_slower_than_the_interval_do_not_pile_up(rig: Rig):
    rig.prepare = lambda prober: setattr(prober, "took", 3.5)
    await rig.engine.apply(one(interval="1s", timeout="1s", retryInterval="1s"))
    await asyncio.sleep(35)
    assert rig.opened[0].most_at_once == 1
    assert len(rig.began()) == 10
    rig.opened[0].took = 0.0
    rig.opened[0].began.clear()
    await asyncio.sleep(10)
    gaps = [after - before for before, after in pairwise(rig.began())]
    assert min(gaps[1:]) > 0.9  # what was missed is not made up for


async def test_initial_delay(rig: Rig):
    await rig.engine.apply(one(initialDelay="7s"))
    await asyncio.sleep(10)
    assert rig.began() == [7, 9]


async def test_due_within_the_same_tick_start_together(rig: Rig):
    await rig.engine.apply(one())
    await asyncio.sleep(0.03)
    await rig.engine.apply(resource(probe("a"), name="late", namespace="other", interval="10s"))
    await asyncio.sleep(25)
    assert rig.began(0)[2:] == rig.began(1)[2:]


async def test_suspended_resource_and_probe(rig: Rig):
    await rig.engine.apply(resource(probe("a", suspend=True), probe("b"), probe("c", suspend=False), suspend=True))
    await asyncio.sleep(60)
    assert [prober.declared.name for prober in rig.opened] == ["c"]
    rows = rig.engine.status("default/demo").probes
    assert [(row.name, row.reason) for row in rows] == [
        ("a", "Suspended"),
        ("b", "Suspended"),
        ("c", "ProbeSucceeded"),
    ]


async def test_suspending_ends_the_attempt_and_closes(rig: Rig):
    rig.prepare = lambda prober: setattr(prober, "took", 3)
    await rig.engine.apply(one())
    await asyncio.sleep(1)
    await rig.engine.apply(one(suspend=True))
    assert (rig.opened[0].cancelled, rig.opened[0].closed) == (1, 1)
    await asyncio.sleep(60)
    assert rig.engine.status("default/demo").probes[0].reason == "Suspended"
    assert rig.recorded == []


async def test_probe_now(rig: Rig):
    await rig.engine.apply(one(successThreshold=1))
    await asyncio.sleep(4)
    rig.engine.probe_now(KEY)
    rig.engine.probe_now(KEY)
    rig.engine.probe_now(("default/demo", "nobody"))
    await asyncio.sleep(11)
    assert rig.began() == [0, 4, 14]


async def test_probe_now_joins_an_attempt_under_way(rig: Rig):
    rig.prepare = lambda prober: setattr(prober, "took", 3)
    await rig.engine.apply(one(successThreshold=1))
    await asyncio.sleep(1)
    rig.engine.probe_now(KEY)
    await asyncio.sleep(8)
    assert rig.began() == [0]


# Blind


async def test_the_others_are_asked_at_once_and_the_blind_when_it_is_over(rig: Rig):
    slow: dict[str, Any] = {"interval": "60s", "retryInterval": "30s", "timeout": "5s"}
    slow |= {"successThreshold": 1, "failureThreshold": 1}
    await rig.engine.apply(resource(probe("a", interval="20s"), probe("b"), probe("c"), **slow))
    await asyncio.sleep(10)
    for prober in rig.opened:
        prober.took, prober.finding = 5, SILENT
    await asyncio.sleep(30)  # until 40; a is silent from 20 to 25
    assert rig.began(1)[:2] == [0, 25]
    assert {row.reason for row in rig.engine.status("default/demo").probes} == {"Blind"}
    for prober in rig.opened:
        prober.took, prober.finding = 0.01, GOOD
    await asyncio.sleep(16)  # a is asked at 45 at the latest, and then the others at once
    assert {row.reason for row in rig.engine.status("default/demo").probes} == {"ProbeSucceeded"}
    assert "Unhealthy" not in [state for _, state in rig.states()]


async def test_one_silent_among_others_is_unhealthy_after_three_attempts(rig: Rig):
    await rig.engine.apply(
        resource(probe("a"), probe("b"), interval="60s", retryInterval="1s", timeout="5s", failureThreshold=1)
    )
    await asyncio.sleep(30)
    rig.opened[0].took, rig.opened[0].finding = 5, SILENT
    await asyncio.sleep(60)  # the next attempt is at 61
    assert rig.engine.status("default/demo").probes[0].reason == "Timeout"
    assert [state for _, state in rig.states()] == ["Unknown", "Unknown", "Healthy", "Unknown", "Unhealthy"]
    assert rig.states()[-1][0] <= 61 + 3 * 5 + 0.2


# Once


async def test_once_is_one_attempt_of_everything(rig: Rig):
    rig.engine = rig.new_engine(once=True)
    rig.prepare = lambda prober: setattr(prober, "took", 1)
    await rig.engine.apply(resource(probe("a", initialDelay="30s"), probe("b"), probe("c", suspend=True)))
    await rig.engine.run_once()
    assert [len(prober.began) for prober in rig.opened] == [1, 1]
    assert [row.verdict for row in rig.engine.status("default/demo").probes] == ["Healthy", "Healthy", "Unknown"]
    await asyncio.sleep(100)
    assert len(rig.recorded) == 2


async def test_once_tells_a_dead_backend_from_a_lost_network(rig: Rig):
    rig.engine = rig.new_engine(once=True)
    await rig.engine.apply(resource(probe("a"), probe("b")))
    rig.opened[0].finding, rig.opened[0].took = SILENT, 5
    await rig.engine.run_once()
    assert [row.reason for row in rig.engine.status("default/demo").probes] == ["Timeout", "ProbeSucceeded"]


async def test_once_surfaces_our_own_fault(rig: Rig):
    rig.engine = rig.new_engine(once=True)
    await rig.engine.apply(one())
    rig.opened[0].error = ZeroDivisionError("ours")
    with pytest.raises(ZeroDivisionError):
        await rig.engine.run_once()


# Ends


async def test_a_fault_in_the_sink_surfaces_from_run(rig: Rig):
    def failing(declared: BackendHealth, status: BackendHealthStatus) -> None:
        if status.summary and status.summary.state == "Healthy":
            raise LookupError("ours")

    rig.engine = Engine(open_prober=rig.open, clock=lambda: EPOCH + rig.now, sink=failing)
    await rig.engine.apply(one())
    with pytest.raises(LookupError, match="ours"):
        await asyncio.wait_for(rig.engine.run(), 30)


async def test_a_fault_surfaces_from_a_later_run_too(rig: Rig):
    await rig.engine.apply(one())
    with pytest.raises(TimeoutError):
        await asyncio.wait_for(rig.engine.run(), 1)
    rig.opened[0].error = LookupError("ours")
    with pytest.raises(LookupError):
        await asyncio.wait_for(rig.engine.run(), 30)


async def test_an_attempt_that_somebody_else_cancels_does_not_vanish(rig: Rig):
    await rig.engine.apply(one())
    rig.opened[0].error = asyncio.CancelledError()
    with pytest.raises(RuntimeError, match="cancelled"):
        await asyncio.wait_for(rig.engine.run(), 30)


async def test_close_leaves_no_task_and_nothing_open(rig: Rig):
    before = asyncio.all_tasks()
    rig.prepare = lambda prober: setattr(prober, "took", 3)
    await rig.engine.apply(resource(*(probe(f"p{number}") for number in range(50))))
    await asyncio.sleep(1)
    assert len(asyncio.all_tasks()) == len(before) + 50
    await rig.engine.close()
    assert asyncio.all_tasks() == before
    assert all((prober.cancelled, prober.closed) == (1, 1) for prober in rig.opened)
    await asyncio.sleep(100)
    assert all(len(prober.began) == 1 for prober in rig.opened)
    await rig.engine.close()
