"""Rules on what leads to what: where names go in a circle, and rules that tell what they have found."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Mapping, Sequence

from backendhealth.core.spec.base import Raw, Rule

Place = tuple[str | int, ...]
Found = tuple[Place, str]
"""Where something is wrong, and what to say of it."""


def circles(edges: Mapping[str, Mapping[str, Place]]) -> list[Found]:
    """The shortest circle through each name that is not in one already told of: where it begins, and its path.

    `edges`: by name, the names that it leads to, and where that is said.
    """
    told: set[str] = set()
    found = []
    for name in edges:
        path = _way_back(edges, name) if name not in told else []
        if path:
            told.update(path)
            found.append((edges[name][path[1]], " → ".join(path)))
    return found


def _way_back(edges: Mapping[str, Mapping[str, Place]], start: str) -> list[str]:
    """The shortest way from `start` to itself, both ends included; empty without one. Each edge is taken once."""
    came: dict[str, str] = {}
    ahead = deque([start])
    while ahead and start not in came:
        one = ahead.popleft()
        for other in edges.get(one, ()):
            if other not in came:
                came[other] = one
                ahead.append(other)
    if start not in came:
        return []
    path = [start, came[start]]
    while path[-1] != start:
        path.append(came[path[-1]])
    return path[::-1]


def detailed(
    rule_id: str, message: str, fields: tuple[str, ...], field: str, found: Callable[[Raw], Sequence[Found]]
) -> Rule:
    """A rule of lint and the operator alone: nothing may be found below `field`; the message goes on with what is."""
    return Rule(
        id=rule_id,
        message=message,
        cel="",
        fields=fields,
        holds=lambda raw: not found(raw),
        field=field,
        where=lambda raw: [place for place, _ in found(raw)],
        details=lambda raw: [told for _, told in found(raw)],
    )
