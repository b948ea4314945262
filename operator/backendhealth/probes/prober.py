"""What the engine calls: attempts on one exchange, whose connection is renewed now and then."""

from __future__ import annotations

from time import monotonic

from backendhealth.core.observation import Finding
from backendhealth.core.reasons import Reason
from backendhealth.probes.exchange import Exchange, drop, renew, run_attempt
from backendhealth.probes.secrets import LiveSecrets
from backendhealth.probes.trace import Trace

MAX_CONNECTION_AGE = 600.0
"""Seconds after which a kept connection is made anew: only a new one notices a moved name, a renewed certificate or
a full server."""


class Prober:
    """Makes attempts on one exchange; with `secrets`, those that it reads, never on a connection made with old ones."""

    def __init__(self, exchange: Exchange, secrets: LiveSecrets | None = None) -> None:
        self._exchange = _Renewing(exchange, secrets) if secrets else exchange
        self._secrets = secrets
        self._renewed = monotonic()

    async def attempt(self, timeout: float) -> Finding:
        """One attempt under its deadline."""
        if monotonic() - self._renewed > MAX_CONNECTION_AGE:
            self._renewed = monotonic()
            await renew(self._exchange)
        finding = await run_attempt(self._exchange, timeout)
        if self._secrets and _refused(finding):
            self._secrets.distrust()
        return finding

    async def close(self) -> None:
        """Close what is kept."""
        self._renewed = monotonic()
        await drop(self._exchange)


class _Renewing:
    """An exchange whose connection is dropped when a Secret that it was made with has changed."""

    def __init__(self, exchange: Exchange, secrets: LiveSecrets) -> None:
        self._exchange = exchange
        self._secrets = secrets

    async def attempt(self, trace: Trace, timeout: float) -> Finding:
        began = monotonic()
        if await self._secrets.changed():
            await drop(self)
        return await self._exchange.attempt(trace, timeout - (monotonic() - began))

    async def renew(self) -> None:
        await renew(self._exchange)

    async def close(self) -> None:
        self._secrets.release()
        await self._exchange.close()


def _refused(finding: Finding) -> bool:
    reasons = {finding.reason, *(subject.reason for subject in finding.subjects)}
    reasons.update(part.reason for part in finding.parts.values())
    return Reason.AUTHENTICATION_FAILED in reasons
