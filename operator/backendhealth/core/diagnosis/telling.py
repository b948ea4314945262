"""A diagnosis in words: for the printed columns, for people on call."""

from __future__ import annotations

from collections.abc import Sequence

from backendhealth.core.observation import clip
from backendhealth.core.spec.profile import Effect
from backendhealth.core.spec.status import Diagnosis, Impact, RootCause

DETERMINED = "being determined"
"""How what is said begins of something whose cause is not known because it is waited for."""
UNTOUCHED = "nothing that fails is known to touch it"
"""Why a feature is believed to work that nobody has measured."""
_MAX_CAUSES = 3
_MAX_FEATURES = 5
_MAX_LENGTH = 253


def root_cause_text(diagnosis: Diagnosis) -> str:
    """For the column ROOT CAUSE: `etcd, redis`; `load-balancer?` for a suspect; `(being determined)`; or empty."""
    causes = [cause.component for cause in diagnosis.root_causes]
    if causes:
        return clip(_listed(causes, _MAX_CAUSES), _MAX_LENGTH)
    if diagnosis.suspects:
        return clip(f"{diagnosis.suspects[0].component}?", _MAX_LENGTH)
    waiting = any(one.because.startswith(DETERMINED) for one in diagnosis.unexplained)
    return f"({DETERMINED})" if waiting else ""


def impact_text(diagnosis: Diagnosis) -> str:
    """For the column IMPACT: features that fail; when none does those that are degraded, told as such; or empty."""
    failing = _features(diagnosis, "Fails")
    degraded = [f"{feature} (degraded)" for feature in _features(diagnosis, "Degraded")]
    return clip(_listed(failing or degraded, _MAX_FEATURES), _MAX_LENGTH)


def told(diagnosis: Diagnosis) -> list[str]:
    """Lines in plain words: causes since when, what users notice, what still works, what to look at next."""
    lines = [line for cause in diagnosis.root_causes for line in _cause(cause)]
    lines += [f"Explained: {one.name}, by {', '.join(one.by)}: {one.because}" for one in diagnosis.explained]
    lines += [f"Not explained: {one.name}: {one.because}" for one in diagnosis.unexplained]
    lines += [f"Suspected: {one.component}: {one.because}" for one in diagnosis.suspects]
    for effect, words in (("Fails", "Users notice, fails: {}"), ("Degraded", "Users notice, degraded: {}")):
        lines += [f"{words.format(one.feature)}: {one.because}" for one in diagnosis.impact if one.effect == effect]
    works = [one.feature for one in diagnosis.impact if one.effect == "Works" and not _guessed(diagnosis, one)]
    if works:
        lines.append(f"Still works: {', '.join(works)}")
    lines += [f"Does not fit: {one.message}" for one in diagnosis.mismatches]
    lines += [f"Next, for {cause.component}: {cause.next_step}" for cause in diagnosis.root_causes if cause.next_step]
    if diagnosis.next_question:
        lines.append(f"Next: {diagnosis.next_question}")
    return lines


def _cause(cause: RootCause) -> list[str]:
    lines = [f"Cause: {cause.component} ({cause.reason}) since {cause.since}: {cause.message}"]
    return lines + [f"  {sentence}" for sentence in cause.evidence]


def _guessed(diagnosis: Diagnosis, one: Impact) -> bool:
    """Whether it may well fail, by a cause that is not known."""
    return bool(diagnosis.unexplained) and one.because == UNTOUCHED


def _features(diagnosis: Diagnosis, effect: Effect) -> list[str]:
    return [one.feature for one in diagnosis.impact if one.effect == effect]


def _listed(words: Sequence[str], most: int) -> str:
    return ", ".join(words[:most]) + (f" +{len(words) - most}" if len(words) > most else "")
