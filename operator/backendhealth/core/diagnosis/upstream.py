"""What a component or a symptom may fail because of."""

from __future__ import annotations

from collections.abc import Iterable
from functools import lru_cache

from backendhealth.core.spec.profile import DiagnosisProfileSpec


def upstream(profile: DiagnosisProfileSpec, names: Iterable[str]) -> set[str]:
    """The components that any of `names` depends on, directly or not, or that its failure implicates."""
    known = _upstream(Identity(profile))
    return set().union(*(known.get(name, frozenset()) for name in names))


class Identity:
    """A profile by its identity: it is frozen, and comparing or hashing all of it would cost more than it saves."""

    __slots__ = ("profile",)

    def __init__(self, profile: DiagnosisProfileSpec) -> None:
        self.profile = profile

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Identity) and other.profile is self.profile

    def __hash__(self) -> int:
        return id(self.profile)


@lru_cache(maxsize=256)
def _upstream(identity: Identity) -> dict[str, frozenset[str]]:
    profile = identity.profile
    direct: dict[str, set[str]] = {one.name: set(one.depends_on) for one in profile.components}
    for confounder in profile.confounders:
        direct.setdefault(confounder.component, set()).update(confounder.suspects)
    for symptom in profile.symptoms:
        direct.setdefault(symptom.name, set()).update(symptom.implicates)
    found = {}
    for name, first in direct.items():
        reached: set[str] = set()
        ahead = list(first)
        while ahead:
            one = ahead.pop()
            if one not in reached:
                reached.add(one)
                ahead.extend(direct.get(one, ()))
        found[name] = frozenset(reached - {name})
    return found
