"""One turn of the cycle: when the sink is called, and when we are blind."""

from __future__ import annotations

from backendhealth.core.observation import Finding
from backendhealth.core.reasons import Reason
from tests.unit.support import GOOD, NO_SECRET, REFUSED, SILENT, probe, resource
from tests.unit.world import QUICK, World, three

# What the sink hears


def test_a_new_resource_is_told_at_once():
    world = World(three())
    assert [status.summary.state for _, status in world.told if status.summary] == ["Unknown"]


def test_an_unchanged_world_is_not_told():
    world = World(three(failureThreshold=3, successThreshold=2))
    for at in range(20):
        for name in "abc":
            world.see(
                name, Finding(Reason.PROBE_SUCCEEDED, f"revision {at}", facts={"n": at}, steps={"connect": at}), at
            )
        if at == 1:
            world.told.clear()
    assert world.told == []


def test_an_unchanged_failure_is_not_told():
    for finding in (SILENT, REFUSED, NO_SECRET):
        world = World(three())
        for at in range(0, 200, 10):
            world.see("a", finding, at, at + 5)
            world.see("b", GOOD, at + 6)
            if at == 50:
                world.told.clear()
        assert world.told == []


def test_each_change_is_told_once():
    world = World(three(failureThreshold=3, successThreshold=2))
    for at in range(3):
        world.see("a", REFUSED, at)
    assert [status.summary.state for _, status in world.told if status.summary] == ["Unknown", "Unhealthy"]


def test_one_attempt_that_decides_nothing_is_not_told():
    world = World(three(failureThreshold=3, successThreshold=2))
    world.see("a", GOOD, 1)
    world.see("a", GOOD, 2)
    world.told.clear()
    world.see("a", REFUSED, 3)
    world.see("a", GOOD, 4)
    assert world.told == []


def test_applying_the_same_again_is_not_told():
    world = World(three())
    world.see("a", GOOD, 1)
    world.told.clear()
    assert world.cycle.apply(three(), 5.0) == set()
    assert world.told == []
    assert world.verdict("a") == "Healthy"


# A changed spec


def test_only_the_probes_that_changed_start_afresh():
    world = World(three())
    for name in "abc":
        world.see(name, GOOD, 1)
    changed = resource(probe("a"), probe("b", port=81), probe("d"), **QUICK, generation=2)
    assert world.cycle.apply(changed, 5.0) == {"b", "d"}
    assert [world.verdict(name) for name in "abd"] == ["Healthy", "Unknown", "Unknown"]
    assert world.cycle.status("default/demo").observed_generation == 2


def test_timing_that_a_probe_inherits_is_part_of_it():
    world = World(resource(probe("a"), probe("b", interval="60s")))
    assert world.cycle.apply(resource(probe("a"), probe("b", interval="60s"), interval="20s"), 1.0) == {"a"}


def test_a_change_of_flap_detection_starts_nothing_afresh():
    world = World(three())
    assert world.cycle.apply(three(flapDetection={"changes": 2}), 1.0) == set()


def test_what_is_gone_is_dropped():
    world = World(three())
    world.cycle.apply(resource(probe("a"), **QUICK), 1.0)
    world.told.clear()
    assert world.see("b", GOOD, 2) == []
    world.cycle.remove("default/demo")
    assert world.see("a", GOOD, 3) == []
    world.cycle.remove("default/demo")
    assert world.told == []
    assert world.cycle.resources == []


def test_suspended():
    world = World(three(suspend=True))
    assert {world.reason(name) for name in "abc"} == {"Suspended"}
    assert world.cycle.apply(three(), 1.0) == {"a", "b", "c"}
    assert {world.reason(name) for name in "abc"} == {"Pending"}
