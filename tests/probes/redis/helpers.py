"""What the tests of the Redis probe share."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable, Mapping
from typing import Any

from backendhealth.core.observation import Finding
from backendhealth.core.reasons import Reason
from backendhealth.core.verdict import Verdict
from backendhealth.probes.dialer import Dialer
from backendhealth.probes.exchange import Exchange, run_attempt
from tests.probes.support import MemorySecrets, exchange_for
from tests.servers.redis import RedisServer

AUTH = {"secretRef": {"name": "redis"}}


def target(server: RedisServer, **more: Any) -> dict[str, Any]:
    """The target for one server, written as in YAML."""
    return {"url": f"redis://{server.address}", **more}


def password(value: str, **more: str) -> MemorySecrets:
    """The Secret `redis` that AUTH names."""
    return MemorySecrets({"redis": {"password": value, **more}})


@contextlib.asynccontextmanager
async def exchange(
    spec: Mapping[str, object], secrets: MemorySecrets | None = None, dialer: Dialer | None = None
) -> AsyncIterator[Exchange]:
    """An exchange that keeps its connections between attempts, closed at the end."""
    made = exchange_for("redis", spec, secrets, dialer)
    try:
        yield made
    finally:
        await made.close()


def assert_healthy(finding: Finding) -> None:
    """The finding is ProbeSucceeded."""
    assert finding.reason is Reason.PROBE_SUCCEEDED, finding.message
    assert finding.verdict is Verdict.HEALTHY


def assert_found(finding: Finding, reason: Reason, *told: str) -> None:
    """The finding has the reason, and its message holds each of `told`."""
    assert finding.reason is reason, f"{finding.reason}: {finding.message}"
    for text in told:
        assert text in finding.message


def reasons_of(finding: Finding) -> dict[str, Reason]:
    """Reason by subject."""
    return {subject.subject: subject.reason for subject in finding.subjects}


async def until(condition: Callable[[], bool], what: str, timeout: float = 10.0) -> None:
    """Poll `condition` while the event loop runs; TimeoutError naming `what` otherwise."""
    try:
        async with asyncio.timeout(timeout):
            while not condition():
                await asyncio.sleep(0.01)
    except TimeoutError:
        raise TimeoutError(f"{what}: not within {timeout:g} s") from None


async def until_found(exchange: Exchange, reason: Reason, timeout: float = 45.0) -> Finding:
    """Attempt until the finding has the reason; what the servers do to connections meanwhile may be found, too."""
    finding = await run_attempt(exchange, 5)
    deadline = asyncio.get_running_loop().time() + timeout
    while finding.reason is not reason:
        assert asyncio.get_running_loop().time() < deadline, f"still {finding.reason}: {finding.message}"
        await asyncio.sleep(0.05)
        finding = await run_attempt(exchange, 5)
    return finding


async def until_noticed(exchange: Exchange) -> None:
    """Wait until the loop has seen that the kept connection of a one-server exchange is at its end."""
    opened = exchange._link._opened  # type: ignore[attr-defined]
    await until(lambda: opened.reader.at_eof() or opened.reader.exception() is not None, "the connection's end seen")
