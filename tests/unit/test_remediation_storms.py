"""When a storm may have ended that nobody has watched, as the statuses tell that it left behind."""

from __future__ import annotations

import pytest

from backendhealth.core.remediation.storm import raged_until, unhealthy_until
from backendhealth.core.spec.remediationpolicy import StormBreaker
from backendhealth.core.spec.status import BackendHealthStatus, Condition, Summary, Transition
from backendhealth.core.statusof import timestamp
from backendhealth.core.verdict import Verdict

BREAKER = StormBreaker(unhealthy_over="50%", of_at_least=5)
NOW = 1_800_000_000.0


def status(state: str, since: float, *before: Verdict) -> BackendHealthStatus:
    """Healthy, or not, since then; `before`: what else its component was."""
    at = timestamp(since)
    healthy = Condition(
        type="Healthy",
        status="True" if state == "Healthy" else "False",
        reason="Told",
        message="told",
        last_transition_time=at,
        observed_generation=1,
    )
    history = [Transition(at=at, component="a", verdict=one, reason="Told") for one in before]
    return BackendHealthStatus(
        observed_generation=1, summary=Summary(state=state), conditions=[healthy], history=history
    )


@pytest.mark.parametrize(
    ("found", "last"),
    [
        (status("Unhealthy", NOW - 60), NOW),
        (status("Healthy", NOW - 60), None),
        (status("Healthy", NOW - 60, Verdict.HEALTHY, Verdict.UNKNOWN), None),
        (status("Healthy", NOW - 60, Verdict.HEALTHY, Verdict.UNHEALTHY), NOW - 60),
        (status("Healthy", NOW - 60, *[Verdict.DEGRADED, Verdict.HEALTHY] * 10), NOW - 60),  # more than is remembered
        (status("Healthy", NOW + 60, Verdict.HEALTHY, Verdict.UNHEALTHY), NOW),  # by another's clock
        (BackendHealthStatus(observed_generation=1, history=status("", NOW, Verdict.UNHEALTHY).history), NOW),
    ],
)
def test_until_when_one_may_have_been_unhealthy(found: BackendHealthStatus, last: float | None):
    assert unhealthy_until(found, NOW) == last


@pytest.mark.parametrize(
    ("last", "total", "until"),
    [
        ([10, 20, 30], 5, 10),  # three of five are more than half
        ([10, 20, 30, 40], 5, 20),
        ([10, 20, 30], 6, None),  # just half
        ([10, 20, 30], 3, None),  # too few for the breaker
        ([], 60, None),
    ],
)
def test_until_when_it_may_have_raged(last: list[float], total: int, until: float | None):
    assert raged_until(BREAKER, last, total) == until
