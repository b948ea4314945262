"""What is written of a Remediation: what came of its action, what holds it back."""

from __future__ import annotations

from backendhealth.actions.ports import Effect, Outcome
from backendhealth.core.observation import clip
from backendhealth.core.remediation.names import remediation_name
from backendhealth.core.remediation.ruling import Hold
from backendhealth.core.remediation.situations import moment
from backendhealth.core.spec.remediation import HeldBy, RemediationStatus
from backendhealth.engine.remediation.book import name_of, told
from backendhealth.engine.remediation.ports import Stored
from backendhealth.engine.remediation.verifying import time_to_verify

SHORT = 253
_MOST_CALLS, _MOST_FACTS, _MOST_HOLDS = 32, 16, 16


def after(stored: Stored, outcome: Outcome, notes: list[str], now: float) -> RemediationStatus:
    """What is recorded of an action that was carried out, or tried."""
    spec, at = stored.remediation.spec, moment(now)
    facts = {key: clip(value, SHORT) for key, value in list(outcome.facts.items())[:_MOST_FACTS]}
    told_so = told(stored.status, outcome.message, calls=calls_of(notes), facts=facts)
    match outcome.effect:
        case Effect.DONE:
            by = moment(now + time_to_verify(spec))
            return told_so.model_copy(update={"phase": "Verifying", "effect_at": at, "verify_by": by})
        case Effect.UNKNOWN:
            message = clip(f"{outcome.message}; it is not repeated")
            return told_so.model_copy(update={"phase": "Unknown", "message": message, "finished_at": at})
        case _ if outcome.needless:
            return told_so.model_copy(update={"phase": "Succeeded", "finished_at": at, "message": _needless(outcome)})
        case _ if spec.revert is not None:  # what is provably not taken back yet may be later
            return told_so.model_copy(update={"phase": "Held", "started_at": None})
        case _:
            return told_so.model_copy(update={"phase": "Failed", "finished_at": at})


def _needless(outcome: Outcome) -> str:
    return clip(f"not needed: {outcome.message}")


def held(status: RemediationStatus, holds: tuple[Hold, ...]) -> RemediationStatus:
    """What is recorded while guards hold it back."""
    told_of = [
        HeldBy(guard=hold.guard, message=clip(hold.because), until=moment(hold.until) if hold.until else None)
        for hold in holds[:_MOST_HOLDS]
    ]
    return told(status, f"not done yet: {holds[0].because}", phase="Held", holds=told_of)


def calls_of(notes: list[str]) -> list[str]:
    """The last ones: the effect is among them."""
    return [clip(note) for note in notes[-_MOST_CALLS:]]


def forged(stored: Stored) -> str:
    """Why one that says that it follows a rule is not the claim that it would be; empty when it is."""
    spec = stored.remediation.spec
    if spec.rule is None:
        return ""
    if spec.cause is None:
        return "it says that it follows a rule, but not why"
    dry, uid = spec.mode == "DryRun", spec.policy_ref.uid or ""
    name = remediation_name(uid, spec.rule, spec.step, spec.cause.incident, spec.target.id, dry=dry)
    return "" if name == name_of(stored) else "it says that it follows a rule, but its name is another"
