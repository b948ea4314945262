"""What must be right between the parts of a DiagnosisProfile: names that are there, no circle, no contradiction."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

from backendhealth.core.spec.base import Raw, Rule
from backendhealth.core.spec.circles import Found, Place, circles, detailed


def _items(raw: Raw, field: str) -> list[Raw]:
    return raw.get(field) or []


def _names(field: str) -> Callable[[Raw], list[str]]:
    return lambda raw: [item["name"] for item in _items(raw, field)]


def _named(item: Raw, path: str) -> Iterator[tuple[Place, str]]:
    """The names at `path` of an item: of a field, of a list, or of the field of a list's items."""
    field, _, inner = path.partition(".")
    value = item.get(field)
    if isinstance(value, str):
        yield (field,), value
    for index, one in enumerate(value if isinstance(value, list) else ()):
        if inner:
            yield (field, index, inner), one[inner]
        else:
            yield (field, index), one


def _unknown(of: str, at: str, paths: Sequence[str]) -> Callable[[Raw], list[Place]]:
    def places(raw: Raw) -> list[Place]:
        known = set(_names(of)(raw))
        return [
            (index, *place)
            for index, item in enumerate(_items(raw, at))
            for path in paths
            for place, name in _named(item, path)
            if name not in known
        ]

    return places


def _cel_of(path: str) -> str:
    field, _, inner = path.partition(".")
    if path in ("component", "feature"):
        return f"(!has(p.{field}) || p.{field} in names)"
    return f"(!has(p.{field}) || p.{field}.all(q, q{'.' if inner else ''}{inner} in names))"


def _known_names(of: str, at: str, *paths: str) -> Rule:
    """The rule that the names at `paths` of the items of `at` are names of items of `of`."""
    singular = of.removesuffix("s")
    where = _unknown(of, at, paths)
    # the list in brackets stands for a variable: the names are gathered once, not for each item
    gathered = f"[has(self.{of}) ? self.{of}.map(p, p.name) : []]"
    return Rule(
        id=f"unknown-{singular}",
        message=f"the profile has no {singular} of this name: correct it, or add it to `{of}`",
        cel=f"!has(self.{at}) || {gathered}.all(names, self.{at}.all(p, {' && '.join(map(_cel_of, paths))}))",
        fields=tuple(dict.fromkeys((f"{of}.name", *(f"{at}.{path}" for path in paths)))),
        holds=lambda raw: not where(raw),
        field=at,
        where=where,
        known=_names(of),
    )


def _edges(raw: Raw) -> dict[str, dict[str, Place]]:
    """What each component depends on, and where it says so; itself is another rule's."""
    edges: dict[str, dict[str, Place]] = {}
    for index, item in enumerate(_items(raw, "components")):
        own = edges.setdefault(item["name"], {})
        for place, name in _named(item, "dependsOn"):
            if name != item["name"]:
                own.setdefault(name, (index, *place))
    return edges


def _cycles(raw: Raw) -> list[Found]:
    return circles(_edges(raw))


def _in_both(first: str, second: str) -> Callable[[Raw], list[Place]]:
    def places(raw: Raw) -> list[Place]:
        others = set(raw.get(first) or ())
        return [(index,) for index, name in enumerate(raw.get(second) or ()) if name in others]

    return places


def _itself(own: str, listed: str) -> Callable[[Raw], list[Place]]:
    return lambda raw: [(index,) for index, name in enumerate(raw.get(listed) or ()) if name == raw[own]]


def _not_itself(rule_id: str, own: str, listed: str, message: str) -> Rule:
    where = _itself(own, listed)
    return Rule(
        id=rule_id,
        message=message,
        cel=f"!has(self.{listed}) || !(self.{own} in self.{listed})",
        fields=(own, listed),
        holds=lambda raw: not where(raw),
        field=listed,
        where=where,
    )


_contradicting = _in_both("implicates", "clears")

COMPONENT_RULES = (
    _not_itself("self-dependency", "name", "dependsOn", "a component does not depend on itself: remove it"),
)
SIGNATURE_RULES = (
    Rule(
        id="signature-names-none",
        message="a signature speaks for or against a component: set implicates or clears",
        cel="has(self.implicates) && self.implicates.size() > 0 || has(self.clears) && self.clears.size() > 0",
        fields=("implicates", "clears"),
        holds=lambda raw: bool(raw.get("implicates") or raw.get("clears")),
    ),
    Rule(
        id="contradicting-signature",
        message="the same text can't both speak against this component (implicates) and for it: remove one",
        cel="!has(self.implicates) || !has(self.clears) || self.clears.all(c, !(c in self.implicates))",
        fields=("implicates", "clears"),
        holds=lambda raw: not _contradicting(raw),
        field="clears",
        where=_contradicting,
    ),
)
CONFOUNDER_RULES = (
    _not_itself(
        "confounder-suspects-itself",
        "component",
        "suspects",
        "this component only looks like the cause: name what is the cause instead",
    ),
)
SPEC_RULES = (
    _known_names("components", "components", "dependsOn"),
    _known_names("features", "components", "effects.feature"),
    _known_names("features", "symptoms", "feature"),
    _known_names("components", "symptoms", "implicates"),
    _known_names("components", "signatures", "implicates", "clears"),
    _known_names("components", "confounders", "component", "suspects"),
    detailed(
        "dependency-cycle",
        "components depend on each other in a circle, so that none could be the cause: ",
        ("components.name", "components.dependsOn"),
        "components",
        _cycles,
    ),
)
