"""The rule of masking, on made-up logs: t = 0 is the beginning, the bound 2 + 0.3 x 3 + 1 + 0.5 = 4.4 s."""

from __future__ import annotations

from backendhealth import profiles
from tests.scenarios.catalogue import FAULTS
from tests.scenarios.running import shortened
from tests.scenarios.truth import FOREVER, Injected, Timing, Truth, impact_of

PROFILE = shortened(profiles.built_in("placeos-postgres-etcd").spec)
TIMING = Timing()
BOUND, BACK = TIMING.bound(), TIMING.back()
GRACE = 20.0


def injected(fault: str, began: float, ended: float = FOREVER) -> Injected:
    return Injected(FAULTS[fault], began, began, ended, ended)


def truth(*log: Injected) -> Truth:
    return Truth(PROFILE, TIMING, log)


def test_the_bound_is_interval_and_retries_and_timeout():
    assert TIMING.bound() == 2 + 0.3 * 3 + 1 + TIMING.allowance
    assert TIMING.bound(hangs=True) == 2 + 1 * 3 + 1 + TIMING.allowance


def test_what_hangs_is_given_its_timeouts_and_so_is_what_fails_meanwhile():
    longer = TIMING.bound(hangs=True)
    both = truth(injected("redis-hangs", 0, 20), injected("elasticsearch-down", 2), injected("api-down", 40))
    assert [both.bound(one) for one in both.log] == [longer, 2 + longer, 40 + BOUND]


def test_one_fault_may_be_named_at_once_must_be_after_the_bound_and_may_until_it_is_seen_to_work():
    only = truth(injected("etcd-down", 0, 10))
    assert only.may(-0.1) == set()
    assert only.may(0) == {"etcd"}
    assert only.must(BOUND - 0.1) == set()
    assert only.must(BOUND) == {"etcd"}
    assert only.must(10) == set()
    assert only.may(10 + BACK - 0.1) == {"etcd"}
    assert only.may(10 + BACK) == set()


def test_what_fails_after_its_dependency_is_masked_until_its_grace_is_over():
    both = truth(injected("etcd-down", 0, 20), injected("core-down", 10))
    assert both.must(19) == {"etcd"}
    assert both.may(19) == {"etcd", "core"}
    masked_until = 20 + BACK + GRACE
    assert both.must(masked_until) == set()
    assert both.must(masked_until + TIMING.bound(hangs=True) + 0.1) == {"core"}


def test_what_fails_before_its_dependency_is_decided_may_be_explained_by_it():
    assert truth(injected("core-down", 0), injected("etcd-down", BOUND - 0.1)).must(30) == {"etcd"}


def test_what_was_told_before_its_dependency_fails_stays_a_cause():
    assert truth(injected("core-down", 0), injected("etcd-down", BOUND + 0.1)).must(30) == {"core", "etcd"}


def test_what_worked_after_its_dependency_came_back_is_not_masked():
    within_its_grace = 10 + BACK + 1
    assert truth(injected("etcd-down", 0, 10), injected("core-down", within_its_grace)).must(25) == {"core"}


def test_a_reason_of_its_own_is_never_masked():
    after_redis = injected("redis-down", 0), injected("driver-does-not-compile", 6)
    assert truth(*after_redis).must(30) == {"redis", "drivers"}
    assert truth(injected("redis-down", 0), injected("driver-crashes", 6)).must(30) == {"redis"}


def test_what_can_only_be_seen_through_another_is_hidden_while_that_is_away():
    both = truth(injected("driver-does-not-compile", 0), injected("core-down", 10, 20))
    assert both.must(9) == {"drivers"}
    assert both.must(19) == {"core"}
    assert both.may(19) == {"core", "drivers"}
    assert both.must(20 + BACK + TIMING.bound(hangs=True) + 0.1) == {"drivers"}


def test_the_load_balancer_is_masked_by_what_is_behind_it_and_not_by_what_that_needs():
    assert truth(injected("api-down", 0), injected("load-balancer-down", 10)).must(30) == {"api"}
    assert truth(injected("etcd-down", 0), injected("load-balancer-down", 10)).must(30) == {"etcd", "load-balancer"}


def test_independent_faults_are_both_causes():
    assert truth(injected("etcd-down", 0), injected("elasticsearch-down", 1)).must(9) == {"etcd", "elasticsearch"}


def test_what_is_mended_while_its_dependency_is_away_may_be_named_until_that_is_back():
    both = truth(injected("core-down", 0, 15), injected("etcd-down", 8, 30))
    assert both.may(15 + BACK + 1) == {"core", "etcd"}
    assert both.may(30 + 2 * BACK + 0.1) == set()
    never = truth(injected("etcd-down", 0, 15), injected("core-down", 8, 40))
    assert never.may(15 + BACK + 1) == {"core"}


def test_impact_is_the_worst_and_works_only_where_all_say_so():
    both = impact_of([FAULTS["elasticsearch-down"], FAULTS["redis-down"]])
    assert both["listing"] == "Fails"
    assert both["execute"] == "Degraded"
    assert both["login"] == "Works"
    assert "existing-websockets" not in both  # the document says nothing of it for Redis


def test_a_websocket_that_was_cut_may_not_have_come_back():
    cut = truth(injected("database-down", 0), injected("load-balancer-down", 6, 12))
    assert "existing-websockets" not in cut.impact(30)
    assert truth(injected("database-down", 0)).impact(30)["existing-websockets"] == "Works"
