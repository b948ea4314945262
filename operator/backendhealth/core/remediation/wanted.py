"""The Remediation that a rule asks for: its name, which is the claim, and its spec."""

from __future__ import annotations

from backendhealth.core.durations import seconds
from backendhealth.core.observation import clip
from backendhealth.core.remediation.names import remediation_name
from backendhealth.core.remediation.situation import Situation
from backendhealth.core.remediation.situations import moment
from backendhealth.core.spec.remediation import Cause, PolicyRef, RemediationSpec, RemediationTarget
from backendhealth.core.spec.remediationpolicy import PolicyRule, RemediationPolicy
from backendhealth.core.spec.remediationrules import summary_of


def wanted(  # noqa: PLR0913, PLR0917 - all that it is made of
    policy: RemediationPolicy,
    uid: str,
    rule: PolicyRule,
    step: int,
    target: RemediationTarget,
    situation: Situation,
    now: float,
) -> tuple[str, RemediationSpec]:
    """Name and spec of the Remediation of a rule's step on a target; `now` in seconds since the epoch."""
    meta, component = policy.metadata, situation.components[rule.when.component]
    dry = policy.spec.mode == "DryRun"
    name = remediation_name(uid, rule.name, step, situation.incident, target.id, dry=dry)
    return name, RemediationSpec(
        summary=summary_of(rule.steps[step].kind, revert=False),
        policy_ref=PolicyRef(name=meta.name, uid=uid, generation=meta.generation),
        rule=rule.name,
        step=step,
        cause=Cause(
            backend_health=situation.key.partition("/")[2],
            uid=situation.uid,
            incident=situation.incident,
            component=component.name,
            reason=component.reason,
            message=clip(component.message),
        ),
        mode=policy.spec.mode,
        target=target,
        action=rule.steps[step],
        verify=rule.verified_by(step),
        not_after=moment(now + seconds(policy.spec.approval_timeout)),
    )
