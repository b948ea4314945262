"""Whether something is ours, by a clock that nobody can set."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable

log = logging.getLogger(__name__)

Clock = Callable[[], float]
_BOOTTIME: int | None = getattr(time, "CLOCK_BOOTTIME", None)


def boottime() -> float:
    """Seconds on a clock that nobody can set and that, where there is one, goes on while the machine is suspended."""
    return time.monotonic() if _BOOTTIME is None else time.clock_gettime(_BOOTTIME)


class Hold:
    """Whether a shard is ours, by the clock; tells when that begins and ends."""

    def __init__(self, what: str, clock: Clock, acquired: Callable[[], None], lost: Callable[[], None]) -> None:
        self._what = what
        self._clock = clock
        self._acquired = acquired
        self._lost = lost
        self._until: float | None = None
        self._timer: asyncio.TimerHandle | None = None

    def __call__(self) -> bool:
        """Whether it is ours at this very moment."""
        until = self._until
        return until is not None and self._clock() < until

    def extend(self, until: float) -> None:
        """Ours until then, by the clock; nothing when that is past."""
        self.check()
        left = until - self._clock()
        if left <= 0:
            return
        begins, self._until = self._until is None, until
        self._look_in(left)
        if begins:
            log.info("%s: acquired", self._what)
            self._acquired()

    def check(self) -> None:
        """End it when its time is over; else look again then."""
        if self._until is None:
            return
        left = self._until - self._clock()
        if left > 0:
            self._look_in(left)
        else:
            self.end("not renewed in time")

    def end(self, why: str) -> None:
        """Not ours any more."""
        if self._until is None:
            return
        self._until = None
        if self._timer is not None:
            self._timer.cancel()
        log.info("%s: lost, %s", self._what, why)
        self._lost()

    def _look_in(self, seconds: float) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._timer = asyncio.get_running_loop().call_later(seconds, self.check)
