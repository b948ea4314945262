"""Which Remediations may go: old ones, beyond a number, that nothing is counted from any more."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from backendhealth.core.durations import seconds
from backendhealth.core.remediation.situation import Situation
from backendhealth.core.remediation.situations import instant
from backendhealth.core.spec.remediation import FINAL
from backendhealth.core.spec.remediationpolicy import RemediationPolicy
from backendhealth.engine.remediation.book import name_of, namespace_of
from backendhealth.engine.remediation.ports import Stored

KEPT = 200
"""Those that are at their end, in a namespace."""
MAX_AGE = 30 * 86400.0
"""Seconds."""
LONGEST_SPAN = 168 * 3600.0
"""Seconds: no window and no cool-down of a policy is longer; so long counts what a policy that is gone has done."""


def prunable(
    stored: Sequence[Stored],
    policies: Mapping[str, RemediationPolicy],
    situation: Callable[[str], Situation | None],
    now: float,
) -> list[Stored]:
    """Of all of a namespace those that may go, the oldest first. `policies` are by name.

    Kept whatever their number: what is open, or is taken back by what is open; what a limit or a cool-down may still be
    counted from; what belongs to an incident that is not over, since nothing is done twice in it.
    """
    needed = {
        one.remediation.spec.revert.remediation
        for one in stored
        if one.remediation.spec.revert is not None and one.status.phase not in FINAL
    }
    over = sorted((one for one in stored if one.status.phase in FINAL), key=_ended, reverse=True)
    found = []
    for place, one in enumerate(over):
        age = now - _ended(one)
        if place < KEPT and age <= MAX_AGE:
            continue
        counted = age <= _span(policies.get(one.remediation.spec.policy_ref.name))
        if not counted and name_of(one) not in needed and not _concerns_now(one, situation):
            found.append(one)
    return found[::-1]


def _ended(stored: Stored) -> float:
    """When it was over, or as late as is told."""
    status = stored.status
    return max(stored.created, *(instant(at) for at in (status.started_at, status.finished_at) if at), 0.0)


def _span(policy: RemediationPolicy | None) -> float:
    if policy is None:
        return LONGEST_SPAN
    limits = policy.spec.limits
    # a cool-down doubles with each failure that followed another within the longest one
    return max(seconds(limits.window), 2 * seconds(limits.max_cooldown), 2 * seconds(limits.cooldown))


def _concerns_now(stored: Stored, situation: Callable[[str], Situation | None]) -> bool:
    cause = stored.remediation.spec.cause
    if cause is None:
        return False
    found = situation(f"{namespace_of(stored)}/{cause.backend_health}")
    return found is not None and found.uid == cause.uid and found.incident == cause.incident
