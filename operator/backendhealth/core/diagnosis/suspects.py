"""Who is suspected of what is unexplained, the likeliest first, and what a person should find out next."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from backendhealth.core.diagnosis.causes import Ruling
from backendhealth.core.diagnosis.signatures import Match
from backendhealth.core.diagnosis.world import Answered, World
from backendhealth.core.spec.profile import Symptom
from backendhealth.core.verdict import Verdict

Ruled = Sequence[tuple[Answered, Ruling]]


def suspects(made: Mapping[str, Ruling], symptoms: Ruled, matched: Sequence[Match]) -> dict[str, str]:
    """Each suspect with what speaks against it; those that error texts name come first."""
    found: dict[str, str] = {}
    cleared = {name for match in matched for name in match.signature.clears}
    for ruling in (*made.values(), *(ruling for _, ruling in symptoms)):
        for name, because in ruling.suspects:
            if name not in cleared or name in made:
                found.setdefault(name, because)
    named = {name: match.told for match in reversed(matched) for name in reversed(match.signature.implicates)}
    order = [name for match in matched for name in match.signature.implicates if name in found]
    return {name: named.get(name, found[name]) for name in dict.fromkeys((*order, *found))}


def next_question(world: World, made: Mapping[str, Ruling], symptoms: Ruled, suspected: Sequence[str]) -> str:
    """What a person should find out next; empty while there is nothing to ask for."""
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
