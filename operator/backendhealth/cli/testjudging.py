"""Compares what was told with what a case expects."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from backendhealth.cli.testbench import Ran
from backendhealth.core.diagnosis.telling import told
from backendhealth.core.durations import human
from backendhealth.core.spec.diagnosistest import DiagnosisCase, Expected, Never
from backendhealth.core.spec.profile import DiagnosisProfileSpec
from backendhealth.core.spec.status import BackendHealthStatus, Diagnosis, Impact, Summary

_NOTHING = "nothing"


@dataclass(frozen=True, slots=True)
class Difference:
    """One thing that is not as expected: its field, and both sides in words."""

    field: str
    expected: str
    got: str


@dataclass(frozen=True, slots=True)
class Fault:
    """Differences at one time, and what was told then in plain words."""

    when: str
    differences: list[Difference]
    told: list[str]


def faults(profile: DiagnosisProfileSpec, case: DiagnosisCase, ran: Ran) -> list[Fault]:
    """All that is not as expected, by time; empty when the case holds."""
    found = [
        Fault(f"at {expected.at}", differences, told(_diagnosis(status)))
        for expected, status in ran.at
        if (differences := list(_differences(profile, expected, status)))
    ]
    return [*found, *_forbidden(profile, case.never or Never(), ran), *_blamed(case, ran)]


def _differences(
    profile: DiagnosisProfileSpec, expected: Expected, status: BackendHealthStatus
) -> Iterator[Difference]:
    summary, diagnosis = status.summary or Summary(state=""), _diagnosis(status)
    yield from _same("state", expected.state, summary.state)
    yield from _set("rootCauses", expected.root_causes, _causes(diagnosis))
    yield from _same("reason", expected.reason, summary.reason)
    by = {one.name: one.by for one in diagnosis.explained}
    for name, causes in expected.explained.items():
        yield from _set(f"explained.{name}", causes, by.get(name, []))
    yield from _set("unexplained", expected.unexplained, [one.name for one in diagnosis.unexplained])
    suspects = [one.component for one in diagnosis.suspects]
    if expected.suspects is not None:
        yield from _same("suspects", _listed(expected.suspects), _listed(suspects))
    yield from _holds("nextQuestion", expected.next_question, [diagnosis.next_question])
    yield from _impact(expected, _effects(profile, diagnosis))
    yield from _set("mismatches", expected.mismatches, _mismatches(profile, diagnosis))
    conditions = {one.type: one.status for one in status.conditions}
    for kind, wanted in expected.conditions.items():
        yield from _same(f"conditions.{kind}", wanted, conditions.get(kind, "Absent"))
    steps = {cause.component: cause.next_step for cause in diagnosis.root_causes}
    for name, text in expected.next_steps.items():
        yield from _holds(f"nextSteps.{name}", text, [steps.get(name, "")])
    for text in expected.told:
        yield from _holds("told", text, told(diagnosis))
    yield from _holds("summary", expected.summary, [summary.message])


def _impact(expected: Expected, effects: Mapping[str, Impact]) -> Iterator[Difference]:
    for feature, wanted in expected.impact.items():
        one = effects.get(feature)
        yield from _same(f"impact.{feature}", wanted.effect, one.effect if one else "Works")
        yield from _holds(f"impact.{feature}.because", wanted.because, [one.because if one else ""])


def _effects(profile: DiagnosisProfileSpec, diagnosis: Diagnosis) -> dict[str, Impact]:
    """What is told of each feature, by its name in the profile: told are all, in the profile's order, or none."""
    names = [feature.name for feature in profile.features]
    return dict(zip(names, diagnosis.impact, strict=True)) if diagnosis.impact else {}


def _mismatches(profile: DiagnosisProfileSpec, diagnosis: Diagnosis) -> list[str]:
    names = {one.feature: name for name, one in _effects(profile, diagnosis).items()}
    return [names.get(one.name, one.name) for one in diagnosis.mismatches]


def _forbidden(profile: DiagnosisProfileSpec, never: Never, ran: Ran) -> Iterator[Fault]:
    """The first time at which anything was told that never may be."""
    for at, status in ran.told:
        diagnosis = _diagnosis(status)
        sides = (
            ("never.rootCauses", never.root_causes, _causes(diagnosis)),
            ("never.suspects", never.suspects, [one.component for one in diagnosis.suspects]),
            ("never.mismatches", never.mismatches, _mismatches(profile, diagnosis)),
        )
        differences = [
            Difference(field, f"never {name}", _listed(got))
            for field, names, got in sides
            for name in names
            if name in got
        ]
        if differences:
            yield Fault(f"after {human(at)}, in one write", differences, told(diagnosis))
            return


def _blamed(case: DiagnosisCase, ran: Ran) -> Iterator[Fault]:
    if case.blamed is None:
        return
    first = {cause: (at, status) for at, status in reversed(ran.told) for cause in _causes(_diagnosis(status))}
    differences = list(_set("blamed", case.blamed, list(first)))
    if differences:
        wrong = [(at, status) for cause, (at, status) in first.items() if cause not in case.blamed]
        when = f"first after {human(min(wrong, key=lambda one: one[0])[0])}" if wrong else "from begin to end"
        lines = told(_diagnosis(min(wrong, key=lambda one: one[0])[1])) if wrong else []
        yield Fault(when, differences, lines)


def _diagnosis(status: BackendHealthStatus) -> Diagnosis:
    return status.diagnosis or Diagnosis()


def _causes(diagnosis: Diagnosis) -> list[str]:
    return [cause.component for cause in diagnosis.root_causes]


def _same(field: str, expected: str | None, got: str) -> Iterator[Difference]:
    if expected is not None and expected != got:
        yield Difference(field, expected, got or _NOTHING)


def _set(field: str, expected: Sequence[str] | None, got: Sequence[str]) -> Iterator[Difference]:
    if expected is not None and set(expected) != set(got):
        yield Difference(field, _listed(sorted(expected)), _listed(sorted(set(got))))


def _holds(field: str, text: str | None, lines: Iterable[str]) -> Iterator[Difference]:
    """That `text` is in one of `lines`; how lines are broken makes no difference."""
    if text is None:
        return
    found = [" ".join(line.split()) for line in lines]
    if not any(" ".join(text.split()) in line for line in found):
        # what is told is shown below the differences in full
        yield Difference(field, f"… {text} …", found[0] or _NOTHING if len(found) == 1 else "none of the lines below")


def _listed(names: Sequence[str]) -> str:
    return ", ".join(names) or _NOTHING
