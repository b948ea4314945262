"""What a DiagnosisTest names: its profile, its resource, and components, symptoms, features and reasons of these."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from backendhealth import profiles as shipped
from backendhealth.cli.documents import Document, FileProblem
from backendhealth.cli.load import Loaded
from backendhealth.cli.prepared import AnyTest, PreparedCase
from backendhealth.cli.testbench import Target, reason_of
from backendhealth.core.reasons import Reason
from backendhealth.core.resourcestate import component_members, symptom_members
from backendhealth.core.spec.backendhealth import API_VERSION, KIND, BackendHealth, condition_prefix
from backendhealth.core.spec.diagnosistest import HEALTHY, TEST_KIND, DiagnosisCase, DiagnosisTest, Expected, See, Step
from backendhealth.core.spec.policytest import PolicyStep
from backendhealth.core.spec.profile import DiagnosisProfileSpec
from backendhealth.core.validate import Problem, validate
from backendhealth.core.wording import Loc, closest

_CONDITIONS = ("Ready", "Healthy", "Degraded", "Reconciling", "Stalled")


@dataclass(frozen=True, slots=True)
class Prepared(PreparedCase[DiagnosisTest, DiagnosisCase]):
    """A case with the profile and the resource that it is about."""


@dataclass(frozen=True, slots=True)
class _Known:
    """The names that there are."""

    components: frozenset[str]
    failing: frozenset[str]
    """As a status names components and symptoms that fail."""
    features: frozenset[str]
    conditions: frozenset[str]


class Unusable(Exception):  # noqa: N818 - what is said of the input
    """Without this nothing else can be looked at."""

    def __init__(self, loc: Loc, rule: str, message: str, suggestion: str = "") -> None:
        super().__init__(message)
        self.problem = Problem(loc, rule, message, suggestion)


def prepare(loaded: Loaded) -> tuple[list[Prepared], list[FileProblem]]:
    """The cases of the files, ready to run, and what is wrong with the names in them."""
    ready: list[Prepared] = []
    problems: list[FileProblem] = []
    for test in loaded.tests:
        document = loaded.documents[TEST_KIND, test.metadata.namespace, test.metadata.name]
        found: list[Problem] = []
        try:
            for one in _cases(test, document, loaded):
                found += _unknown(one)
                ready.append(one)
        except Unusable as error:
            found.append(error.problem)
        problems += [document.problem(each.loc, each.rule, each.message, each.suggestion) for each in found]
    return ready, problems


def _cases(test: DiagnosisTest, document: Document, loaded: Loaded) -> Iterator[Prepared]:
    declared = declared_for(test, loaded)
    profile = profile_for(test, declared, loaded)
    for number, case in enumerate(test.spec.cases):
        resource = declared or made_up(test, number, profile, shown(test, number))
        targets = {name: targets_of(resource, name) for step in case.steps for name in step.see}
        yield Prepared(test, number, case, profile, resource, targets, document)


def declared_for(test: AnyTest, loaded: Loaded) -> BackendHealth | None:
    """The BackendHealth that the test names, if it names one. Raises Unusable."""
    name = test.spec.backend_health
    if name is None:
        return None
    beside = [one for one in loaded.resources if one.metadata.namespace == test.metadata.namespace]
    found = next((one for one in beside if one.metadata.name == name), None)
    if found is None:
        message = f"no BackendHealth of this name in the namespace {test.metadata.namespace} among the files"
        suggestion = closest(name, [one.metadata.name for one in beside])
        raise Unusable(("spec", "backendHealth"), "unknown-resource", message, suggestion)
    return found


def profile_for(test: AnyTest, declared: BackendHealth | None, loaded: Loaded) -> DiagnosisProfileSpec:
    """The profile of the test, of its resource, or the default. Raises Unusable."""
    ref = test.spec.profile_ref or (declared.spec.profile_ref if declared else None)
    if ref is None or ref.built_in:
        name = (ref.built_in if ref else None) or shipped.DEFAULT
        if name in shipped.names():
            return shipped.built_in(name).spec
        told = f"no built-in profile has this name: there are {', '.join(shipped.names())}"
        raise Unusable(("spec", "profileRef", "builtIn"), "unknown-profile", told, closest(name, shipped.names()))
    beside = [one for one in loaded.profiles if one.metadata.namespace == test.metadata.namespace]
    for one in beside:
        if one.metadata.name == ref.name:
            return one.spec
    told = f"no DiagnosisProfile of this name in the namespace {test.metadata.namespace} among the files"
    suggestion = closest(ref.name or "", [one.metadata.name for one in beside])
    raise Unusable(("spec", "profileRef", "name"), "unknown-profile", told, suggestion)


def made_up(
    test: AnyTest, number: int, profile: DiagnosisProfileSpec, names: Iterable[tuple[Loc, str]]
) -> BackendHealth:
    """A resource with one probe for each name; a component of a symptom's name answers the symptom. Raises Unusable."""
    probes: dict[str, dict[str, object]] = {}
    components = {one.name for one in profile.components}
    known = components | {one.name for one in profile.symptoms}
    for loc, name in names:
        kind, _, bare = name.rpartition("/")
        if known and bare not in known:
            message = "the profile has no component and no symptom of this name"
            raise Unusable(loc, "unknown-component", message, closest(bare, known))
        if kind == "symptom" and bare in components:
            message = "a component has the same name: add a BackendHealth whose probe has this part, name it here"
            raise Unusable(("spec", "backendHealth"), "ambiguous-name", f"{name}: {message}")
        probes[bare] = {"name": bare, "tcp": {"host": bare, "port": 1}}
    metadata = {"name": test.metadata.name, "namespace": test.metadata.namespace}
    raw = {"apiVersion": API_VERSION, "kind": KIND, "metadata": metadata, "spec": {"probes": list(probes.values())}}
    resource, problems = validate(raw)
    if resource is None:
        told = "; ".join(f"{one.path}: {one.message}" for one in problems[:3])
        raise Unusable(("spec", "cases", number), "no-resource", f"no BackendHealth can be made of the names: {told}")
    return resource


def shown(test: AnyTest, number: int) -> Iterator[tuple[Loc, str]]:
    """The names under `see`, and where they stand."""
    steps: Sequence[Step | PolicyStep] = test.spec.cases[number].steps
    for index, step in enumerate(steps):
        for name in step.see:
            yield ("spec", "cases", number, "steps", index, "see", name), name


def targets_of(resource: BackendHealth, name: str) -> list[Target]:
    """A part as it is written; else the probe, the component or the symptom of this name, in this order."""
    parts = [(probe.name, name) for probe in resource.spec.probes if name in probe.parts]
    if parts:
        return parts
    kind, _, bare = name.rpartition("/")
    if not kind and any(probe.name == bare for probe in resource.spec.probes):
        return [(bare, "")]
    keys = component_members(resource).get(bare, []) if kind != "symptom" else []
    keys = keys or (symptom_members(resource).get(bare, []) if kind != "component" else [])
    if not keys and kind:  # a resource of which each probe speaks for what it is named
        keys = [bare] if any(probe.name == bare and not probe.parts for probe in resource.spec.probes) else []
    return [(probe, part) for probe, _, part in (key.partition("/") for key in keys)]


def _unknown(one: Prepared) -> Iterator[Problem]:
    known = _known(one)
    answered = {*known.components, *known.failing}
    yield from unanswered(one.test, one.number, one.targets, answered)
    at: Loc = ("spec", "cases", one.number)
    yield from unknown_reasons([step.see for step in one.case.steps], at)
    yield from _of_case(one.case, at, known)


def unanswered(
    test: AnyTest, number: int, targets: Mapping[str, Sequence[Target]], answered: Iterable[str]
) -> Iterator[Problem]:
    """Names under `see` that no probe answers to."""
    for loc, name in shown(test, number):
        if not targets[name]:
            message = "no probe of the BackendHealth answers to this name"
            yield Problem(loc, "unknown-component", message, closest(name, answered))


def _known(one: Prepared) -> _Known:
    watched = frozenset(component_members(one.resource))
    return _Known(
        components=watched | {component.name for component in one.profile.components},
        failing=watched | {f"symptom/{name}" for name in symptom_members(one.resource)},
        features=frozenset(feature.name for feature in one.profile.features),
        conditions=frozenset((*_CONDITIONS, *(f"{condition_prefix(name)}Healthy" for name in watched))),
    )


def unknown_reasons(steps: Sequence[Mapping[str, See]], at: Loc) -> Iterator[Problem]:
    """Reasons under `see`, step by step, that there are not."""
    told = [reason.value for reason in Reason]
    for index, step in enumerate(steps):
        for name, see in step.items():
            loc = (*at, "steps", index, "see", name)
            named = [((*loc, "reason"), see.reason)]
            named += [((*loc, "subjects", key, "reason"), one.reason) for key, one in see.subjects.items()]
            for place, reason in named:
                try:
                    reason_of(reason)
                except ValueError:
                    message = "no probe of this version gives this reason"
                    yield Problem(place, "unknown-reason", message, closest(reason, [HEALTHY, *told]))


def _of_case(case: DiagnosisCase, at: Loc, known: _Known) -> Iterator[Problem]:
    both = known.components | known.features
    yield from _listed(case.blamed, (*at, "blamed"), known.components)
    if case.never:
        never = (*at, "never")
        yield from _listed(case.never.root_causes, (*never, "rootCauses"), known.components)
        yield from _listed(case.never.suspects, (*never, "suspects"), known.components)
        yield from _listed(case.never.mismatches, (*never, "mismatches"), both)
    for index, expected in enumerate(case.expect):
        yield from _of_expected(expected, (*at, "expect", index), known, both)


def _of_expected(expected: Expected, at: Loc, known: _Known, both: frozenset[str]) -> Iterator[Problem]:
    yield from _listed(expected.root_causes, (*at, "rootCauses"), known.components)
    yield from _listed(expected.suspects, (*at, "suspects"), known.components)
    yield from _listed(expected.unexplained, (*at, "unexplained"), known.failing)
    yield from _listed(expected.mismatches, (*at, "mismatches"), both)
    yield from _keys(expected.explained, (*at, "explained"), known.failing)
    for name, by in expected.explained.items():
        yield from _listed(by, (*at, "explained", name), known.components)
    yield from _keys(expected.impact, (*at, "impact"), known.features)
    yield from _keys(expected.conditions, (*at, "conditions"), known.conditions)
    yield from _keys(expected.next_steps, (*at, "nextSteps"), known.components)


def _listed(names: Sequence[str] | None, at: Loc, known: frozenset[str]) -> Iterator[Problem]:
    return _missing((((*at, index), name) for index, name in enumerate(names or ())), known)


def _keys(names: Mapping[str, object], at: Loc, known: frozenset[str]) -> Iterator[Problem]:
    return _missing((((*at, name), name) for name in names), known)


def _missing(named: Iterable[tuple[Loc, str]], known: frozenset[str]) -> Iterator[Problem]:
    for loc, name in named:
        if name not in known:
            message = "neither the profile nor the BackendHealth has this name, so it can't be told"
            yield Problem(loc, "unknown-name", message, closest(name, known))
