"""What the tests of the two probes of PlaceOS share."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from typing import Any

from backendhealth.core.observation import Finding
from backendhealth.core.reasons import Reason
from backendhealth.probes.exchange import Exchange, run_attempt
from tests.placeos.support import World
from tests.probes.support import MemorySecrets, exchange_for
from tests.servers.placeos import PlaceOS

TIMEOUT = 5.0
OK = Reason.PROBE_SUCCEEDED
SKIPPED = Reason.STEP_SKIPPED
BY_KEY = {"apiKeySecretRef": {"name": "api", "key": "key"}}
BY_PASSWORD = {"auth": {"secretRef": {"name": "user"}}}
SYMPTOMS = ("reach", "login", "systems", "modules", "execute", "websocket-open", "websocket-new", "triggers")
PLANTED = (
    PlaceOS.api_key,
    PlaceOS.api_key.partition(".")[2],
    PlaceOS.plain_key.partition(".")[2],
    PlaceOS.password,
    "Bearer ",
    "eyJ",  # how every JSON web token begins
)


def secrets() -> MemorySecrets:
    return MemorySecrets(
        {
            "api": {"key": PlaceOS.api_key, "plain": PlaceOS.plain_key},
            "user": {"username": PlaceOS.username, "password": PlaceOS.password},
        }
    )


def target_for(world: World, **more: object) -> dict[str, object]:
    """A probe of everything that the platform has."""
    platform = world.platform
    names = {"triggers": "triggers", "staff": "staff", "search-ingest": "search-ingest", "core-0": "core"}
    services = {name: platform.services[found] for found, name in names.items()} | {"auth": platform.api_url}
    where = {"system": platform.system, "module": platform.module, "function": platform.function}
    return {"url": platform.api_url, **BY_KEY, **where, "services": services} | more


def symptoms_of(finding: Finding) -> dict[str, Reason]:
    """Reasons of the symptoms that do not work."""
    found = {name.partition("/")[2]: one.reason for name, one in finding.parts.items() if name.startswith("symptom/")}
    return {name: reason for name, reason in found.items() if reason is not OK}


def components_of(finding: Finding) -> dict[str, Reason]:
    """Reasons of the services that are not well."""
    found = {name.partition("/")[2]: one.reason for name, one in finding.parts.items() if name.startswith("component/")}
    return {name: reason for name, reason in found.items() if reason is not OK}


def part(finding: Finding, name: str) -> Finding:
    """The part of a symptom."""
    return finding.parts[f"symptom/{name}"]


class Probing:
    """One exchange, kept between attempts."""

    def __init__(self, exchange: Exchange) -> None:
        self.exchange = exchange

    async def attempt(self, timeout: float = TIMEOUT) -> Finding:
        finding = await run_attempt(self.exchange, timeout)
        assert finding.reason is not Reason.INTERNAL_ERROR, finding
        for secret in PLANTED:
            assert secret not in told(finding), secret
        return finding

    async def until(self, good: Callable[[Finding], bool], timeout: float = 15, *, each: float = TIMEOUT) -> Finding:
        """The first finding that is `good`, of attempts that take at most `each` seconds."""
        deadline = time.monotonic() + timeout
        while True:
            finding = await self.attempt(each)
            if good(finding):
                return finding
            assert time.monotonic() < deadline, finding

    async def healthy(self) -> Finding:
        """The first finding without any trouble."""
        return await self.until(
            lambda found: found.reason is OK and all(one.reason is OK for one in found.parts.values())
        )


def told(finding: Finding) -> str:
    """All that a finding tells."""
    lines = [finding.message, str(dict(finding.facts))]
    lines += [f"{one.subject} {one.message} {dict(one.facts)}" for one in finding.subjects]
    return "\n".join(lines + [told(one) for one in finding.parts.values()])


def probing(member: str, target: Mapping[str, Any], known: MemorySecrets | None = None) -> Probing:
    return Probing(exchange_for(member, target, known or secrets()))
