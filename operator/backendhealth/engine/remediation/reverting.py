"""Toggles: who may toggle, and what takes it back. The claim on a state is the Remediation that takes it back."""

from __future__ import annotations

from dataclasses import dataclass

from backendhealth.core.durations import seconds
from backendhealth.core.remediation.names import revert_name, toggle_key
from backendhealth.core.remediation.situations import instant, moment
from backendhealth.core.spec.actions import DebugLogs
from backendhealth.core.spec.remediation import FINAL, Phase, RemediationSpec, Revert
from backendhealth.core.spec.remediationrules import summary_of
from backendhealth.engine.remediation.book import Book, name_of, namespace_of
from backendhealth.engine.remediation.ports import Store, Stored

GRACE = 24 * 3600.0
"""Seconds after its time in which something is still taken back."""
_ON = frozenset({"Verifying", "Succeeded", "NotHelpful"})
_NEVER_BEGUN = frozenset({"Failed", "Expired", "Rejected", "DryRun"})
_ONLY_A_RESTART = "only a restart of the container restores its log level for sure"


class Later(Exception):  # noqa: N818 - no error of the program
    """It can't be told yet; the message says what is waited for."""


@dataclass(frozen=True, slots=True)
class Settled:
    """Without doing anything a Remediation is at its end."""

    phase: Phase
    message: str


def toggled_by(spec: RemediationSpec) -> str:
    """Key of the state that it toggles; empty when it toggles none."""
    target = spec.target
    if not isinstance(spec.action.does, DebugLogs) or not target.uid:
        return ""
    return toggle_key(target.uid, target.container or "", target.restart_count or 0)


def is_claim(stored: Stored) -> bool:
    """Whether it is the one that takes a toggle back; else, with `revert`, a person's wish to do so early."""
    revert = stored.remediation.spec.revert
    return revert is not None and name_of(stored) == revert_name(revert.toggle, revert.epoch)


class Reverts:
    """Those of all namespaces."""

    def __init__(self, store: Store, book: Book) -> None:
        self._store = store
        self._book = book

    async def claim(self, stored: Stored, now: float) -> Settled | None:
        """Make sure, before a toggle, that nobody else has toggled, and that it will be taken back; None: go on.

        Raises Later, Conflict, Unavailable.
        """
        spec, namespace = stored.remediation.spec, namespace_of(stored)
        key = toggled_by(spec)
        if not key or spec.revert is not None or spec.mode == "DryRun":
            return None
        epoch = 0
        for other in self._of(namespace, key):
            settled = self._beside(stored, other)
            if settled is not None:
                return settled
            if other.status.phase not in FINAL:
                return None  # it is our own, made before a restart
            epoch = max(epoch, _revert(other).epoch + 1)
        await self._book.create(namespace, revert_name(key, epoch), _taking_back(stored, key, epoch, now))
        return None

    def _of(self, namespace: str, key: str) -> list[Stored]:
        """The claims on a state, open ones first."""
        found = [one for one in self._store.remediations(namespace) if is_claim(one) and _revert(one).toggle == key]
        return sorted(found, key=lambda one: one.status.phase in FINAL)

    def _beside(self, stored: Stored, other: Stored) -> Settled | None:
        """What another claim on the same state means to it."""
        first, revert = self._first(other), _revert(other)
        if other.status.phase == "Unknown" or (first is not None and first.status.phase == "Unknown"):
            return Settled("Failed", f"not done: it is not known whether they are verbose already; {_ONLY_A_RESTART}")
        if (
            other.status.phase == "Expired"
            and first is not None
            and first.status.phase in _ON
            and first.status.effect_at
        ):
            return Settled("Failed", f"not done: they are verbose still, since {name_of(other)} was not done")
        if other.status.phase in FINAL or revert.remediation == name_of(stored):
            return None
        if other.status.phase in ("Pending", "Held") and first is not None and first.status.phase in _ON:
            return Settled("Succeeded", f"not needed: verbose until {revert.not_before}, by {revert.remediation}")
        raise Later(f"{name_of(other)} has not settled whether they are verbose")

    def look(self, stored: Stored, now: float) -> Settled | None:
        """What becomes of a Remediation with `revert`; None: it is time to take the effect back. Raises Later."""
        return self._claim_now(stored, now) if is_claim(stored) else self._wish_now(stored, now)

    def _claim_now(self, stored: Stored, now: float) -> Settled | None:
        first = self._first(stored)
        if first is None:
            return Settled("Unknown", f"what it takes back is not there any more; {_ONLY_A_RESTART}")
        if not _belongs(stored.remediation.spec, first.remediation.spec):
            return Settled("Failed", f"not done: it does not take back what {name_of(first)} does")
        phase = first.status.phase
        if phase in _NEVER_BEGUN or (phase == "Succeeded" and first.status.effect_at is None):
            return Settled("Expired", f"nothing to take back: {name_of(first)} was not done")
        if phase == "Unknown":
            return Settled("Unknown", f"it is not known whether there is anything to take back; {_ONLY_A_RESTART}")
        if now > instant(stored.remediation.spec.not_after):
            return Settled("Expired", f"too late, not taken back; {_ONLY_A_RESTART}")
        if phase in _ON and self._is_due(stored, now):
            return None
        raise Later(f"it is taken back at {_revert(stored).not_before}")

    def _wish_now(self, stored: Stored, now: float) -> Settled:
        claim = self._book.find(namespace_of(stored), _revert(stored).remediation)
        if claim is None or not is_claim(claim):
            return Settled("Failed", f"not done: there is no {_revert(stored).remediation} that could be done early")
        if claim.status.phase in FINAL:
            return Settled(claim.status.phase, f"{name_of(claim)}: {claim.status.message}")
        if now > instant(stored.remediation.spec.not_after):
            return Settled("Expired", f"{name_of(claim)} was not done in time")
        raise Later(f"{name_of(claim)} is done now")

    def _is_due(self, claim: Stored, now: float) -> bool:
        if now >= instant(_revert(claim).not_before):
            return True
        return any(
            one.remediation.spec.revert is not None
            and one.remediation.spec.revert.remediation == name_of(claim)
            and one.status.phase not in FINAL
            and now <= instant(one.remediation.spec.not_after)
            for one in self._store.remediations(namespace_of(claim))
            if not is_claim(one)
        )

    def _first(self, claim: Stored) -> Stored | None:
        return self._book.find(namespace_of(claim), _revert(claim).remediation)

    def account(self, stored: Stored) -> str:
        """The ServiceAccount that the effect was made as, as that takes it back; empty when that is not known."""
        first = self._first(stored)
        return (first.status.acting_as or "").rpartition(":")[2] if first else ""

    def holds_open(self, stored: Stored) -> bool:
        """Whether something that is not at its end takes it back."""
        name = name_of(stored)
        others = self._store.remediations(namespace_of(stored))
        return any(
            one.remediation.spec.revert is not None
            and one.remediation.spec.revert.remediation == name
            and one.status.phase not in FINAL
            for one in others
        )


def _taking_back(stored: Stored, key: str, epoch: int, now: float) -> RemediationSpec:
    spec = stored.remediation.spec
    does = spec.action.does
    not_before = now + (seconds(does.revert_after) if isinstance(does, DebugLogs) else 0.0)
    return RemediationSpec(
        summary=summary_of(spec.action.kind, revert=True),
        policy_ref=spec.policy_ref,
        rule=spec.rule,
        step=spec.step,
        cause=spec.cause,
        requested_by=spec.requested_by,
        mode="Enforce",
        target=spec.target,
        action=spec.action,
        revert=Revert(remediation=name_of(stored), toggle=key, epoch=epoch, not_before=moment(not_before)),
        not_after=moment(not_before + GRACE),
    )


def _belongs(revert: RemediationSpec, first: RemediationSpec) -> bool:
    """Whether it takes back just what the other does: what is exempt from limits must be nothing else."""
    same = (revert.action, revert.target, revert.policy_ref) == (first.action, first.target, first.policy_ref)
    return same and revert.revert is not None and first.revert is None and revert.revert.toggle == toggled_by(first)


def _revert(stored: Stored) -> Revert:
    revert = stored.remediation.spec.revert
    if revert is None:  # who calls has looked
        raise ValueError(f"{name_of(stored)} takes nothing back")
    return revert
