"""Redis: one server, one found by Sentinels, or a whole Cluster."""

from __future__ import annotations

import dataclasses
from urllib.parse import urlsplit

from backendhealth.core.durations import seconds
from backendhealth.core.observation import Finding, SubjectFinding
from backendhealth.core.spec.common import Tls
from backendhealth.core.spec.targets import RedisProbe
from backendhealth.probes.certificates import check_expiry
from backendhealth.probes.exchange import Exchange
from backendhealth.probes.redis_cluster import ClusterExchange
from backendhealth.probes.redis_link import Access, Link
from backendhealth.probes.redis_sentinel import SentinelExchange
from backendhealth.probes.redis_server import Role, examine
from backendhealth.probes.registry import Context
from backendhealth.probes.trace import Trace

DEFAULT_PORT = 6379


def build(target: RedisProbe, context: Context) -> Exchange:
    """The exchange for the target's one topology."""
    encrypted = target.url.startswith("rediss:") if target.url else target.tls is not None
    access = Access(context.dialer, context.secrets, target.auth, target.tls, encrypted)
    warning = seconds((target.tls or Tls()).expiry_warning)
    if target.sentinel is not None:
        to_sentinels = dataclasses.replace(access, auth=target.sentinel.auth)
        return SentinelExchange(
            target.sentinel,
            access,
            to_sentinels,
            role=target.role,
            write_check=target.write_check,
            expiry_warning=warning,
        )
    if target.cluster is not None:
        return ClusterExchange(target.cluster.endpoints, access, write_check=target.write_check, expiry_warning=warning)
    url = urlsplit(target.url or "")
    link = Link(access, url.hostname or "", url.port or DEFAULT_PORT, int(url.path.strip("/") or 0))
    return ServerExchange(link, target.role, write_check=target.write_check, expiry_warning=warning)


class ServerExchange:
    """One server at a fixed address."""

    def __init__(self, link: Link, role: Role, *, write_check: bool, expiry_warning: float) -> None:
        self._link = link
        self._role = role
        self._write_check = write_check
        self._expiry_warning = expiry_warning

    async def attempt(self, trace: Trace, timeout: float) -> Finding:  # noqa: ARG002
        """PING, INFO and, on request, SET."""
        await self._link.ready(trace)
        finding = await examine(self._link, trace, self._role, write=self._write_check)
        finding = check_expiry(finding, self._link.not_after, self._expiry_warning)
        subject = SubjectFinding(f"endpoint/{self._link.address}", finding.reason, finding.message)
        return dataclasses.replace(finding, subjects=(subject,))

    async def close(self) -> None:
        """Close the kept connection."""
        self._link.drop()
