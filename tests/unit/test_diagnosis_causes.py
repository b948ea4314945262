"""Root causes, and what they explain: cascades, several at once, times, recoveries, partial knowledge."""

from __future__ import annotations

from dataclasses import replace

import pytest

from backendhealth.core.diagnosis.evidence import NEVER, Seen
from backendhealth.core.reasons import Reason
from backendhealth.core.spec.status import Diagnosis
from backendhealth.core.verdict import Verdict
from tests.unit.diagnosing import (
    NOW,
    ask,
    at_risk,
    causes,
    down,
    evidence,
    explained,
    over,
    profile,
    suspected,
    unexplained,
    unknown,
    up,
)

PLATFORM = profile("etcd", "redis", "core: etcd redis", "drivers: core")
ALL_UP = {"etcd": up(), "redis": up(), "core": up(), "drivers": up()}


def test_nothing_fails():
    assert ask(PLATFORM, ALL_UP).diagnosis == Diagnosis()
    assert ask(PLATFORM, {**ALL_UP, "redis": at_risk(), "etcd": unknown()}).diagnosis == Diagnosis()


def test_a_cascade_of_three_has_one_cause():
    answer = ask(PLATFORM, {**ALL_UP, "etcd": down(-10), "core": down(-9), "drivers": down(-8)})
    assert (causes(answer), explained(answer)) == (["etcd"], {"core": ["etcd"], "drivers": ["etcd"]})
    told = {one.name: one.because for one in answer.diagnosis.explained}
    assert told["core"] == "needs etcd: etcd fails since 13:46:34 UTC (ConnectionRefused)"
    assert told["drivers"].startswith("needs core, which needs etcd: ")
    assert "it explains that these fail: core, drivers" in evidence(answer, "etcd")
    assert not answer.asked
    assert answer.again_at is None


def test_two_causes_at_once():
    answer = ask(PLATFORM, {"etcd": down(), "redis": down(), "core": down(-9), "drivers": down(-8)})
    assert causes(answer) == ["etcd", "redis"]
    assert explained(answer) == {"core": ["etcd", "redis"], "drivers": ["etcd", "redis"]}


def test_a_cause_between_two_that_work():
    answer = ask(PLATFORM, {**ALL_UP, "core": down(), "drivers": down(-9)})
    assert (causes(answer), explained(answer)) == (["core"], {"drivers": ["core"]})
    assert "seen to work since, though it needs them: etcd, redis" in evidence(answer, "core")


def test_a_component_that_the_profile_does_not_know_is_its_own_cause():
    assert causes(ask(PLATFORM, {**ALL_UP, "mqtt": down()})) == ["mqtt"]


def test_the_cause_is_named_not_what_is_still_being_determined():
    spec = profile("etcd", "redis", "cache: redis", "core: etcd cache")
    answer = ask(spec, {"etcd": down(-10), "redis": up(-60), "cache": down(-10), "core": down(-9)})
    assert (causes(answer), list(unexplained(answer)), explained(answer)) == (["etcd"], ["cache"], {"core": ["etcd"]})


def test_what_worked_after_something_had_failed_is_not_why():
    answer = ask(PLATFORM, {**ALL_UP, "core": down(-60), "etcd": down(-10, last_good=-20)})
    assert causes(answer) == ["etcd", "core"]
    assert "failed only later: etcd" in evidence(answer, "core")
    # asked for at once, it began when the first failing attempt had just ended
    assert causes(ask(PLATFORM, {**ALL_UP, "core": down(-60), "etcd": down(-10, last_good=-60)})) == ["etcd", "core"]


def test_who_was_probed_first_does_not_matter():
    # etcd died between its attempt at -40 and its next at -10; core was probed in between
    answer = ask(PLATFORM, {**ALL_UP, "core": down(-30), "etcd": down(-10, last_good=-40)})
    assert (causes(answer), explained(answer)) == (["etcd"], {"core": ["etcd"]})


@pytest.mark.parametrize("late", [up(-15), replace(up(-15), deciding=True, onset=NOW - 2)])
def test_blame_waits_for_what_was_not_observed_since(late: Seen):
    answer = ask(PLATFORM, {**ALL_UP, "redis": late, "core": down(-10)})
    assert unexplained(answer) == {"core": "being determined: waiting for redis"}
    assert (causes(answer), suspected(answer), sorted(answer.asked)) == ([], [], ["redis"])


def test_blame_waits_for_first_attempts():
    answer = ask(PLATFORM, {**ALL_UP, "etcd": unknown(Reason.PENDING), "core": down(), "drivers": down(-9)})
    assert unexplained(answer) == {"core": "being determined: waiting for etcd"}
    assert explained(answer) == {"drivers": ["core"]}


def test_one_that_fails_but_is_not_decided_yet_is_waited_for_and_then_explains():
    undecided = replace(up(-15), onset=NOW - 9, last_good=NOW - 15, deciding=True)
    assert ask(PLATFORM, {**ALL_UP, "etcd": undecided, "core": down(-10)}).asked == {"etcd"}
    assert causes(ask(PLATFORM, {**ALL_UP, "etcd": down(-9, last_good=-15), "core": down(-10)})) == ["etcd"]


@pytest.mark.parametrize("reason", [Reason.SECRET_NOT_FOUND, Reason.BLIND, Reason.RESOLVER_UNAVAILABLE])
def test_of_whom_we_cannot_tell_neither_explains_nor_is_cleared(reason: Reason):
    answer = ask(PLATFORM, {**ALL_UP, "etcd": unknown(reason, deciding=reason is Reason.BLIND), "core": down()})
    assert (causes(answer), list(unexplained(answer)), suspected(answer)) == ([], ["core"], ["etcd", "core"])
    assert str(reason) in answer.diagnosis.suspects[0].because
    assert not answer.asked


def test_unknown_now_but_seen_to_work_since_is_cleared():
    answer = ask(PLATFORM, {**ALL_UP, "etcd": unknown(last_good=NOW - 5), "core": down(-10)})
    assert causes(answer) == ["core"]


@pytest.mark.parametrize("seen", [None, unknown(Reason.SUSPENDED), unknown(Reason.INVALID_SPEC)])
def test_what_is_not_watched_holds_nothing_up(seen: Seen | None):
    rest = {name: one for name, one in ALL_UP.items() if name != "etcd"}
    answer = ask(PLATFORM, {**rest, **({"etcd": seen} if seen else {}), "core": down()})
    assert causes(answer) == ["core"]
    assert "etcd is not watched" in evidence(answer, "core")


def test_a_degraded_dependency_is_mentioned_only():
    answer = ask(PLATFORM, {**ALL_UP, "redis": at_risk(), "core": down()})
    assert causes(answer) == ["core"]
    assert "redis works, but is Degraded (MemberDown)" in evidence(answer, "core")


def test_a_reason_of_its_own_is_its_own_fault():
    spec = profile("redis", "drivers: redis", fields={"drivers": {"ownReasons": ["ImagePullFailed"]}})
    both = {"redis": down(), "drivers": down(-9, Reason.IMAGE_PULL_FAILED)}
    assert causes(ask(spec, both)) == ["redis", "drivers"]
    assert "its own fault" in evidence(ask(spec, both), "drivers")
    assert causes(ask(spec, {**both, "redis": up(-100)})) == ["drivers"]  # nobody is waited for
    assert causes(ask(spec, {**both, "drivers": down(-9)})) == ["redis"]


BACK = {**ALL_UP, "etcd": up(outage=over(-60, -20)), "core": down(-58)}


class TestRecovery:
    """etcd was down from -60 to -20; core, which has two minutes, fell with it."""

    def test_it_has_time(self):
        answer = ask(PLATFORM, BACK)
        assert (causes(answer), explained(answer)) == ([], {"core": ["etcd"]})
        assert "2m to recover" in answer.diagnosis.explained[0].because
        assert answer.again_at == NOW + 100

    def test_and_then_it_is_its_own_fault(self):
        answer = ask(PLATFORM, BACK, at=100.0)
        assert causes(answer) == ["core"]
        assert answer.diagnosis.root_causes[0].message == (
            "it did not recover since etcd came back at 13:46:20 UTC: connection refused"
        )
        assert answer.again_at is None

    def test_an_outage_long_before_has_nothing_to_do_with_it(self):
        answer = ask(PLATFORM, {**BACK, "etcd": up(outage=over(-900, -800))})
        assert [one.message for one in answer.diagnosis.root_causes] == ["connection refused"]

    def test_nor_has_any_with_a_reason_of_its_own(self):
        spec = profile("etcd", "core: etcd", fields={"core": {"ownReasons": ["Timeout"]}})
        answer = ask(spec, {**BACK, "core": down(-58, Reason.TIMEOUT, "no answer")}, at=500.0)
        assert answer.diagnosis.root_causes[0].message == "no answer"

    def test_the_grace_is_the_profiles(self):
        spec = profile("etcd", "core: etcd", fields={"core": {"recoveryGrace": "0s"}})
        assert causes(ask(spec, BACK)) == ["core"]

    def test_what_depends_on_the_one_that_recovers_is_explained_by_the_same(self):
        answer = ask(PLATFORM, {**BACK, "drivers": down(-50)})
        assert (causes(answer), explained(answer)) == ([], {"core": ["etcd"], "drivers": ["etcd"]})

    def test_probed_before_it_was_seen_that_the_other_had_fallen(self):
        seen = {**BACK, "etcd": up(outage=over(-55, -20, last_good=-70))}
        assert explained(ask(PLATFORM, seen)) == {"core": ["etcd"]}

    def test_what_had_failed_before_did_not_fall_with_it(self):
        assert causes(ask(PLATFORM, {**BACK, "core": down(-90)})) == ["core"]

    def test_another_outage_takes_over(self):
        """redis fell before etcd came back: that is why core goes on failing, whatever grace is past."""
        seen = {**BACK, "redis": down(-30, last_good=-31)}
        for at in (0.0, 500.0):
            answer = ask(PLATFORM, seen, at=at)
            assert (causes(answer), explained(answer)) == (["redis"], {"core": ["redis"]})
            assert answer.again_at is None

    def test_the_same_falls_again(self):
        seen = {**BACK, "etcd": down(-5, last_good=-6, outage=over(-60, -20))}
        assert explained(ask(PLATFORM, seen)) == {"core": ["etcd"]}

    def test_it_fell_several_times(self):
        several = up(outage=over(-30, -20), earlier=(over(-60, -40),))
        assert explained(ask(PLATFORM, {**BACK, "etcd": several})) == {"core": ["etcd"]}

    def test_of_two_that_it_fell_with_the_grace_of_one_ends_first(self):
        seen = {**BACK, "etcd": up(outage=over(-60, -40)), "redis": up(outage=over(-60, -20))}
        for at, by, again in ((0.0, ["etcd", "redis"], 80), (80.0, ["redis"], 100)):
            answer = ask(PLATFORM, seen, at=at)
            assert (explained(answer), answer.again_at) == ({"core": by}, NOW + again)

    def test_much_later_another_outage_takes_nothing_over(self):
        seen = {**ALL_UP, "etcd": up(outage=over(-900, -800)), "core": down(-899), "redis": down(-5)}
        assert causes(ask(PLATFORM, seen)) == ["redis", "core"]

    def test_it_is_up_again_but_not_decided(self):
        up_again = down(-60, deciding=True)
        assert causes(ask(PLATFORM, {**BACK, "etcd": up_again})) == ["etcd"]


def flapping(onset: float, last_good: float, since: float = -300) -> Seen:
    return replace(down(onset, Reason.FLAPPING, last_good=last_good), since=NOW + since)


@pytest.mark.parametrize("etcd", [flapping(-300, -2), flapping(-5, -7), flapping(-200, -2, -200)])
@pytest.mark.parametrize("core", [flapping(-300, -1), flapping(-4, -6), down(-4)])
def test_what_depends_on_one_that_flaps_is_explained(etcd: Seen, core: Seen):
    answer = ask(PLATFORM, {**ALL_UP, "etcd": etcd, "core": core})
    assert (causes(answer), explained(answer)) == (["etcd"], {"core": ["etcd"]})


@pytest.mark.parametrize("core", [flapping(-300, -1), flapping(-4, -6)])
def test_one_that_flaps_alone_is_the_cause_at_each_crossing(core: Seen):
    old = ask(PLATFORM, {**ALL_UP, "etcd": up(-30), "redis": up(-30), "core": core})
    assert (causes(old), old.asked) == (["core"], frozenset())


def test_restored_without_a_single_attempt():
    restored = Seen(Verdict.UNHEALTHY, Reason.QUORUM_LOST, "no leader", NOW - 50, onset=NOW - 50)
    assert causes(ask(PLATFORM, {"etcd": restored, "core": replace(down(-60), settled=NEVER)})) == ["etcd"]


def test_a_circle_blames_the_one_that_is_declared_first():
    spec = profile("a: b", "b: c", "c: a")
    answer = ask(spec, {"a": down(), "b": down(), "c": down()})
    assert (causes(answer), explained(answer)) == (["a"], {"b": ["a"], "c": ["a"]})
