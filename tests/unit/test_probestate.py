"""What one probe is believed to show, attempt by attempt."""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from backendhealth.core.observation import Finding
from backendhealth.core.probestate import NOBODY, ProbeState, Thresholds, initial, observe, silent
from backendhealth.core.reasons import Reason
from backendhealth.core.verdict import Verdict
from tests.unit.support import DENIED, GOOD, NO_SECRET, REFUSED, RISKY, SILENT, seen, with_subjects

LETTERS = {"h": GOOD, "d": RISKY, "n": DENIED, "u": REFUSED}
VERDICTS = {"h": Verdict.HEALTHY, "d": Verdict.DEGRADED, "n": Verdict.UNKNOWN, "u": Verdict.UNHEALTHY}


def run(letters: str, thresholds: Thresholds, state: ProbeState | None = None) -> list[ProbeState]:
    states = [state or initial(0.0)]
    for at, letter in enumerate(letters, 1):
        states.append(observe(states[-1], seen(LETTERS[letter], float(at)), thresholds, None))
    return states[1:]


def told(states: list[ProbeState]) -> str:
    return "".join(next(letter for letter, verdict in VERDICTS.items() if verdict is s.verdict) for s in states)


@pytest.mark.parametrize(
    ("attempts", "verdicts"),
    [
        ("hh", "nh"),
        ("uuu", "nnu"),
        ("n", "n"),
        ("hhuu", "nhhh"),
        ("hhuuu", "nhhhu"),
        ("hhuuhuu", "nhhhhhh"),
        ("hhuuuh", "nhhhuu"),
        ("hhuuuhh", "nhhhuuh"),
        ("hhuuuhuhh", "nhhhuuuuh"),
        ("hhudu", "nhhhd"),  # all three are at least Degraded
        ("hhuuuhd", "nhhhuud"),  # neither is worse than Degraded
        ("hhnnn", "nhhhn"),
        ("hhunu", "nhhhn"),  # Unhealthy is not what all three say
        ("hhuuunn", "nhhhuun"),
        ("hhuuudnd", "nhhhuunn"),  # two that are better than Unhealthy; then one Degraded is not enough
        ("uhuhuh", "nnnnnn"),
    ],
)
def test_thresholds(attempts: str, verdicts: str):
    assert told(run(attempts, Thresholds(failure=3, success=2))) == verdicts


def test_one_attempt_decides_where_the_thresholds_say_so():
    assert told(run("hudnhu", Thresholds(1, 1))) == "hudnhu"


def test_starts_unknown():
    state = initial(7.0)
    assert (state.verdict, state.finding.reason, state.since) == (Verdict.UNKNOWN, Reason.PENDING, 7.0)
    assert initial(7.0, suspended=True).finding.reason is Reason.SUSPENDED
    assert not state.deciding


def test_since_moves_with_the_verdict_only():
    states = run("hhuuuhuhh", Thresholds(3, 2))
    assert [state.since for state in states] == [0, 2, 2, 2, 5, 5, 5, 5, 9]


def test_the_finding_is_the_newest_that_agrees_with_the_verdict():
    state = run("hhudu", Thresholds(3, 2))[-1]
    assert state.finding is RISKY
    assert state.recent == (REFUSED,)
    assert state.deciding


attempts = st.text(alphabet="hdnu", max_size=40)
some_thresholds = st.builds(Thresholds, st.integers(1, 5), st.integers(1, 5))


@given(attempts, some_thresholds)
def test_a_change_takes_as_many_attempts_in_a_row_as_the_threshold_says(letters: str, thresholds: Thresholds):
    states = [initial(0.0), *run(letters, thresholds)]
    for index, (before, after) in enumerate(pairwise(states), 1):
        if after.verdict is before.verdict:
            assert after.since == before.since
            continue
        worse = after.verdict.rank > before.verdict.rank
        needed = thresholds.failure if worse else thresholds.success
        last = [VERDICTS[letter] for letter in letters[:index]][-needed:]
        assert len(last) == needed
        assert all((one.rank >= after.verdict.rank) if worse else (one.rank <= after.verdict.rank) for one in last)
        assert after.verdict in last
        assert after.since == float(index)


@given(attempts, some_thresholds, st.sampled_from("hdnu"))
def test_enough_of_the_same_always_decides(letters: str, thresholds: Thresholds, letter: str):
    most = max(thresholds.failure, thresholds.success)
    assert told(run(letters + letter * most, thresholds))[-1] == letter


@given(attempts, some_thresholds)
def test_what_is_kept_is_bounded_and_contradicts_the_verdict(letters: str, thresholds: Thresholds):
    for state in run(letters, thresholds):
        assert len(state.recent) <= max(thresholds.failure, thresholds.success)
        assert all(finding.verdict is not state.verdict for finding in state.recent)
        assert state.finding.verdict is state.verdict


@given(attempts, some_thresholds)
def test_unknown_never_makes_it_unhealthy(letters: str, thresholds: Thresholds):
    """Replace each Unhealthy attempt by an Unknown one: never Unhealthy."""
    assert "u" not in told(run(letters.replace("u", "n"), thresholds))


@pytest.mark.parametrize("finding", [GOOD, RISKY, DENIED, REFUSED, SILENT])
def test_what_is_seen_again_gives_the_identical_object(finding: Finding):
    thresholds, state = Thresholds(2, 2), initial(0.0)
    for at in range(1, 6):
        state = observe(state, seen(finding, float(at)), thresholds, None)
    other = Finding(finding.reason, "told otherwise", (), {"bytes": 7}, {"connect": 0.3}, finding.contact)
    assert observe(state, seen(other, 9.0), thresholds, None) is state


def test_another_reason_or_another_subject_shows_at_once():
    state = run("hhuuu", Thresholds(3, 2))[-1]
    reset = Finding(Reason.CONNECTION_RESET, "reset")
    assert observe(state, seen(reset, 9.0), Thresholds(3, 2), None).finding is reset
    one, two = with_subjects(REFUSED, a=Reason.MEMBER_DOWN), with_subjects(REFUSED, b=Reason.MEMBER_DOWN)
    state = observe(state, seen(one, 9.0), Thresholds(3, 2), None)
    assert state.finding is one
    assert observe(state, seen(two, 10.0), Thresholds(3, 2), None).finding is two
    healthy = with_subjects(REFUSED, a=Reason.MEMBER_DOWN, c=Reason.PROBE_SUCCEEDED)
    assert observe(state, seen(healthy, 10.0), Thresholds(3, 2), None) is state


# Silence


def listen(state: ProbeState, heard: list[float | None], first: float = 10.0, step: float = 10.0) -> list[ProbeState]:
    """Silent attempts of 5 s each, the first ending at `first`; for each, when others were heard."""
    states = []
    for index, elsewhere in enumerate(heard):
        state = observe(state, seen(SILENT, first + index * step, took=5.0), Thresholds(1, 1), elsewhere)
        states.append(state)
    return states


def test_a_lone_silent_target_is_not_doubted():
    assert not listen(initial(0.0), [None])[0].doubted


def test_silent_among_silent_ones_is_doubted_for_ever():
    assert all(state.doubted and state.deciding for state in listen(initial(0.0), [NOBODY, 4.9, 4.9, NOBODY]))


def test_others_must_be_heard_twice():
    # attempts: 5-10, 15-20, 25-30; others heard at 10 and at 20
    states = listen(initial(0.0), [4.0, 10.0, 20.0])
    assert [state.doubted for state in states] == [True, True, False]
    assert [state.armed_at for state in states] == [None, 20.0, 20.0]


def test_once_is_not_enough_however_often_it_is_told():
    states = listen(initial(0.0), [5.0, 5.0, 9.9, 9.9])
    assert all(state.doubted for state in states)


def test_anything_that_comes_back_ends_the_doubt():
    state = listen(initial(0.0), [4.0, 10.0])[-1]
    state = observe(state, seen(REFUSED, 30.0), Thresholds(1, 1), None)
    assert (state.silent_since, state.armed_at, state.doubted) == (None, None, False)


def test_one_that_was_unhealthy_by_refusal_is_doubted_once_silent():
    state = run("u", Thresholds(1, 1))[-1]
    assert not state.doubted
    assert listen(state, [4.0])[0].doubted


def test_a_refusal_stands_while_single_answers_are_lost():
    thresholds = Thresholds(3, 2)
    state = run("uuu", thresholds)[-1]
    states = [state := observe(state, seen(SILENT, 10.0 * n, took=5.0), thresholds, NOBODY) for n in (2, 3, 4)]
    assert [one.finding for one in states] == [REFUSED, REFUSED, SILENT]
    assert [one.doubted for one in states] == [False, False, True]
    assert all(one.verdict is Verdict.UNHEALTHY and one.deciding for one in states)
    assert observe(states[1], seen(REFUSED, 40.0), thresholds, NOBODY).recent == ()


def test_a_refusal_gives_way_to_silence_at_once_where_the_network_is_proven():
    assert observe(run("uuu", Thresholds(3, 2))[-1], seen(SILENT, 20.0), Thresholds(3, 2), None).finding is SILENT


def test_a_lost_answer_among_refusals_is_no_reason_to_doubt_them():
    thresholds = Thresholds(3, 2)
    state = run("huu", thresholds)[-1]
    failed = observe(state, seen(SILENT, 20.0, took=5.0), thresholds, NOBODY)
    assert (failed.verdict, failed.finding, failed.recent) == (Verdict.UNHEALTHY, REFUSED, (SILENT,))
    assert not failed.doubted


def test_silence_is_no_success_of_what_was_refused():
    thresholds = Thresholds(3, 2)
    state = run("uuuh", thresholds)[-1]
    for at, finding in ((20.0, SILENT), (30.0, GOOD)):
        state = observe(state, seen(finding, at, took=5.0), thresholds, NOBODY)
    assert state.verdict is Verdict.UNHEALTHY
    assert observe(state, seen(GOOD, 40.0), thresholds, NOBODY).verdict is Verdict.HEALTHY


def test_one_that_died_alone_is_doubted_again_once_all_are_silent():
    state = listen(initial(0.0), [4.0, 10.0, 20.0])[-1]
    calm, lost, still = listen(state, [20.0, NOBODY, 20.0], first=40.0)
    assert calm is state
    assert lost.doubted
    assert lost.silent_since == 45.0
    assert still.doubted


def test_what_was_never_sent_is_neither_silence_nor_a_sign_of_life():
    state = listen(initial(0.0), [4.0])[-1]
    assert observe(state, seen(NO_SECRET, 30.0), Thresholds(9, 9), 4.0).silent_since == state.silent_since
    assert run("u", Thresholds(1, 1))[-1].silent_since is None
    refused = observe(initial(0.0), seen(REFUSED, 1.0), Thresholds(1, 1), None)
    assert not observe(refused, seen(NO_SECRET, 2.0), Thresholds(9, 9), 0.5).doubted


@pytest.mark.parametrize(
    ("reason", "expected"),
    [
        (Reason.TIMEOUT, True),
        (Reason.HOST_UNREACHABLE, True),
        (Reason.NETWORK_UNREACHABLE, True),
        (Reason.RESOLVER_UNAVAILABLE, True),
        (Reason.QUORUM_LOST, True),
        (Reason.SECRET_NOT_FOUND, False),
        (Reason.ADDRESS_REFUSED, False),
        (Reason.INTERNAL_ERROR, False),
    ],
)
def test_how_a_lost_network_looks(reason: Reason, expected: bool):
    assert silent(Finding(reason, "x", contact=False)) is expected
    assert not silent(Finding(reason, "x", contact=True))
