"""What the engine calls: attempts on one exchange, whose connection is renewed now and then."""

from __future__ import annotations

from time import monotonic

from backendhealth.core.observation import Finding
from backendhealth.probes.exchange import Exchange, drop, run_attempt

MAX_CONNECTION_AGE = 600.0
"""Seconds after which a kept connection is made anew: only a new one notices a moved name, a renewed certificate or
a full server."""


class Prober:
    """Makes attempts on one exchange."""

    def __init__(self, exchange: Exchange) -> None:
        self._exchange = exchange
        self._renewed = monotonic()

    async def attempt(self, timeout: float) -> Finding:
        """One attempt under its deadline."""
        if monotonic() - self._renewed > MAX_CONNECTION_AGE:
            await self.close()
        return await run_attempt(self._exchange, timeout)

    async def close(self) -> None:
        """Close what is kept."""
        self._renewed = monotonic()
        await drop(self._exchange)
