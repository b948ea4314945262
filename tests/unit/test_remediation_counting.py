"""What was done before: what counts, and what follows it."""

from __future__ import annotations

import pytest

from backendhealth.core.remediation.deciding import decide
from backendhealth.core.remediation.limits import counted
from backendhealth.core.remediation.recheck import recheck
from backendhealth.core.remediation.ruling import Guard
from backendhealth.core.remediation.situation import Past
from backendhealth.core.remediation.situations import past_of
from backendhealth.core.spec.remediation import Phase, RemediationStatus
from backendhealth.core.spec.remediationpolicy import Verify
from backendhealth.core.statusof import timestamp
from tests.unit.remediating import (
    CALM,
    DEBUG_LOGS,
    HOUR,
    MINUTE,
    ROLLOUT,
    START,
    UID,
    by_hand,
    past,
    policy,
    rule,
    situation,
    spec,
)

LOUD = rule(action=DEBUG_LOGS, escalation=[{"action": ROLLOUT, "after": "10m"}])


@pytest.mark.parametrize(
    ("before", "step"),
    [
        (past("Succeeded"), 1),
        (past("NotHelpful"), 1),
        (past("Succeeded", needless=True), 1),
        (past("Verifying"), 0),
        (past("Expired"), 0),
    ],
)
def test_verbose_logs_help_nobody_recover_so_the_next_step_follows(before: Past, step: int):
    (ruling,) = decide(policy(LOUD), UID, situation(), (before,), CALM, START + HOUR)
    assert ruling.step == step
    mending = {**LOUD, "verify": {"healthy": ["core"]}}
    (ruling,) = decide(policy(mending), UID, situation(), (before,), CALM, START + HOUR)
    assert ruling.step == (step if before.phase != "Succeeded" else 0)


@pytest.mark.parametrize(("phase", "minutes"), [("Succeeded", 15), ("Failed", 10)])
def test_what_verbose_logs_show_is_read_before_the_next_step_and_what_failed_shows_nothing(phase: Phase, minutes: int):
    before = past(phase, began=0.0, ended=0.0)
    rulings = [
        decide(policy(LOUD), UID, situation(), (before,), CALM, START + minutes * MINUTE + late) for late in (-1, 0)
    ]
    assert [[hold.guard for hold in one.holds] for (one,) in rulings] == [[Guard.COOLING_DOWN], []]


def test_what_is_verified():
    logs, told = policy(LOUD).spec.remediation_rules[0], policy({**LOUD, "verify": {}}).spec.remediation_rules[0]
    assert [logs.verified_by(step) for step in (0, 1)] == [None, Verify()]
    assert told.verified_by(0) == Verify()


def test_what_is_counted_once_is_counted_right():
    """Of a tuple the ledger is kept: another tuple, policy or way to count has another one."""
    before = (past("Held"), past("Succeeded"), past(policy="other"))
    for given in (before, before[1:], before[:2]):
        for names in ((UID, "placeos"), ("other", "another")):
            for dry, promises in ((False, True), (False, False), (True, True)):
                for _ in range(2):
                    kept = counted(given, names, dry=dry, promises=promises)
                    assert kept == counted(list(given), names, dry=dry, promises=promises)


def test_what_succeeded_without_an_effect_was_not_needed():
    over = RemediationStatus(phase="Succeeded", started_at=timestamp(START), finished_at=timestamp(START))
    assert past_of("x", spec(), over, START).needless
    assert not past_of("x", spec(), over.model_copy(update={"effect_at": timestamp(START)}), START).needless
    assert not past_of("x", spec(), over.model_copy(update={"phase": "Unknown"}), START).needless


def test_one_by_hand_is_told_by_its_name():
    mine = past("Running", name="mine", rule="", by_hand=True, backend_health="", incident="")
    held = recheck(policy(), UID, by_hand(), situation(), (mine,), CALM, START)
    assert [one.guard for one in held] == [Guard.IN_PROGRESS, Guard.TOO_MANY_AT_ONCE]
    assert recheck(policy(), UID, by_hand(), situation(), (mine,), CALM, START, name="mine") == ()


def test_by_hand_what_the_person_has_named_must_be_so():
    named = by_hand().model_copy(update={"policy_ref": spec().policy_ref.model_copy(update={"generation": 7})})
    assert [one.guard for one in recheck(policy(), UID, named, situation(), (), CALM, START)] == [Guard.POLICY_CHANGED]


def test_without_a_policy_nothing_is_done():
    assert [one.guard for one in recheck(None, "", spec(), situation(), (), CALM, START)] == [Guard.POLICY_CHANGED]
    assert [one.guard for one in recheck(policy(), UID, spec(), None, (), CALM, START)] == [Guard.NOT_OBSERVED]
