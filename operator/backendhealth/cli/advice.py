"""How a triage ends: the diagnosis and the next steps in plain words, or as data."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from backendhealth.cli.output import diagnosis_text, wrapped
from backendhealth.core.spec.profile import Effect, ProfileComponent
from backendhealth.core.triage import Triage
from backendhealth.core.verdict import Verdict


def something_is_wrong(triage: Triage) -> bool:
    """Whether anything fails."""
    diagnosis = triage.diagnosis
    return bool(diagnosis.root_causes or diagnosis.explained or diagnosis.unexplained)


def untold(triage: Triage) -> list[str]:
    """What nobody can tell: questions without an answer, components that are Unknown; for people."""
    questions = [f"{one.name}: {one.question}" for one in triage.unanswered]
    components = triage.evidence.components.items()
    return questions + [
        f"{name}: {one.reason}: {one.message}" for name, one in components if one.verdict is Verdict.UNKNOWN
    ]


def as_text(triage: Triage) -> str:
    """The diagnosis and the next steps, or that nothing is known to be wrong."""
    if something_is_wrong(triage):
        return diagnosis_text(triage.diagnosis).lstrip("\n") + _suspects(triage)
    unknown = untold(triage)
    lines = ["Nothing is known to be wrong."]
    if unknown:
        lines += ["Nobody can tell:", *(f"  {one}" for one in unknown)]
    return "\n".join(map(wrapped, lines)) + "\n"


def as_object(triage: Triage, profile: str) -> dict[str, Any]:
    """`profile`, `questions` with their answers, and `diagnosis` as in a BackendHealth's status."""
    dumped = triage.diagnosis.model_dump(mode="json", by_alias=True, exclude_none=True, exclude_defaults=True)
    return {"profile": profile, "questions": list(_questions(triage)), "diagnosis": dumped}


def _questions(triage: Triage) -> Iterator[dict[str, str]]:
    words = {True: "yes", False: "no", None: "unknown"}
    for symptom in triage.profile.symptoms:
        told = {"symptom": symptom.name, "question": symptom.question}
        reply, seen = triage.replies.get(symptom.name), triage.measured(symptom)
        if reply is not None:
            told |= {"answer": words[reply.works], "by": "person"} | ({"error": reply.error} if reply.error else {})
        elif seen is not None:
            told |= {"answer": words[seen.verdict is not Verdict.UNHEALTHY], "by": "probe", "message": seen.message}
        yield told


def _suspects(triage: Triage) -> str:
    """What to look at, the likeliest first; of that one what its failure would mean, too: compare with what you see."""
    known = {one.name: one for one in triage.profile.components}
    lines = [
        line
        for place, suspect in enumerate(triage.diagnosis.suspects, 1)
        if suspect.component in known
        for line in _suspect(triage, place, known[suspect.component])
    ]
    return "\n".join(["\nSUSPECTS, THE LIKELIEST FIRST", *map(wrapped, lines)]) + "\n" if lines else ""


def _suspect(triage: Triage, place: int, component: ProfileComponent) -> Iterator[str]:
    role = f", {component.role}" if component.role else ""
    yield f"{place}. {component.name}: {component.title}{role}"
    yield from _noticed(triage, component) if place == 1 else ()
    if component.next_step:
        yield f"   Look at: {component.next_step}"
    if component.runbook:
        yield f"   Runbook: {component.runbook}"


def _noticed(triage: Triage, component: ProfileComponent) -> Iterator[str]:
    effects = {one.feature: one.effect for one in component.effects}
    for words, effect in _NOTICED:
        titles = [one.title for one in triage.profile.features if effects.get(one.name, "Works") == effect]
        if titles:
            yield f"   {words}: {', '.join(titles)}"


_NOTICED: tuple[tuple[str, Effect], ...] = (
    ("If it is down, these fail", "Fails"),
    ("Degraded", "Degraded"),
    ("Still works", "Works"),
)
