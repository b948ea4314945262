"""What can be why something has failed, by the times alone."""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from backendhealth.core.diagnosis.evidence import Outage, Seen
from backendhealth.core.reasons import Reason
from backendhealth.core.verdict import Verdict

FOREVER = float("inf")
_WORKS = (Verdict.HEALTHY, Verdict.DEGRADED)


def clock(at: float) -> str:
    """The time of day for people. It never tells how long ago: that would be another text at each look."""
    return dt.datetime.fromtimestamp(at, dt.UTC).strftime("%H:%M:%S UTC")


def fell(seen: Seen) -> float:
    """When it had failed, in seconds since the epoch: what works after that time is not why.

    One that is held at Flapping fell when it was first held: a new time at each crossing would ask for new proof.
    """
    onset = seen.since if seen.onset is None else seen.onset
    return min(onset, seen.since) if seen.reason is Reason.FLAPPING else onset


def worked(seen: Seen) -> float:
    """When the newest attempt that worked began, in seconds since the epoch; NEVER when none is known."""
    return max(seen.last_good, seen.settled) if seen.verdict in _WORKS else seen.last_good


def _excused_from(seen: Seen) -> float:
    """The time from which on a failure of something else can be why it fails."""
    if seen.reason is not Reason.FLAPPING:
        return fell(seen)
    onset = seen.since if seen.onset is None else seen.onset
    return FOREVER if seen.last_good >= onset else onset  # it works now and then: only its newest failure counts


def _outages(seen: Seen) -> list[Outage]:
    over = [one for one in (seen.outage, *seen.earlier) if one is not None]
    if seen.verdict is not Verdict.UNHEALTHY:
        return over
    start = fell(seen)
    # an attempt that worked later than that is of one that is held at Flapping, or was restored
    return [Outage(start, FOREVER, min(seen.last_good, start)), *over]


@dataclass(frozen=True, slots=True)
class Cover:
    """What explains, by the times, that something fails: `failing` does so still, the others work again.

    Of those that are `back` the grace goes on, of those that came back too `late` to matter it is past.
    """

    failing: tuple[str, ...] = ()
    back: Mapping[str, Outage] | None = None
    late: Mapping[str, Outage] | None = None
    until: float | None = None
    """When the first grace ends that goes on, in seconds since the epoch: less explains it then."""

    @property
    def holds(self) -> bool:
        """Whether something explains it now."""
        return bool(self.failing or self.back)


def cover(seen: Seen, others: Iterable[tuple[str, Seen, float]], now: float) -> Cover:
    """Which of `others` (name, what is seen, seconds of grace to recover after it) explain that `seen` fails.

    One explains it that was not seen to work since. Where one outage ends and another has begun meanwhile, the
    second is why it has not recovered: so the outages are joined, each with its grace, from the first failure on.
    """
    start = horizon = _excused_from(seen)
    spans = ((name, outage, outage.ended + grace) for name, other, grace in others for outage in _outages(other))
    taken: list[tuple[str, Outage, float]] = []
    for name, outage, end in sorted(spans, key=lambda span: span[1].last_good):
        if outage.last_good >= horizon:  # an attempt that began when the other's had ended
            break
        if end >= min(start, now):
            horizon = max(horizon, end)
            taken.append((name, outage, end))
    failing = {name for name, outage, _ in taken if outage.ended == FOREVER}
    over = sorted((one for one in taken if one[0] not in failing), key=lambda one: one[1].ended)
    back = {name: outage for name, outage, end in over if now < end}
    late = {name: outage for name, outage, _ in over if name not in back}
    until = min((end for _, _, end in over if now < end), default=None)
    return Cover(tuple(sorted(failing)), back, late, until)
