"""Each guard, taken out, is missed: the test that proves it fails then, and what it guards against happens."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass

import pytest

from backendhealth.core.remediation import limits, recheck
from backendhealth.core.spec.remediationpolicy import PolicyRule
from backendhealth.engine.remediation import pruning, recording
from backendhealth.engine.remediation.book import Book
from backendhealth.engine.remediation.carrying import Carrier
from backendhealth.engine.remediation.fencing import Fence
from backendhealth.engine.remediation.reverting import Reverts
from backendhealth.kube import remediationobjects
from tests.kube.unguarded import GUARDS
from tests.remediation import stage as staging
from tests.remediation import test_fence, test_phases, test_pruning, test_toggles
from tests.remediation.removing import Off, off
from tests.remediation.stage import Stage, phase_of

Proof = Callable[[Stage], Awaitable[None]]
Harm = Callable[[Stage], bool]
PATIENCE = 6.0
"""Seconds for what does not come any more."""


@dataclass(frozen=True)
class Row:
    """A guard is one place or, where one stands behind the other, two."""

    name: str
    places: tuple[Off, ...]
    proof: Proof
    harm: Harm


def row(name: str, proof: Proof, harm: Harm, *places: Off) -> Row:
    return Row(name, places, proof, harm)


def acted(stage: Stage) -> bool:
    return stage.effects()["on"] > 0


def twice(stage: Stage) -> bool:
    return stage.effects()["on"] > 1


def begun(stage: Stage) -> bool:
    """Where the proof fails at the claim there may be no effect yet."""
    return bool(stage.all())


def again(stage: Stage) -> bool:
    return len(stage.all()) > 1 or stage.phases()["Running"] > 0 or twice(stage)


def changed(what: str) -> Proof:
    return lambda stage: test_fence.test_what_changes_between_claim_and_effect(stage, what)


def decided(decision: str, phase: str, effects: int) -> Proof:
    return lambda stage: test_phases.test_a_person_decides(stage, decision, phase, effects)


NO_LIMIT = off(limits.limit_reached, ("if excess < 0:", "if True:"))
LATE = ("now > instant(spec.not_after)", "False")
WAITS = ('spec.mode == "Approve" and spec.approval is None', "False")
REJECTED = ('spec.approval is not None and spec.approval.decision == "Rejected"', "False")
ROWS = [
    *(row(f"fence: {what}", changed(what), acted, GUARDS["fence"]) for what in test_fence.CHANGES),
    row(
        "a person approves",
        decided("Approved", "Succeeded", 1),
        acted,
        off(Carrier._waiting, WAITS),
        off(recheck._approval, ('approval is None and spec.mode == "Approve"', "False")),
    ),
    row(
        "a person rejects",
        decided("Rejected", "Rejected", 0),
        acted,
        off(Carrier._waiting, REJECTED),
        off(recheck._approval, ('approval is not None and approval.decision == "Rejected"', "False")),
    ),
    row(
        "an approval that comes too late",
        test_phases.test_approved_too_late,
        acted,
        off(Carrier._waiting, LATE),
        off(recheck._holds, LATE),
    ),
    row("held", test_phases.test_held_and_let_go, acted, GUARDS["beside"]),
    row(
        "let go",
        test_phases.test_held_and_let_go,
        lambda stage: stage.phases() == {"Held": 1},
        off(Carrier.look, ("stored.status.phase in FINAL", 'stored.status.phase in {*FINAL, "Held"}')),
    ),
    row("limits over a restart", test_phases.test_limits_survive_restarts_and_the_backendhealth, again, NO_LIMIT),
    row("by hand under limits", test_phases.test_by_hand_under_the_same_limits, twice, NO_LIMIT),
    row("what is unknown counts", test_phases.test_unknown_is_never_repeated, twice, NO_LIMIT),
    row(
        "what was not needed does not count",
        test_toggles.test_what_was_not_needed_takes_no_place,
        lambda stage: stage.phases()["Held"] > 0,
        off(limits.has_acted, ("not one.needless and ", "")),
    ),
    row(
        "no more at a time",
        test_phases.test_no_more_at_a_time_than_allowed,
        lambda stage: sum(stage.effects().values()) > 2,
        off(limits.too_many_at_once, ("len(ledger.under_way) < bounds.max_concurrent", "True")),
    ),
    row(
        "unknown is an end",
        test_phases.test_unknown_is_never_repeated,
        again,
        off(Book.unfinished, ("not in FINAL", 'not in FINAL - {"Unknown"}')),
        off(Carrier.look, ("stored.status.phase in FINAL", 'stored.status.phase in FINAL - {"Unknown"}')),
    ),
    row(
        "what another had begun is not gone on with",
        lambda stage: test_fence.test_killed_at_any_step(stage, "effect"),
        twice,
        GUARDS["left"],
    ),
    row(
        "another generation of the policy",
        changed("a word changed"),
        acted,
        off(recheck._holds, ("if changed:", "if False:")),
    ),
    row(
        "the policy is gone",
        changed("policy deleted"),
        acted,
        off(recheck._holds, ('yield Hold(Guard.POLICY_CHANGED, f"the policy {spec.policy_ref.name} is gone")', "pass")),
    ),
    row(
        "a restart of the container takes it back",
        test_toggles.test_a_restart_takes_it_back,
        lambda stage: any(phase_of(one) == "Held" for one in stage.reverts()),
        off(recording.after, ("case _ if outcome.needless:", "case _ if False:")),
    ),
    row(
        "the switch is asked anew",
        changed("switch off"),
        acted,
        off(Fence.__call__, ("await self._around.ask()", "pass")),
    ),
    row("storm", changed("storm"), acted, GUARDS["storm"]),
    row(
        "the Lease",
        test_fence.test_the_lease_is_asked_for_last,
        acted,
        GUARDS["lease"],
    ),
    row(
        "a new observation",
        test_phases.test_what_was_only_restored_is_not_acted_on,
        begun,
        GUARDS["observed"],
    ),
    row(
        "a forged claim",
        test_phases.test_a_forged_claim_is_not_carried_out,
        acted,
        off(recording.forged, ("name == name_of(stored)", "True")),
    ),
    row(
        "a forged revert",
        test_phases.test_a_forged_revert_is_not_carried_out,
        lambda stage: stage.effects()["off"] > 0,
        off(Reverts._claim_now, ("not _belongs(stored.remediation.spec, first.remediation.spec)", "False")),
    ),
    row(
        "what can't be read is told to who asked for it",
        test_phases.test_what_can_not_be_read_is_told_to_who_asked_for_it,
        lambda stage: stage.phases() == {"Pending": 1},
        off(remediationobjects._asked_for, ('return spec.get("rule") is None and', "return False and")),
    ),
    row(
        "verbose logs are done once they are confirmed",
        test_toggles.test_done_as_soon_as_the_log_confirms_it,
        lambda stage: stage.phases() == {"Verifying": 1},
        off(PolicyRule.verified_by, ("return None", "return Verify()")),
    ),
]


@pytest.mark.parametrize("case", ROWS, ids=lambda case: case.name)
async def test_a_guard_that_is_taken_out_is_missed(case: Row, stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    for place in case.places:
        place.turn(monkeypatch)
    monkeypatch.setattr(staging, "PATIENCE", PATIENCE)
    with pytest.raises(AssertionError):
        await case.proof(stage)
    assert case.harm(stage)


@pytest.mark.parametrize(
    ("proof", "edit"),
    [
        (test_pruning.test_none_within_a_window_or_a_cool_down, ("if not counted and ", "if ")),
        (test_pruning.test_none_that_is_open_or_is_to_be_taken_back, ("name_of(one) not in needed and ", "")),
        (test_pruning.test_none_of_an_incident_that_is_not_over, (" and not _concerns_now(one, situation)", "")),
    ],
    ids=lambda value: getattr(value, "__name__", ""),
)
def test_what_keeps_a_record_is_missed(
    proof: Callable[[], None], edit: tuple[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    off(pruning.prunable, edit).turn(monkeypatch)
    with pytest.raises(AssertionError):
        proof()
