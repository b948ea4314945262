"""Prometheus metrics. Series of a resource are made from what is held of it, so that forgetting it removes them all."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable, Iterable, Iterator
from importlib.metadata import version
from typing import Any

import prometheus_client
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily
from prometheus_client.registry import Collector, CollectorRegistry

from backendhealth.core.observation import Observation
from backendhealth.core.reasons import Reason
from backendhealth.core.spec.backendhealth import BackendHealth, condition_prefix
from backendhealth.core.spec.status import BackendHealthStatus
from backendhealth.core.verdict import Verdict
from backendhealth.kube import series
from backendhealth.kube.remediationmetrics import RemediationMetrics, holds
from backendhealth.kube.series import Series

STATES = (*(verdict.value for verdict in Verdict), "Suspended", "Stalled")
"""What `status.summary.state` may be."""
BUCKETS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0)
"""Upper bounds in seconds."""
NO_ANSWER = "none"
_VERDICTS = tuple(Verdict)
_RANKS = {reason: reason.verdict.rank for reason in Reason}

# otherwise each counter has a second series, which nobody reads
prometheus_client.disable_created_metrics()  # type: ignore[no-untyped-call]


class Durations:
    """Counts of durations by bucket: what a histogram is made from."""

    __slots__ = ("counts", "total")

    def __init__(self) -> None:
        self.counts = [0] * (len(BUCKETS) + 1)
        self.total = 0.0

    def add(self, seconds: float) -> None:
        """Count one."""
        self.counts[bisect_left(BUCKETS, seconds)] += 1
        self.total += seconds

    def buckets(self) -> list[tuple[str, float]]:
        """Upper bound and how many took no longer."""
        below, cumulated = 0, []
        for bound, count in zip((*map(str, BUCKETS), "+Inf"), list(self.counts), strict=True):
            below += count
            cumulated.append((bound, float(below)))
        return cumulated


class _Probe:
    __slots__ = ("attempts", "duration", "kind")

    def __init__(self, kind: str) -> None:
        self.kind = kind
        self.attempts = [0] * len(_VERDICTS)
        self.duration: float | None = None


class _Resource:
    __slots__ = ("probes", "status", "written")

    def __init__(self) -> None:
        self.probes: dict[str, _Probe] = {}
        self.status: BackendHealthStatus | None = None
        self.written: float | None = None


class Metrics(Collector):
    """What the operator says of itself and of the resources that it serves. `key` is always `namespace/name`.

    Called within the event loop; `registry` may be read from another thread. The number of series is bounded by the
    objects that are declared: see the table in `series.py`.
    """

    def __init__(self, *, shards: int = 1, heartbeat: float = 600.0) -> None:
        self.registry = CollectorRegistry(auto_describe=False)
        self._resources: dict[str, _Resource] = {}
        self._durations: dict[str, Durations] = {}
        self._steps: dict[tuple[str, str], Durations] = {}
        self._lateness = Durations()
        self._requests: dict[tuple[str, str, int], Any] = {}
        self._api = self._counter(series.API_REQUESTS)
        self._events = self._counter(series.EVENTS)
        self._writes = self._counter(series.STATUS_WRITES)
        self._loop_lag = self._gauge(series.LOOP_LAG)
        self._leader = self._gauge(series.LEADER)
        for shard in range(shards):
            self.leader(shard, held=False)
        self.remediations = RemediationMetrics(self.registry)
        self._gauge(series.HEARTBEAT_INTERVAL).set(heartbeat)
        self._gauge(series.BUILD).labels(version("backendhealth")).set(1)
        self.registry.register(self)
        prometheus_client.ProcessCollector(registry=self.registry)

    def declared(self, resource: BackendHealth) -> None:
        """A resource is new, or its spec has changed; what is gone from the spec has no series any more."""
        held = self._resources.setdefault(resource.key, _Resource())
        before = held.probes
        held.probes = {
            probe.name: old if (old := before.get(probe.name)) and old.kind == probe.kind else _Probe(probe.kind)
            for probe in resource.spec.probes
        }

    def status_changed(self, key: str, status: BackendHealthStatus) -> None:
        """A resource has a new status."""
        self._resources.setdefault(key, _Resource()).status = status

    def status_written(self, key: str, at: float) -> None:
        """The API server holds a status that was written `at`, in seconds since the epoch."""
        if key in self._resources:  # late news don't bring back what was forgotten
            self._resources[key].written = at

    def forgot(self, key: str) -> None:
        """A resource is gone, or no longer ours: no series of it is left."""
        self._resources.pop(key, None)

    def observed(self, seen: Observation) -> None:
        """An attempt has ended."""
        held = self._resources.get(seen.resource)
        probe = held.probes.get(seen.probe) if held else None
        if probe is None:
            return
        finding, kind = seen.finding, probe.kind
        probe.attempts[_RANKS[finding.reason]] += 1
        probe.duration = took = seen.at - seen.started
        durations = self._durations.get(kind)
        if durations is None:
            durations = self._durations[kind] = Durations()
        durations.add(took)
        for step, seconds in finding.steps.items():
            timed = self._steps.get((kind, step))
            if timed is None:
                timed = self._steps[kind, step] = Durations()
            timed.add(seconds)

    def lateness(self, seconds: float) -> None:
        """An attempt was started that many seconds after it was due."""
        self._lateness.add(seconds)

    def loop_lag(self, seconds: float) -> None:
        """The event loop was that late."""
        self._loop_lag.set(seconds)

    def api_request(self, method: str, resource: str, status: int) -> None:
        """A request to the API server has ended; status 0: without an answer."""
        key = (method, resource, status)
        counter = self._requests.get(key)
        if counter is None:
            counter = self._requests[key] = self._api.labels(method, resource, str(status) if status else NO_ANSWER)
        counter.inc()

    def event(self, result: str) -> None:
        """What became of an Event: a word that the code names."""
        self._events.labels(result).inc()

    def status_write(self, result: str) -> None:
        """What became of a write of a status: a word that the code names."""
        self._writes.labels(result).inc()

    def leader(self, shard: int, *, held: bool) -> None:
        """The Lease of a shard was taken or lost."""
        self._leader.labels(str(shard)).set(held)

    def read_from(
        self, *, queue: Callable[[], float], watch_age: Callable[[], float], overdue: Callable[[], float]
    ) -> None:
        """Ask these at each scrape: statuses that wait to be written, and the seconds told of in the table."""
        self._gauge(series.QUEUE).set_function(queue)
        self._gauge(series.WATCH_AGE).set_function(watch_age)
        self._gauge(series.OVERDUE).set_function(overdue)

    def collect(self) -> Iterator[Any]:
        """The families that are made from what is held."""
        resources = [(key.split("/", 1), held) for key, held in list(self._resources.items())]
        shown = [(labels, held.status) for labels, held in resources if held.status is not None]
        yield _gauge_family(series.STATE, _states(shown))
        verdicts = (((*labels, *one), 1) for labels, status in shown for one in _components(status))
        yield _gauge_family(series.VERDICT, verdicts)
        causes = [(labels, cause) for labels, s in shown if s.diagnosis for cause in s.diagnosis.root_causes]
        yield _gauge_family(series.ROOT_CAUSE, (((*labels, cause.component), 1) for labels, cause in causes))
        yield _gauge_family(series.REMEDIATION_HOLDS, holds(status for _, status in shown))
        written = [(labels, held.written) for labels, held in resources]
        yield _gauge_family(series.WRITTEN, ((labels, at) for labels, at in written if at is not None))
        yield from _probe_families(
            [((*labels, name), p) for labels, held in resources for name, p in held.probes.items()]
        )
        by_kind = [((kind,), durations) for kind, durations in list(self._durations.items())]
        yield _histogram_family(series.DURATION, by_kind)
        yield _histogram_family(series.STEP_DURATION, list(self._steps.items()))
        yield _histogram_family(series.LATENESS, [((), self._lateness)])

    def _gauge(self, told: Series) -> prometheus_client.Gauge:
        return prometheus_client.Gauge(told.name, told.meaning, told.labels, registry=self.registry)

    def _counter(self, told: Series) -> prometheus_client.Counter:
        return prometheus_client.Counter(told.name, told.meaning, told.labels, registry=self.registry)


Labels = Iterable[str]


def _gauge_family(told: Series, samples: Iterable[tuple[Labels, float]]) -> GaugeMetricFamily:
    family = GaugeMetricFamily(told.name, told.meaning, labels=told.labels)
    for labels, value in samples:
        family.add_metric(tuple(labels), value)
    return family


def _histogram_family(told: Series, samples: Iterable[tuple[Labels, Durations]]) -> HistogramMetricFamily:
    family = HistogramMetricFamily(told.name, told.meaning, labels=told.labels)
    for labels, durations in samples:
        family.add_metric(tuple(labels), durations.buckets(), durations.total)
    return family


def _probe_families(probes: list[tuple[Labels, _Probe]]) -> Iterator[Any]:
    attempts = CounterMetricFamily(series.ATTEMPTS.name, series.ATTEMPTS.meaning, labels=series.ATTEMPTS.labels)
    for labels, probe in probes:
        for verdict, count in zip(_VERDICTS, probe.attempts, strict=True):
            if count:
                attempts.add_metric((*labels, verdict.value), count)
    yield attempts
    durations = ((labels, probe.duration) for labels, probe in probes)
    yield _gauge_family(series.LAST_DURATION, ((labels, took) for labels, took in durations if took is not None))


def _states(shown: list[tuple[list[str], BackendHealthStatus]]) -> Iterator[tuple[Labels, float]]:
    for labels, status in shown:
        present = status.summary.state if status.summary else ""
        for state in STATES:
            yield (*labels, state), state == present


def _components(status: BackendHealthStatus) -> Iterator[tuple[str, str, str]]:
    """Component, verdict, reason. The reason is the condition's: it may be held as flapping."""
    reasons = {condition.type: condition.reason for condition in status.conditions}
    for component in dict.fromkeys(probe.component for probe in status.probes):
        reason = reasons[f"{condition_prefix(component)}Healthy"]
        yield component, Reason(reason).verdict.value, reason
