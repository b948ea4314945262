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
    """A time in which a component was Unhealthy that is over.

    `last_good` is when the newest attempt before it that worked began, `onset` when the first that failed ended,
    `ended` when the first that worked again began.
    """

    onset: float
    ended: float
    last_good: float = NEVER


@dataclass(frozen=True, slots=True)
class Seen:
    """What is believed of a component or symptom. Times are seconds since the epoch.

    `onset` is when the first attempt of an unbroken row of failures *ended*, decided or not; it stays until the
    verdict is good again, so that it is never None of one that is Unhealthy. `last_good` is when the newest attempt
    before that row that worked *began* (NEVER: none), `settled` when the newest attempt that agreed with the verdict
    *began*, `outage` the last one that is over. An attempt tells what was true between its begin and its end: one
    thing worked after another had failed only if its attempt began after the other's had ended.
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
    earlier: tuple[Outage, ...] = ()
    """The outages before `outage`: something that fell with the first of several must not be blamed after the last."""
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
