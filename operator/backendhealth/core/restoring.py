"""What was believed before a restart, from the status that was written then."""

from __future__ import annotations

import contextlib
import datetime as dt
import json
from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Any

from pydantic import ValidationError

from backendhealth.core.annotations import Request
from backendhealth.core.attempts import Attempts
from backendhealth.core.diagnosis.evidence import Outage
from backendhealth.core.flapping import Flaps
from backendhealth.core.observation import Finding, SubjectFinding
from backendhealth.core.probestate import ProbeState, initial
from backendhealth.core.reasons import Reason
from backendhealth.core.resourcestate import (
    Change,
    ComponentState,
    ResourceState,
    part_key,
    renewed,
    states_of,
)
from backendhealth.core.spec.backendhealth import BackendHealth, FlapDetection, condition_prefix
from backendhealth.core.spec.status import BackendHealthStatus, Condition, PartStatus, ProbeStatus
from backendhealth.core.timing import timing_of
from backendhealth.core.verdict import Verdict, worst

_NOT_BELIEFS = (Reason.PENDING, Reason.SUSPENDED)
_YEAR_10000 = 253_402_300_800


def written_status(raw: Any) -> BackendHealthStatus | None:
    """The status of an object as it stands in the cluster; None when nobody has written one that we understand."""
    if not isinstance(raw, Mapping) or not raw.get("summary"):
        return None
    try:  # fields that only a newer version knows are left out
        status = BackendHealthStatus.model_validate_json(json.dumps(raw), by_alias=True, extra="ignore")
    except (ValidationError, TypeError, RecursionError):
        return None
    return status if all(map(_readable, _times(status))) else None


def restored_state(
    resource: BackendHealth, status: BackendHealthStatus, now: float, suspended: frozenset[str]
) -> ResourceState:
    """The belief that `status` tells, for the probes that are not among `suspended`; counters start again.

    When the spec has changed since, verdicts start again, too: which probe has changed is not known. The incident,
    the history and the times of what stays as it was go on.
    """
    current = status.observed_generation == resource.metadata.generation
    rows = _rows(status) if current else {}
    probes = {}
    for probe in resource.spec.probes:
        for key in states_of(probe):
            probes[key] = _probe(rows.get(key), initial(now, suspended=probe.name in suspended))
    history = tuple(
        Change(_seconds(one.at), one.component, one.verdict, reason)
        for one in status.history
        if (reason := _reason(one.reason)) is not None
    )
    answered = status.probe_requested_at or ""
    before = ResourceState(
        resource=resource,
        probes=probes,
        components=_components(resource, status, now),
        since=_state_since(status, now),
        incident_since=_seconds(status.incident.since) if status.incident else None,
        history=history,
        request=Request(wanted=answered, answered=answered),
    )
    return renewed(before, resource, probes, now)


def restored_attempts(state: ResourceState, now: float) -> dict[str, Attempts]:
    """What attempts there must have been for `state` to be believed: it was decided, and nothing is waited for."""
    made = {}
    for probe in state.resource.spec.probes:
        timing = timing_of(state.resource.spec, probe)
        deciding = timing.thresholds.failure * (timing.retry_interval + timing.timeout)
        for key in states_of(probe):
            believed = state.probes[key]
            if believed.finding.reason in _NOT_BELIEFS:
                continue
            failed = believed.verdict is Verdict.UNHEALTHY
            made[key] = Attempts(
                onset=believed.since if failed else None,
                last_good=believed.since - deciding if failed else now,
                settled=now,
                newest=now,
                down=failed,
                outage=_outage(state, probe.component_name, deciding),
            )
    return made


def _outage(state: ResourceState, component: str, deciding: float) -> Outage | None:
    """The component's last outage that is over, as far as the history goes; it took `deciding` seconds to decide."""
    ended = None
    for change in state.history:  # newest first
        if change.component != component:
            continue
        if change.verdict is not Verdict.UNHEALTHY:
            ended = change.at
        elif ended is not None:
            return Outage(change.at, ended, change.at - deciding)
    return None


def _rows(status: BackendHealthStatus) -> dict[str, ProbeStatus | PartStatus]:
    rows: dict[str, ProbeStatus | PartStatus] = {}
    for row in status.probes:
        rows[row.name] = row
        rows |= {part_key(row.name, part.name): part for part in row.parts}
    return rows


def _state_since(status: BackendHealthStatus, now: float) -> float:
    summary = status.summary
    # Stalled is no state of what is probed: it ends here
    return _seconds(summary.since) if summary and summary.since and summary.state != "Stalled" else now


def _probe(row: ProbeStatus | PartStatus | None, fresh: ProbeState) -> ProbeState:
    """The belief that `row` tells; `fresh` where it tells none."""
    reason = _reason(row.reason) if row else None
    if row is None or reason is None or reason.verdict is not row.verdict:
        return fresh
    if reason is fresh.finding.reason:
        return replace(fresh, since=_seconds(row.since))
    if fresh.finding.reason is Reason.SUSPENDED or reason in _NOT_BELIEFS:
        return fresh
    subjects = tuple(
        SubjectFinding(one.subject, told, one.message)
        for one in (row.subjects if isinstance(row, ProbeStatus) else ())
        if (told := _reason(one.reason)) is not None
    )
    state = ProbeState(row.verdict, Finding(reason, row.message, subjects), _seconds(row.since))
    # that it isn't our own network was found out before: its silence is not doubted anew only because nobody else has
    # been heard yet, but it is as soon as all others are silent, too
    failed = row.verdict is Verdict.UNHEALTHY
    return replace(state, silent_since=state.since, confirmed=True) if failed else state


def _components(resource: BackendHealth, status: BackendHealthStatus, now: float) -> dict[str, ComponentState]:
    conditions = {condition.type: condition for condition in status.conditions}
    rows: dict[str, list[Verdict]] = {}
    for row in status.probes:
        rows.setdefault(row.component, []).append(row.verdict)
        for part in row.parts:
            kind, _, name = part.name.partition("/")
            if kind == "component":
                rows.setdefault(name, []).append(part.verdict)
    limit = (resource.spec.flap_detection or FlapDetection()).changes
    components = {}
    for name, verdicts in rows.items():
        condition = conditions.get(f"{condition_prefix(name)}Healthy")
        reason = _reason(condition.reason) if condition else None
        if condition is None or reason is None:
            continue
        # how often it has changed within the window isn't known any more: it is held for one window from now
        flaps = Flaps((now,) * (limit + 1), held=True) if reason is Reason.FLAPPING else Flaps()
        components[name] = ComponentState(
            reason.verdict,
            Finding(reason, condition.message),
            _since(status, name, condition),
            flaps,
            worst(verdicts),
        )
    return components


def _since(status: BackendHealthStatus, component: str, condition: Condition) -> float:
    """When the component's verdict last changed: a condition's time does not move when Healthy becomes Degraded."""
    for cause in status.diagnosis.root_causes if status.diagnosis else []:
        if cause.component == component:
            return _seconds(cause.since)
    since = None
    for change in status.history:  # newest first: back to where the verdict was another
        if change.component == component:
            if _reason(condition.reason) is None or change.verdict is not Reason(condition.reason).verdict:
                break
            since = change.at
    return _seconds(since or condition.last_transition_time)


def _reason(word: str) -> Reason | None:
    with contextlib.suppress(ValueError):
        return Reason(word)
    return None  # a newer version's


def _times(status: BackendHealthStatus) -> Iterator[str]:
    yield from (condition.last_transition_time for condition in status.conditions)
    yield from (row.since for row in status.probes)
    yield from (cause.since for cause in (status.diagnosis.root_causes if status.diagnosis else ()))
    yield from (change.at for change in status.history)
    if status.incident:
        yield status.incident.since
    if status.summary and status.summary.since:
        yield status.summary.since


def _readable(timestamp: str) -> bool:
    """Whether it is a time with its zone that can be told again."""
    try:
        time = dt.datetime.fromisoformat(timestamp)
    except ValueError:
        return False
    return time.tzinfo is not None and 0 <= time.timestamp() < _YEAR_10000


def _seconds(timestamp: str) -> float:
    return dt.datetime.fromisoformat(timestamp).timestamp()
