"""Runs a case of a RemediationPolicyTest in virtual time, through the engine's own cycle and the policy's decisions."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from backendhealth.cli.testbench import Bench, Target, in_turn
from backendhealth.core.durations import seconds
from backendhealth.core.remediation.ruling import Ruling
from backendhealth.core.remediation.situation import Component, Past
from backendhealth.core.remediation.situations import instant, situation_of
from backendhealth.core.remediation.trial import UID, Around, Deed, Trial, targets
from backendhealth.core.spec.backendhealth import BackendHealth
from backendhealth.core.spec.policytest import Before, ExpectedDecision, PolicyCase, PolicyStep
from backendhealth.core.spec.profile import DiagnosisProfileSpec
from backendhealth.core.spec.remediationpolicy import PolicyRule, RemediationPolicy
from backendhealth.core.spec.status import BackendHealthStatus
from backendhealth.core.verdict import Verdict
from backendhealth.engine.scheduler import TICK

_SHORT = 1e-3
"""Seconds; what decides at a time is looked at that much later, so that rounding keeps nobody waiting."""


@dataclass(frozen=True, slots=True)
class Decided:
    """What was decided until one expectation: rulings by rule, and the Remediations with their phases then."""

    expected: ExpectedDecision
    rulings: Mapping[str, Ruling]
    deeds: list[tuple[Deed, str]]
    status: BackendHealthStatus


@dataclass(frozen=True, slots=True)
class RanPolicy:
    """What came of a case; `start` is in seconds since the epoch."""

    start: float
    at: list[Decided]
    deeds: list[Deed]


def run_policy_case(
    policy: RemediationPolicy,
    resource: BackendHealth,
    profile: DiagnosisProfileSpec,
    named: Mapping[str, Sequence[Target]],
    case: PolicyCase,
) -> RanPolicy:
    """Run `case`; `named` are what each name under `see` stands for. Raises testbench.TooLongError."""
    start = instant(case.start)
    trial = Trial(policy, [_past(policy, one, number, start) for number, one in enumerate(case.history)])
    bench = _PolicyBench(trial, resource, profile, start)
    found: list[Decided] = []
    events: list[PolicyStep | ExpectedDecision] = [*case.steps, *case.expect]
    for at, event in in_turn(events):
        if isinstance(event, PolicyStep):
            bench.run(start + at)
            bench.change({target: see for name, see in event.see.items() for target in named[name]}, start + at)
            bench.take(event, start + at)
        else:
            bench.run(start + at + TICK)  # what is due within a tick is made together
            rulings = {ruling.rule: ruling for ruling in trial.rulings}
            found.append(Decided(event, rulings, [(deed, deed.phase) for deed in trial.deeds], bench.status))
    return RanPolicy(start, found, trial.deeds)


class _PolicyBench(Bench):
    """A bench that looks at the policy whenever anything changes, and when the policy's own times come."""

    def __init__(self, trial: Trial, resource: BackendHealth, profile: DiagnosisProfileSpec, start: float) -> None:
        self._trial = trial
        self._looked = start
        self._wants_look = False
        super().__init__(resource, profile, start)

    def run(self, until: float) -> None:
        """As a Bench does, with looks in between."""
        super().run(until)
        while (at := self._next_look()) < until:
            self._look(at)
            super().run(until)

    def _limit(self, until: float) -> float:
        return min(until, self._next_look())

    def take(self, step: PolicyStep, now: float) -> None:
        """What happens besides what probes see."""
        trial = self._trial
        trial.effects |= {rule: "Verifying" if effect == "Done" else effect for rule, effect in step.effects.items()}
        unhealthy, total = trial.around.unhealthy, trial.around.total
        if step.others is not None:
            unhealthy, total = step.others.unhealthy, step.others.total
        off = trial.around.switched_off if step.switched_off is None else step.switched_off
        trial.around = Around(unhealthy, total, off)
        trial.answer(step.approve, approve=True, now=now)
        trial.answer(step.reject, approve=False, now=now)
        self._look(now)

    def _attempted(self) -> None:
        if self._wants_look:
            self._wants_look = False
            self._look(self._now)

    def _tell(self, status: BackendHealthStatus) -> None:
        super()._tell(status)
        self._wants_look = True

    def _proven(self) -> None:
        self._wants_look = True

    def _next_look(self) -> float:
        at = self._trial.next_look
        return math.inf if at is None else max(at, self._looked) + _SHORT

    def _look(self, now: float) -> None:
        self._looked = now
        key = self._resource.key
        self._trial.look(situation_of(key, key, self.status, self._cycle.observed(key)), now)


def _past(policy: RemediationPolicy, before: Before, number: int, start: float) -> Past:
    rule, step, target = before_of(policy, before)
    ended = start - seconds(before.ago)
    return Past(
        name=f"before-{number}",
        policy=UID,
        rule=rule.name,
        step=step,
        backend_health="",
        incident=f"before-{number}",
        target=target,
        phase=before.phase,
        dry=before.phase == "DryRun",
        created=ended,
        began=ended,
        ended=ended,
    )


def before_of(policy: RemediationPolicy, before: Before) -> tuple[PolicyRule, int, str]:
    """Its rule, the index of the step, and the id of the target. Raises KeyError where there is no such step."""
    name, _, number = before.rule.partition("/")
    step = int(number or 1) - 1
    rule = next((one for one in policy.spec.remediation_rules if one.name == name), None)
    if rule is None or step >= len(rule.steps):
        raise KeyError(before.rule)
    unknown = Component(rule.when.component, Verdict.UNHEALTHY, "", "", 0.0)
    found = targets(rule.steps[step], unknown)
    target = found[0].id if found else rule.when.component
    if before.target is not None:
        target = next((one.model_copy(update={"name": before.target}).id for one in found), before.target)
    return rule, step, target
