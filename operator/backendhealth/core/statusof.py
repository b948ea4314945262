"""The status of a resource from what is believed of it: conditions, summary, probes, diagnosis, history."""

from __future__ import annotations

import datetime as dt
import functools
from collections.abc import Sequence
from itertools import islice

from backendhealth.core.annotations import notice
from backendhealth.core.diagnosis.telling import impact_text, root_cause_text
from backendhealth.core.observation import MAX_SUBJECTS, Finding, clip
from backendhealth.core.probestate import ProbeState
from backendhealth.core.reasons import Reason
from backendhealth.core.resourcestate import ResourceState, part_key, shown, shown_since
from backendhealth.core.spec.backendhealth import condition_prefix
from backendhealth.core.spec.status import (
    BackendHealthStatus,
    Condition,
    ConditionStatus,
    Diagnosis,
    Incident,
    PartStatus,
    ProbeStatus,
    SubjectStatus,
    Summary,
    Transition,
)
from backendhealth.core.verdict import Verdict

_STATUS: dict[Verdict, ConditionStatus] = {
    Verdict.HEALTHY: "True",
    Verdict.DEGRADED: "True",  # it works, at risk: the condition Degraded says so
    Verdict.UNKNOWN: "Unknown",
    Verdict.UNHEALTHY: "False",
}


@functools.lru_cache(maxsize=4096)
def timestamp(at: float) -> str:
    """RFC 3339 in UTC to the second, as Kubernetes writes times."""
    return dt.datetime.fromtimestamp(at, dt.UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


class Conditions:
    """Makes conditions at `now`; one whose status is as in `previous` keeps its lastTransitionTime."""

    def __init__(self, previous: Sequence[Condition], generation: int, now: float) -> None:
        self._before = {condition.type: condition for condition in previous}
        self._generation = generation
        self._now = now

    def __call__(self, kind: str, status: ConditionStatus, reason: str, message: str) -> Condition:
        """A condition, its message on one line and cut to its bound."""
        old = self._before.get(kind)
        return Condition(
            type=kind,
            status=status,
            reason=reason,
            message=clip(message),
            last_transition_time=old.last_transition_time if old and old.status == status else timestamp(self._now),
            observed_generation=self._generation,
        )


def status_of(state: ResourceState, previous: BackendHealthStatus | None, now: float) -> BackendHealthStatus:
    """The status at `now`; a condition whose status is as in `previous` keeps its lastTransitionTime."""
    return BackendHealthStatus(
        observed_generation=state.resource.metadata.generation,
        probe_requested_at=state.request.answered or None,
        summary=_summary(state),
        conditions=_conditions(state, previous.conditions if previous else [], now),
        probes=_probes(state),
        diagnosis=state.answer.diagnosis,
        incident=None
        if state.incident_since is None
        else Incident(id=state.incident_id, since=timestamp(state.incident_since)),
        history=[
            Transition(
                at=timestamp(change.at), component=change.component, verdict=change.verdict, reason=change.reason
            )
            for change in state.history
        ],
    )


def _summary(state: ResourceState) -> Summary:
    verdict, diagnosis = state.verdict, state.answer.diagnosis
    leading = _leading(state)
    if verdict is Verdict.HEALTHY:
        return Summary(
            state=verdict, since=timestamp(state.since), message=f"all {len(state.components)} components are healthy"
        )
    reasons = [cause.reason for cause in diagnosis.root_causes] or [finding.reason.value for _, finding in leading]
    return Summary(
        state="Suspended" if state.suspended else verdict,
        root_cause=root_cause_text(diagnosis),
        reason=_listed(list(dict.fromkeys(reasons))),
        impact=impact_text(diagnosis),
        since=timestamp(state.since),
        message=_in_one_line(state, leading),
    )


def _leading(state: ResourceState) -> list[tuple[str, Finding]]:
    """What has the worst verdict: root causes first, then other components, then symptoms."""
    verdict = state.verdict
    causes = {cause.component for cause in state.answer.diagnosis.root_causes}
    components = [(name, one.finding) for name, one in state.components.items() if one.verdict is verdict]
    symptoms = [(name, shown(one)[1]) for name, one in state.symptoms.items() if shown(one)[0] is verdict]
    return [*sorted(components, key=lambda one: one[0] not in causes), *symptoms]


def _in_one_line(state: ResourceState, leading: Sequence[tuple[str, Finding]]) -> str:
    """What is wrong, what users notice and what to look at, for who sees nothing but a condition's message."""
    diagnosis = state.answer.diagnosis
    explained = [one.name for one in diagnosis.explained]
    shown_first = [one for one in leading if one[0] not in explained and f"symptom/{one[0]}" not in explained]
    parts = [_told(shown_first or leading)]
    parts += [f"explained by that: {_listed(explained, 5)}"] if explained and shown_first else []
    parts += [f"users notice: {impact_text(diagnosis)}"] if impact_text(diagnosis) else []
    parts += [f"next: {step}" for step in _next_steps(diagnosis)[:1]]
    return clip("; ".join(parts))


def _next_steps(diagnosis: Diagnosis) -> list[str]:
    return [step for step in (*(one.next_step for one in diagnosis.root_causes), diagnosis.next_question) if step]


def _listed(words: Sequence[str], most: int = 3) -> str:
    return ", ".join(words[:most]) + (f" +{len(words) - most}" if len(words) > most else "")


def _told(findings: Sequence[tuple[str, Finding]]) -> str:
    return clip("; ".join(f"{name}: {finding.message}" for name, finding in findings))


def _conditions(state: ResourceState, previous: Sequence[Condition], now: float) -> list[Condition]:
    condition = Conditions(previous, state.resource.metadata.generation, now)
    verdict = state.verdict
    leading = _leading(state)
    message = "all components are healthy" if verdict is Verdict.HEALTHY else _in_one_line(state, leading)
    accepted = f"{len(state.probes)} probes are accepted"
    about = notice(state.resource.metadata.annotations)
    doing = Reason.SUSPENDED if state.suspended else "Probing"
    conditions = [
        condition("Ready", "True", doing, f"{accepted}; {about}" if about else accepted),
        condition("Healthy", _STATUS[verdict], leading[0][1].reason, message),
    ]
    conditions += [
        condition(f"{condition_prefix(name)}Healthy", _STATUS[one.verdict], one.finding.reason, one.finding.message)
        for name, one in state.components.items()
    ]
    if state.knowledge.problem is not None:
        conditions.append(condition("Stalled", "True", state.knowledge.problem, state.knowledge.message))
    degraded = [(name, one.finding) for name, one in state.components.items() if one.verdict is Verdict.DEGRADED]
    if degraded:
        conditions.append(condition("Degraded", "True", degraded[0][1].reason, _told(degraded)))
    probes = (probe.name for probe in state.resource.spec.probes)
    pending = [name for name in probes if state.probes[name].finding.reason is Reason.PENDING]
    if pending:
        conditions.append(condition("Reconciling", "True", Reason.PENDING, f"not decided yet: {_listed(pending)}"))
    return conditions


def _probes(state: ResourceState) -> list[ProbeStatus]:
    rows = []
    for probe in state.resource.spec.probes:
        verdict, finding, since = _believed(state.probes[probe.name])
        rows.append(
            ProbeStatus(
                name=probe.name,
                component=probe.component_name,
                verdict=verdict,
                reason=finding.reason,
                message=clip(finding.message),
                since=since,
                subjects=_subjects(finding),
                parts=[_part(part, state.probes[part_key(probe.name, part)]) for part in probe.parts],
            )
        )
    return rows


def _part(name: str, belief: ProbeState) -> PartStatus:
    verdict, finding, since = _believed(belief)
    return PartStatus(name=name, verdict=verdict, reason=finding.reason, message=clip(finding.message), since=since)


def _believed(belief: ProbeState) -> tuple[Verdict, Finding, str]:
    return *shown(belief), timestamp(shown_since(belief))


def _subjects(finding: Finding) -> list[SubjectStatus]:
    troubled = (one for one in finding.subjects if one.reason.verdict is not Verdict.HEALTHY)
    return [
        SubjectStatus(
            subject=clip(one.subject, 253), verdict=one.reason.verdict, reason=one.reason, message=clip(one.message)
        )
        for one in islice(troubled, MAX_SUBJECTS)
    ]
