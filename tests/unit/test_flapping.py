"""Flap detection: held beyond the limit, let go at half of it, forgotten after the window."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from backendhealth.core.flapping import Flaps, flap

WINDOW = 60.0


def run(times: list[tuple[float, bool]], limit: int = 4) -> list[Flaps]:
    flaps, all_of_them = Flaps(), []
    for at, changed in times:
        flaps = flap(flaps, at, changed=changed, limit=limit, window=WINDOW)
        all_of_them.append(flaps)
    return all_of_them


def test_held_beyond_the_limit_only():
    held = [flaps.held for flaps in run([(at, True) for at in range(6)])]
    assert held == [False, False, False, False, True, True]


def test_let_go_when_half_as_many_are_left():
    flaps = run([(float(at * 10), True) for at in range(5)])[-1]  # at 0, 10, 20, 30, 40
    later = [(at, flap(flaps, at, changed=False, limit=4, window=WINDOW).held) for at in (59.0, 60.0, 70.0, 79.9, 80.0)]
    assert later == [(59.0, True), (60.0, True), (70.0, True), (79.9, True), (80.0, False)]


def test_slow_changes_are_none():
    assert not any(flaps.held for flaps in run([(at * WINDOW / 4, True) for at in range(50)]))


def test_without_changes_it_is_the_same_object():
    calm = Flaps()
    assert flap(calm, 5.0, changed=False, limit=4, window=WINDOW) is calm


steps = st.lists(st.tuples(st.floats(0.01, 30), st.booleans()), max_size=80)


@given(steps, st.integers(2, 20))
def test_laws(deltas: list[tuple[float, bool]], limit: int):
    now, flaps = 0.0, Flaps()
    changes: list[float] = []
    for delta, changed in deltas:
        now += delta
        before, flaps = flaps, flap(flaps, now, changed=changed, limit=limit, window=WINDOW)
        changes = [at for at in changes if now - at < WINDOW] + ([now] if changed else [])
        assert len(flaps.changes) <= limit + 1
        assert list(flaps.changes) == changes[-(limit + 1) :]
        if len(changes) > limit:
            assert flaps.held
        if flaps.held and not before.held:
            assert len(changes) > limit
        if len(changes) <= limit // 2:
            assert not flaps.held
