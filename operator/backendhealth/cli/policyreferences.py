"""What a RemediationPolicy names of other documents and of this program: BackendHealths, components, reasons."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace

from backendhealth.cli.policypairs import contradictions
from backendhealth.cli.references import Identity, near, profile_of
from backendhealth.core.reasons import Reason
from backendhealth.core.spec.actions import Action, DriverAction, RestartDriver, RestartPods
from backendhealth.core.spec.backendhealth import BackendHealth, Probe
from backendhealth.core.spec.profile import DiagnosisProfile
from backendhealth.core.spec.remediationpolicy import POLICY_KIND, PolicyRule, RemediationPolicy
from backendhealth.core.validate import Problem
from backendhealth.core.verdict import Verdict
from backendhealth.core.wording import Loc, closest

_PART = "component/"
_NEVER = (Verdict.HEALTHY, Verdict.UNKNOWN)
_WITHOUT_PROCESS = {Reason.DRIVER_COMPILE_FAILED.value, Reason.DRIVER_MISSING.value}


def doubtful_policies(
    policies: Iterable[RemediationPolicy], resources: Sequence[BackendHealth], profiles: Sequence[DiagnosisProfile]
) -> Iterator[tuple[Identity, Problem]]:
    """What can't work, as far as the files tell. API servers take it; another file or version may know more."""
    policies = list(policies)
    for policy in policies:
        space = policy.metadata.namespace
        beside = {one.metadata.name: one for one in resources if one.metadata.namespace == space}
        known = [one for one in profiles if one.metadata.namespace == space]
        for problem in (*_resources(policy, beside), *_components(policy, beside, known), *_rules(policy)):
            yield (POLICY_KIND, space, policy.metadata.name), problem
    yield from contradictions(policies)


def _resources(policy: RemediationPolicy, beside: Mapping[str, BackendHealth]) -> Iterator[Problem]:
    for index, name in enumerate(policy.spec.backend_healths):
        if name not in beside and (meant := near(name, beside)):
            message = "no BackendHealth among the files has this name, but one has nearly the same"
            yield Problem(("spec", "backendHealths", index), "unknown-backend-health", message, meant)


def _components(
    policy: RemediationPolicy, beside: Mapping[str, BackendHealth], profiles: Sequence[DiagnosisProfile]
) -> Iterator[Problem]:
    """Names of components for which no probe of the policy's BackendHealths speaks.

    While one of these is not among the files it may have the component: then only near misses are told of.
    """
    named = [beside[name] for name in policy.spec.backend_healths if name in beside]
    if not named:
        return
    probes = _probes(named)
    all_there = len(named) == len(policy.spec.backend_healths)
    titled = {one.name for resource in named if (of := profile_of(resource, profiles)) for one in of.components}
    for rule_loc, rule in _located(policy):
        for loc, name in _names(rule):
            if name in probes:
                continue
            meant = near(name, probes)
            if meant or all_there:
                why = "the profile knows it, but no probe speaks for it" if name in titled else "no probe speaks for it"
                yield Problem((*rule_loc, *loc), "unknown-component", f"{why}: no verdict will ever be known", meant)
        yield from _unfit(rule_loc, rule, probes)


def _probes(resources: Iterable[BackendHealth]) -> dict[str, list[Probe]]:
    """The probes that speak for each component."""
    found: dict[str, list[Probe]] = {}
    for resource in resources:
        for probe in resource.spec.probes:
            parts = [part.removeprefix(_PART) for part in probe.parts if part.startswith(_PART)]
            for name in (probe.component_name, *parts):
                found.setdefault(name, []).append(probe)
    return found


def _located(policy: RemediationPolicy) -> Iterator[tuple[Loc, PolicyRule]]:
    for index, rule in enumerate(policy.spec.remediation_rules):
        yield ("spec", "rules", index), rule


def _names(rule: PolicyRule) -> Iterator[tuple[Loc, str]]:
    yield ("when", "component"), rule.when.component
    lists = (
        (("unless", "unhealthy"), rule.unless.unhealthy),
        (("unless", "unknown"), rule.unless.unknown),
        (("verify", "healthy"), rule.verify.healthy if rule.verify else ()),
    )
    for loc, names in lists:
        yield from (((*loc, index), name) for index, name in enumerate(names))
    if rule.after is not None:
        yield ("after", "recovery"), rule.after.recovery


def _unfit(loc: Loc, rule: PolicyRule, probes: Mapping[str, Sequence[Probe]]) -> Iterator[Problem]:
    """Actions on what the component's probes name, which are of another kind."""
    speakers = probes.get(rule.when.component, ())
    for place, action in _actions(rule):
        needed = _needed_probe(action)
        if needed and speakers and not any(probe.kind == needed for probe in speakers):
            message = (
                f"it acts on what a `{needed}` probe names, and none speaks for {rule.when.component}:"
                " it would never have a target"
            )
            yield Problem((*loc, *place, action.kind), "no-target", message)


def _needed_probe(action: Action) -> str:
    does = action.does
    if isinstance(does, DriverAction):
        return "drivers"
    return "pods" if isinstance(does, RestartPods) and does.pods == "Subjects" else ""


def _actions(rule: PolicyRule) -> Iterator[tuple[Loc, Action]]:
    yield ("action",), rule.action
    yield from ((("escalation", index, "action"), step.action) for index, step in enumerate(rule.escalation))


def _rules(policy: RemediationPolicy) -> Iterator[Problem]:
    for loc, rule in _located(policy):
        yield from (replace(problem, loc=(*loc, *problem.loc)) for problem in _reasons(rule))


def _reasons(rule: PolicyRule) -> Iterator[Problem]:
    known = {reason.value: reason for reason in Reason}
    for index, name in enumerate(rule.when.reasons):
        loc: Loc = ("when", "reasons", index)
        if name not in known:
            message = "no probe of this version gives this reason, so it never matches"
            yield Problem(loc, "unknown-reason", message, closest(name, known))
        elif known[name].verdict in _NEVER:
            message = f"this reason means {known[name].verdict.value}, and a rule is for what is Unhealthy"
            yield Problem(loc, "reason-never-matches", message)
    if isinstance(rule.action.does, RestartDriver) and rule.when.reasons and set(rule.when.reasons) <= _WITHOUT_PROCESS:
        message = "with these reasons a driver has no process that could be restarted: use reloadDriver"
        yield Problem(("action", "restartDriver"), "no-target", message)
