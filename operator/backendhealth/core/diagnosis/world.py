"""Profile and evidence side by side, in an order that does not depend on how they came."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from backendhealth.core.diagnosis.evidence import Evidence, Seen
from backendhealth.core.diagnosis.graph import Graph, graph_of
from backendhealth.core.durations import seconds
from backendhealth.core.spec.profile import DiagnosisProfileSpec, FeatureEffect, ProfileComponent, Symptom
from backendhealth.core.verdict import Verdict

_DEFAULT_GRACE: str = ProfileComponent.model_fields["recovery_grace"].default


@dataclass(frozen=True, slots=True)
class Answered:
    """What answers a symptom. `name` is how a status names it, `asked` how Answer.asked does."""

    name: str
    asked: str
    seen: Seen
    symptom: Symptom | None
    """None: the profile knows no such symptom."""


@dataclass(frozen=True, slots=True)
class World:
    """What is known and what is seen. `seen` holds the components, in the profile's order, then by name."""

    profile: DiagnosisProfileSpec
    graph: Graph
    now: float
    seen: dict[str, Seen]
    symptoms: tuple[Answered, ...]
    failing: tuple[str, ...]

    def dependencies(self, name: str) -> tuple[str, ...]:
        """What the component depends on, directly or not, the nearest first."""
        return self.graph.below.get(name, ())

    def effect(self, component: str, feature: str | None) -> FeatureEffect | None:
        """What the failure of the component does to the feature; None when the profile says nothing of it."""
        return None if feature is None else self.graph.effects.get((component, feature))

    @property
    def components(self) -> dict[str, ProfileComponent]:
        """The components that the profile knows, in its order."""
        return self.graph.components

    def grace(self, name: str) -> float:
        """Seconds that the component may take to recover."""
        known = self.components.get(name)
        return seconds(known.recovery_grace if known else _DEFAULT_GRACE)

    def ordered(self, names: Iterable[str]) -> tuple[str, ...]:
        """The components `names`, once each, in the order of the profile, then by name."""
        wanted = set(names)
        known = [name for name in self.components if name in wanted]
        return (*known, *sorted(wanted.difference(known)))


def look(profile: DiagnosisProfileSpec, evidence: Evidence, now: float) -> World:
    """Profile and evidence, sorted."""
    graph = graph_of(profile)
    components, known = graph.components, graph.symptoms
    answering = {name for name in evidence.components if name in known and name not in components}
    names = [*(name for name in components if name in evidence.components)]
    names += sorted(name for name in evidence.components if name not in components and name not in answering)
    seen = {name: evidence.components[name] for name in names}
    symptoms = []
    for name in (*known, *sorted(evidence.symptoms.keys() - known.keys())):
        if name in evidence.symptoms:
            symptoms.append(Answered(f"symptom/{name}", name, evidence.symptoms[name], known.get(name)))
        if name in answering:
            symptoms.append(Answered(name, name, evidence.components[name], known[name]))
    failing = tuple(name for name, one in seen.items() if one.verdict is Verdict.UNHEALTHY)
    return World(profile, graph, now, seen, tuple(symptoms), failing)
