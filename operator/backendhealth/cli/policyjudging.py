"""Compares what a policy has decided with what a case expects."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from backendhealth.cli.policybench import Decided, RanPolicy
from backendhealth.cli.testjudging import Difference, Fault
from backendhealth.core.diagnosis.telling import told
from backendhealth.core.durations import human, seconds
from backendhealth.core.remediation.ruling import Ruling
from backendhealth.core.remediation.trial import Deed
from backendhealth.core.spec.policytest import PolicyCase
from backendhealth.core.spec.status import BackendHealthStatus, Diagnosis

_NOTHING = "nothing"
_ROUNDING = 1.0
"""Seconds: a status tells times to the second."""


def policy_faults(case: PolicyCase, ran: RanPolicy) -> list[Fault]:
    """All that is not as expected, by time; empty when the case holds."""
    found = [
        Fault(f"at {one.expected.at}", differences, list(_decided(one, ran.start)))
        for one in ran.at
        if (differences := list(_differences(one, ran.start)))
    ]
    never = case.never.actions if case.never else []
    forbidden = [deed for deed in ran.deeds if deed.step in never]
    if forbidden:
        first = forbidden[0]
        when = f"after {human(first.created - ran.start)}"
        told = f"{first.step} on {first.target}"
        found.append(Fault(when, [Difference("never.actions", f"never {first.step}", told)], []))
    return found


def _differences(one: Decided, start: float) -> Iterator[Difference]:
    expected = one.expected
    if expected.actions is not None:
        yield from _same(
            "actions", ", ".join(expected.actions), ", ".join(dict.fromkeys(deed.step for deed, _ in one.deeds))
        )
    for step, names in expected.targets.items():
        acted_on = sorted(deed.target for deed, _ in one.deeds if deed.step == step)
        yield from _same(f"targets.{step}", ", ".join(sorted(names)), ", ".join(acted_on))
    for step, phase in expected.phases.items():
        phases = [entered for deed, entered in one.deeds if deed.step == step]
        yield from _same(f"phases.{step}", phase, phases[-1] if phases else "")
    for rule, guards in expected.holds.items():
        yield from _same(f"holds.{rule}", ", ".join(guards), _guards(one.rulings[rule]))
    for rule, at in expected.until.items():
        until = next((hold.until for hold in one.rulings[rule].holds), None)
        if until is None or abs(until - start - seconds(at)) > _ROUNDING:
            got = human(until - start) if until is not None else ""
            yield from _same(f"until.{rule}", at, got)
    for rule, text in expected.unmatched.items():
        why = one.rulings[rule].unmatched
        if text not in why:
            yield Difference(f"unmatched.{rule}", f"… {text} …", why or _NOTHING)


def _same(field: str, expected: str, got: str) -> Iterator[Difference]:
    if expected != got:
        yield Difference(field, expected or _NOTHING, got or _NOTHING)


def _guards(ruling: Ruling) -> str:
    return ", ".join(hold.guard for hold in ruling.holds)


def _decided(one: Decided, start: float) -> Iterator[str]:
    """The decisions then, and the diagnosis that they follow, in plain words."""
    for name, ruling in one.rulings.items():
        if ruling.unmatched:
            yield f"{name}: does not match: {ruling.unmatched}"
        for hold in ruling.holds:
            until = f" until {human(hold.until - start)}" if hold.until is not None else ""
            yield f"{name}: held by {hold.guard}{until}: {hold.because}"
        if ruling.acts:
            yield f"{name}: nothing holds it back"
    yield from _deeds(one.deeds, start)
    yield from told(_diagnosis(one.status))


def _deeds(deeds: Sequence[tuple[Deed, str]], start: float) -> Iterator[str]:
    for deed, phase in deeds:
        yield f"{deed.step} on {deed.target}: created after {human(deed.created - start)}, {phase}"


def _diagnosis(status: BackendHealthStatus) -> Diagnosis:
    return status.diagnosis or Diagnosis()
