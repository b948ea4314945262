"""Small platforms for the tests of the diagnosis: profiles in a line, and what is seen of their components."""

from __future__ import annotations

from typing import Any

from backendhealth.core.diagnosis.diagnosing import diagnose
from backendhealth.core.diagnosis.evidence import Answer, Evidence, Outage, Seen
from backendhealth.core.observation import SubjectFinding
from backendhealth.core.reasons import Reason
from backendhealth.core.spec.profile import DiagnosisProfileSpec
from backendhealth.core.verdict import Verdict

NOW = 1_000_000.0


def profile(*components: str, **more: Any) -> DiagnosisProfileSpec:
    """A profile of components as `core: etcd redis` (name, what it depends on)."""
    rows: list[dict[str, Any]] = []
    for one in components:
        name, _, needs = one.partition(":")
        rows.append({"name": name, "title": name, "dependsOn": needs.split()})
    for name, fields in more.pop("fields", {}).items():
        next(row for row in rows if row["name"] == name).update(fields)
    return DiagnosisProfileSpec.model_validate({"title": "a platform", "components": rows, **more})


def down(
    onset: float = -10.0,
    reason: Reason = Reason.CONNECTION_REFUSED,
    message: str = "connection refused",
    *,
    last_good: float | None = None,
    **more: Any,
) -> Seen:
    """Unhealthy; times are seconds from now. It worked a second before the onset unless told otherwise."""
    before = onset - 1 if last_good is None else last_good
    return Seen(
        Verdict.UNHEALTHY,
        reason,
        message,
        since=NOW + onset + 4,
        onset=NOW + onset,
        last_good=NOW + before,
        settled=NOW - 0.5,
        **more,
    )


def up(last: float = -1.0, **more: Any) -> Seen:
    """Healthy, seen to work `last` seconds from now."""
    return Seen(
        Verdict.HEALTHY,
        Reason.PROBE_SUCCEEDED,
        "fine",
        since=NOW - 9000,
        last_good=NOW + last,
        settled=NOW + last,
        **more,
    )


def at_risk(last: float = -1.0) -> Seen:
    """Degraded, seen so `last` seconds from now."""
    return Seen(Verdict.DEGRADED, Reason.MEMBER_DOWN, "one of 3", NOW - 9000, last_good=NOW + last, settled=NOW + last)


def unknown(reason: Reason = Reason.SECRET_NOT_FOUND, message: str = "no such Secret", **more: Any) -> Seen:
    """Unknown."""
    return Seen(Verdict.UNKNOWN, reason, message, NOW - 9000, **more)


def over(onset: float, ended: float, last_good: float | None = None) -> Outage:
    """An outage that is over; times are seconds from now."""
    return Outage(NOW + onset, NOW + ended, NOW + (onset - 1 if last_good is None else last_good))


def subjects(**reasons: Reason) -> tuple[SubjectFinding, ...]:
    """Subjects by name."""
    return tuple(SubjectFinding(f"driver/{name}", reason, "seen") for name, reason in reasons.items())


def ask(
    spec: DiagnosisProfileSpec, components: dict[str, Seen], symptoms: dict[str, Seen] | None = None, at: float = 0.0
) -> Answer:
    """The diagnosis, `at` seconds from now."""
    return diagnose(spec, Evidence(components, symptoms or {}), NOW + at)


def causes(answer: Answer) -> list[str]:
    """Names of the root causes."""
    return [one.component for one in answer.diagnosis.root_causes]


def explained(answer: Answer) -> dict[str, list[str]]:
    """What is explained, by what."""
    return {one.name: one.by for one in answer.diagnosis.explained}


def unexplained(answer: Answer) -> dict[str, str]:
    """What is not explained, and why."""
    return {one.name: one.because for one in answer.diagnosis.unexplained}


def suspected(answer: Answer) -> list[str]:
    """Names of the suspects in their order."""
    return [one.component for one in answer.diagnosis.suspects]


def evidence(answer: Answer, name: str) -> str:
    """The evidence against a root cause."""
    return "; ".join(next(one.evidence for one in answer.diagnosis.root_causes if one.component == name))
