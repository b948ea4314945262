"""What one probe is believed to show: attempts against thresholds, and doubt when nobody answers us."""

from __future__ import annotations

from dataclasses import dataclass, replace

from backendhealth.core.observation import Finding, Observation
from backendhealth.core.reasons import Reason
from backendhealth.core.verdict import Verdict

NOT_PROBED = Finding(Reason.PENDING, "not probed often enough to tell")
SUSPENDED = Finding(
    Reason.SUSPENDED, "probing is suspended by spec.suspend or the annotation backendhealth.dev/suspended-until"
)


@dataclass(frozen=True, slots=True)
class Thresholds:
    """Consecutive attempts that it takes to get worse, and to get better."""

    failure: int
    success: int


NOBODY = float("-inf")
"""For `heard_elsewhere`: all others are believed to be silent, too."""


@dataclass(frozen=True, slots=True)
class ProbeState:
    """The belief of one probe. Times are seconds since the epoch.

    `finding` tells the verdict's reason; `recent` are the findings since the last one that agreed with the verdict,
    oldest first. Silence that may be our own network's does not agree with a failure that was answered, a refusal: that
    stands until the threshold is reached (a firewall's refusals are rationed, so that single ones are lost).

    `silent_since` is when the first of an unbroken row of attempts began in which nothing came back. While it lasts
    others must be heard twice: after it began, which sets `armed_at`, and again after that time, which makes it
    `confirmed` that it is not our own network. Once is not enough: an attempt that began while the network was lost
    still ends in silence when others are heard already.
    """

    verdict: Verdict
    finding: Finding
    since: float
    recent: tuple[Finding, ...] = ()
    silent_since: float | None = None
    armed_at: float | None = None
    confirmed: bool = False

    @property
    def deciding(self) -> bool:
        """Whether the last attempt contradicts the verdict, so that the next one should come soon."""
        return bool(self.recent) or self.doubted

    @property
    def doubted(self) -> bool:
        """Whether the failure may be our own network's: nothing came back, and others were not heard enough since."""
        return self.verdict is Verdict.UNHEALTHY and self.mute and not self.confirmed

    @property
    def mute(self) -> bool:
        """Whether it is believed that nothing comes back, whoever's fault that is."""
        return self.silent_since is not None and silent(self.finding)


def initial(now: float, *, suspended: bool = False) -> ProbeState:
    """The belief before any attempt."""
    return ProbeState(Verdict.UNKNOWN, SUSPENDED if suspended else NOT_PROBED, now)


def silent(finding: Finding) -> bool:
    """Whether the attempt failed as it does when our own network is lost: something was sent, nothing came back."""
    return not finding.contact and (
        finding.verdict is not Verdict.UNKNOWN  # what is Unknown was not sent: a missing Secret, a refused address
        or finding.reason in (Reason.RESOLVER_UNAVAILABLE, Reason.NETWORK_UNREACHABLE)
    )


def observe(state: ProbeState, seen: Observation, thresholds: Thresholds, heard_elsewhere: float | None) -> ProbeState:
    """The belief after one more attempt; the same object when nothing has changed.

    `heard_elsewhere` is when the last attempt began that anybody answered: None when there is no other host that
    could be heard, NOBODY when all others are believed to be silent. It counts for a silent attempt only.
    """
    return _judge(listen(state, seen, heard_elsewhere), seen, thresholds)


_REMEDIES = {Reason.SECRET_FORBIDDEN, Reason.SECRET_NOT_ALLOWED, Reason.PODS_FORBIDDEN}
"""Their messages hold the line that mends it: another line is another state."""


def same(one: Finding, other: Finding) -> bool:
    """Whether two findings say the same: messages, facts and timings may differ, which is no change of the world."""
    if one.reason in _REMEDIES and one.message != other.message:
        return False
    return (one.reason, one.contact, _troubled(one)) == (other.reason, other.contact, _troubled(other))


def _troubled(finding: Finding) -> list[tuple[str, Reason]]:
    return [(s.subject, s.reason) for s in finding.subjects if s.reason.verdict is not Verdict.HEALTHY]


def listen(state: ProbeState, seen: Observation, heard_elsewhere: float | None) -> ProbeState:
    """What `observe` makes of silence, before thresholds."""
    if seen.finding.contact and state.silent_since is not None:
        return replace(state, silent_since=None, armed_at=None, confirmed=False)
    if not silent(seen.finding):
        return state
    if state.silent_since is None:
        return _weigh(replace(state, silent_since=seen.started), seen.started, seen, heard_elsewhere)
    return _weigh(state, state.silent_since, seen, heard_elsewhere)


def _weigh(state: ProbeState, silent_since: float, seen: Observation, heard_elsewhere: float | None) -> ProbeState:
    """Whether one more silent attempt is our own network's fault."""
    if heard_elsewhere is None:
        return state if state.confirmed else replace(state, confirmed=True)
    if state.confirmed:
        # one that died alone is in doubt again once all others have fallen silent as well
        lost = heard_elsewhere == NOBODY
        return replace(state, silent_since=seen.started, armed_at=None, confirmed=False) if lost else state
    if heard_elsewhere < (silent_since if state.armed_at is None else state.armed_at):
        return state
    return replace(state, armed_at=seen.at) if state.armed_at is None else replace(state, confirmed=True)


def _judge(state: ProbeState, seen: Observation, thresholds: Thresholds) -> ProbeState:
    finding = seen.finding
    refused = state.finding.contact and _may_be_ours(state, finding)
    if finding.verdict is state.verdict and not (refused and 1 + _silences(state.recent) < thresholds.failure):
        kept = state.finding if same(finding, state.finding) else finding
        return replace(state, recent=(), finding=kept) if state.recent or kept is not state.finding else state
    recent = (*state.recent, finding)[-max(thresholds.failure, thresholds.success) :]
    verdict = _decided(state.verdict, recent, thresholds)
    if verdict is state.verdict:
        return replace(state, recent=recent)
    agreeing = [index for index, one in enumerate(recent) if one.verdict is verdict]
    newest = next((index for index in reversed(agreeing) if not _may_be_ours(state, recent[index])), agreeing[-1])
    return replace(state, verdict=verdict, finding=recent[newest], since=seen.at, recent=recent[newest + 1 :])


def _may_be_ours(state: ProbeState, finding: Finding) -> bool:
    """Whether it is a failure by silence, and that may be our own network's."""
    return finding.verdict is Verdict.UNHEALTHY and silent(finding) and not state.confirmed


def _silences(recent: tuple[Finding, ...]) -> int:
    """How many of the last ones in a row are silence."""
    return next((count for count, one in enumerate(reversed(recent)) if not silent(one)), len(recent))


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
