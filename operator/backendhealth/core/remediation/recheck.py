"""Everything asked again immediately before an effect, about a Remediation that there is already."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from backendhealth.core.remediation import guards
from backendhealth.core.remediation.deciding import unmatched
from backendhealth.core.remediation.guards import in_order
from backendhealth.core.remediation.limits import (
    Attempt,
    already_done,
    cooling_down,
    counted,
    in_progress,
)
from backendhealth.core.remediation.names import remediation_name
from backendhealth.core.remediation.planning import plan_of
from backendhealth.core.remediation.plans import Case, Rule
from backendhealth.core.remediation.ruling import Guard, Hold
from backendhealth.core.remediation.situation import Past, Situation, World
from backendhealth.core.remediation.situations import instant
from backendhealth.core.spec.remediation import Cause, RemediationSpec
from backendhealth.core.spec.remediationpolicy import RemediationPolicy, Verify
from backendhealth.core.verdict import Verdict

_WORKS = (Verdict.HEALTHY, Verdict.DEGRADED)


def recheck(  # noqa: PLR0913, PLR0917 - all that decides
    policy: RemediationPolicy | None,
    uid: str,
    spec: RemediationSpec,
    situation: Situation | None,
    past: Sequence[Past],
    world: World,
    now: float,
    *,
    name: str = "",
) -> tuple[Hold, ...]:
    """What holds a Remediation back now; empty: nothing does, and it may have its effect.

    `policy` (None: it is gone) is as it stands at this moment, `situation` that of the BackendHealth of its cause.
    `past` may hold the Remediation itself, which is told by `name`; one that follows a rule is known without it. Ask
    once before it is Running and once more after: of two that began together then only the first goes on.

    By hand neither `when` nor the policy's mode matter. What takes another's effect back is held by nothing but the
    loss of the namespace and its own time.
    """
    return in_order(list(_holds(policy, uid, spec, situation, past, world, now, name)))


def helped(verify: Verify | None, cause: Cause | None, situation: Situation | None) -> bool:
    """Whether all that must be healthy is, as this process has seen; without anything that must be it is."""
    names = (verify.healthy or ([cause.component] if cause else [])) if verify else []
    if not names:
        return True
    if situation is None:
        return False
    found = [situation.components.get(name) for name in names]
    return all(one is not None and one.verdict in _WORKS and one.observed for one in found)


def _holds(  # noqa: PLR0913, PLR0917 - all that decides
    policy: RemediationPolicy | None,
    uid: str,
    spec: RemediationSpec,
    situation: Situation | None,
    past: Sequence[Past],
    world: World,
    now: float,
    name: str,
) -> Iterator[Hold]:
    if now > instant(spec.not_after):
        yield Hold(Guard.TOO_LATE, f"it must not begin after {spec.not_after}")
    if spec.revert is not None:
        if not world.serves:
            yield Hold(Guard.NOT_SERVED, "this operator does not serve the namespace now")
        return
    yield from _approval(spec)
    if policy is None:
        yield Hold(Guard.POLICY_CHANGED, f"the policy {spec.policy_ref.name} is gone")
        return
    changed = _changed(policy, uid, spec)
    if changed:
        yield Hold(Guard.POLICY_CHANGED, changed)
    by_hand = spec.rule is None
    dry = spec.mode == "DryRun"
    others = list(_others(past, _own_name(uid, spec, name)))
    names = (uid, policy.metadata.name)
    ledger = counted(others, names, dry=dry, promises=False)
    case = Case(plan_of(policy), None if by_hand else situation, ledger, world, now)
    yield from (hold for ask in guards.WIDE if (hold := ask(case)) is not None)
    incident = spec.cause.incident if spec.cause else ""
    attempt = Attempt(spec.rule or "", spec.step, incident, spec.target.id)
    asked = (
        in_progress(attempt, ledger, others, begun=True),
        already_done(attempt, (ledger, counted(others, names, dry=False)) if dry else (ledger,)),
        cooling_down(case.plan.bounds, attempt, ledger, now),
    )
    yield from (hold for hold in asked if hold is not None)
    if not by_hand:
        yield from _of_cause(case, spec)


def _own_name(uid: str, spec: RemediationSpec, name: str) -> str:
    if name or spec.rule is None:
        return name
    incident = spec.cause.incident if spec.cause else ""
    return remediation_name(uid, spec.rule, spec.step, incident, spec.target.id, dry=spec.mode == "DryRun")


def _others(past: Sequence[Past], name: str) -> Iterator[Past]:
    """All but itself, and once it has begun all but those that began after it: they see it, and stop."""
    own = next((one for one in past if one.name == name), None)
    running = own is not None and own.phase == "Running"
    for one in past:
        later = running and own is not None and one.phase == "Running" and (one.began, one.name) > (own.began, own.name)
        if one is not own and not later:
            yield one


def _approval(spec: RemediationSpec) -> Iterator[Hold]:
    approval = spec.approval
    if approval is not None and approval.decision == "Rejected":
        yield Hold(Guard.AWAITING_APPROVAL, f"{approval.by} has rejected it")
    elif approval is None and spec.mode == "Approve":
        yield Hold(Guard.AWAITING_APPROVAL, f"nobody has approved it yet; it expires at {spec.not_after}")


def _changed(policy: RemediationPolicy, uid: str, spec: RemediationSpec) -> str:
    """What of the policy is not as it was decided by; by hand only what the person has named matters."""
    ref, by_hand = spec.policy_ref, spec.rule is None
    if ref.name != policy.metadata.name or (ref.uid != uid and not (by_hand and ref.uid is None)):
        return f"the policy {ref.name} is another one of the same name"
    if ref.generation != policy.metadata.generation and not (by_hand and ref.generation is None):
        return f"the policy {ref.name} was changed since it was decided by"
    if by_hand:
        return ""
    if spec.mode != policy.spec.mode:
        return f"the policy's mode is {policy.spec.mode}, not {spec.mode}"
    rule = next((one for one in policy.spec.remediation_rules if one.name == spec.rule), None)
    if rule is None or spec.step >= len(rule.steps) or rule.steps[spec.step] != spec.action:
        return f"the policy's rule {spec.rule} asks for something else"
    return ""


def _of_cause(case: Case, spec: RemediationSpec) -> Iterator[Hold]:
    """What holds unless the very same incident is still there, and the rule still for it."""
    cause, situation = spec.cause, case.situation
    rule = next((one for one in case.plan.rules if one.name == spec.rule), None)
    if cause is None or situation is None or situation.uid != cause.uid or situation.key not in case.plan.keys:
        yield Hold(Guard.NOT_OBSERVED, "the BackendHealth that it is about is not observed here")
    elif situation.incident != cause.incident:
        yield Hold(Guard.NOT_OBSERVED, "the incident that it is about is over")
    elif rule is not None:
        yield from _of_rule(case, rule, situation, cause)


def _of_rule(case: Case, rule: Rule, situation: Situation, cause: Cause) -> Iterator[Hold]:
    why = unmatched(rule, situation, case.now)
    if not why and rule.component != cause.component:
        why = f"the rule is about {rule.component}, not {cause.component}"
    if why:
        yield Hold(Guard.NOT_OBSERVED, why)
        return
    component = situation.components[rule.component]
    yield from (hold for ask in rule.asks if (hold := ask(case, rule, component)) is not None)
