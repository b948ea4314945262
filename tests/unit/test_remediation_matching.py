"""Which diagnosis a rule is for, and why it is not for another."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from backendhealth.core.remediation.deciding import decide
from backendhealth.core.remediation.ruling import Guard
from backendhealth.core.remediation.situation import Situation
from tests.unit.remediating import BH_UID, CALM, START, UID, H, N, component, policy, rule, situation
from tests.unit.test_remediation_guards import BACK, NOW, STORMY, checked

UNMATCHED = [
    (rule(component="cores"), situation(), "no probe speaks for cores"),
    (rule(), situation(component(verdict=H)), "core is Healthy (ProbeSucceeded)"),
    (rule(), situation(component(verdict=N)), "core is Unknown (Blind), and on that nothing is ever done"),
    (rule(), situation(component(verdict=N, root=True), suspended=True), "core is Unknown"),
    (rule(when={"reasons": ["Timeout"]}), situation(), "for another reason: CoreNotRegistered"),
    (rule(), situation(component(root=False, explained_by=("etcd",))), "no root cause: etcd explains it"),
    (rule(), situation(component(root=False)), "not known to be a root cause (yet)"),
    (rule(), situation(incident=""), "no incident is open"),
    (rule(), situation(recorded=False), "the incident is not written into the status yet"),
    (rule(after={"recovery": "etcd"}), situation(component(), component("etcd", H)), "not known to have failed"),
    (
        rule(after={"recovery": "etcd", "within": "5m"}),
        situation(component(), component("etcd", H), history=BACK),
        "etcd works again since 2026-01-01T00:20:00Z, too long ago",
    ),
]


@pytest.mark.parametrize(("given", "on", "why"), UNMATCHED, ids=[why for *_, why in UNMATCHED])
def test_a_rule_that_is_not_for_the_diagnosis_says_why(given: dict[str, Any], on: Situation, why: str):
    (ruling,) = decide(policy(given), UID, on, (), CALM, START + NOW)
    assert why in ruling.unmatched
    assert not ruling.acts


def test_a_reason_may_be_that_of_a_part():
    crashing = situation(component("drivers", subjects={"driver/core-1/x": "DriverCrashLooping"}))
    given = policy(rule(component="drivers", when={"reasons": ["DriverCrashLooping"]}))
    assert decide(given, UID, crashing, (), CALM, START)[0].acts


def test_symptoms_only_for_who_asks():
    on = situation(component(root=False, explained_by=("etcd",)))
    assert decide(policy(rule(when={"includeSymptoms": True})), UID, on, (), CALM, START)[0].acts


def test_that_it_is_switched_off_or_paused_is_told_though_nothing_is_wrong():
    given = policy(pauseRequests=[{"by": "ada", "reason": "move"}])
    fine = situation(component(verdict=H), incident="", uid=BH_UID)
    (ruling,) = decide(given, UID, fine, (), replace(STORMY, switched_off="off"), START)
    assert [one.guard for one in ruling.holds] == [Guard.SWITCHED_OFF, Guard.PAUSED]


def test_a_policy_that_does_not_name_the_resource_says_nothing_of_it():
    other = replace(situation(), key="default/other")
    assert decide(policy(), UID, other, (), CALM, START) == []
    assert decide(policy(), UID, replace(situation(), key="elsewhere/placeos"), (), CALM, START) == []
    assert [one.guard for one in checked(on=other)] == [Guard.NOT_OBSERVED]
