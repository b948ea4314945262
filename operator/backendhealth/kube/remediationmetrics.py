"""Metrics of remediation: what came of it, what is under way, how soon it acts, what holds it back."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from itertools import product
from typing import get_args

import prometheus_client
from prometheus_client.registry import CollectorRegistry

from backendhealth.core.remediation.ruling import Guard
from backendhealth.core.spec.actions import ACTIONS
from backendhealth.core.spec.remediationpolicy import Mode
from backendhealth.core.spec.status import BackendHealthStatus
from backendhealth.kube import series

BUCKETS = (1.0, 2.0, 5.0, 10.0, 30.0, 60.0, 300.0, 900.0, 3600.0)
"""Upper bounds in seconds."""


class RemediationMetrics:
    """Called within the event loop."""

    def __init__(self, registry: CollectorRegistry) -> None:
        told, delay, active = series.REMEDIATIONS, series.REMEDIATION_DELAY, series.REMEDIATIONS_UNDER_WAY
        self._count = prometheus_client.Counter(told.name, told.meaning, told.labels, registry=registry)
        self._delay = prometheus_client.Histogram(
            delay.name, delay.meaning, delay.labels, buckets=BUCKETS, registry=registry
        )
        self._under_way = prometheus_client.Gauge(active.name, active.meaning, registry=registry)
        # what an alert is for must be there before it happens: of a counter that begins at 1 nothing has increased
        for action, mode in product(ACTIONS, get_args(Mode)):
            self._count.labels("Unknown", action, mode)

    def reached(self, phase: str, action: str, mode: str) -> None:
        """A Remediation has come to a phase."""
        self._count.labels(phase, action, mode).inc()

    def took_effect(self, action: str, seconds: float) -> None:
        """An effect was over that many seconds after the verdict that it follows."""
        self._delay.labels(action).observe(seconds)

    def read_from(self, under_way: Callable[[], float]) -> None:
        """Ask this at each scrape."""
        self._under_way.set_function(under_way)


def holds(shown: Iterable[BackendHealthStatus]) -> Iterator[tuple[tuple[str], float]]:
    """How often each guard holds, by guard; one that holds nothing is 0."""
    counted = Counter(hold.guard for status in shown if status.remediation for hold in status.remediation.holds)
    for guard in sorted({*map(str, Guard), *OWN_GUARDS}):
        yield (guard,), counted[guard]


POLICY_UNUSABLE = "PolicyUnusable"
RECORDS_UNKNOWN = "RecordsUnknown"
OWN_GUARDS = (POLICY_UNUSABLE, RECORDS_UNKNOWN)
"""Guards besides those that a policy is decided by: what it allows, or what was done before, can't be read."""
