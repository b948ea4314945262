"""When attempts failed and when they worked: what tells a cause from what came after it."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace

from backendhealth.core.diagnosis.evidence import NEVER, Outage
from backendhealth.core.probestate import ProbeState
from backendhealth.core.verdict import Verdict

_WORKS = (Verdict.HEALTHY, Verdict.DEGRADED)
_MAX_EARLIER = 7


@dataclass(frozen=True, slots=True)
class Attempts:
    """The attempts of one probe, or of one part of it; times are seconds since the epoch.

    `onset` is when the first of an unbroken row of failures ended, and stays until the verdict is good again;
    `last_good` when the newest that worked before that began. `again` is when the first began that worked after a
    failure, while the verdict is still bad. `settled` is when the newest began that agreed with the verdict, `newest`
    when the newest of all did.
    """

    onset: float | None = None
    last_good: float = NEVER
    again: float | None = None
    settled: float = NEVER
    newest: float = NEVER
    down: bool = False
    """Whether the row of failures was long enough to decide."""
    outage: Outage | None = None
    earlier: tuple[Outage, ...] = ()
    """Outages before `outage`, newest first."""

    def made(self, found: Verdict, started: float, at: float, after: ProbeState) -> Attempts:
        """With one more attempt, which began at `started` and ended `at`, and after which `after` is believed."""
        settled = self.settled if after.deciding else started
        works = found in _WORKS
        if works and self.onset is None:  # as nearly always: by hand in a quarter of the time of replace
            return Attempts(None, started, None, settled, started, False, self.outage, self.earlier)
        made = replace(self, settled=settled, newest=started)
        if works and self.onset is not None:
            return _worked(made, self.onset, started, after.verdict)
        if found is Verdict.UNHEALTHY:
            down = after.verdict is Verdict.UNHEALTHY
            return replace(made, onset=at if self.onset is None else self.onset, again=None, down=down)
        return made


def _worked(made: Attempts, onset: float, started: float, believed: Verdict) -> Attempts:
    if believed is Verdict.UNHEALTHY:
        return replace(made, again=started if made.again is None else made.again)
    ended = started if made.again is None else made.again
    back = replace(made, onset=None, again=None, down=False, last_good=started)
    if not made.down:
        return back
    earlier = (made.outage, *made.earlier)[:_MAX_EARLIER] if made.outage else ()
    return replace(back, outage=Outage(onset, ended, made.last_good), earlier=earlier)


NONE = Attempts()


def together(members: Iterable[Attempts]) -> Attempts:
    """The attempts of several probes that speak for one component: it works when all of them do."""
    listed = list(members)
    if len(listed) == 1:
        return listed[0]
    failing = [one for one in listed if one.onset is not None]
    first = min(failing, key=lambda one: one.onset or 0.0, default=None)
    outages = sorted(
        (outage for one in listed for outage in (one.outage, *one.earlier) if outage),
        key=lambda outage: outage.ended,
        reverse=True,
    )
    return Attempts(
        onset=first.onset if first else None,
        last_good=first.last_good if first else min((one.last_good for one in listed), default=NEVER),
        settled=min((one.settled for one in listed), default=NEVER),
        newest=min((one.newest for one in listed), default=NEVER),
        outage=outages[0] if outages else None,
        earlier=tuple(outages[1 : _MAX_EARLIER + 1]),
    )
