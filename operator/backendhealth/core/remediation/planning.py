"""What depends on a policy alone, made ready once: deciding is done for every change of every BackendHealth."""

from __future__ import annotations

import functools
from dataclasses import replace

from backendhealth.core.durations import seconds
from backendhealth.core.remediation import guards
from backendhealth.core.remediation.limits import Bounds
from backendhealth.core.remediation.plans import Plan, Recovery, Rule
from backendhealth.core.remediation.ruling import Ruling
from backendhealth.core.remediation.same import Same
from backendhealth.core.spec.remediationpolicy import After, PolicyRule, RemediationPolicy


def plan_of(policy: RemediationPolicy) -> Plan:
    """The policy, made ready once."""
    return _planned(Same(policy))


@functools.lru_cache(maxsize=1024)
def _planned(same: Same[RemediationPolicy]) -> Plan:
    policy, limits = same.value, same.value.spec.limits
    namespace = policy.metadata.namespace
    return Plan(
        policy=policy,
        keys=frozenset(f"{namespace}/{name}" for name in policy.spec.backend_healths),
        bounds=Bounds(
            max=limits.max,
            window=seconds(limits.window),
            max_concurrent=limits.max_concurrent,
            cooldown=seconds(limits.cooldown),
            max_cooldown=seconds(limits.max_cooldown),
        ),
        rules=tuple(_rule(rule) for rule in policy.spec.remediation_rules),
    )


def _rule(rule: PolicyRule) -> Rule:
    made = Rule(
        name=rule.name,
        component=rule.when.component,
        reasons=frozenset(rule.when.reasons),
        lasting=seconds(rule.when.for_),
        symptoms=rule.when.include_symptoms,
        unhealthy=tuple(rule.unless.unhealthy),
        unknown=tuple(rule.unless.unknown),
        flapping=rule.unless.flapping,
        after=_recovery(rule.after) if rule.after else None,
        waits=tuple(seconds(one.after) for one in rule.escalation),
        shown=frozenset(step for step in range(len(rule.steps)) if rule.verified_by(step) is None),
        free=Ruling(rule.name),
        asks=(),
    )
    return replace(made, asks=tuple(own.ask for own in guards.OWN if own.applies(made)))


def _recovery(after: After) -> Recovery:
    return Recovery(after.recovery, seconds(after.delay), seconds(after.within))
