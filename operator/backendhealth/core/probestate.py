"""What one probe is believed to show: attempts against thresholds, and doubt when nobody answers us."""

from __future__ import annotations

from dataclasses import dataclass, replace

from backendhealth.core.observation import Finding, Observation
from backendhealth.core.reasons import Reason
from backendhealth.core.verdict import Verdict

NOT_PROBED = Finding(Reason.PENDING, "not probed yet")
SUSPENDED = Finding(Reason.SUSPENDED, "probing is suspended by the spec")


@dataclass(frozen=True, slots=True)
class Thresholds:
    """Consecutive attempts that it takes to get worse, and to get better."""

    failure: int
    success: int


@dataclass(frozen=True, slots=True)
class ProbeState:
    """The belief of one probe. Times are seconds since the epoch.

    `finding` tells the verdict's reason; `recent` are the findings since the last one that agreed with the verdict,
    oldest first. `silent_since` is when the first of an unbroken row of attempts began in which nothing came back.
    `armed`: others were heard since then; `confirmed`: an attempt after that was silent still, so it is not us.
    """

    verdict: Verdict
    finding: Finding
    since: float
    recent: tuple[Finding, ...] = ()
    silent_since: float | None = None
    armed: bool = False
    confirmed: bool = False

    @property
    def deciding(self) -> bool:
        """Whether the last attempt contradicts the verdict, so that the next one should come soon."""
        return bool(self.recent) or self.doubted

    @property
    def doubted(self) -> bool:
        """Whether the failure may be our own network's: nothing came back, and nobody else was heard since."""
        return self.verdict is Verdict.UNHEALTHY and self.silent_since is not None and not self.confirmed


def initial(now: float, *, suspended: bool = False) -> ProbeState:
    """The belief before any attempt."""
    return ProbeState(Verdict.UNKNOWN, SUSPENDED if suspended else NOT_PROBED, now)


def observe(state: ProbeState, seen: Observation, thresholds: Thresholds, heard_elsewhere: float | None) -> ProbeState:
    """The belief after one more attempt.

    `heard_elsewhere` is when anything last came back from another host, None when there is no other host to hear.
    The same object is returned when nothing has changed.
    """
    finding = seen.finding
    if finding.contact and state.silent_since is None and finding.verdict is state.verdict and not state.recent:
        return state if same(finding, state.finding) else replace(state, finding=finding)
    return _judge(_listen(state, seen, heard_elsewhere), seen, thresholds)


def same(one: Finding, other: Finding) -> bool:
    """Whether two findings say the same: messages, facts and timings may differ, which is no change of the world."""
    return one.reason is other.reason and _troubled(one) == _troubled(other)


def _troubled(finding: Finding) -> list[tuple[str, Reason]]:
    return [(s.subject, s.reason) for s in finding.subjects if s.reason.verdict is not Verdict.HEALTHY]


def _listen(state: ProbeState, seen: Observation, heard_elsewhere: float | None) -> ProbeState:
    if seen.finding.contact:
        return replace(state, silent_since=None, armed=False, confirmed=False)
    since = seen.started if state.silent_since is None else state.silent_since
    alone = heard_elsewhere is None
    return replace(
        state,
        silent_since=since,
        confirmed=state.confirmed or state.armed or alone,
        armed=state.armed or (not alone and heard_elsewhere is not None and heard_elsewhere >= since),
    )


def _judge(state: ProbeState, seen: Observation, thresholds: Thresholds) -> ProbeState:
    finding = seen.finding
    if finding.verdict is state.verdict:
        kept = state.finding if same(finding, state.finding) else finding
        return replace(state, recent=(), finding=kept)
    recent = (*state.recent, finding)[-max(thresholds.failure, thresholds.success) :]
    verdict = _decided(state.verdict, recent, thresholds)
    if verdict is state.verdict:
        return replace(state, recent=recent)
    newest = max(index for index, one in enumerate(recent) if one.verdict is verdict)
    return replace(state, verdict=verdict, finding=recent[newest], since=seen.at, recent=recent[newest + 1 :])


def _decided(verdict: Verdict, recent: tuple[Finding, ...], thresholds: Thresholds) -> Verdict:
    """The verdict that the last attempts are enough for: the worst that all reach, or the best that none exceeds."""
    if len(recent) >= thresholds.failure:
        floor = min((one.verdict for one in recent[-thresholds.failure :]), key=lambda v: v.rank)
        if floor.rank > verdict.rank:
            return floor
    if len(recent) >= thresholds.success:
        ceiling = max((one.verdict for one in recent[-thresholds.success :]), key=lambda v: v.rank)
        if ceiling.rank < verdict.rank:
            return ceiling
    return verdict
