"""What speaks for or against a component as the cause of something that has failed at a certain time."""

from __future__ import annotations

from enum import Enum, auto

from backendhealth.core.diagnosis.times import worked
from backendhealth.core.diagnosis.world import World
from backendhealth.core.reasons import Reason
from backendhealth.core.verdict import Verdict

_NOT_WATCHED = (Reason.SUSPENDED, Reason.INVALID_SPEC)


class Standing(Enum):
    """Where a component stands."""

    CLEARED = auto()
    """It was seen to work since."""
    AT_RISK = auto()
    """It was seen to work since, but is Degraded."""
    FAILS = auto()
    AWAITED = auto()
    """The next attempts will tell."""
    UNTOLD = auto()
    """It is Unknown, and stays so until somebody mends that."""
    UNWATCHED = auto()
    """No probe speaks for it."""


def standing(world: World, name: str, start: float) -> Standing:
    """Where the component `name` stands towards a failure that was there at `start`, in seconds since the epoch."""
    seen = world.seen.get(name)
    if seen is None:
        return Standing.UNWATCHED
    if worked(seen) >= start:
        # what fails after that does not undo it: the cause would change with every odd attempt
        return Standing.AT_RISK if seen.verdict is Verdict.DEGRADED else Standing.CLEARED
    if seen.reason in _NOT_WATCHED:
        return Standing.UNWATCHED
    if seen.verdict is Verdict.UNHEALTHY:
        return Standing.FAILS
    if seen.verdict is Verdict.UNKNOWN:
        coming = seen.reason is Reason.PENDING or (seen.deciding and seen.reason is not Reason.BLIND)
        return Standing.AWAITED if coming else Standing.UNTOLD
    return Standing.AWAITED


def told(world: World, name: str, where: Standing) -> str:
    """Why a component that stands there is suspected, for people."""
    seen = world.seen.get(name)
    if seen is None or where is Standing.UNWATCHED:
        return f"{name} is not watched"
    if where is Standing.AT_RISK:
        return f"{name} works, but is Degraded ({seen.reason}): {seen.message}"
    return f"{name} is {seen.verdict} ({seen.reason}): {seen.message}"
