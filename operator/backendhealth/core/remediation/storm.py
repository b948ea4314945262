"""The storm breaker: while much fails at once, the cause is elsewhere, and acting on each makes it worse."""

from __future__ import annotations

from backendhealth.core.durations import seconds
from backendhealth.core.remediation.ruling import Guard, Hold
from backendhealth.core.remediation.situation import World
from backendhealth.core.spec.remediationpolicy import StormBreaker


def raging(breaker: StormBreaker, unhealthy: int, total: int) -> bool:
    """Whether more than the breaker's share of at least so many BackendHealths are unhealthy."""
    return total >= breaker.of_at_least and unhealthy * 100 > int(breaker.unhealthy_over[:-1]) * total


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
