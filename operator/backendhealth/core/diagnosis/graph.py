"""What a profile says of its components, looked up once for each profile."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

from backendhealth.core.diagnosis.upstream import Identity
from backendhealth.core.spec.profile import DiagnosisProfileSpec, FeatureEffect, ProfileComponent, Symptom


@dataclass(frozen=True, slots=True)
class Graph:
    """Components and symptoms by name, in the profile's order; `below`: what each depends on, the nearest first."""

    components: dict[str, ProfileComponent]
    symptoms: dict[str, Symptom]
    below: dict[str, tuple[str, ...]]
    effects: dict[tuple[str, str], FeatureEffect]
    """By component and feature."""

    def direct(self, name: str) -> list[str]:
        """What the component depends on by itself."""
        return self.components[name].depends_on if name in self.components else []

    def path(self, name: str, target: str) -> list[str]:
        """The shortest way by dependencies from one to the other, both included; empty without one."""
        came: dict[str, str] = {name: ""}
        ahead = [name]
        for one in ahead:
            for other in self.direct(one):
                if other not in came:
                    came[other] = one
                    ahead.append(other)
        if target not in came:
            return []
        way = [target]
        while came[way[-1]]:
            way.append(came[way[-1]])
        return way[::-1]


def graph_of(profile: DiagnosisProfileSpec) -> Graph:
    """What the profile says, sorted for looking up."""
    return _graph(Identity(profile))


@lru_cache(maxsize=256)
def _graph(identity: Identity) -> Graph:
    profile = identity.profile
    components = {one.name: one for one in profile.components}
    reached = {name: _reached(components, name) for name in components}
    below = {}
    place = {name: index for index, name in enumerate(components)}
    for name, found in reached.items():
        # were there a circle, the one that is declared first would be the cause of the others
        below[name] = tuple(one for one in found if name not in reached.get(one, ()) or place[one] < place[name])
    effects = {(one.name, effect.feature): effect for one in profile.components for effect in one.effects}
    return Graph(components, {one.name: one for one in profile.symptoms}, below, effects)


def _reached(components: dict[str, ProfileComponent], name: str) -> dict[str, None]:
    reached: dict[str, None] = {}
    ahead = list(components[name].depends_on)
    for one in ahead:
        if one not in reached and one != name:
            reached[one] = None
            ahead += components[one].depends_on if one in components else ()
    return reached
