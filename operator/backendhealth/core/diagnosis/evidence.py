"""What a diagnosis is made from and what it says: data."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from backendhealth.core.observation import SubjectFinding
from backendhealth.core.reasons import Reason
from backendhealth.core.spec.status import Diagnosis
from backendhealth.core.verdict import Verdict

NEVER = float("-inf")


@dataclass(frozen=True, slots=True)
class Outage:
    """A time in which a component was Unhealthy: from the first attempt that failed to the first that worked again."""

    onset: float
    ended: float


@dataclass(frozen=True, slots=True)
class Seen:
    """What is believed of a component or symptom. Times are seconds since the epoch, of attempts when they began.

    `onset` is the first attempt of the unbroken row of failures that goes on, decided or not; None while the newest
    attempt works. `last_good` is the newest attempt that worked (NEVER: none), `settled` the newest attempt that
    agreed with the verdict, `outage` the last one that is over.
    """

    verdict: Verdict
    reason: Reason
    message: str
    since: float
    onset: float | None = None
    last_good: float = NEVER
    settled: float = NEVER
    deciding: bool = False
    """Whether the newest attempt contradicts the verdict, so that the next ones decide."""
    outage: Outage | None = None
    subjects: tuple[SubjectFinding, ...] = ()
    texts: tuple[str, ...] = ()
    """Error texts of the target's own, beyond `message`, for signatures: an answer's body, lines of a pod's log."""


@dataclass(frozen=True, slots=True)
class Evidence:
    """All that is believed of one resource. Components and symptoms that no probe speaks for are not in it."""

    components: Mapping[str, Seen]
    symptoms: Mapping[str, Seen] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Answer:
    """A diagnosis, and when it is to be made anew although no verdict changes.

    `asked` are the components and symptoms whose next attempt is waited for: they are probed at once. `again_at` is
    the time (seconds since the epoch) at which the passing of time alone changes the answer; None: never.
    """

    diagnosis: Diagnosis
    asked: frozenset[str] = frozenset()
    again_at: float | None = None
