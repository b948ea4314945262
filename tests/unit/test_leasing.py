"""Decisions on Leases: by how long a record was seen unchanged, never by the times in it."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from backendhealth.core.leasing import (
    Record,
    Replica,
    Sight,
    Timing,
    claimed,
    micro_time,
    record_of,
    released,
    seen,
    shard_of,
    take_in,
    with_record,
)

TIMING = Timing()
US = Replica("us", holding=False, elsewhere=0.0)
HOLDER = replace(US, holding=True)
OURS = Record("us", 15, "a", "b", 3)
THEIRS = Record("them", 15, "a", "b", 3)
RELEASED = Record("", 1, "a", "b", 3)
BLANKED = Record("", 15, "a", "b", 3)
SEEN = 100.0


@pytest.mark.parametrize(
    ("record", "changed", "us", "expected"),
    [
        # ours: renewed, or taken up again, at once
        (OURS, False, HOLDER, 0.0),
        (OURS, True, US, 0.0),
        # another's: for as long as a Lease lasts, from the last change that we saw
        (THEIRS, False, US, 115.0),
        (THEIRS, True, US, 115.0),
        # given away: at once
        (RELEASED, False, US, 100.0),
        (RELEASED, True, US, 100.0),
        # blanked out by hand: whoever held it may not know yet, and that includes us
        (BLANKED, True, US, 115.0),
        (BLANKED, False, US, 115.0),
        # no such Lease: never seen, so nobody's; vanished: somebody may still hold it; ours: made anew
        (None, False, US, 100.0),
        (None, True, US, 115.0),
        (None, True, HOLDER, 0.0),
        (None, False, HOLDER, 0.0),
        # who holds others waits, so that replicas share
        (None, False, replace(US, elsewhere=0.5), 101.5),
        (THEIRS, True, replace(US, elsewhere=0.5), 116.5),
        (RELEASED, False, replace(US, elsewhere=0.5), 101.5),
        # but less where the takeover was asked for
        (RELEASED, True, replace(US, elsewhere=0.5), 100.5),
        # and not for what is ours
        (OURS, True, replace(HOLDER, elsewhere=0.5), 0.0),
    ],
)
def test_when_to_take_it(record: Record | None, changed: bool, us: Replica, expected: float):
    at = take_in(Sight(record, SEEN, changed), us, 0.0, TIMING)
    assert at == expected
    if expected:
        later = take_in(Sight(record, SEEN, changed), us, 107.0, TIMING)
        assert later == expected - 107.0


def test_only_a_change_of_the_record_starts_the_wait_anew():
    first = seen(None, THEIRS, 1.0)
    assert first == Sight(THEIRS, 1.0, changed=False)
    assert seen(first, THEIRS, 2.0) is first
    renewed = seen(first, replace(THEIRS, renewed="c"), 3.0)
    assert (renewed.since, renewed.changed) == (3.0, True)
    gone = seen(renewed, None, 4.0)
    assert gone == Sight(None, 4.0, changed=True)
    assert seen(gone, None, 5.0) is gone


def test_the_limits_of_a_takeover_hold_even_for_who_holds_all_other_shards():
    """The last look was up to a retry ago, and the Lease is renewed at most that much before it."""
    killed = TIMING.duration + TIMING.retry_interval + TIMING.sharing
    stopped = TIMING.retry_interval + TIMING.handover
    assert killed < 20 - 1
    assert stopped < 2 - 0.2
    assert TIMING.renew_deadline + 2 * TIMING.retry_interval < TIMING.duration  # the old holder has stopped long before


@pytest.mark.parametrize(
    "wrong",
    [
        {"renew_deadline": 15.0},
        {"duration": 10.0},
        {"renew_interval": 8.0},
        {"request_timeout": 7.0},
        {"renew_interval": -3.0, "request_timeout": 3.0},
    ],
)
def test_durations_that_could_give_two_holders_or_none_are_refused(wrong: dict[str, float]):
    with pytest.raises(ValueError, match="renew_deadline"):
        Timing(**wrong)


@given(
    st.floats(0.1, 60), st.floats(0, 5), st.floats(0, 0.99), st.lists(st.floats(0.01, 5), max_size=20), st.floats(0, 40)
)
def test_nobody_takes_what_another_may_still_hold(
    start: float, answered: float, elsewhere: float, looks: list[float], until: float
):
    """The holder's renewal began at `start`; another sees it after it was answered, then looks from time to time."""
    sight, now = seen(None, replace(THEIRS, renewed="old"), start), start + answered
    us = replace(US, elsewhere=elsewhere)
    sight = seen(sight, THEIRS, now)
    for pause in [*looks, until]:
        now += pause
        sight = seen(sight, THEIRS, now)
        if take_in(sight, us, now, TIMING) <= 0:
            assert now > start + TIMING.renew_deadline + 4


def test_a_new_holder():
    assert claimed(None, "us", 0.5, TIMING) == Record(
        "us", 15, "1970-01-01T00:00:00.500000Z", "1970-01-01T00:00:00.500000Z", 0
    )
    for former in (THEIRS, RELEASED, BLANKED):
        time = "1970-01-01T00:00:01.000000Z"
        assert claimed(former, "us", 1.0, TIMING) == Record("us", 15, time, time, 4)


def test_a_renewal_moves_one_time_only():
    assert claimed(OURS, "us", 1.0, TIMING) == replace(OURS, renewed="1970-01-01T00:00:01.000000Z")


@given(st.floats(1.7e9, 4e9))
@example(1795454291.0768125)  # its next microsecond is, as a float, told as the same one
def test_a_renewal_is_a_change_even_when_the_wall_clock_stands_still(at: float):
    first = claimed(OURS, "us", at, TIMING)
    second = claimed(first, "us", at, TIMING)
    third = claimed(second, "us", at, TIMING)
    assert second != first
    assert third != second


def test_a_lease_of_less_than_a_second_is_no_released_one():
    assert not claimed(None, "us", 0.0, replace(TIMING, duration=10.4)).released
    short = Timing(duration=0.4, renew_deadline=0.3, renew_interval=0.1, request_timeout=0.1)
    assert claimed(None, "us", 0.0, short).duration == 1  # the API takes no 0
    assert not claimed(None, "us", 0.0, short).released


def test_released():
    given_away = released(OURS, 2.0)
    assert given_away == Record("", 1, "a", "1970-01-01T00:00:02.000000Z", 3)
    assert given_away.released
    assert not any(record.released for record in (OURS, THEIRS, BLANKED, Record(), replace(OURS, duration=1)))


@pytest.mark.parametrize("lease", [{}, {"spec": None}, {"spec": {}}, {"spec": {"holderIdentity": None}}])
def test_any_field_may_be_missing(lease: dict[str, Any]):
    assert record_of(lease) == Record()
    assert not record_of(lease).released


def test_what_others_wrote_into_a_lease_stays():
    lease = {"metadata": {"uid": "1", "labels": {"a": "b"}}, "spec": {"strategy": "x", "holderIdentity": "them"}}
    written = with_record(lease, OURS)
    assert written["metadata"] == lease["metadata"]
    assert written["spec"]["strategy"] == "x"
    assert record_of(written) == OURS
    assert record_of(lease).holder == "them"


@given(st.builds(Record, st.text(), st.integers(0, 99), st.just(micro_time(1)), st.just(""), st.integers(0, 99)))
def test_a_record_survives_its_lease(record: Record):
    assert record_of(with_record({}, record)) == record


def test_micro_time():
    assert micro_time(1_700_000_000.25) == "2023-11-14T22:13:20.250000Z"
    assert micro_time(1_700_000_000) == "2023-11-14T22:13:20.000000Z"


def test_shards_are_stable():
    """Another answer would have two versions of the operator probe the same namespace."""
    assert [shard_of(name, 4) for name in ("default", "placeos", "a", "kube-system")] == [1, 0, 2, 1]


@given(st.text(), st.integers(1, 64))
def test_a_shard_is_one_of_them(namespace: str, shards: int):
    assert 0 <= shard_of(namespace, shards) < shards
    assert shard_of(namespace, 1) == 0


def test_namespaces_are_spread():
    counts = Counter(shard_of(f"team-{number}", 4) for number in range(4000))
    assert set(counts) == {0, 1, 2, 3}
    assert min(counts.values()) > 900
