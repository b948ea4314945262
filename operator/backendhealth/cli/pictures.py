"""Pictures of a DiagnosisProfile: what depends on what, and whom each symptom implicates first."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from backendhealth.core.spec.profile import DiagnosisProfile

_MERMAID = str.maketrans({character: f"#{ord(character)};" for character in '"#<>&;`\\'})
"""In a label, these would be taken for syntax; Mermaid reads them by their numbers."""


def mermaid(profile: DiagnosisProfile) -> str:
    """A Mermaid flowchart. Arrows go from a component to what it depends on, dotted ones from symptoms to suspects."""
    lines = ["flowchart LR"]
    for name, title in _components(profile):
        lines.append(f'  c_{_id(name)}["{title.translate(_MERMAID)}"]')
    lines += [f"  c_{_id(one)} --> c_{_id(other)}" for one, other in _dependencies(profile)]
    for name, question in _symptoms(profile):
        lines.append(f'  s_{_id(name)}(["{question.translate(_MERMAID)}"])')
    lines += [f"  s_{_id(one)} -. no .-> c_{_id(other)}" for one, other in _first_suspects(profile)]
    return "\n".join(lines) + "\n"


def dot(profile: DiagnosisProfile) -> str:
    """The same for Graphviz."""
    lines = [f"digraph {_quoted(profile.metadata.name)} {{", "  rankdir=LR;", "  node [shape=box];"]
    lines += [f"  {_quoted(f'component/{name}')} [label={_quoted(title)}];" for name, title in _components(profile)]
    lines += [f"  {_edge(one, other)};" for one, other in _dependencies(profile)]
    for name, question in _symptoms(profile):
        lines.append(f"  {_quoted(f'symptom/{name}')} [shape=oval, label={_quoted(question)}];")
    for one, other in _first_suspects(profile):
        lines.append(f'  {_edge(one, other, "symptom")} [style=dotted, label="no"];')
    return "\n".join([*lines, "}"]) + "\n"


PICTURES: dict[str, Callable[[DiagnosisProfile], str]] = {"mermaid": mermaid, "dot": dot}


def _components(profile: DiagnosisProfile) -> Iterator[tuple[str, str]]:
    yield from ((one.name, one.title) for one in profile.spec.components)


def _dependencies(profile: DiagnosisProfile) -> Iterator[tuple[str, str]]:
    yield from ((one.name, other) for one in profile.spec.components for other in one.depends_on)


def _symptoms(profile: DiagnosisProfile) -> Iterator[tuple[str, str]]:
    yield from ((one.name, one.question) for one in profile.spec.symptoms)


def _first_suspects(profile: DiagnosisProfile) -> Iterator[tuple[str, str]]:
    yield from ((one.name, one.implicates[0]) for one in profile.spec.symptoms)


def _id(name: str) -> str:
    """Names have no underscores, so no two become the same."""
    return name.replace("-", "_")


def _edge(one: str, other: str, kind: str = "component") -> str:
    return f"{_quoted(f'{kind}/{one}')} -> {_quoted(f'component/{other}')}"


def _quoted(text: str) -> str:
    return '"' + text.replace("\\", "\\\\").replace('"', '\\"') + '"'
