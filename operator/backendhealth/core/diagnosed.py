"""A resource's belief with its diagnosis."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace

from backendhealth.core.attempts import NONE, Attempts, together
from backendhealth.core.diagnosis.diagnosing import diagnose
from backendhealth.core.diagnosis.evidence import Evidence, Seen
from backendhealth.core.observation import Finding
from backendhealth.core.resourcestate import ResourceState, component_members, shown, shown_since, symptom_members
from backendhealth.core.verdict import Verdict

_FOREVER = float("inf")


Texts = Mapping[str, tuple[str, ...]]
"""By component: what signatures have found in its pods' logs."""
_NO_TEXTS: Texts = {}


def diagnosed(
    state: ResourceState, attempts: Mapping[str, Attempts], now: float, *, once: bool, texts: Texts = _NO_TEXTS
) -> ResourceState:
    """The belief with the diagnosis that follows from it.

    `once`: no further attempt is coming, so nothing is waited for.
    """
    evidence = evidence_of(state, attempts, once=once, texts=texts)
    answer = diagnose(state.knowledge.profile, evidence, now)
    return state if answer == state.answer else replace(state, answer=answer)


def evidence_of(
    state: ResourceState, attempts: Mapping[str, Attempts], *, once: bool, texts: Texts = _NO_TEXTS
) -> Evidence:
    """What is believed of each component and symptom, and since when."""
    made = _made(attempts, once=once)
    components = {}
    for name, keys in component_members(state.resource).items():
        one = state.components[name]
        seen = _seen(one.verdict, one.finding, one.since, made(keys))
        deciding = any(state.probes[key].deciding for key in keys) and not once
        components[name] = replace(seen, deciding=deciding, texts=texts.get(name, ()))
    symptoms, believed = {}, state.symptoms
    for name, keys in symptom_members(state.resource).items():
        worst = believed[name]
        seen = _seen(*shown(worst), shown_since(worst), made(keys))
        symptoms[name] = replace(seen, deciding=worst.deciding and not once)
    return Evidence(components, symptoms)


def _made(attempts: Mapping[str, Attempts], *, once: bool) -> Callable[[Sequence[str]], Attempts]:
    def made(keys: Sequence[str]) -> Attempts:
        found = together(attempts.get(key, NONE) for key in keys)
        return replace(found, settled=_FOREVER) if once else found

    return made


def _seen(verdict: Verdict, finding: Finding, since: float, made: Attempts) -> Seen:
    onset = since if made.onset is None and verdict is Verdict.UNHEALTHY else made.onset
    return Seen(
        verdict=verdict,
        reason=finding.reason,
        message=finding.message,
        since=since,
        onset=onset,
        last_good=made.last_good,
        settled=made.settled,
        outage=made.outage,
        earlier=made.earlier,
        subjects=finding.subjects,
    )
