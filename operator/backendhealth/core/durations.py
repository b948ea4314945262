"""Durations as Flux and Prometheus write them: `30s`, `1m30s`, `500ms`, `1h`."""

from __future__ import annotations

import re
from functools import lru_cache

DURATION_PATTERN = r"^([0-9]+(\.[0-9]+)?(ms|s|m|h))+$"
_PART = re.compile(r"([0-9]+(?:\.[0-9]+)?)(ms|s|m|h)")
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
    if total < 120:
        return f"{total}s"
    if total < 600 and total % 60:
        return f"{total // 60}m{total % 60}s"
    if total < 3 * 3600:
        return f"{total // 60}m"
    if total < 8 * 3600 and total % 3600 // 60:
        return f"{total // 3600}h{total % 3600 // 60}m"
    if total < 48 * 3600:
        return f"{total // 3600}h"
    return f"{total // 86400}d"
