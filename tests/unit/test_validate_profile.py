"""What is refused in a DiagnosisProfile, with its place and what was meant; and that it is never slow about it."""

from __future__ import annotations

from typing import Any

import pytest

from backendhealth.core import patterns, validate, wording
from backendhealth.core.spec.profile import DiagnosisProfile
from backendhealth.core.spec.profilerules import SPEC_RULES
from backendhealth.core.validate import Problem, validate_profile
from tests.unit.profilemaking import component, greatest_profile, names, profile


def problems(**spec: Any) -> list[Problem]:
    resource, found = validate_profile(profile(**spec))
    assert (resource is None) == bool(found)
    return found


def told(**spec: Any) -> list[tuple[str, str, str]]:
    return [(problem.path, problem.rule, problem.suggestion) for problem in problems(**spec)]


def test_a_good_one_is_a_profile():
    found, wrong = validate_profile(profile(components=[component("api", "db"), component("db")]))
    assert isinstance(found, DiagnosisProfile)
    assert wrong == []
    assert found.spec.components[0].depends_on == ["db"]


def test_a_symptom_may_have_the_name_of_a_component():
    symptom = {"name": "api", "question": "Does it answer?", "implicates": ["api"]}
    assert problems(components=[component("api")], symptoms=[symptom]) == []


def test_what_was_meant_is_said():
    assert told(components=[component("database"), component("api", "data-base", "cache")]) == [
        ("spec.components[1].dependsOn[0]", "unknown-component", "database"),
        ("spec.components[1].dependsOn[1]", "unknown-component", ""),
    ]


@pytest.mark.parametrize(
    ("edges", "paths"),
    [
        ({"a": "b", "b": "a"}, {(0, 0): "a → b → a"}),
        ({"a": "b", "b": "c", "c": "b"}, {(1, 0): "b → c → b"}),
        ({"a": "xb", "b": "c", "c": "xda", "d": "a"}, {(0, 1): "a → b → c → a", (3, 0): "d → a → b → c → d"}),
        ({"a": "b", "b": "a", "c": "d", "d": "c"}, {(0, 0): "a → b → a", (2, 0): "c → d → c"}),
        ({"a": "bc", "b": "d", "c": "d", "d": ""}, {}),
    ],
)
def test_cycles_are_named_by_their_shortest_path(edges: dict[str, str], paths: dict[tuple[int, int], str]):
    components = [component(name, *others) for name, others in {**edges, "x": ""}.items()]
    found = problems(components=components)
    assert {problem.path: problem.message.rpartition(": ")[2] for problem in found} == {
        f"spec.components[{index}].dependsOn[{place}]": path for (index, place), path in paths.items()
    }
    assert {problem.rule for problem in found} <= {"dependency-cycle"}


def test_no_cycle_is_told_while_names_are_no_names():
    found = problems(components=[component("a", "b"), component("b", "a"), component("C")])
    assert [problem.rule for problem in found] == ["pattern"]


def test_a_field_of_a_profile_is_known_by_its_own_schema():
    (found,) = problems(components=[component("a", effects=[], nextstep="x")])
    assert (found.path, found.rule, found.suggestion) == ("spec.components[0].nextstep", "unknown-field", "nextStep")
    (found,) = problems(question="Can you log in?")
    assert found.message == "there is no such field here: it belongs to spec.symptoms[].question"
    _, (kind,) = validate_profile({**profile(), "kind": "DiagnosisProfil"})
    assert (kind.rule, kind.suggestion) == ("enum", "DiagnosisProfile")


def test_a_thousand_components_are_refused_as_one_problem():
    found = problems(components=[component(name) for name in names(1000)])
    assert [(problem.path, problem.rule) for problem in found] == [("spec.components", "length")]
    assert "not 1000" in found[0].message


@pytest.mark.parametrize(
    "pattern", ["(a{1000}){1000}", r"\pL{1000}", "|".join([r"\pL{900}"] * 90), ".{900}", "(?:" * 300]
)
def test_expressions_that_would_grow_are_refused(pattern: str):
    signature = {"name": "s", "pattern": pattern, "because": "x", "implicates": ["a"]}
    (found,) = problems(components=[component("a")], signatures=[signature])
    assert (found.path, found.rule) == ("spec.signatures[0].pattern", "regex")
    with pytest.raises(patterns.PatternError):
        patterns.compiled_signature(pattern)


def test_a_signature_uses_the_memory_of_one_among_many():
    pattern = patterns.compiled_signature("(?i)no (registered )?core instances")
    assert pattern.search(b"No registered core instances")
    assert pattern.options.max_mem == 1 << 20  # type: ignore[attr-defined]


def test_the_greatest_profile_is_good():
    found, wrong = validate_profile(greatest_profile())
    assert wrong == []
    assert found


def test_what_was_meant_is_looked_for_a_few_times_only(monkeypatch: pytest.MonkeyPatch):
    """Comparing names letter by letter is what takes long; thousands may be unknown at a time."""
    asked = 0

    def counted(word: str, known: Any) -> str:
        nonlocal asked
        asked += 1
        return wording.closest(word, known)

    monkeypatch.setattr(validate, "closest", counted)
    raw = greatest_profile()
    for one in raw["spec"]["components"]:
        one["dependsOn"] = names(32, "x")
        one["effects"] = [{"feature": name, "effect": "Fails", "because": "x"} for name in names(64, "y")]
    _, found = validate_profile(raw)
    assert len(found) == 100 * 32 + 100 * 64
    assert 0 < asked <= len(SPEC_RULES) * validate._MAX_MEANT


def test_a_graph_with_all_edges_is_walked_once_for_each_component(monkeypatch: pytest.MonkeyPatch):
    """Every component depends on as many as it may: each edge is taken once for each component at most."""
    from backendhealth.core.spec import profilerules

    steps = 0

    class Counted(dict[str, Any]):
        def get(self, key: str, default: Any = None) -> Any:
            nonlocal steps
            steps += 1
            return super().get(key, default)

    edges = profilerules._edges
    monkeypatch.setattr(profilerules, "_edges", lambda raw: Counted(edges(raw)))
    all_names = names(100)
    forward = [component(one, *all_names[place + 1 : place + 33]) for place, one in enumerate(all_names)]
    assert problems(components=forward) == []
    assert 100 <= steps <= 100 * 100
    ring = [component(one, *(all_names * 2)[place + 1 : place + 33]) for place, one in enumerate(all_names)]
    found = problems(components=ring)
    assert {problem.rule for problem in found} == {"dependency-cycle"}
    assert steps <= 10 * 100 * 100
