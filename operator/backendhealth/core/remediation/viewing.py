"""What is told of remediation in a BackendHealth's status: the holds, what is under way, RemediationAllowed."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from backendhealth.core.observation import clip
from backendhealth.core.remediation.guards import ORDER, WIDE_GUARDS
from backendhealth.core.remediation.ruling import Hold, Ruling
from backendhealth.core.remediation.situation import Past
from backendhealth.core.remediation.situations import moment
from backendhealth.core.spec.remediation import FINAL
from backendhealth.core.spec.status import BackendHealthStatus, ConditionStatus, RemediationHold, RemediationView
from backendhealth.core.statusof import Conditions

ALLOWED = "RemediationAllowed"
_MOST = 64
_MAX_CONDITIONS = 128


def view(rulings: Mapping[str, Sequence[Ruling]], past: Iterable[Past], uid: str) -> RemediationView:
    """What to tell: `rulings` by name of the policy, `past` any Remediations, `uid` the BackendHealth's.

    Nothing in it changes while nothing happens. What holds a policy whatever the rule is told once.
    """
    holds: dict[tuple[str, str, Hold], None] = {}
    for policy in sorted(rulings):
        for ruling in rulings[policy]:
            for hold in ruling.holds:
                holds[(policy, "" if hold.guard in WIDE_GUARDS else ruling.rule, hold)] = None
    # stable: by policy and rule, the first guard first
    told = sorted(holds, key=lambda one: ORDER[one[2].guard])[:_MOST]
    active = sorted(one.name for one in past if one.backend_health == uid and one.phase not in FINAL)
    return RemediationView(holds=[_told(*one) for one in told], active=active[:_MOST])


def _told(policy: str, rule: str, hold: Hold) -> RemediationHold:
    until = moment(hold.until) if hold.until is not None else ""
    return RemediationHold(
        policy=policy,
        rule=rule,
        guard=hold.guard,
        message=clip(hold.because),
        until=until if until.endswith("Z") else None,
    )


def allowed(view: RemediationView) -> tuple[ConditionStatus, str, str]:
    """Status, reason and message of the condition RemediationAllowed: the first guard that holds, if any does."""
    if not view.holds:
        return "True", "Allowed", "nothing holds the policies back"
    first = view.holds[0]
    where = f"{first.policy}/{first.rule}" if first.rule else first.policy
    until = f" (until {first.until})" if first.until else ""
    return "False", first.guard, clip(f"{where}: {first.message}{until}")


def with_remediation(
    status: BackendHealthStatus, view: RemediationView | None, previous: BackendHealthStatus | None, now: float
) -> BackendHealthStatus:
    """The status with what is told of remediation; with None, as no policy names it, without.

    The condition keeps its lastTransitionTime while its status is as in `previous`, the status that was told before.
    """
    conditions = [one for one in status.conditions if one.type != ALLOWED]
    if view is not None and len(conditions) < _MAX_CONDITIONS:
        make = Conditions(previous.conditions if previous else [], status.observed_generation, now)
        conditions.append(make(ALLOWED, *allowed(view)))
    return status.model_copy(update={"conditions": conditions, "remediation": view})
