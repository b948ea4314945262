"""The ports that are handed to the engine."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from typing import NamedTuple, Protocol

from backendhealth.core.observation import Finding, Observation
from backendhealth.core.spec.backendhealth import BackendHealth, Probe
from backendhealth.core.spec.status import BackendHealthStatus


class Prober(Protocol):
    """Makes attempts on one target under one identity."""

    async def attempt(self, timeout: float) -> Finding:
        """One attempt, ended after `timeout` seconds; raises nothing but cancellation."""
        ...

    async def close(self) -> None:
        """Close what is kept between attempts."""
        ...


Signal = Callable[[], None]
"""Says that something has changed: the next attempt is made at once."""
OpenProber = Callable[[BackendHealth, Probe, Signal], Prober]
"""A prober for a probe of a resource; connects to nothing yet."""
WallClock = Callable[[], float]
"""Seconds since the epoch."""
Sink = Callable[[BackendHealth, BackendHealthStatus], None]
"""Takes each new status of a resource."""
Recorder = Callable[[Observation], None]
"""Takes every observation."""


class Logged(NamedTuple):
    """The last lines of logs; `unread`: there are some that could not be read."""

    lines: Sequence[bytes]
    unread: bool = False


ReadLogs = Callable[[BackendHealth, Probe], Awaitable[Logged]]
"""What the pods of a probe have logged last, for a resource.

Bounded in time and bytes; raises nothing but cancellation.
"""
