"""What users notice of each feature: as the profile predicts it, unless it was measured."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from backendhealth.core.diagnosis.telling import UNTOUCHED
from backendhealth.core.diagnosis.times import fell, worked
from backendhealth.core.diagnosis.world import Answered, World
from backendhealth.core.observation import clip
from backendhealth.core.spec.profile import Effect, Feature
from backendhealth.core.spec.status import Impact, Mismatch
from backendhealth.core.verdict import Verdict

_RANK: dict[Effect, int] = {"Works": 0, "Degraded": 1, "Fails": 2}


@dataclass(frozen=True, slots=True)
class _Predicted:
    effect: Effect = "Works"
    component: str = ""
    because: str = UNTOUCHED
    start: float = float("-inf")
    """When the component had failed, in seconds since the epoch."""


@dataclass(frozen=True, slots=True)
class Noticed:
    """What users notice, where that is not what the profile predicts, and what is to be measured at once."""

    impact: list[Impact]
    mismatches: list[Mismatch]
    asked: frozenset[str]


def noticed(world: World, causes: Sequence[str]) -> Noticed:
    """What users notice while something fails; `causes` count before what they explain."""
    impact, mismatches, asked, titles = [], [], set(), set()
    for feature in world.profile.features:
        predicted = _predicted(world, feature, causes)
        measures = [one for one in world.symptoms if one.symptom and one.symptom.feature == feature.name]
        title = clip(feature.title, 253)
        title = feature.name if title in titles else title
        titles.add(title)
        told, wrong = _told(title, predicted, measures)
        impact.append(told)
        mismatches += wrong
        if predicted.effect == "Fails":
            asked |= {one.asked for one in measures if one.seen.verdict is Verdict.HEALTHY and _old(one, predicted)}
    return Noticed(impact, mismatches, frozenset(asked))


def _predicted(world: World, feature: Feature, causes: Sequence[str]) -> _Predicted:
    worst = _Predicted()
    for name in (*causes, *(one for one in world.failing if one not in causes)):
        one = world.effect(name, feature.name)
        if one and _RANK[one.effect] > _RANK[worst.effect]:
            worst = _Predicted(one.effect, name, f"{name}: {one.because}", fell(world.seen[name]))
    return worst


def _old(one: Answered, predicted: _Predicted) -> bool:
    """Whether it was measured before the component had failed."""
    return worked(one.seen) < predicted.start


def _told(title: str, predicted: _Predicted, measures: Sequence[Answered]) -> tuple[Impact, list[Mismatch]]:
    for one in measures:
        if one.seen.verdict is Verdict.UNHEALTHY:
            return _impact(title, "Fails", f"measured by {one.name}: {one.seen.message}"), []
    for one in measures:
        if one.seen.verdict is Verdict.DEGRADED and predicted.effect != "Fails":
            return _impact(title, "Degraded", f"measured by {one.name}: {one.seen.message}"), []
    works = [one for one in measures if one.seen.verdict is Verdict.HEALTHY and not _old(one, predicted)]
    if not works:
        return _impact(title, predicted.effect, predicted.because), []
    measured = f"measured by {works[0].name}: {works[0].seen.message}"
    if predicted.effect == "Degraded":  # one check that passes is no proof that all do
        return _impact(title, "Degraded", f"{predicted.because}; {works[0].name} works"), []
    if predicted.effect == "Works":
        return _impact(title, "Works", measured), []
    message = (
        f"the profile says that {title} fails when {predicted.component} is down, but {works[0].name} works since"
        f" {predicted.component} failed: is this the right profile for the platform? It says: {predicted.because}"
    )
    return _impact(title, "Works", measured), [Mismatch(name=title, message=clip(message))]


def _impact(feature: str, effect: Effect, because: str) -> Impact:
    return Impact(feature=feature, effect=effect, because=clip(because))
