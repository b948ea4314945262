"""Who is suspected of what is unexplained, the likeliest first, and what a person should find out next."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from backendhealth.core.diagnosis.causes import Ruling
from backendhealth.core.diagnosis.signatures import Match
from backendhealth.core.diagnosis.times import fell, worked
from backendhealth.core.diagnosis.world import Answered, World
from backendhealth.core.spec.profile import Symptom
from backendhealth.core.verdict import Verdict

Ruled = Sequence[tuple[Answered, Ruling]]


def suspects(world: World, made: Mapping[str, Ruling], symptoms: Ruled, matched: Sequence[Match]) -> dict[str, str]:
    """Each suspect with what speaks against it: those that error texts name come first, the unlikely last."""
    likely: dict[str, str] = {}
    unlikely: dict[str, str] = {}
    cleared = {name for match in matched for name in match.signature.clears}
    for start, ruling in _ruled(world, made, symptoms):
        for name, because in ruling.suspects:
            if name in cleared and name not in made:
                continue
            works = "" if name in made else _would_fail(world, name, start)
            if works:
                unlikely.setdefault(name, f"{because}; yet {works} works, which fails with it")
            else:
                likely.setdefault(name, because)
    found = {**likely, **{name: because for name, because in unlikely.items() if name not in likely}}
    named = {name: match.told for match in reversed(matched) for name in reversed(match.signature.implicates)}
    order = [name for match in matched for name in match.signature.implicates if name in found]
    return {name: named.get(name, found[name]) for name in dict.fromkeys((*order, *found))}


def _ruled(world: World, made: Mapping[str, Ruling], symptoms: Ruled) -> Iterator[tuple[float, Ruling]]:
    """All rulings, each with the time (seconds since the epoch) at which what it is about had failed."""
    for name, ruling in made.items():
        yield fell(world.seen[name]), ruling
    for one, ruling in symptoms:
        yield fell(one.seen), ruling


def _would_fail(world: World, name: str, start: float) -> str:
    """A symptom that was seen to work since `start`, and would not if the component had failed; empty without one.

    It makes the component unlikely and does not clear it: what a check needs may be cached. Only what others depend on:
    a check goes through one of many drivers, and past a load balancer.
    """
    if not any(name in one.depends_on for one in world.profile.components):
        return ""
    for one in world.symptoms:
        if one.symptom is None or one.seen.verdict is not Verdict.HEALTHY or name not in one.symptom.implicates:
            continue
        effect = world.effect(name, one.symptom.feature)
        if effect and effect.effect == "Fails" and worked(one.seen) >= start:
            return one.name
    return ""


def next_question(
    world: World, made: Mapping[str, Ruling], symptoms: Ruled, suspected: Sequence[str], matched: Sequence[Match]
) -> str:
    """What a person should find out next; empty while there is nothing to ask for.

    Where an error text names a suspect, that is what is to be looked at: the order of triage is for who knows less.
    """
    pointed = _pointed_at(world, made, symptoms, suspected, matched)
    if pointed:
        return pointed
    open_ = next((one for one, ruling in symptoms if ruling.open and one.symptom), None)
    if open_ is not None and open_.symptom is not None:
        asked = _unanswered(world, open_.symptom)
        if asked:
            return asked.question
        if open_.symptom.next_step:
            return open_.symptom.next_step
    elif any(ruling.open for ruling in made.values()):
        told = {one.symptom.name for one in world.symptoms if one.symptom and _answers(one)}
        for symptom in world.profile.symptoms:
            if symptom.name not in told and not set(symptom.implicates).isdisjoint(suspected):
                return symptom.question
    steps = (world.components[name].next_step for name in suspected if name in world.components)
    return next((step for step in steps if step), "")


def _pointed_at(
    world: World, made: Mapping[str, Ruling], symptoms: Ruled, suspected: Sequence[str], matched: Sequence[Match]
) -> str:
    """What to look at of the first suspect that the error text of something unexplained, or a log, names."""
    settled = {name for name, ruling in made.items() if not ruling.open}
    settled |= {one.name for one, ruling in symptoms if not ruling.open}
    named = {name for match in matched if match.source not in settled for name in match.signature.implicates}
    steps = (world.components[name].next_step for name in suspected if name in named and name in world.components)
    return next((step for step in steps if step), "")


def _unanswered(world: World, failing: Symptom) -> Symptom | None:
    """The first symptom before `failing` that nobody has answered, after the last that works: triage goes in order."""
    answers = {one.symptom.name: one.seen.verdict for one in world.symptoms if one.symptom and _answers(one)}
    found = None
    for symptom in world.profile.symptoms:
        if symptom.name == failing.name:
            return found
        verdict = answers.get(symptom.name)
        if verdict is None:
            found = found or symptom
        elif verdict is not Verdict.UNHEALTHY:
            found = None
    return found


def _answers(one: Answered) -> bool:
    return one.seen.verdict is not Verdict.UNKNOWN
