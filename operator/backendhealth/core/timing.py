"""The timing that is in force for a probe: its own, else the resource's, else the default."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass

from backendhealth.core.durations import seconds
from backendhealth.core.probestate import Thresholds
from backendhealth.core.spec.backendhealth import (
    DEFAULT_FAILURE_THRESHOLD,
    DEFAULT_INTERVAL,
    DEFAULT_RETRY_INTERVAL,
    DEFAULT_SUCCESS_THRESHOLD,
    DEFAULT_TIMEOUT,
    BackendHealthSpec,
    Probe,
)

FIRST_VERDICTS = 5.0
"""Seconds over which the first attempts on targets of which nothing is known are spread."""


@dataclass(frozen=True, slots=True)
class ProbeTiming:
    """All times in seconds."""

    interval: float
    retry_interval: float
    timeout: float
    initial_delay: float
    suspended: bool
    thresholds: Thresholds


def timing_of(spec: BackendHealthSpec, probe: Probe) -> ProbeTiming:
    """The timing in force for `probe`."""

    def pick(field: str, default: str) -> float:
        return seconds(getattr(probe, field) or getattr(spec, field) or default)

    interval = pick("interval", DEFAULT_INTERVAL)
    return ProbeTiming(
        interval=interval,
        # an inherited default must not be longer than an interval that was made short on purpose
        retry_interval=min(pick("retry_interval", DEFAULT_RETRY_INTERVAL), interval),
        timeout=pick("timeout", DEFAULT_TIMEOUT),
        initial_delay=pick("initial_delay", "0s"),
        suspended=bool(spec.suspend if probe.suspend is None else probe.suspend),
        thresholds=_thresholds(spec, probe),
    )


def _thresholds(spec: BackendHealthSpec, probe: Probe) -> Thresholds:
    if probe.pods is not None:  # what the API server tells is no sample of a network that may waver
        return Thresholds(probe.failure_threshold or 1, probe.success_threshold or 1)
    return Thresholds(
        probe.failure_threshold or spec.failure_threshold or DEFAULT_FAILURE_THRESHOLD,
        probe.success_threshold or spec.success_threshold or DEFAULT_SUCCESS_THRESHOLD,
    )


def first_attempt(timing: ProbeTiming, key: str, *, spread: bool, believed: bool) -> float:
    """Seconds until a probe's first attempt.

    `spread`: it is one of many, so each has its place, the same at each start: in its interval when something is
    believed of it already, else within seconds; both after its initial delay.
    """
    if not spread:
        return timing.initial_delay
    place = int.from_bytes(hashlib.sha256(key.encode()).digest()[:6]) / (1 << 48)
    return timing.initial_delay + place * (timing.interval if believed else min(timing.interval, FIRST_VERDICTS))
