"""What the tests of the etcd probe share."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator
from pathlib import Path

from backendhealth.core.observation import Finding, SubjectFinding
from backendhealth.probes.dialer import Dialer
from backendhealth.probes.exchange import Exchange
from tests.probes.support import MemorySecrets, exchange_for
from tests.servers.etcd import Cluster, Member, status


@contextlib.asynccontextmanager
async def exchange(
    *urls: str, secrets: MemorySecrets | None = None, dialer: Dialer | None = None, **more: object
) -> AsyncIterator[Exchange]:
    """An exchange with the endpoints `urls`, closed at the end."""
    made = exchange_for("etcd", {"endpoints": list(urls), **more}, secrets, dialer)
    try:
        yield made
    finally:
        await made.close()


def subject(finding: Finding, name: str) -> SubjectFinding:
    """The subject called `name`, e.g. endpoint/127.0.0.1:2379; it must be there."""
    return next(found for found in finding.subjects if found.subject == name)


def connections_to(*ports: int) -> int:
    """How many TCP sockets of this process are connected, or connecting, to `ports`."""
    ours = set()
    for descriptor in Path("/proc/self/fd").iterdir():
        with contextlib.suppress(OSError):  # closed since it was listed
            ours.add(str(descriptor.readlink()))
    found = 0
    for table in ("/proc/self/net/tcp", "/proc/self/net/tcp6"):
        for line in Path(table).read_text().splitlines()[1:]:
            fields = line.split()
            found += int(fields[2].rsplit(":", 1)[1], 16) in ports and f"socket:[{fields[9]}]" in ours
    return found


def leader_of(cluster: Cluster) -> Member:
    """The member that leads."""
    return next(m for m in cluster.members if (told := status(m)).leader == told.header.member_id)


def followers_of(cluster: Cluster) -> list[Member]:
    """The members that follow."""
    leader = leader_of(cluster)
    return [member for member in cluster.members if member is not leader]
