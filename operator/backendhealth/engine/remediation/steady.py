"""The time by which remediation is decided: the wall clock, but one that was stepped is not believed at once."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from backendhealth.core.durations import human

JUMP = 5.0
"""Seconds by which the wall clock may differ from the loop's time since the last look."""
SETTLES = 300.0
"""Seconds for which a clock that was stepped must be steady; by then whatever is probed was observed anew."""


class SteadyClock:
    """Goes on by the event loop's time while the wall clock is not believed. A suspended machine's clock jumps, too."""

    def __init__(self, wall: Callable[[], float], settles: float = SETTLES) -> None:
        self._wall = wall
        self._settles = settles
        self._anchor: float | None = None
        self._stepped: tuple[float, float] | None = None
        """How far the wall clock is from the loop's time since it was stepped, and when that was seen."""

    def now(self) -> float:
        """Seconds since the epoch; never advanced by a step of the wall clock until `trouble` is over."""
        at, anchor = self._look()
        return anchor + at

    def trouble(self) -> str:
        """Why the time can't be told for sure, empty while it can."""
        _, anchor = self._look()
        if self._stepped is None:
            return ""
        by = self._stepped[0] - anchor
        where = "forward" if by > 0 else "back"
        return f"the clock was set {where} by {human(abs(by))}, and must be steady for {human(self._settles)} first"

    def _look(self) -> tuple[float, float]:
        at = asyncio.get_running_loop().time()
        offset = self._wall() - at
        if self._anchor is None or abs(offset - self._anchor) <= JUMP:
            self._anchor, self._stepped = offset, None
        elif self._stepped is None or abs(offset - self._stepped[0]) > JUMP:
            self._stepped = (offset, at)
        elif at - self._stepped[1] >= self._settles:
            self._anchor, self._stepped = offset, None
        return at, self._anchor
