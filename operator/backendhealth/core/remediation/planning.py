"""What depends on a policy alone, made ready once: deciding is done for every change of every BackendHealth."""

from __future__ import annotations

import functools
from dataclasses import replace

from backendhealth.core.durations import seconds
from backendhealth.core.remediation import guards
from backendhealth.core.remediation.limits import Bounds
from backendhealth.core.remediation.plans import Plan, Recovery, Rule
from backendhealth.core.remediation.ruling import Ruling
from backendhealth.core.spec.remediationpolicy import After, PolicyRule, RemediationPolicy


class _Same:
    """A policy as a key: the object itself, since comparing models takes longer than deciding."""

    __slots__ = ("policy",)

    def __init__(self, policy: RemediationPolicy) -> None:
        self.policy = policy

    def __hash__(self) -> int:
        return id(self.policy)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _Same) and other.policy is self.policy


def plan_of(policy: RemediationPolicy) -> Plan:
    """The policy, made ready once."""
    return _planned(_Same(policy))


@functools.lru_cache(maxsize=1024)
def _planned(same: _Same) -> Plan:
    policy, limits = same.policy, same.policy.spec.limits
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
        free=Ruling(rule.name),
        asks=(),
    )
    return replace(made, asks=tuple(own.ask for own in guards.OWN if own.applies(made)))


def _recovery(after: After) -> Recovery:
    return Recovery(after.recovery, seconds(after.delay), seconds(after.within))
