"""What a profile says of its components, looked up once for each profile."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import lru_cache

from backendhealth.core.spec.profile import DiagnosisProfileSpec, FeatureEffect, ProfileComponent, Symptom


@dataclass(frozen=True, slots=True)
class Graph:
    """Components and symptoms by name, in the profile's order; `below`: what each depends on, the nearest first.

    `upstream`: what each may fail because of: what it depends on, what a confounder or its own symptom suspects.
    """

    components: dict[str, ProfileComponent]
    symptoms: dict[str, Symptom]
    below: dict[str, tuple[str, ...]]
    effects: dict[tuple[str, str], FeatureEffect]
    """By component and feature."""
    upstream: dict[str, frozenset[str]]

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
    return _graph(_Identity(profile))


def upstream(profile: DiagnosisProfileSpec, names: Iterable[str]) -> set[str]:
    """The components that any of `names` depends on, directly or not, or that its failure implicates."""
    known = graph_of(profile).upstream
    return set().union(*(known.get(name, frozenset()) for name in names))


def reached(first: Iterable[str], further: Callable[[str], Iterable[str]]) -> dict[str, None]:
    """All that is reached from `first`, itself included, going `further` from each; the nearest first."""
    found: dict[str, None] = {}
    ahead = list(first)
    for one in ahead:
        if one not in found:
            found[one] = None
            ahead += further(one)
    return found


class _Identity:
    """A profile by its identity: it is frozen, and comparing or hashing all of it would cost more than it saves."""

    __slots__ = ("profile",)

    def __init__(self, profile: DiagnosisProfileSpec) -> None:
        self.profile = profile

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _Identity) and other.profile is self.profile

    def __hash__(self) -> int:
        return id(self.profile)


@lru_cache(maxsize=256)
def _graph(identity: _Identity) -> Graph:
    profile = identity.profile
    components = {one.name: one for one in profile.components}
    needs = _below({name: one.depends_on for name, one in components.items()})
    below = {}
    place = {name: index for index, name in enumerate(components)}
    for name, found in needs.items():
        # were there a circle, the one that is declared first would be the cause of the others
        below[name] = tuple(one for one in found if name not in needs.get(one, ()) or place[one] < place[name])
    effects = {(one.name, effect.feature): effect for one in profile.components for effect in one.effects}
    symptoms = {one.name: one for one in profile.symptoms}
    return Graph(components, symptoms, below, effects, _implicated(profile))


def _implicated(profile: DiagnosisProfileSpec) -> dict[str, frozenset[str]]:
    direct = {one.name: [*one.depends_on] for one in profile.components}
    for confounder in profile.confounders:
        direct.setdefault(confounder.component, []).extend(confounder.suspects)
    for symptom in profile.symptoms:
        direct.setdefault(symptom.name, []).extend(symptom.implicates)
    return {name: frozenset(found) for name, found in _below(direct).items()}


def _below(direct: dict[str, list[str]]) -> dict[str, list[str]]:
    """What is below each name, the nearest first; never itself."""
    return {
        name: [one for one in reached(first, lambda one: direct.get(one, ())) if one != name]
        for name, first in direct.items()
    }
