"""Maintenance windows: when they stand open, in the time of their own zone."""

from __future__ import annotations

import datetime as dt
import math
from collections.abc import Iterable, Iterator, Sequence
from typing import TYPE_CHECKING
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError, available_timezones

from cronsim import CronSim, CronSimError

from backendhealth.core.durations import seconds

if TYPE_CHECKING:
    from backendhealth.core.spec.remediationpolicy import MaintenanceWindow

_FIELDS = 5
_SHIFT = dt.timedelta(hours=3)  # no clock is put forward or back by more
_HORIZON = 400 * 86400.0
_STEPS = 2000
_EXAMPLE = "five fields: minute, hour, day of month, month, day of week, e.g. `0 22 * * 1-5`"
_ANY_DAY = dt.datetime(2026, 1, 1, tzinfo=dt.UTC)


def problem(schedule: str, time_zone: str = "UTC") -> str:
    """What is wrong with a window's schedule or time zone, for people; empty when nothing is."""
    return _zone_problem(time_zone) or _schedule_problem(schedule)


def _zone_problem(name: str) -> str:
    try:
        _zone(name)
    except (ZoneInfoNotFoundError, ValueError, OSError):  # a folder's name is an OSError
        return "no time zone has this name: use one of the IANA database, e.g. Australia/Sydney"
    return ""


def _schedule_problem(schedule: str) -> str:
    if len(schedule.split()) != _FIELDS:
        return f"not a cron schedule: it has {_EXAMPLE}"
    try:
        next(CronSim(schedule, _ANY_DAY))
    except CronSimError as error:
        return f"not a cron schedule ({str(error).lower()}): it has {_EXAMPLE}"
    except StopIteration:
        return "this schedule never comes"
    return ""


def time_zones() -> Iterable[str]:
    """Names of all time zones."""
    return available_timezones()


def standing(windows: Sequence[MaintenanceWindow], now: float) -> tuple[str, float | None]:
    """Why it is no time to act, empty when it is one, and when it will be; all in seconds since the epoch.

    None: not within the next 400 days, or it was not found out.
    """
    why = _held(windows, now)[0]
    until = opening(windows, now) if why else None
    return why, None if until is None or math.isinf(until) else until


def opening(windows: Sequence[MaintenanceWindow], now: float) -> float | None:
    """The next moment from `now` on at which the windows let act; infinity: none in 400 days; None: not found out."""
    at = now
    for _ in range(_STEPS):
        why, until = _held(windows, at)
        if not why:
            return at
        if until > now + _HORIZON:
            return math.inf
        at = until
    return None


def _held(windows: Sequence[MaintenanceWindow], at: float) -> tuple[str, float]:
    """Why it is no time to act, empty when it is one; and when the window that says so ends, or the next one begins."""
    ends = [(end, one.name) for one in windows if one.act == "NeverInside" and (end := _end(one, at)) is not None]
    if ends:
        names = ", ".join(sorted(name for _, name in ends))
        return f"inside the maintenance window {names}, in which nothing is done", max(end for end, _ in ends)
    inside = [one for one in windows if one.act == "OnlyInside"]
    if not inside or any(_end(one, at) is not None for one in inside):
        return "", math.inf
    names = ", ".join(sorted(one.name for one in inside))
    return f"outside the maintenance window {names}, and only inside is anything done", min(
        _next_start(one, at) for one in inside
    )


def _end(window: MaintenanceWindow, at: float) -> float | None:
    """When the window that is open at this time ends; None when it is not open."""
    start = next((one for one in _starts(window, at, back=True) if one <= at), -math.inf)
    end = start + seconds(window.duration)
    return end if at < end else None


def _next_start(window: MaintenanceWindow, at: float) -> float:
    return next((one for one in _starts(window, at, back=False) if one > at), math.inf)


def _starts(window: MaintenanceWindow, at: float, *, back: bool) -> Iterator[float]:
    """Times at which it begins, from about `at` on, backwards or forwards.

    A time of day that the clock leaves out (summer begins) is taken at the first moment after the gap; one that comes
    twice (summer ends) is taken the first time; what begins by the hour or minute begins each time.
    """
    begin = dt.datetime.fromtimestamp(math.floor(at), _zone(window.time_zone)) + dt.timedelta(seconds=1 if back else 0)
    if len({_later(begin, by).utcoffset() for by in (-_SHIFT, dt.timedelta(), _SHIFT)}) > 1:
        # by the wall clock, which CronSim goes by, what was before may be ahead
        begin = _later(begin, _SHIFT if back else -_SHIFT)
    return (one.timestamp() for one in CronSim(window.schedule, begin, reverse=back))


def _later(time: dt.datetime, by: dt.timedelta) -> dt.datetime:
    return (time.astimezone(dt.UTC) + by).astimezone(time.tzinfo)


def _zone(name: str) -> dt.tzinfo:
    return dt.UTC if name == "UTC" else ZoneInfo(name)
