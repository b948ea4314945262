"""A root cause with what was observed that makes it one, in sentences."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from backendhealth.core.diagnosis.causes import Ruling, covered, is_own
from backendhealth.core.diagnosis.signatures import Match
from backendhealth.core.diagnosis.standing import Standing, standing
from backendhealth.core.diagnosis.times import clock, fell
from backendhealth.core.diagnosis.world import Answered, World
from backendhealth.core.observation import clip
from backendhealth.core.spec.status import RootCause
from backendhealth.core.statusof import timestamp
from backendhealth.core.verdict import Verdict

_MAX_EVIDENCE = 8
_MAX_LISTED = 8


@dataclass(frozen=True, slots=True)
class Ruled:
    """All rulings of one diagnosis, and the error texts that were recognized."""

    components: Mapping[str, Ruling]
    symptoms: Sequence[tuple[Answered, Ruling]]
    matched: Sequence[Match]

    def explained_by(self, name: str) -> list[str]:
        """Names of what the component explains."""
        found = [other for other, ruling in self.components.items() if name in ruling.by]
        return found + [one.name for one, ruling in self.symptoms if name in ruling.by]


def root_cause(world: World, name: str, ruled: Ruled) -> RootCause:
    """The component `name` as a root cause."""
    seen = world.seen[name]
    known = world.components.get(name)
    steps = [known.next_step, f"Runbook: {known.runbook}" if known.runbook else None] if known else []
    return RootCause(
        component=name,
        reason=seen.reason,
        message=clip(f"{_unrecovered(world, name)}{seen.message}"),
        since=timestamp(seen.since),
        evidence=[clip(line) for line in _evidence(world, name, ruled)][:_MAX_EVIDENCE],
        next_step=clip(" ".join(step for step in steps if step)),
    )


def _unrecovered(world: World, name: str) -> str:
    """What it did not recover from; empty when it fails by itself."""
    late = None if is_own(world, name) else covered(world, name, world.dependencies(name)).late
    if not late:
        return ""
    other, outage = max(late.items(), key=lambda one: (one[1].ended, one[0]))
    return f"it did not recover since {other} came back at {clock(outage.ended)}: "


def _evidence(world: World, name: str, ruled: Ruled) -> Iterator[str]:
    seen = world.seen[name]
    yield f"{name} fails since {clock(seen.since)} ({seen.reason})"
    broken = [one.subject for one in seen.subjects if one.reason.verdict is Verdict.UNHEALTHY]
    if broken:
        yield f"what fails of it: {_listed(broken)}"
    if is_own(world, name):
        yield f"{seen.reason} is its own fault, whatever else fails"
    said = (match for match in ruled.matched if name in match.signature.implicates or match.source == name)
    yield from dict.fromkeys(match.told for match in said)
    explained = ruled.explained_by(name)
    if explained:
        yield f"it explains that these fail: {_listed(explained)}"
    yield from _dependencies(world, name, fell(seen))


def _dependencies(world: World, name: str, start: float) -> Iterator[str]:
    stands = {one: standing(world, one, start) for one in world.dependencies(name)}
    works = [one for one, where in stands.items() if where is Standing.CLEARED and not _fails(world, one)]
    if works:
        yield f"seen to work since, though it needs them: {_listed(works)}"
    after = [one for one, where in stands.items() if where is Standing.CLEARED and _fails(world, one)]
    if after:
        yield f"failed only later: {_listed(after)}"
    for one, where in stands.items():
        if where is Standing.AT_RISK:
            yield f"{one} works, but is Degraded ({world.seen[one].reason})"
    unwatched = [one for one, where in stands.items() if where is Standing.UNWATCHED]
    if unwatched:
        yield f"{_listed(unwatched)} {'is' if len(unwatched) == 1 else 'are'} not watched"


def _fails(world: World, name: str) -> bool:
    return world.seen[name].verdict is Verdict.UNHEALTHY


def _listed(names: Sequence[str]) -> str:
    more = len(names) - _MAX_LISTED
    return ", ".join(names[:_MAX_LISTED]) + (f" and {more} more" if more > 0 else "")
