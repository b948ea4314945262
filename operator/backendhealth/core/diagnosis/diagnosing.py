"""The diagnosis: from what is believed of each component and symptom to causes, what they explain, and the impact."""

from __future__ import annotations

from collections.abc import Iterable

from backendhealth.core.diagnosis.causes import rulings
from backendhealth.core.diagnosis.evidence import Answer, Evidence
from backendhealth.core.diagnosis.impact import noticed
from backendhealth.core.diagnosis.proof import Ruled, root_cause
from backendhealth.core.diagnosis.signatures import matches
from backendhealth.core.diagnosis.standing import Standing, standing
from backendhealth.core.diagnosis.suspects import next_question, suspects
from backendhealth.core.diagnosis.symptoms import symptom_rulings
from backendhealth.core.diagnosis.world import World, look
from backendhealth.core.observation import clip
from backendhealth.core.spec.profile import DiagnosisProfileSpec
from backendhealth.core.spec.status import Diagnosis, Explained, Mismatch, Suspect, Unexplained
from backendhealth.core.verdict import Verdict

_MOST = 100
_MOST_BY = 16
_MOST_SUSPECTS = 32
_NOTHING = Answer(Diagnosis())


def diagnose(profile: DiagnosisProfileSpec, evidence: Evidence, now: float) -> Answer:
    """What is wrong at `now` (seconds since the epoch), as far as `profile` and `evidence` tell.

    The same arguments give the same answer, in whatever order the mappings are. Nothing fails: it is empty.
    """
    world = look(profile, evidence, now)
    if not world.failing and all(one.seen.verdict is not Verdict.UNHEALTHY for one in world.symptoms):
        return _NOTHING
    matched = matches(world)
    made = rulings(world)
    ruled = Ruled(made, symptom_rulings(world, made, matched), matched)
    causes = [name for name, ruling in made.items() if ruling.is_cause]
    impact = noticed(world, causes)
    suspected = suspects(world, made, ruled.symptoms, matched)
    told = [*made.items(), *((one.name, ruling) for one, ruling in ruled.symptoms)]
    diagnosis = Diagnosis(
        root_causes=[root_cause(world, name, ruled) for name in causes[:_MOST]],
        explained=[
            Explained(name=name, by=list(ruling.by[:_MOST_BY]), because=clip(ruling.because))
            for name, ruling in told
            if ruling.by
        ][:_MOST],
        unexplained=[
            Unexplained(name=name, because=clip(ruling.because)) for name, ruling in told if ruling.waits or ruling.open
        ][:_MOST],
        suspects=[Suspect(component=name, because=clip(why)) for name, why in suspected.items()][:_MOST_SUSPECTS],
        next_question=clip(next_question(world, made, ruled.symptoms, list(suspected), matched)),
        impact=impact.impact,
        mismatches=_merged([*impact.mismatches, *_contradicted(world, ruled)]),
    )
    waits = {name for _, ruling in told for name in ruling.waits}
    again = [ruling.until for _, ruling in told if ruling.until is not None]
    return Answer(diagnosis, frozenset(waits) | impact.asked, min(again, default=None))


def _contradicted(world: World, ruled: Ruled) -> list[Mismatch]:
    """Components that an error text speaks against and that work, unless something quite else explains the text."""
    explained = {name: ruling.by for name, ruling in ruled.components.items()}
    explained |= {one.name: ruling.by for one, ruling in ruled.symptoms}
    found = []
    for match in ruled.matched:
        by = explained.get(match.source)
        if by and set(by).isdisjoint(match.signature.implicates):
            continue
        for name in match.signature.implicates:
            seen = world.seen.get(name)
            if seen and seen.verdict is Verdict.HEALTHY and standing(world, name, match.start) is Standing.CLEARED:
                message = (
                    f"{match.told}; but {name} was seen to work since: look at the way from {match.source} to {name}"
                )
                found.append(Mismatch(name=name, message=clip(message)))
    return found


def _merged(mismatches: Iterable[Mismatch], most: int = 32) -> list[Mismatch]:
    """One for each name."""
    texts: dict[str, list[str]] = {}
    for one in mismatches:
        told = texts.setdefault(one.name, [])
        if one.message not in told:
            told.append(one.message)
    return [Mismatch(name=name, message=clip("; ".join(told))) for name, told in texts.items()][:most]
