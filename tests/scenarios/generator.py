"""Scenarios from a seed: single failures and pairs of them, apart and overlapping, recovering in any order. Pure."""

from __future__ import annotations

import itertools
import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

from tests.scenarios.truth import Fault, Timing

Overlap = Literal["at once", "before the first is told", "after the first is told"]
OVERLAPS: tuple[Overlap, ...] = ("at once", "before the first is told", "after the first is told")


@dataclass(frozen=True, slots=True)
class Step:
    """One act of the injector: `after` so many seconds since the act before was done."""

    after: float
    begins: bool
    fault: Fault


@dataclass(frozen=True, slots=True)
class Scenario:
    """What is done, in order; everything that begins also ends."""

    name: str
    steps: tuple[Step, ...]

    @property
    def faults(self) -> tuple[Fault, ...]:
        """In the order in which they begin."""
        return tuple(step.fault for step in self.steps if step.begins)


def single(fault: Fault, timing: Timing) -> Scenario:
    """One failure, long enough to be told."""
    return Scenario(fault.name, (Step(0, True, fault), Step(_told(fault, timing), False, fault)))


def pair(
    first: Fault, second: Fault, overlap: Overlap, *, first_ends_first: bool, timing: Timing, part: float
) -> Scenario:
    """Two failures; `part` (0 to 1) is where in its range a gap lies that may vary.

    What the first is taken back through comes back before it, whatever is asked for.
    """
    first_ends_first = first_ends_first and second.component not in first.done_through
    gap = {
        "at once": 0.0,
        "before the first is told": 0.1 + part * (timing.bound() - timing.allowance - 0.2),
        "after the first is told": _told(first, timing) + part * timing.interval,
    }[overlap]
    both = max(_told(one, timing) for one in (first, second))
    hangs = first.hangs or second.hangs
    ends = [first, second] if first_ends_first else [second, first]
    # what was explained or hidden by the one that ends first may have to be told now: never before it was seen anew
    alone = timing.back() + timing.bound(hangs=hangs) + part
    steps = (Step(0, True, first), Step(gap, True, second), Step(both, False, ends[0]), Step(alone, False, ends[1]))
    order = "first" if first_ends_first else "second"
    return Scenario(f"{first.name} + {second.name}, {overlap}, {order} ends first", steps)


def pairs(faults: Sequence[Fault]) -> Iterator[tuple[Fault, Fault]]:
    """All ordered pairs of faults of different components, but those whose second can't be done during the first."""
    for first, second in itertools.permutations(faults, 2):
        if first.component not in {second.component, *second.done_through}:
            yield first, second


def generate(faults: Sequence[Fault], timing: Timing, seed: int, count: int) -> list[Scenario]:
    """`count` scenarios: every single failure, then pairs in an order by chance, every pair of components once.

    The same arguments give the same scenarios.
    """
    chance = random.Random(seed)
    singles = [single(fault, timing) for fault in faults]
    listed = list(pairs(faults))
    chance.shuffle(listed)
    fresh: dict[frozenset[str], tuple[Fault, Fault]] = {}
    for first, second in listed:
        fresh.setdefault(frozenset((first.component, second.component)), (first, second))
    chosen = [*fresh.values(), *(one for one in listed if one not in fresh.values())]
    made = (
        pair(
            first,
            second,
            chance.choice(OVERLAPS),
            first_ends_first=chance.random() < 0.5,
            timing=timing,
            part=chance.random(),
        )
        for first, second in chosen
    )
    return [*singles, *made][:count]


def _told(fault: Fault, timing: Timing) -> float:
    return timing.bound(hangs=fault.hangs) + 0.5
