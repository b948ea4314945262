"""The judge, on made-up writes: it must find what is wrong as well as what is right."""

from __future__ import annotations

from collections.abc import Mapping

import pytest

from tests.scenarios.judge import Write, judge
from tests.scenarios.test_truth import BACK, BOUND, PROFILE, injected, truth

TITLES = {feature.name: feature.title for feature in PROFILE.features}
ETCD = {
    **dict.fromkeys(("login", "api-requests", "listing"), "Works"),
    **dict.fromkeys(("execute", "new-websockets", "triggers", "driver-launch", "core-joining"), "Fails"),
}
REDIS = {
    **dict.fromkeys(("login", "listing"), "Works"),
    **dict.fromkeys(("status-updates", "modules"), "Fails"),
    **dict.fromkeys(("execute", "cross-driver-calls"), "Degraded"),
}
END = 10.0
LOG = truth(injected("etcd-down", 0, END))


def write(at: float, *causes: str, impact: Mapping[str, str] = ETCD) -> Write:
    told = [{"feature": TITLES[name], "effect": effect} for name, effect in impact.items()]
    return Write(at, {"diagnosis": {"rootCauses": [{"component": one} for one in causes], "impact": told}})


RIGHT = (write(1), write(3, "etcd"), write(END + 1))


def test_the_right_cause_in_time_is_right():
    found = judge(LOG, RIGHT, 20)
    assert (found.right, found.told) == (True, "")
    assert found.seconds == {"etcd-down": 3.0}


@pytest.mark.parametrize(
    ("writes", "said"),
    [
        ((), "etcd was never named"),
        ((write(1), write(3, "redis"), write(END + 1)), "false blame: 3.0 s: redis"),
        ((write(3, "etcd"), write(3.01, "etcd", "core"), write(3.02, "etcd")), "false blame: 3.0 s: core"),
        ((write(-1, "etcd"), *RIGHT), "false blame: -1.0 s: etcd"),
        ((write(BOUND + 0.1, "etcd"),), "named after 4.5 s, allowed 4.4 s"),
        ((write(3, "etcd"), write(7), write(8, "etcd")), "7.0 s: etcd no longer named"),
        ((write(3, "etcd"), write(7)), "etcd not named; named: nothing"),
        ((write(3, "etcd"), write(END + BACK + 0.1, "etcd")), "false blame: 14.6 s: etcd"),
        ((write(3, "etcd", impact={**ETCD, "login": "Fails"}),), "login: told Fails, true is Works"),
        ((write(3, "etcd", impact={**ETCD, "execute": "Works"}),), "execute: told Works, true is Fails"),
        ((write(3, "etcd", impact={}),), "triggers: told nothing, true is Fails"),
    ],
)
def test_what_is_wrong_is_found(writes: tuple[Write, ...], said: str):
    found = judge(LOG, writes, 20)
    assert not found.right
    assert said in found.told


def test_a_masked_fault_may_be_named_or_not_and_its_impact_is_not_judged():
    both = truth(injected("etcd-down", 0, 30), injected("core-down", 10, 20))
    named = (write(3, "etcd"), write(12, "core", "etcd", impact={}), write(22, "etcd"), write(31))
    assert judge(both, named, 40).told == ""
    assert judge(both, (write(3, "etcd"), write(31)), 40).told == ""
    assert "core, postgres" not in judge(both, (write(3, "etcd"), write(12, "postgres"), write(31)), 40).told
    assert not judge(both, (write(3, "etcd"), write(12, "core", "etcd", "postgres")), 40).right


def test_the_impact_is_open_while_what_was_taken_back_may_not_have_come_back():
    """A service waits with its start for what hangs."""
    both = truth(injected("redis-hangs", 0, 40), injected("api-down", 10, 20))
    impact = {"login": "Fails"}
    told = write(5, "redis", impact=REDIS), write(12, "api", "redis", impact=impact), write(41, impact={})
    assert judge(both, told, 60).told == ""
    alone = truth(injected("redis-hangs", 0, 40))
    assert "login: told Fails" in judge(alone, (write(5, "redis", impact=impact), write(41, impact={})), 60).told


def test_both_of_two_independent_faults_are_needed():
    both = truth(injected("etcd-down", 0, END), injected("elasticsearch-down", 0, END))
    impact = {**ETCD, "listing": "Fails"}
    assert judge(both, (write(3, "elasticsearch", "etcd", impact=impact), write(END)), 20).told == ""
    assert "elasticsearch was never named" in judge(both, (write(3, "etcd", impact=impact), write(END)), 20).told


def test_worse_than_degraded_is_right_where_it_was_measured_but_not_better():
    log = truth(injected("redis-down", 0, END))
    impact = {"login": "Works", "listing": "Works", "status-updates": "Fails", "modules": "Fails"}
    impact |= {"execute": "Fails", "cross-driver-calls": "Degraded"}
    assert judge(log, (write(2, "redis", impact=impact), write(END)), 20).told == ""
    better = {**impact, "execute": "Works"}
    assert "execute: told Works" in judge(log, (write(2, "redis", impact=better), write(END)), 20).told
