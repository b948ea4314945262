"""What probes of a single endpoint share: whatever comes of an attempt is said about that endpoint, too."""

from __future__ import annotations

import asyncio
import dataclasses
import ssl
from collections.abc import Coroutine

from backendhealth.core.observation import Finding, SubjectFinding
from backendhealth.probes.exchange import ProbeError, failure, timed_out
from backendhealth.probes.trace import Trace


def host_port(host: str, port: int) -> str:
    """`host:port`, with IPv6 addresses in brackets."""
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def margin(timeout: float) -> float:
    """Seconds before the caller's deadline at which an attempt ends by itself, to say more than that time ran out.

    What was found by then is lost if a busy event loop comes to both deadlines at once.
    """
    return min(0.25, timeout / 10)


async def about_endpoint(
    attempt: Coroutine[None, None, Finding],
    endpoint: str,
    trace: Trace,
    timeout: float,
) -> Finding:
    """The finding of `attempt`, a failure of network or TLS included, with the subject `endpoint/HOST:PORT`."""
    try:
        async with asyncio.timeout(timeout - margin(timeout)):
            finding = await attempt
    except TimeoutError:
        finding = timed_out(trace, timeout)
    except (ProbeError, OSError, ssl.SSLError) as error:
        if isinstance(error, ConnectionError) and not hasattr(error, "target"):
            error.target = endpoint  # type: ignore[attr-defined]
        finding = failure(error, trace)
    told = finding.message
    if endpoint.rpartition(":")[0] not in told.partition('"')[0]:  # what is quoted is the target's own text
        told = f"{endpoint}: {told}"
    subject = SubjectFinding(f"endpoint/{endpoint}", finding.reason, told)
    return dataclasses.replace(finding, message=told, subjects=(subject,))
