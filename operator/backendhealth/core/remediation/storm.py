"""The storm breaker: while much fails at once, the cause is elsewhere, and acting on each makes it worse."""

from __future__ import annotations

import heapq
from collections.abc import Collection

from backendhealth.core.durations import seconds
from backendhealth.core.remediation.ruling import Guard, Hold
from backendhealth.core.remediation.situation import World
from backendhealth.core.remediation.situations import instant
from backendhealth.core.spec.remediationpolicy import StormBreaker
from backendhealth.core.spec.status import BackendHealthStatus
from backendhealth.core.verdict import Verdict

_HISTORY = 20
"""Changes that a status remembers."""


def raging(breaker: StormBreaker, unhealthy: int, total: int) -> bool:
    """Whether more than the breaker's share of at least so many BackendHealths are unhealthy."""
    return total >= breaker.of_at_least and unhealthy * 100 > _share(breaker) * total


def _share(breaker: StormBreaker) -> int:
    return int(breaker.unhealthy_over[:-1])


def unhealthy_until(status: BackendHealthStatus, now: float) -> float | None:
    """The last moment at which a BackendHealth may have been unhealthy, as its status tells; None: it was not."""
    if status.summary is not None and status.summary.state == Verdict.UNHEALTHY:
        return now
    full = len(status.history) >= _HISTORY  # what it began with is not told any more
    if not full and all(one.verdict is not Verdict.UNHEALTHY for one in status.history):
        return None
    healthy = next((one for one in status.conditions if one.type == "Healthy"), None)
    return now if healthy is None else min(instant(healthy.last_transition_time), now)


def raged_until(breaker: StormBreaker, last: Collection[float], total: int) -> float | None:
    """When a storm may have ended that nobody has watched: no later than so many BackendHealths were last unhealthy."""
    if not raging(breaker, len(last), total):
        return None
    return heapq.nlargest(_share(breaker) * total // 100 + 1, last)[-1]


def storm(breaker: StormBreaker, world: World, now: float) -> Hold | None:
    """What holds during a storm, and for the breaker's cool-down after it was last seen."""
    share = breaker.unhealthy_over
    if raging(breaker, world.unhealthy, world.total):
        return Hold(Guard.STORM, f"more than {share} of all BackendHealths are unhealthy: the cause is elsewhere")
    if world.storm_seen is None:
        return None
    until = world.storm_seen + seconds(breaker.cooldown)
    if now >= until:
        return None
    return Hold(Guard.STORM, f"more than {share} of all BackendHealths were unhealthy a short while ago", until)
