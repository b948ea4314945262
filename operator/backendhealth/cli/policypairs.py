"""What several RemediationPolicies for the same BackendHealth do to each other, though each is right by itself."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any

from backendhealth.cli.references import Identity
from backendhealth.core.spec.policyrules import BETWEEN_RULES
from backendhealth.core.spec.remediationpolicy import POLICY_KIND, RemediationPolicy
from backendhealth.core.validate import Problem

_Rule = dict[str, Any]
_Placed = tuple[RemediationPolicy, int, _Rule]
"""A rule as YAML has it, and which one of which policy it is."""


def contradictions(policies: Sequence[RemediationPolicy]) -> Iterator[tuple[Identity, Problem]]:
    """Circles, contradictions and second toggles between rules of different policies.

    A policy in DryRun does nothing: it may stand beside the one that it is to replace.
    """
    told: set[tuple[Identity, Problem]] = set()
    acting = [one for one in policies if one.spec.mode != "DryRun"]
    for space, name in dict.fromkeys((one.metadata.namespace, to) for one in acting for to in one.spec.backend_healths):
        beside = [one for one in acting if one.metadata.namespace == space and name in one.spec.backend_healths]
        for found in _between(beside) if len(beside) > 1 else ():
            if found not in told:
                told.add(found)
                yield found


def _between(policies: Sequence[RemediationPolicy]) -> Iterator[tuple[Identity, Problem]]:
    placed = [one for policy in policies for one in _rules(policy)]
    for problem in _problems([rule for _, _, rule in placed]):
        at, *rest = problem.loc
        policy, index, _ = placed[int(at)]
        message = f"together with {_others(policies, policy)}: {problem.message}"
        loc = ("spec", "rules", index, *rest)
        yield (POLICY_KIND, policy.metadata.namespace, policy.metadata.name), replace(problem, loc=loc, message=message)


def _rules(policy: RemediationPolicy) -> Iterator[_Placed]:
    told = policy.spec.model_dump(mode="json", by_alias=True, exclude_none=True)
    for index, rule in enumerate(told["rules"]):
        yield policy, index, {**rule, "name": f"{policy.metadata.name}/{rule['name']}"}


def _problems(rules: Sequence[_Rule]) -> Iterator[Problem]:
    raw = {"rules": list(rules)}
    for rule in BETWEEN_RULES:
        details = rule.details(raw) if rule.details else ()
        for place, told in zip(rule.where(raw) if rule.where else (), details, strict=True):
            yield Problem(place, rule.id, rule.message + told)


def _others(policies: Sequence[RemediationPolicy], own: RemediationPolicy) -> str:
    return ", ".join(f"policy {one.metadata.name}" for one in policies if one is not own)
