"""The status of an object whose spec can't be used: one that slipped through the schema of an older CRD."""

from __future__ import annotations

from collections.abc import Sequence

from backendhealth.core.reasons import Reason
from backendhealth.core.spec.status import BackendHealthStatus, Summary
from backendhealth.core.statusof import Conditions, timestamp
from backendhealth.core.validate import Problem, summed

MAX_TOLD = 5
"""Problems that the message names; `backendhealth lint` names all."""


def stalled_status(
    generation: int, problems: Sequence[Problem], previous: BackendHealthStatus | None, now: float
) -> BackendHealthStatus:
    """Stalled and not Ready, with the path of each field that is wrong; the incident and the history stay."""
    condition = Conditions(previous.conditions if previous else [], generation, now)
    message = f"nothing is probed until this is corrected: {summed(problems, MAX_TOLD)}"
    before = previous.summary if previous else None
    stays = before is not None and before.state == "Stalled"
    conditions = [
        condition("Ready", "False", Reason.INVALID_SPEC, message),
        condition("Healthy", "Unknown", Reason.INVALID_SPEC, message),
        condition("Stalled", "True", Reason.INVALID_SPEC, message),
    ]
    return BackendHealthStatus(
        observed_generation=generation,
        probe_requested_at=previous.probe_requested_at if previous else None,
        summary=Summary(
            state="Stalled",
            reason=Reason.INVALID_SPEC,
            since=before.since if stays and before else timestamp(now),
            message=conditions[0].message,
        ),
        conditions=conditions,
        incident=previous.incident if previous else None,
        history=previous.history if previous else [],
    )
