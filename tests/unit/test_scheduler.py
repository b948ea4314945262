"""The queue by time: shared ticks, moved keys, a bounded heap."""

from __future__ import annotations

import asyncio
from collections.abc import Hashable

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from backendhealth.engine.scheduler import TICK, Scheduler

pytestmark = pytest.mark.looptime


class Ran:
    """What a scheduler ran, and when by the loop's time since the beginning."""

    def __init__(self) -> None:
        self.loop = asyncio.get_running_loop()
        self.begin = self.loop.time()
        self.scheduler = Scheduler(self.note)
        self.runs: list[tuple[float, Hashable]] = []

    def note(self, key: Hashable) -> None:
        self.runs.append((round(self.loop.time() - self.begin, 3), key))

    def at(self, key: Hashable, seconds: float) -> None:
        self.scheduler.schedule(key, self.begin + seconds)


async def test_each_runs_once_in_the_order_of_time():
    ran = Ran()
    for key, at in (("c", 3), ("a", 1), ("b", 2)):
        ran.at(key, at)
    await asyncio.sleep(10)
    assert ran.runs == [(1, "a"), (2, "b"), (3, "c")]
    assert len(ran.scheduler) == 0


async def test_what_is_due_within_one_tick_shares_it():
    ran = Ran()
    for key, at in (("a", 1.0), ("b", 1.03), ("c", 1.0 + TICK - 0.001), ("d", 1.0 + TICK + 0.01)):
        ran.at(key, at)
    await asyncio.sleep(10)
    assert ran.runs == [(1, "a"), (1, "b"), (1, "c"), (1.06, "d")]


async def test_nothing_runs_more_than_a_tick_early_or_late():
    ran = Ran()
    due = {number: 1 + number * 0.013 for number in range(200)}
    for number, seconds in due.items():
        ran.at(number, seconds)
    await asyncio.sleep(10)
    assert len(ran.runs) == 200
    for at, key in ran.runs:
        assert isinstance(key, int)
        assert due[key] - TICK - 0.002 <= at <= due[key] + 0.002
    assert len({at for at, _ in ran.runs}) <= 200 * 0.013 / TICK + 2  # wake-ups


async def test_scheduling_again_moves_it():
    ran = Ran()
    ran.at("a", 5)
    ran.at("a", 2)
    ran.at("b", 1)
    ran.at("b", 6)
    ran.at("c", 3)
    ran.at("c", 8)
    ran.at("c", 3)
    await asyncio.sleep(20)
    assert ran.runs == [(2, "a"), (3, "c"), (6, "b")]


async def test_the_past_is_now():
    ran = Ran()
    await asyncio.sleep(5)
    ran.at("a", 1)
    await asyncio.sleep(0.001)
    assert ran.runs == [(5, "a")]


async def test_it_may_be_scheduled_again_while_it_runs():
    ran = Ran()

    def again(key: Hashable) -> None:
        ran.note(key)
        if len(ran.runs) < 4:
            ran.scheduler.schedule(key, ran.loop.time() + 1)

    ran.scheduler = Scheduler(again)
    ran.at("a", 1)
    await asyncio.sleep(10)
    assert [at for at, _ in ran.runs] == [1, 2, 3, 4]


async def test_a_run_that_fails_does_not_stop_the_others():
    ran = Ran()
    failures: list[dict[str, object]] = []
    ran.loop.set_exception_handler(lambda _, context: failures.append(context))

    def failing(key: Hashable) -> None:
        ran.note(key)
        if key == "a":
            raise LookupError

    ran.scheduler = Scheduler(failing)
    for key, at in (("a", 1.0), ("b", 1.01), ("c", 2.0)):
        ran.at(key, at)
    await asyncio.sleep(10)
    assert [key for _, key in ran.runs] == ["a", "b", "c"]
    assert [type(context["exception"]) for context in failures] == [LookupError]


async def test_cancelled_and_closed():
    ran = Ran()
    for key, at in (("a", 1), ("b", 2), ("c", 3)):
        ran.at(key, at)
    ran.scheduler.cancel("a")
    ran.scheduler.cancel("nobody")
    await asyncio.sleep(2.5)
    assert ran.runs == [(2, "b")]
    ran.scheduler.close()
    await asyncio.sleep(10)
    assert ran.runs == [(2, "b")]


async def test_the_queue_stays_bounded_however_often_keys_are_moved_or_cancelled():
    ran = Ran()
    for number in range(20_000):
        ran.at(number % 10, 100 + number / 1000)
        if number % 3 == 0:
            ran.scheduler.cancel(number % 7)
        assert len(ran.scheduler._heap) <= 2 * 10 + 64 + 1
    for key in range(10):
        ran.at(key, 200)
    await asyncio.sleep(300)
    assert sorted(ran.runs, key=str) == [(200, key) for key in range(10)]


moves = st.lists(st.tuples(st.integers(0, 5), st.one_of(st.none(), st.integers(0, 40))), max_size=200)


@settings(deadline=None, max_examples=50)
@given(moves)
def test_it_runs_what_was_last_asked_for_and_nothing_else(steps: list[tuple[int, int | None]]):
    loop = _FakeLoop()  # type: ignore[abstract]
    ran: list[tuple[float, Hashable]] = []
    scheduler = Scheduler(lambda key: ran.append((loop.now, key)))
    due: dict[int, float] = {}
    with loop.running():
        for key, at in steps:
            if at is None:
                scheduler.cancel(key)
                due.pop(key, None)
            else:
                scheduler.schedule(key, at * 1.0)
                due[key] = at * 1.0
        loop.run_all()
    assert sorted(ran) == sorted((at, key) for key, at in due.items())


class _FakeLoop(asyncio.AbstractEventLoop):
    """Just enough of a loop for a scheduler: a time and one timer."""

    def __init__(self) -> None:
        self.now = -1.0
        self.timers: list[asyncio.TimerHandle] = []

    def running(self) -> _Running:
        return _Running(self)

    def time(self) -> float:
        return self.now

    def get_debug(self) -> bool:
        return False

    def call_at(self, when: float, callback: object, *args: object, context: object = None) -> asyncio.TimerHandle:
        handle = asyncio.TimerHandle(when, callback, args, self)  # type: ignore[arg-type]
        self.timers.append(handle)
        return handle

    def _timer_handle_cancelled(self, handle: asyncio.TimerHandle) -> None:
        self.timers.remove(handle)

    def run_all(self) -> None:
        while self.timers:
            handle = min(self.timers, key=asyncio.TimerHandle.when)
            self.timers.remove(handle)
            self.now = max(self.now, handle.when())
            handle._run()


class _Running:
    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self.loop = loop

    def __enter__(self) -> None:
        asyncio._set_running_loop(self.loop)

    def __exit__(self, *_: object) -> None:
        asyncio._set_running_loop(None)
