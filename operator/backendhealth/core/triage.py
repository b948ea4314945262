"""What to ask a person next, and the diagnosis that follows from what probes and people say. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

from backendhealth.core.diagnosed import evidence_of
from backendhealth.core.diagnosis.diagnosing import diagnose
from backendhealth.core.diagnosis.evidence import Evidence, Seen
from backendhealth.core.observation import clip
from backendhealth.core.reasons import Reason
from backendhealth.core.restoring import restored_attempts, restored_state
from backendhealth.core.spec.backendhealth import BackendHealth
from backendhealth.core.spec.profile import DiagnosisProfileSpec, Symptom
from backendhealth.core.spec.status import BackendHealthStatus, Diagnosis
from backendhealth.core.verdict import Verdict

_MAX_LINES = 64
"""Lines of a pasted error that are looked at: half of them from its begin, half from its end."""


@dataclass(frozen=True, slots=True)
class Reply:
    """What a person says to a symptom's question.

    `works`: None is "I don't know". `error` is what the error says: None as long as nobody has asked for it, empty
    when the person can't tell.
    """

    works: bool | None
    error: str | None = None


@dataclass(frozen=True, slots=True)
class Question:
    """What to ask next: whether the symptom's feature works, or (`about_error`) what the error says."""

    symptom: Symptom
    about_error: bool = False


@dataclass(frozen=True, slots=True)
class Triage:
    """What probes have found, by `profile`, and what a person has replied so far, by the symptoms' names."""

    profile: DiagnosisProfileSpec
    probed: Evidence
    now: float
    """Seconds since the epoch: when the person is asked."""
    replies: Mapping[str, Reply] = field(default_factory=dict)

    def replied(self, symptom: str, reply: Reply) -> Triage:
        """The triage after one more reply."""
        return replace(self, replies={**self.replies, symptom: reply})

    @property
    def evidence(self) -> Evidence:
        """What probes have found; where a person says something of a symptom, that instead."""
        said = {name: _said(reply, self.now) for name, reply in self.replies.items() if reply.works is not None}
        known = {one.name for one in self.profile.components}
        components = {name: seen for name, seen in self.probed.components.items() if name in known or name not in said}
        return Evidence(components, {**self.probed.symptoms, **said})

    @property
    def diagnosis(self) -> Diagnosis:
        """What follows from all that is known."""
        return diagnose(self.profile, self.evidence, self.now).diagnosis

    def measured(self, symptom: Symptom) -> Seen | None:
        """What a probe says of the symptom; None when none does, or can't tell."""
        seen = self.probed.symptoms.get(symptom.name)
        if seen is None and all(one.name != symptom.name for one in self.profile.components):
            seen = self.probed.components.get(symptom.name)
        return None if seen is None or seen.verdict is Verdict.UNKNOWN else seen

    @property
    def unanswered(self) -> list[Symptom]:
        """The symptoms of which nobody says anything, in the order of triage."""
        return [one for one in self.profile.symptoms if self._unknown(one)]

    @property
    def question(self) -> Question | None:
        """The first question, in the profile's order, whose answer can change who is named; None: there is none.

        Nobody is asked for what a cause that was found explains anyway, nor for what comes after a failure that has
        its suspects: later questions rest on the earlier ones.
        """
        diagnosis = self.diagnosis
        for symptom in self.profile.symptoms:
            if symptom.name in self.replies:
                if self._error_matters(symptom, diagnosis):
                    return Question(symptom, about_error=True)
            elif self.measured(symptom) is None and _named(self._failing(symptom)) != _named(diagnosis):
                return Question(symptom)
        return None

    def _error_matters(self, symptom: Symptom, diagnosis: Diagnosis) -> bool:
        reply = self.replies[symptom.name]
        unasked = reply.works is False and reply.error is None and bool(self.profile.signatures)
        return unasked and any(one.name == f"symptom/{symptom.name}" for one in diagnosis.unexplained)

    def _unknown(self, symptom: Symptom) -> bool:
        reply = self.replies.get(symptom.name)
        return (reply is None or reply.works is None) and self.measured(symptom) is None

    def _failing(self, symptom: Symptom) -> Diagnosis:
        """The diagnosis, were the symptom to fail."""
        return self.replied(symptom.name, Reply(works=False)).diagnosis


def evidence_told(resource: BackendHealth, status: BackendHealthStatus, now: float) -> Evidence:
    """What a status tells of each component and symptom; what was not probed yet is left out: nobody waits for it."""
    state = restored_state(resource, status, now, frozenset())
    told = evidence_of(state, restored_attempts(state, now), once=True)
    return Evidence(_probed(told.components), _probed(told.symptoms))


def _probed(seen: Mapping[str, Seen]) -> dict[str, Seen]:
    return {name: one for name, one in seen.items() if one.reason is not Reason.PENDING}


def _named(diagnosis: Diagnosis) -> tuple[Sequence[str], str, bool]:
    """Who is named as the cause, who is suspected first, and whether anything is unexplained."""
    causes = [one.component for one in diagnosis.root_causes]
    suspect = diagnosis.suspects[0].component if diagnosis.suspects else ""
    return causes, suspect, bool(diagnosis.unexplained)


def _said(reply: Reply, now: float) -> Seen:
    if reply.works:
        told = "a person says that it works"
        return Seen(Verdict.HEALTHY, Reason.PROBE_SUCCEEDED, told, now, last_good=now, settled=now)
    error = reply.error or ""
    lines = error.splitlines()
    half = _MAX_LINES // 2
    kept = lines if len(lines) <= _MAX_LINES else [*lines[:half], *lines[-half:]]
    message = clip(f"a person says that it fails{': ' if error else ''}{error}")
    return Seen(Verdict.UNHEALTHY, Reason.REQUEST_FAILED, message, now, onset=now, settled=now, texts=tuple(kept))
