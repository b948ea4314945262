"""What a RemediationPolicyTest names: its policy, its resource, rules, components and reasons of these."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from backendhealth.cli.documents import Document, FileProblem
from backendhealth.cli.load import Loaded
from backendhealth.cli.policybench import before_of
from backendhealth.cli.prepared import PreparedCase
from backendhealth.cli.testnames import (
    Unusable,
    declared_for,
    made_up,
    profile_for,
    shown,
    targets_of,
    unanswered,
    unknown_reasons,
)
from backendhealth.core.remediation.ruling import Guard
from backendhealth.core.resourcestate import component_members
from backendhealth.core.spec.policytest import POLICY_TEST_KIND, PolicyCase, RemediationPolicyTest
from backendhealth.core.spec.remediationpolicy import RemediationPolicy
from backendhealth.core.validate import Problem
from backendhealth.core.wording import Loc, closest

_GUARDS = [guard.value for guard in Guard]


@dataclass(frozen=True, slots=True)
class PreparedPolicy(PreparedCase[RemediationPolicyTest, PolicyCase]):
    """A case with the policy, too."""

    policy: RemediationPolicy


def prepare_policies(loaded: Loaded) -> tuple[list[PreparedPolicy], list[FileProblem]]:
    """The cases of the files, ready to run, and what is wrong with the names in them."""
    ready: list[PreparedPolicy] = []
    problems: list[FileProblem] = []
    for test in loaded.policy_tests:
        document = loaded.documents[POLICY_TEST_KIND, test.metadata.namespace, test.metadata.name]
        found: list[Problem] = []
        try:
            for one in _cases(test, document, loaded):
                found += _unknown(one)
                ready.append(one)
        except Unusable as error:
            found.append(error.problem)
        problems += [document.problem(each.loc, each.rule, each.message, each.suggestion) for each in found]
    return ready, problems


def _cases(test: RemediationPolicyTest, document: Document, loaded: Loaded) -> Iterator[PreparedPolicy]:
    declared = declared_for(test, loaded)
    profile = profile_for(test, declared, loaded)
    policy = _policy(test, loaded)
    for number, case in enumerate(test.spec.cases):
        resource = declared or made_up(test, number, profile, _names(test, number, policy))
        named = policy.spec.model_copy(update={"backend_healths": [resource.metadata.name]})
        meant = policy if declared else policy.model_copy(update={"spec": named})
        if declared and declared.metadata.name not in policy.spec.backend_healths:
            told = f"the policy {policy.metadata.name} does not name this BackendHealth: nothing would ever be decided"
            raise Unusable(("spec", "backendHealth"), "not-named", told, policy.spec.backend_healths[0])
        targets = {name: targets_of(resource, name) for step in case.steps for name in step.see}
        yield PreparedPolicy(test, number, case, profile, resource, targets, document, meant)


def _policy(test: RemediationPolicyTest, loaded: Loaded) -> RemediationPolicy:
    beside = [one for one in loaded.policies if one.metadata.namespace == test.metadata.namespace]
    for one in beside:
        if one.metadata.name == test.spec.policy:
            return one
    told = f"no RemediationPolicy of this name in the namespace {test.metadata.namespace} among the files"
    suggestion = closest(test.spec.policy, [one.metadata.name for one in beside])
    raise Unusable(("spec", "policy"), "unknown-policy", told, suggestion)


def _names(test: RemediationPolicyTest, number: int, policy: RemediationPolicy) -> Iterator[tuple[Loc, str]]:
    """The names that the case shows, and the components that the policy asks about, which are healthy."""
    yield from shown(test, number)
    for rule in policy.spec.remediation_rules:
        after = [rule.after.recovery] if rule.after else []
        for name in (
            rule.when.component,
            *rule.unless.unhealthy,
            *rule.unless.unknown,
            *after,
            *(rule.verify.healthy if rule.verify else ()),
        ):
            yield ("spec", "policy"), name


def _unknown(one: PreparedPolicy) -> Iterator[Problem]:
    at: Loc = ("spec", "cases", one.number)
    yield from unanswered(one.test, one.number, one.targets, component_members(one.resource))
    yield from unknown_reasons([step.see for step in one.case.steps], at)
    rules = {rule.name: len(rule.steps) for rule in one.policy.spec.remediation_rules}
    for loc, name in _rules(one.case, at):
        bare, _, number = name.partition("/")
        if bare not in rules:
            yield Problem(loc, "unknown-rule", "the policy has no rule of this name", closest(bare, rules))
        elif int(number or 1) > rules[bare]:
            yield Problem(loc, "unknown-step", f"the rule has {rules[bare]} steps, its escalation included")
    for index, expected in enumerate(one.case.expect):
        for rule, guards in expected.holds.items():
            for place, guard in enumerate(guards):
                if guard not in _GUARDS:
                    loc = (*at, "expect", index, "holds", rule, place)
                    yield Problem(loc, "unknown-guard", "there is no guard of this name", closest(guard, _GUARDS))
    for index, before in enumerate(one.case.history):
        try:
            before_of(one.policy, before)
        except KeyError:
            yield Problem((*at, "history", index, "rule"), "unknown-rule", "the policy has no such rule or step")


def _rules(case: PolicyCase, at: Loc) -> Iterator[tuple[Loc, str]]:
    """All names of rules, and of their steps."""
    for index, step in enumerate(case.steps):
        here: Loc = (*at, "steps", index)
        yield from (((*here, "effects", name), name) for name in step.effects)
        yield from (((*here, "approve", number), name) for number, name in enumerate(step.approve))
        yield from (((*here, "reject", number), name) for number, name in enumerate(step.reject))
    for index, expected in enumerate(case.expect):
        here = (*at, "expect", index)
        yield from (((*here, "actions", number), name) for number, name in enumerate(expected.actions or ()))
        mappings: dict[str, Mapping[str, object]] = {"targets": expected.targets, "phases": expected.phases}
        mappings |= {"holds": expected.holds, "until": expected.until, "unmatched": expected.unmatched}
        for field, named in mappings.items():
            yield from (((*here, field, name), name) for name in named)
    if case.never:
        yield from (((*at, "never", "actions", number), name) for number, name in enumerate(case.never.actions))
