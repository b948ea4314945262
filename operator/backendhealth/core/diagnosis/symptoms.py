"""What explains the symptoms that fail, and what is suspected when nothing does."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from backendhealth.core.diagnosis.causes import Ruling, failure, recovering, waiting
from backendhealth.core.diagnosis.signatures import Match
from backendhealth.core.diagnosis.standing import Standing, standing, told
from backendhealth.core.diagnosis.times import Cover, cover, fell
from backendhealth.core.diagnosis.world import Answered, World
from backendhealth.core.spec.profile import Symptom
from backendhealth.core.verdict import Verdict

_MAX_TOLD = 3


def symptom_rulings(
    world: World, made: Mapping[str, Ruling], matched: tuple[Match, ...]
) -> list[tuple[Answered, Ruling]]:
    """What is made of each symptom that fails, in the order of triage; `made` are the rulings on components."""
    return [
        (one, _ruling(world, one, made, matched)) for one in world.symptoms if one.seen.verdict is Verdict.UNHEALTHY
    ]


def _ruling(world: World, one: Answered, made: Mapping[str, Ruling], matched: tuple[Match, ...]) -> Ruling:
    symptom, seen = one.symptom, one.seen
    if symptom is None:
        return Ruling("the profile doesn't know what it means", open=True)
    concerned = list(dict.fromkeys((*symptom.implicates, *_affecting(world, symptom))))
    explained = cover(
        seen, ((name, world.seen[name], world.grace(name)) for name in concerned if name in world.seen), world.now
    )
    if explained.holds:
        return _explained(world, symptom, explained, made)
    start = fell(seen)
    stands = {name: standing(world, name, start) for name in concerned}
    waits = [name for name, where in stands.items() if where is Standing.AWAITED]
    if waits:
        return waiting(world, waits)
    suspects = tuple(_suspects(world, one, symptom, stands, matched))
    because = "nothing that is watched explains it" if suspects else "all that it speaks against was seen to work since"
    return Ruling(because, suspects=suspects, open=True)


def _affecting(world: World, symptom: Symptom) -> list[str]:
    effects = ((name, world.effect(name, symptom.feature)) for name in world.components)
    return [name for name, effect in effects if effect and effect.effect != "Works"]


def _explained(world: World, symptom: Symptom, explained: Cover, made: Mapping[str, Ruling]) -> Ruling:
    back = explained.back or {}
    if not explained.failing:
        by = world.ordered(back)
        parts = " and ".join(recovering(name, back[name]) for name in by[:_MAX_TOLD])
        return Ruling(f"it fell with {parts}", by=by, until=explained.until)
    # what explains a component that fails explains this, too
    causes = {name for name in explained.failing if made[name].is_cause}
    causes |= {top for name in explained.failing for top in made[name].by}
    by = world.ordered(causes or explained.failing)
    return Ruling("; ".join(_why(world, symptom, name) for name in by[:_MAX_TOLD]), by=by)


def _why(world: World, symptom: Symptom, name: str) -> str:
    effect = world.effect(name, symptom.feature)
    return f"{failure(world, name)}: {effect.because}" if effect else failure(world, name)


def _suspects(
    world: World, one: Answered, symptom: Symptom, stands: Mapping[str, Standing], matched: tuple[Match, ...]
) -> Iterator[tuple[str, str]]:
    """The likeliest first: what its own error texts speak against, then what the profile says."""
    own = [match for match in matched if match.source == one.name]
    named = dict.fromkeys(name for match in own for name in match.signature.implicates)
    for name in dict.fromkeys((*named, *symptom.implicates)):
        where = stands.get(name) or standing(world, name, fell(one.seen))
        if where not in (Standing.CLEARED, Standing.FAILS):
            yield name, f"{one.name} fails, and {told(world, name, where)}"
