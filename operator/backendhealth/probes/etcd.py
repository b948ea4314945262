"""Probes etcd: all endpoints side by side, judged as one cluster."""

from __future__ import annotations

import asyncio
import dataclasses

from backendhealth.core.observation import Finding
from backendhealth.core.reasons import Reason
from backendhealth.core.spec.targets import EtcdProbe
from backendhealth.probes.certificates import check_expiry
from backendhealth.probes.etcd_cluster import Cluster, Member, Report
from backendhealth.probes.etcd_endpoint import Endpoint
from backendhealth.probes.registry import Context
from backendhealth.probes.trace import Trace

MAX_SPARE = 0.75
"""Seconds kept back at the end of an attempt, at most, to tell which endpoint hung and why."""


def build(target: EtcdProbe, context: Context) -> EtcdExchange:
    """The exchange with the etcd cluster behind `target`."""
    return EtcdExchange(target, context)


class EtcdExchange:
    """Keeps one channel for each endpoint, and what was learnt about who is who."""

    def __init__(self, target: EtcdProbe, context: Context) -> None:
        endpoints = [Endpoint(url, target, context) for url in target.endpoints]
        self._endpoints = list({endpoint.address: endpoint for endpoint in endpoints}.values())
        self._warning_percent = target.quota_warning_percent
        self._members: tuple[Member, ...] = ()
        self._known: dict[str, int] = {}

    async def attempt(self, trace: Trace, timeout: float) -> Finding:
        """Status, linearizable read and alarm list of every endpoint."""
        spare = min(MAX_SPARE, timeout * 0.3) / 3  # for a hung endpoint's status, for the member list, for us
        traces = [Trace() for _ in self._endpoints]
        reports = await self._probe_all(traces, timeout - 3 * spare, spare)
        _merge(trace, traces)
        await self._learn(reports, trace, spare)
        finding = Cluster(reports, self._members, self._known, self._warning_percent).finding()
        return self._check_certificates(finding)

    async def close(self) -> None:
        """Close all channels at once."""
        for endpoint in self._endpoints:
            await endpoint.close()

    async def _probe_all(self, traces: list[Trace], budget: float, spare: float) -> list[Report]:
        if len(self._endpoints) == 1:
            return [await self._endpoints[0].probe(traces[0], budget, spare)]
        async with asyncio.TaskGroup() as group:
            tasks = [
                group.create_task(endpoint.probe(trace, budget, spare))
                for endpoint, trace in zip(self._endpoints, traces, strict=True)
            ]
        return [task.result() for task in tasks]

    async def _learn(self, reports: list[Report], trace: Trace, within: float) -> None:
        """Remember which member answers where, and the member list of the first endpoint that can tell it."""
        for report in reports:
            if report.status is not None:
                self._known[report.address] = report.status.member
        telling = [
            endpoint
            for endpoint, report in zip(self._endpoints, reports, strict=True)
            if report.status is not None and not report.status.learner
        ]
        if telling:
            with trace.step("members"):
                self._members = await telling[0].members(within) or self._members

    def _check_certificates(self, finding: Finding) -> Finding:
        """Warn of the certificate that ends first."""
        ends = [(end, endpoint) for endpoint in self._endpoints if (end := endpoint.not_after) is not None]
        if not ends:
            return finding
        first, endpoint = min(ends, key=lambda pair: pair[0])
        checked = check_expiry(finding, first, endpoint.expiry_warning)
        if checked.reason is not Reason.CERTIFICATE_EXPIRING:
            return checked
        return dataclasses.replace(checked, message=f"{endpoint.address}: {checked.message}")


def _merge(trace: Trace, traces: list[Trace]) -> None:
    """Put the steps of all endpoints into the attempt's: they ran side by side, so the slowest counts."""
    for part in traces:
        for name, seconds in part.steps.items():
            trace.steps[name] = max(trace.steps.get(name, 0.0), seconds)
    trace.contact = any(part.contact for part in traces)
