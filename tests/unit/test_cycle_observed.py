"""What of the beliefs an attempt of this process has shown: nothing else may be acted on."""

from __future__ import annotations

from backendhealth.core.spec.status import BackendHealthStatus
from backendhealth.engine.cycle import Cycle
from tests.unit.support import GOOD, NO_SECRET, REFUSED, SILENT, probe, resource, seen
from tests.unit.world import QUICK, World, three

KEY = "default/demo"


def unhealthy() -> BackendHealthStatus:
    """The status of three probes of which one fails."""
    world = World(three())
    for name in "bc":
        world.see(name, GOOD, 0)
    world.see("a", REFUSED, 1)
    return world.cycle.status(KEY)


def restored(told: list[str] | None = None) -> Cycle:
    cycle = Cycle(lambda *_: None, proven=told.append if told is not None else None)
    cycle.apply(three(), 100.0, unhealthy())
    return cycle


def test_what_was_restored_was_not_observed():
    cycle = restored()
    assert cycle.status(KEY).summary.state == "Unhealthy"  # type: ignore[union-attr]
    assert cycle.observed(KEY) == frozenset()


def test_an_attempt_that_agrees_is_enough_and_is_told_though_the_status_stays():
    told: list[str] = []
    cycle = restored(told)
    before = cycle.status(KEY)
    cycle.observe(seen(REFUSED, 101), 101)
    assert cycle.status(KEY) == before
    assert cycle.observed(KEY) == {"a"}
    assert told == [KEY]
    cycle.observe(seen(REFUSED, 102), 102)
    assert told == [KEY]


def test_an_attempt_that_contradicts_takes_it_back():
    world = World(resource(probe("a"), failureThreshold=1, successThreshold=3))
    world.see("a", REFUSED, 1)
    assert world.cycle.observed(KEY) == {"a"}
    world.see("a", GOOD, 2)
    assert world.verdict("a") == "Unhealthy"
    assert world.cycle.observed(KEY) == frozenset()


def test_silence_counts_only_when_others_were_heard_since():
    cycle = restored()
    cycle.observe(seen(SILENT, 101), 101)
    assert cycle.observed(KEY) == frozenset()
    for start in (102.0, 103.0):
        cycle.observe(seen(GOOD, start, probe="b"), start)
        cycle.observe(seen(SILENT, start + 0.5), start + 0.5)
    assert "a" in cycle.observed(KEY)


def test_silence_of_a_target_without_others_is_never_enough():
    world = World(resource(probe("a"), **QUICK))
    for start in (1, 10, 20):
        world.see("a", SILENT, start, start + 5)
    assert world.verdict("a") == "Unhealthy"
    assert world.cycle.observed(KEY) == frozenset()


def test_all_that_speak_for_a_component_that_works_but_one_of_those_that_fail():
    world = World(resource(probe("a", component="x"), probe("b", component="x"), **QUICK))
    world.see("a", GOOD, 1)
    assert world.cycle.observed(KEY) == frozenset()
    world.see("b", GOOD, 2)
    assert world.cycle.observed(KEY) == {"x"}
    world.see("b", REFUSED, 3)
    assert world.cycle.observed(KEY) == {"x"}


def test_our_own_fault_shows_nothing():
    cycle = restored()
    cycle.observe(seen(NO_SECRET, 101), 101)
    assert "a" not in cycle.observed(KEY)


def test_a_probe_that_changed_starts_anew():
    world = World(three())
    for name in "abc":
        world.see(name, REFUSED, 1)
    changed = resource(probe("a"), probe("b"), probe("c", port=81), generation=2, **QUICK)
    world.cycle.apply(changed, 2.0)
    assert world.cycle.observed(KEY) == {"a", "b"}
