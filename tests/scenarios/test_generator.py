from __future__ import annotations

import pytest

from tests.scenarios.catalogue import FAULTS
from tests.scenarios.generator import OVERLAPS, Scenario, generate, pair, pairs
from tests.scenarios.truth import Timing

TIMING = Timing()
ALL = list(FAULTS.values())


def test_a_seed_gives_the_same_scenarios_and_another_seed_others():
    first = generate(ALL, TIMING, 1, 60)
    assert first == generate(ALL, TIMING, 1, 60)
    assert first != generate(ALL, TIMING, 2, 60)
    assert len({one.name for one in first}) == 60


def test_every_failure_comes_alone_and_every_pair_of_components_that_can_be_broken_together():
    found = generate(ALL, TIMING, 1, 10_000)
    assert {one.faults[0].name for one in found if len(one.faults) == 1} == set(FAULTS)
    met = {frozenset(fault.component for fault in one.faults) for one in found if len(one.faults) == 2}
    assert met == {frozenset((first.component, second.component)) for first, second in pairs(ALL)}
    components = len({fault.component for fault in ALL})
    assert len(met) == components * (components - 1) // 2
    # the first of them cover every pair once
    start = len(FAULTS)
    assert {frozenset(f.component for f in one.faults) for one in found[start : start + len(met)]} == met


def test_all_ways_of_overlapping_and_both_orders_of_recovery_come():
    found = [one.name for one in generate(ALL, TIMING, 1, 60)[len(FAULTS) :]]
    for words in (*OVERLAPS, "first ends first", "second ends first"):
        assert any(words in name for name in found), words


@pytest.mark.parametrize("scenario", generate(ALL, TIMING, 3, 120), ids=lambda one: one.name)
def test_whatever_begins_ends_and_nothing_is_done_through_what_is_away(scenario: Scenario):
    away: dict[str, str] = {}
    for step in scenario.steps:
        assert step.after >= 0
        assert not step.fault.done_through & set(away.values())
        if step.begins:
            away[step.fault.name] = step.fault.component
        else:
            del away[step.fault.name]
    assert not away


def test_a_fault_is_begun_before_the_first_is_told_or_after():
    early = pair(ALL[0], ALL[2], "before the first is told", first_ends_first=True, timing=TIMING, part=0.99)
    late = pair(ALL[0], ALL[2], "after the first is told", first_ends_first=True, timing=TIMING, part=0)
    assert early.steps[1].after < TIMING.bound() < late.steps[1].after
