"""What the tests of the RethinkDB probe share."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

from backendhealth.core.observation import Finding, SubjectFinding
from backendhealth.probes.exchange import Exchange, run_attempt
from tests.probes.support import MemorySecrets
from tests.servers.process import LOOPBACK
from tests.servers.rethinkdb import RethinkDB

AUTH = {"auth": {"secretRef": {"name": "rethinkdb"}}}
TLS = {"tls": {"caSecretRef": {"name": "ca"}}}


def target(server: RethinkDB | int, **more: Any) -> dict[str, Any]:
    """A probe of database hc on `server`, or on the port."""
    port = server if isinstance(server, int) else server.port
    return {"host": LOOPBACK, "port": port, "database": "hc", **more}


def login(username: str, password: str) -> MemorySecrets:
    """The Secret that `AUTH` names."""
    return MemorySecrets({"rethinkdb": {"username": username, "password": password}})


def subject(finding: Finding, name: str) -> SubjectFinding:
    """The subject called `name`."""
    (found,) = [subject for subject in finding.subjects if subject.subject == name]
    return found


async def attempts_until(
    exchange: Exchange, holds: Callable[[Finding], bool], *, within: float = 10.0, timeout: float = 2.0
) -> Finding:
    """Probe again and again until `holds`; the finding for which it did."""
    async with asyncio.timeout(within):
        while True:
            finding = await run_attempt(exchange, timeout)
            if holds(finding):
                return finding
            await asyncio.sleep(0.02)


def open_sockets() -> set[str]:
    """The sockets that this process holds."""
    found = set()
    for descriptor in Path("/proc/self/fd").iterdir():
        with contextlib.suppress(OSError):  # the descriptor of the listing itself is gone by now
            found.add(str(descriptor.readlink()))
    return {link for link in found if link.startswith("socket:")}
