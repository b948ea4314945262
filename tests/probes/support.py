"""What the tests of all probes share."""

from __future__ import annotations

from collections.abc import Mapping

from backendhealth.core.observation import Finding
from backendhealth.core.reasons import Reason
from backendhealth.core.spec.backendhealth import Probe
from backendhealth.probes.dialer import Dialer
from backendhealth.probes.exchange import Exchange, ProbeError, run_attempt
from backendhealth.probes.registry import Context, build

PLANTED = "pl4nted-s3cret"
"""A password that must show up nowhere."""


class MemorySecrets:
    """Secrets held in memory; change `data` to rotate one."""

    def __init__(self, data: Mapping[str, Mapping[str, str | bytes]] | None = None) -> None:
        self.data = {name: dict(values) for name, values in (data or {}).items()}

    async def read(self, name: str) -> Mapping[str, bytes]:
        if name not in self.data:
            raise ProbeError(Reason.SECRET_NOT_FOUND, f"Secret {name} does not exist")
        return {key: v.encode() if isinstance(v, str) else v for key, v in self.data[name].items()}


def exchange_for(
    member: str, target: Mapping[str, object], secrets: MemorySecrets | None = None, dialer: Dialer | None = None
) -> Exchange:
    """The exchange for a target written as in YAML, e.g. `exchange_for("redis", {"url": "redis://127.0.0.1:6379"})`."""
    probe = Probe.model_validate({"name": "probe", member: target})
    return build(probe, Context(dialer or Dialer(), secrets or MemorySecrets()))


async def attempt_once(
    member: str,
    target: Mapping[str, object],
    secrets: MemorySecrets | None = None,
    *,
    timeout: float = 5.0,
    dialer: Dialer | None = None,
) -> Finding:
    """One attempt on a fresh exchange, closed afterwards."""
    exchange = exchange_for(member, target, secrets, dialer)
    try:
        return await run_attempt(exchange, timeout)
    finally:
        await exchange.close()


def planted(finding: Finding, secret: str = PLANTED) -> bool:
    """Whether `secret` shows anywhere in the finding."""
    return secret in repr(finding)
