"""A policy tried on what happens to one BackendHealth: each Remediation that it would make, and what comes of it.

No effect and no clock. That an action helps shows in what is seen afterwards, as it does in a cluster.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass, field, replace

from backendhealth.core.durations import seconds
from backendhealth.core.remediation.deciding import decide, room
from backendhealth.core.remediation.recheck import helped, recheck
from backendhealth.core.remediation.ruling import Ruling
from backendhealth.core.remediation.situation import Component, Past, Situation, World
from backendhealth.core.remediation.situations import past_of
from backendhealth.core.remediation.storm import raging
from backendhealth.core.remediation.wanted import wanted
from backendhealth.core.spec.actions import Action, DriverAction, RestartPods, RolloutRestart
from backendhealth.core.spec.remediation import (
    FINAL,
    Approval,
    Phase,
    RemediationSpec,
    RemediationStatus,
    RemediationTarget,
)
from backendhealth.core.spec.remediationpolicy import RemediationPolicy

UID = "policy-under-test"
"""Of the policy: one that was never in a cluster has none."""


@dataclass(slots=True)
class Deed:
    """A Remediation of a trial, and its phases by time (seconds since the epoch)."""

    name: str
    spec: RemediationSpec
    created: float
    phase: Phase = "Pending"
    effect_at: float | None = None
    ended: float | None = None
    phases: list[tuple[float, Phase]] = field(default_factory=list)

    @property
    def step(self) -> str:
        """`RULE`, or `RULE/N` for the N-th step, counted from 2."""
        return f"{self.spec.rule}/{self.spec.step + 1}" if self.spec.step else str(self.spec.rule)

    @property
    def target(self) -> str:
        """Name of what is acted on."""
        return self.spec.target.name

    def enter(self, phase: Phase, now: float) -> None:
        """Come to another phase."""
        self.phase = phase
        self.phases.append((now, phase))
        if phase in FINAL:
            self.ended = now

    @property
    def past(self) -> Past:
        """As decisions see it; times to the full, not to the second."""
        status = RemediationStatus(phase=self.phase)
        known = past_of(self.name, self.spec, status, self.created)
        return replace(known, began=self.effect_at or 0.0, ended=self.ended or 0.0, needless=False)


@dataclass(frozen=True, slots=True)
class Around:
    """All other BackendHealths, and the switch."""

    unhealthy: int = 0
    total: int = 0
    switched_off: bool = False


class Trial:
    """One policy and one BackendHealth. Times are seconds since the epoch and never go back."""

    def __init__(self, policy: RemediationPolicy, history: Iterable[Past] = ()) -> None:
        self.policy = policy
        self.deeds: list[Deed] = []
        self.around = Around()
        self.effects: dict[str, Phase] = {}
        """By rule: Failed or Unknown where an action comes to that."""
        self.rulings: list[Ruling] = []
        """Those of the last look."""
        self._history = list(history)
        self._storm_seen: float | None = None
        self._rules = {rule.name: rule for rule in policy.spec.remediation_rules}

    def look(self, situation: Situation, now: float) -> list[Ruling]:
        """Decide, and do what is decided."""
        world = self._world(situation, now)
        for deed in self.deeds:
            self._go_on(deed, situation, world, now)
        self.rulings = self._decide(situation, world, now)
        began = [deed for ruling in self.rulings if ruling.acts for deed in self._begin(ruling, situation, now)]
        for deed in began:
            self._go_on(deed, situation, world, now)
        if began:
            self.rulings = self._decide(situation, world, now)
        return self.rulings

    @property
    def next_look(self) -> float | None:
        """When to look again if nothing happens."""
        times = [one.again_at for one in self.rulings if one.again_at is not None]
        for deed in self.deeds:
            if deed.phase == "Verifying":
                times.append(_verify_by(deed))
            elif deed.phase not in FINAL:
                times.append(deed.created + seconds(self.policy.spec.approval_timeout))
        return min(times, default=None)

    def answer(self, rules: Collection[str | None], *, approve: bool, now: float) -> None:
        """A person approves or rejects what waits of these rules."""
        decision = Approval(decision="Approved" if approve else "Rejected", by="a person", reason=None)
        for deed in self.deeds:
            if deed.spec.rule in rules and deed.phase in ("AwaitingApproval", "Held") and deed.spec.approval is None:
                deed.spec = deed.spec.model_copy(update={"approval": decision})
                if not approve:
                    deed.enter("Rejected", now)

    def _past(self) -> list[Past]:
        return [*self._history, *(deed.past for deed in self.deeds)]

    def _decide(self, situation: Situation, world: World, now: float) -> list[Ruling]:
        return decide(self.policy, UID, situation, self._past(), world, now)

    def _world(self, situation: Situation, now: float) -> World:
        unhealthy = self.around.unhealthy + bool(situation.incident)
        total = self.around.total + 1
        if raging(self.policy.spec.storm_breaker, unhealthy, total):
            self._storm_seen = now
        why = "the switch is off" if self.around.switched_off else ""
        return World(unhealthy, total, self._storm_seen, why)

    def _begin(self, ruling: Ruling, situation: Situation, now: float) -> Iterator[Deed]:
        rule = self._rules[ruling.rule]
        component = situation.components[rule.when.component]
        for target in targets(rule.steps[ruling.step], component):
            past = self._past()
            held = room(self.policy, UID, rule, target.id, past, now, incident=situation.incident, step=ruling.step)
            if held:
                continue
            deed = Deed(*wanted(self.policy, UID, rule, ruling.step, target, situation, now), now)
            deed.enter("Pending", now)
            self.deeds.append(deed)
            yield deed

    def _go_on(self, deed: Deed, situation: Situation, world: World, now: float) -> None:
        if deed.phase in FINAL:
            return
        if deed.phase == "Verifying":
            self._verify(deed, situation, now)
        elif now >= deed.created + seconds(self.policy.spec.approval_timeout):
            deed.enter("Expired", now)
        elif deed.spec.mode == "Approve" and deed.spec.approval is None:
            if deed.phase != "AwaitingApproval":
                deed.enter("AwaitingApproval", now)
        elif recheck(self.policy, UID, deed.spec, situation, self._past(), world, now, name=deed.name):
            if deed.phase != "Held":
                deed.enter("Held", now)
        else:
            self._act(deed, now)

    def _act(self, deed: Deed, now: float) -> None:
        deed.effect_at = now
        if deed.spec.mode == "DryRun":
            deed.enter("DryRun", now)
        else:
            deed.enter(self.effects.get(str(deed.spec.rule), "Verifying"), now)

    @staticmethod
    def _verify(deed: Deed, situation: Situation, now: float) -> None:
        if helped(deed.spec.verify, deed.spec.cause, situation):
            deed.enter("Succeeded", now)
        elif now >= _verify_by(deed):
            deed.enter("NotHelpful", now)


def _verify_by(deed: Deed) -> float:
    verify = deed.spec.verify
    return (deed.effect_at or deed.created) + (seconds(verify.within) if verify else 0.0)


def targets(action: Action, component: Component) -> list[RemediationTarget]:
    """What the action would be done to, as far as the diagnosis tells: the parts that it names, else one for all."""
    match action.does:
        case DriverAction() as does:
            named = [one.name.split("/") for one in component.subjects if one.name.startswith("driver/")]
            on_core = [rest for _, *rest in named if len(rest) < 3]  # of those on edge nodes no process can be ended
            found = [
                RemediationTarget(kind="Driver", name=rest[-1], core=rest[0] if len(rest) > 1 else None)
                for rest in on_core
                if not does.drivers or rest[-1].startswith(tuple(does.drivers))
            ]
            alone = RemediationTarget(kind="Driver", name=(does.drivers or [component.name])[0])
            return found or ([] if named else [alone])
        case RolloutRestart() as does:
            return [RemediationTarget(kind="Workload", name=f"{does.workload.kind}/{does.workload.name}")]
        case RestartPods(pods="Subjects"):
            pods = [one.name.removeprefix("pod/") for one in component.subjects if one.name.startswith("pod/")]
            return [RemediationTarget(kind="Pod", name=name) for name in pods]
        case _:
            return [RemediationTarget(kind="Pod", name=component.name)]
