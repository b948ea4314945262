"""Durations as Flux and Prometheus write them: `30s`, `1m30s`, `500ms`, `1h`."""

from __future__ import annotations

import re
from functools import lru_cache

DURATION_PATTERN = r"^([0-9]+(\.[0-9]+)?(ms|s|m|h))+$"
_PART = re.compile(r"([0-9]+(?:\.[0-9]+)?)(ms|s|m|h)")
_MINUTE, _HOUR, _DAY = 60, 3600, 86400
_SECONDS = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0}


@lru_cache(maxsize=4096)
def seconds(duration: str) -> float:
    """Seconds of a duration such as `1m30s`. Raises ValueError for anything else."""
    if not re.fullmatch(DURATION_PATTERN, duration, re.ASCII):
        raise ValueError(f"not a duration: {duration!r}")
    # to the nanosecond, as the API server counts: 700ms is not longer than 0.7s
    return round(sum(float(number) * _SECONDS[unit] for number, unit in _PART.findall(duration)), 9)


def human(value: float) -> str:
    """A span of seconds for people, as kubectl prints ages: `42s`, `5m`, `3h12m`, `9d`."""
    total = int(value)
    minutes, hours, days = total // _MINUTE, total // _HOUR, total // _DAY
    if total < 2 * _MINUTE:
        return f"{total}s"
    if total < 10 * _MINUTE and total % _MINUTE:
        return f"{minutes}m{total % _MINUTE}s"
    if total < 3 * _HOUR:
        return f"{minutes}m"
    if total < 8 * _HOUR and minutes % 60:
        return f"{hours}h{minutes % 60}m"
    return f"{hours}h" if total < 2 * _DAY else f"{days}d"
