"""Why something is done about a BackendHealth, or is not, in plain words."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from backendhealth.core.durations import human
from backendhealth.core.remediation.limits import place_of
from backendhealth.core.remediation.planning import plan_of
from backendhealth.core.remediation.plans import Rule
from backendhealth.core.remediation.ruling import TO_DO, Hold, Ruling
from backendhealth.core.remediation.situation import Component, Past, Situation
from backendhealth.core.remediation.situations import moment
from backendhealth.core.spec.remediationpolicy import RemediationPolicy

_NO_MESSAGES: Mapping[str, str] = {}


def why_lines(  # noqa: PLR0913, PLR0917 - all that is told of
    policies: Mapping[str, RemediationPolicy],
    situation: Situation,
    rulings: Mapping[str, Sequence[Ruling]],
    past: Sequence[Past],
    now: float,
    messages: Mapping[str, str] = _NO_MESSAGES,
) -> list[str]:
    """Lines for people: for each policy and rule the observation, whether it matched, what holds, what was done.

    `policies` and `rulings` are by UID of the policy; `messages` are those of the Remediations, by their name.
    """
    told = [
        line
        for uid, policy in sorted(policies.items(), key=lambda one: one[1].metadata.name)
        for line in _policy(policy, uid, situation, rulings.get(uid, ()), past, now, messages)
    ]
    return told or ["No policy names this resource: nothing is done about it."]


def _policy(  # noqa: PLR0913, PLR0917 - all that is told of
    policy: RemediationPolicy,
    uid: str,
    situation: Situation,
    rulings: Sequence[Ruling],
    past: Sequence[Past],
    now: float,
    messages: Mapping[str, str],
) -> Iterator[str]:
    name = policy.metadata.name
    yield f"Policy {name} ({policy.spec.mode})"
    if not rulings:
        yield "  is not for this resource"
        return
    common = [hold for hold in rulings[0].holds if all(hold in one.holds for one in rulings)]
    for hold in common:
        yield from _held(hold, "  ")
    mine = [one for one in past if one.policy in (uid, name) and one.backend_health in (situation.uid, "")]
    for rule, ruling in zip(plan_of(policy).rules, rulings, strict=True):
        yield from _rule(rule, ruling, situation, now, common)
        yield from _done([one for one in mine if one.rule == rule.name and not one.by_hand], situation, messages)
    by_hand = [one for one in mine if one.by_hand]
    if by_hand:
        yield "  By hand"
        yield from _done(by_hand, situation, messages)


def _rule(rule: Rule, ruling: Ruling, situation: Situation, now: float, common: Sequence[Hold]) -> Iterator[str]:
    yield f"  Rule {rule.name}"
    component = situation.components.get(rule.component)
    if component is not None:
        yield f"    seen: {_seen(component, now)}"
    if ruling.unmatched:
        yield f"    does not match: {ruling.unmatched}"
    else:
        yield f"    matches{_reasons(rule)}; step {ruling.step + 1} of {len(rule.waits) + 1}"
    for hold in ruling.holds:
        if hold not in common:
            yield from _held(hold, "    ")
    if ruling.acts:
        yield "    nothing holds it back"
    elif not ruling.unmatched and all(hold in common for hold in ruling.holds):
        yield "    nothing else holds it back"


def _seen(component: Component, now: float) -> str:
    since = f"since {moment(component.since)} ({human(max(now - component.since, 0.0))})"
    where = ", a root cause" if component.root else ""
    by = f", explained by {', '.join(component.explained_by)}" if component.explained_by else ""
    return f"{component.name} is {component.verdict} ({component.reason}) {since}{where}{by}: {component.message}"


def _reasons(rule: Rule) -> str:
    return f" (one of {', '.join(sorted(rule.reasons))})" if rule.reasons else ""


def _held(hold: Hold, indent: str) -> Iterator[str]:
    until = f", until {moment(hold.until)}" if hold.until is not None else ""
    yield f"{indent}held by {hold.guard}{until}: {hold.because}"
    yield f"{indent}  what to do: {TO_DO[hold.guard]}"


def _done(past: Sequence[Past], situation: Situation, messages: Mapping[str, str]) -> Iterator[str]:
    for one in sorted(past, key=lambda each: (each.created, each.name)):
        when = moment(one.began or one.created)
        before = "" if one.incident == situation.incident or one.by_hand else ", in an earlier incident"
        message = messages.get(one.name, "")
        what = "takes it back" if one.revert else f"step {one.step + 1}"
        yield f"    {one.name}: {one.phase} at {when}{before}, {what} on {place_of(one.target)}" + (
            f": {message}" if message else ""
        )
