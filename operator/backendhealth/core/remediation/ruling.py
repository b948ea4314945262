"""The answer to a policy: what to do, or what holds it back, and why."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


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


@dataclass(frozen=True, slots=True)
class Hold:
    """A guard that holds: why, for people, and until when (seconds since the epoch) where that is known.

    `because` holds no count-down and nothing else that changes while nothing happens: it is written.
    """

    guard: Guard
    because: str
    until: float | None = None


@dataclass(frozen=True, slots=True)
class Ruling:
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
