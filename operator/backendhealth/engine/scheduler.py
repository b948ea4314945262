"""Runs what is due; what is due within the same 50 ms shares one wake-up of the loop."""

from __future__ import annotations

import asyncio
import heapq
from collections.abc import Callable, Hashable

TICK = 0.05
"""Seconds. Waking an idle loop costs more than most probes do."""


class Scheduler:
    """A queue of keys by time. `run` is called, once for each time that a key was scheduled, and must return at once.

    Times are the event loop's. A key has one place in the queue: scheduling it again moves it.
    """

    def __init__(self, run: Callable[[Hashable], None]) -> None:
        self._run = run
        self._due: dict[Hashable, float] = {}
        self._heap: list[tuple[float, int, Hashable]] = []
        self._count = 0
        self._loop: asyncio.AbstractEventLoop | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._timer_at = 0.0

    def __len__(self) -> int:
        return len(self._due)

    def schedule(self, key: Hashable, at: float) -> None:
        """Run `key` at the loop's time `at`, or at once when that has passed."""
        self._loop = self._loop or asyncio.get_running_loop()
        self._due[key] = at
        self._count += 1
        heapq.heappush(self._heap, (at, self._count, key))
        if len(self._heap) > 2 * len(self._due) + 64:  # moved keys leave stale places behind
            self._heap = [(due, number, k) for number, (k, due) in enumerate(self._due.items())]
            self._count = len(self._heap)
            heapq.heapify(self._heap)
        self._arm()

    def cancel(self, key: Hashable) -> None:
        """Take `key` out of the queue."""
        self._due.pop(key, None)

    def most_late(self) -> float:
        """Seconds since the earliest time in the queue; 0 when that is to come. May be asked from any thread."""
        first = self._heap[:1]  # a copy: the queue may get empty meanwhile
        return max(0.0, self._loop.time() - first[0][0]) if first and self._loop else 0.0

    def close(self) -> None:
        """Run nothing more."""
        self._due.clear()
        self._heap.clear()
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _arm(self) -> None:
        if not self._heap:
            return
        at = self._heap[0][0]
        if self._timer is not None:
            if self._timer_at <= at:
                return
            self._timer.cancel()
        self._timer_at = at
        self._timer = asyncio.get_running_loop().call_at(at, self._tick)

    def _tick(self) -> None:
        self._timer = None
        until = asyncio.get_running_loop().time() + TICK
        try:
            while self._heap and self._heap[0][0] <= until:
                at, _, key = heapq.heappop(self._heap)
                if self._due.get(key) == at:
                    del self._due[key]
                    self._run(key)
        finally:  # a run that fails must not stop all others
            self._arm()
