"""The answer to a policy: what to do, or what holds it back, and why."""

from __future__ import annotations

from enum import StrEnum
from typing import NamedTuple


class Guard(StrEnum):
    """What may hold an action back, in the order in which it is asked."""

    SWITCHED_OFF = "SwitchedOff"
    NOT_SERVED = "NotServed"
    SUSPENDED = "Suspended"
    PAUSED = "Paused"
    NOT_OBSERVED = "NotObserved"
    NOT_LONG_ENOUGH = "NotLongEnough"
    FLAPPING = "Flapping"
    UNLESS = "Unless"
    AWAITING_RECOVERY = "AwaitingRecovery"
    STORM = "Storm"
    OUTSIDE_WINDOW = "OutsideWindow"
    IN_PROGRESS = "InProgress"
    ALREADY_DONE = "AlreadyDone"
    LIMIT_REACHED = "LimitReached"
    TOO_MANY_AT_ONCE = "TooManyAtOnce"
    COOLING_DOWN = "CoolingDown"
    AWAITING_APPROVAL = "AwaitingApproval"
    POLICY_CHANGED = "PolicyChanged"
    TARGET_CHANGED = "TargetChanged"
    TOO_LATE = "TooLate"


MEANINGS: dict[Guard, str] = {
    Guard.SWITCHED_OFF: "The one switch for all remediation is off, or can't be read. Reverts are not held by it.",
    Guard.NOT_SERVED: "This replica does not hold the Lease of the namespace at this moment.",
    Guard.SUSPENDED: "Probing is suspended: nobody looks whether it would help.",
    Guard.PAUSED: "The policy has a `pauseRequests` entry.",
    Guard.NOT_OBSERVED: "The verdict was restored, or is contradicted by the newest attempt: this process has not seen"
    " that the component is Unhealthy.",
    Guard.NOT_LONG_ENOUGH: "The component is not yet Unhealthy for as long as `when.for` says.",
    Guard.FLAPPING: "The component is Flapping (`unless.flapping`).",
    Guard.UNLESS: "A component that `unless` names is Unhealthy or Unknown, or is not known to be otherwise.",
    Guard.AWAITING_RECOVERY: "What `after.recovery` names has not failed, does not work again, or not for long enough.",
    Guard.STORM: "More BackendHealths are unhealthy than `stormBreaker` allows, or were so a moment ago.",
    Guard.OUTSIDE_WINDOW: "It is no time to act by `maintenanceWindows`.",
    Guard.IN_PROGRESS: "A Remediation of the same rule is under way.",
    Guard.ALREADY_DONE: "The rule has done in this incident all that it may.",
    Guard.LIMIT_REACHED: "As many were done within `limits.window` as `limits.max` allows.",
    Guard.TOO_MANY_AT_ONCE: "As many are under way as `limits.maxConcurrent` allows.",
    Guard.COOLING_DOWN: "The last one on the same target is not long enough ago (`limits.cooldown`).",
    Guard.AWAITING_APPROVAL: "Nobody has approved it yet (`mode: Approve`).",
    Guard.POLICY_CHANGED: "The policy is another one than it was decided by, or is gone.",
    Guard.TARGET_CHANGED: "The target is gone, or another one of its name is there.",
    Guard.TOO_LATE: "Its `notAfter` has passed.",
}
"""What each guard means, for people."""

TO_DO: dict[Guard, str] = {
    Guard.SWITCHED_OFF: "if a person has turned it off: `kubectl backendhealth switch on`; else it passes by itself",
    Guard.NOT_SERVED: "wait a moment; if it lasts, look at the operator's pods and their logs",
    Guard.SUSPENDED: "`kubectl backendhealth resume NAME`",
    Guard.PAUSED: "once the reason is over, remove the entry of `pauseRequests`",
    Guard.NOT_OBSERVED: "wait for the next attempt, or ask for it: `kubectl backendhealth probe-now NAME`",
    Guard.NOT_LONG_ENOUGH: "wait: it may pass by itself",
    Guard.FLAPPING: "look for what makes it come and go; an action mends that seldom",
    Guard.UNLESS: "look at what is named here first: it is the more likely cause",
    Guard.AWAITING_RECOVERY: "mend what is named here; the rule acts by itself after that",
    Guard.STORM: "look for what they have in common: network, DNS, a node, a shared backend",
    Guard.OUTSIDE_WINDOW: "wait for the window, or do it without this operator: what is asked for by hand waits, too",
    Guard.IN_PROGRESS: "wait for the one that is named here: `kubectl get remediations`",
    Guard.ALREADY_DONE: "look at what came of it; the same is not done again in this incident, so go on by yourself",
    Guard.LIMIT_REACHED: "look why so much was needed before you raise `limits.max`",
    Guard.TOO_MANY_AT_ONCE: "wait for those that are named here: `kubectl get remediations`",
    Guard.COOLING_DOWN: "wait, and look meanwhile why the one before was not enough",
    Guard.AWAITING_APPROVAL: "`kubectl backendhealth approve NAME`, or reject",
    Guard.POLICY_CHANGED: "nothing: the policy is decided by anew; what was asked for by hand, ask for again",
    Guard.TARGET_CHANGED: "compare what the action names with what there is, and what its account may see",
    Guard.TOO_LATE: "ask for it again, if it is still wanted",
}
"""What a person can do while a guard holds."""


class Hold(NamedTuple):
    """A guard that holds: why, for people, and until when (seconds since the epoch) where that is known.

    `because` holds no count-down and nothing else that changes while nothing happens: it is written.
    """

    guard: Guard
    because: str
    until: float | None = None


class Ruling(NamedTuple):
    """What one rule says about one BackendHealth.

    `unmatched` says why the diagnosis is not the one that the rule is for; empty when it is. `holds` are all guards
    that hold, the first one first. Without either, the rule acts: `step` is the index of its next action. `again_at` is
    when to look again if nothing else happens, in seconds since the epoch.
    """

    rule: str
    unmatched: str = ""
    holds: tuple[Hold, ...] = ()
    step: int = 0
    again_at: float | None = None

    @property
    def acts(self) -> bool:
        """Whether nothing is in the way."""
        return not self.unmatched and not self.holds
