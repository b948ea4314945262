"""What a policy is decided by, from the objects that tell it: a BackendHealth's status, a Remediation."""

from __future__ import annotations

import datetime as dt
import functools
import math
from collections.abc import Collection, Mapping
from types import MappingProxyType

from backendhealth.core.reasons import Reason
from backendhealth.core.remediation.situation import Changed, Component, Past, Situation, Subject
from backendhealth.core.spec.backendhealth import condition_prefix
from backendhealth.core.spec.remediation import RemediationSpec, RemediationStatus
from backendhealth.core.spec.status import BackendHealthStatus, Condition, Diagnosis, ProbeStatus
from backendhealth.core.statusof import timestamp
from backendhealth.core.verdict import Verdict

_VERDICTS = {"True": Verdict.HEALTHY, "False": Verdict.UNHEALTHY, "Unknown": Verdict.UNKNOWN}
_REASONS: Mapping[str, Verdict] = MappingProxyType({reason.value: reason.verdict for reason in Reason})
_NOTHING = Diagnosis()
_prefix = functools.lru_cache(maxsize=4096)(condition_prefix)


NEVER = 253_402_300_800.0
"""The year 10000."""


@functools.lru_cache(maxsize=8192)
def instant(timestamp: str) -> float:
    """Seconds since the epoch; NEVER for what can't be read, since what is in the future frees no limit."""
    try:
        time = dt.datetime.fromisoformat(timestamp)
        return (time if time.tzinfo else time.replace(tzinfo=dt.UTC)).timestamp()
    except (ValueError, OverflowError):
        return NEVER


def moment(at: float) -> str:
    """The other way round, for people; what is beyond any calendar is told as such."""
    try:
        return timestamp(math.ceil(at))
    except (ValueError, OverflowError):
        return "a time that nobody can tell"


def situation_of(
    key: str, uid: str, status: BackendHealthStatus, observed: Collection[str] | None, recorded: str | None = None
) -> Situation:
    """What the status of `namespace/name` tells. `observed`: components that this process has seen so; None: all.

    `recorded` is the ID of the incident that the cluster holds, empty without one; None: the very same.
    """
    conditions = {condition.type: condition for condition in status.conditions}
    ready = conditions.get("Ready")
    names = _components(status)
    parts = _subjects(status, names)
    diagnosis = status.diagnosis or _NOTHING
    incident = status.incident.id if status.incident else ""
    causes = {cause.component: instant(cause.since) for cause in diagnosis.root_causes}
    explained = {one.name: tuple(one.by) for one in diagnosis.explained}
    components = {}
    for prefix, name in names.items():
        condition = conditions.get(f"{prefix}Healthy")
        if condition is None:
            continue
        components[name] = Component(
            name=name,
            verdict=_verdict(condition),
            reason=condition.reason,
            message=condition.message,
            # never sooner than either says
            since=max(instant(condition.last_transition_time), causes.get(name, 0.0)),
            root=name in causes,
            explained_by=explained.get(name, ()),
            subjects=tuple(parts.get(name, ())),
            observed=observed is None or name in observed,
        )
    return Situation(
        key=key,
        uid=uid,
        incident=incident,
        incident_since=instant(status.incident.since) if status.incident else 0.0,
        recorded=recorded in {None, incident},
        suspended=ready is not None and ready.reason == "Suspended",
        components=components,
        history=tuple(Changed(instant(one.at), one.component, one.verdict) for one in status.history),
    )


def _components(status: BackendHealthStatus) -> dict[str, str]:
    """Names of the components by how their conditions' types begin: the probes' own first, then those of parts."""
    names: dict[str, str] = {}
    spelled: set[str] = set()
    parts = (part.name for probe in status.probes for part in probe.parts)
    named = (name.removeprefix("component/") for name in parts if name.startswith("component/"))
    for name in (*(probe.component for probe in status.probes), *named):
        prefix = _prefix(name)
        if prefix.lower() not in spelled:  # one that differs in dashes only is the same
            spelled.add(prefix.lower())
            names[prefix] = name
    return names


def _subjects(status: BackendHealthStatus, names: Mapping[str, str]) -> dict[str, list[Subject]]:
    """By component, the parts of targets that are known not to be healthy: Unknown is not."""
    parts: dict[str, list[Subject]] = {}
    for probe in status.probes:
        if probe.subjects:
            parts.setdefault(names.get(_prefix(probe.component), probe.component), []).extend(_told(probe))
    return parts


def _told(probe: ProbeStatus) -> list[Subject]:
    return [Subject(one.subject, one.reason) for one in probe.subjects if one.verdict is not Verdict.UNKNOWN]


def _verdict(condition: Condition) -> Verdict:
    """The verdict of the condition's reason; of one that only a newer version knows what the condition says."""
    told = _VERDICTS[condition.status]
    meant = _REASONS.get(condition.reason, told)
    # Degraded is True, too; any other contradiction tells nothing
    return meant if meant is told or (meant, told) == (Verdict.DEGRADED, Verdict.HEALTHY) else Verdict.UNKNOWN


def past_of(name: str, spec: RemediationSpec, status: RemediationStatus, created: float) -> Past:
    """What is remembered of a Remediation; `created` in seconds since the epoch."""
    cause = spec.cause
    return Past(
        name=name,
        policy=spec.policy_ref.uid or spec.policy_ref.name,
        rule=spec.rule or "",
        step=spec.step,
        backend_health=cause.uid if cause else "",
        incident=cause.incident if cause else "",
        target=spec.target.id,
        phase=status.phase,
        dry=spec.mode == "DryRun" or status.phase == "DryRun",
        by_hand=spec.rule is None,
        revert=spec.revert is not None,
        created=created,
        began=instant(status.started_at) if status.started_at else 0.0,
        ended=instant(status.finished_at) if status.finished_at else 0.0,
        needless=status.phase == "Succeeded" and status.effect_at is None,
    )
