"""The engine in fake time, with scripted probers."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Callable
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from backendhealth.core.observation import Finding, Observation
from backendhealth.core.reasons import Reason
from backendhealth.core.spec.backendhealth import BackendHealth, Probe
from backendhealth.core.spec.status import BackendHealthStatus
from backendhealth.engine.engine import Engine
from backendhealth.probes.dialer import Dialer
from backendhealth.probes.prober import Prober
from backendhealth.probes.registry import Context, build
from tests.probes.support import MemorySecrets
from tests.servers import misbehaving
from tests.servers.redis import RedisServer
from tests.unit.support import GOOD, REFUSED, SILENT, probe, resource

pytestmark = pytest.mark.looptime
EPOCH = 1_800_000_000.0
KEY = ("default/demo", "a")


class Scripted:
    """A prober that takes `took` seconds for an attempt and answers with `finding`."""

    def __init__(self, namespace: str, declared: Probe) -> None:
        self.namespace, self.declared = namespace, declared
        self.began: list[float] = []
        self.under_way = self.most_at_once = self.cancelled = self.closed = 0
        self.timeouts: set[float] = set()
        self.took = 0.0
        self.finding = GOOD
        self.error: BaseException | None = None

    async def attempt(self, timeout: float) -> Finding:
        self.began.append(asyncio.get_running_loop().time())
        self.timeouts.add(timeout)
        self.under_way += 1
        self.most_at_once = max(self.most_at_once, self.under_way)
        finding = self.finding
        try:
            await asyncio.sleep(self.took)
        except asyncio.CancelledError:
            self.cancelled += 1
            raise
        finally:
            self.under_way -= 1
        if self.error is not None:
            raise self.error
        return finding

    async def close(self) -> None:
        self.closed += 1


class Rig:
    """An engine, the probers it opened, what its sink was told and what it recorded."""

    def __init__(self) -> None:
        self.loop = asyncio.get_running_loop()
        self.opened: list[Scripted] = []
        self.prepare: Callable[[Scripted], None] = lambda _: None
        self.told: list[tuple[float, str, BackendHealthStatus]] = []
        self.recorded: list[Observation] = []
        self.engine = self.new_engine()

    def new_engine(self, **options: Any) -> Engine:
        return Engine(
            open_prober=self.open,
            clock=lambda: EPOCH + self.now,
            sink=self.sink,
            record=self.recorded.append,
            **options,
        )

    @property
    def now(self) -> float:
        return self.loop.time()  # fake: 0 when a test begins

    def open(self, namespace: str, declared: Probe) -> Scripted:
        self.opened.append(Scripted(namespace, declared))
        self.prepare(self.opened[-1])
        return self.opened[-1]

    def sink(self, declared: BackendHealth, status: BackendHealthStatus) -> None:
        self.told.append((round(self.now, 2), declared.key, status))

    def began(self, index: int = 0) -> list[float]:
        return [round(at, 2) for at in self.opened[index].began]

    def states(self) -> list[tuple[float, str]]:
        return [(at, status.summary.state) for at, _, status in self.told if status.summary]


@pytest.fixture
async def rig() -> AsyncIterator[Rig]:
    rig = Rig()
    yield rig
    await rig.engine.close()


def one(**more: Any) -> BackendHealth:
    return resource(probe("a"), **{"interval": "10s", "timeout": "5s", "retryInterval": "2s", **more})


# When


async def test_interval_once_the_thresholds_have_decided(rig: Rig):
    await rig.engine.apply(one())
    await asyncio.sleep(41)
    assert rig.began() == [0, 2, 12, 22, 32]
    assert rig.states() == [(0, "Unknown"), (2, "Healthy")]


async def test_retry_interval_after_a_change_in_both_directions(rig: Rig):
    await rig.engine.apply(one())
    await asyncio.sleep(5)
    rig.opened[0].finding = REFUSED
    await asyncio.sleep(20)  # 12, 14, 16 decide
    rig.opened[0].finding = GOOD
    await asyncio.sleep(25)  # 26, 28 decide
    assert rig.began() == [0, 2, 12, 14, 16, 26, 28, 38, 48]
    assert rig.states() == [(0, "Unknown"), (2, "Healthy"), (16, "Unhealthy"), (28, "Healthy")]


async def test_a_single_odd_attempt_is_asked_again_soon_and_then_forgotten(rig: Rig):
    await rig.engine.apply(one())
    await asyncio.sleep(5)
    rig.opened[0].finding = REFUSED
    await asyncio.sleep(8)
    rig.opened[0].finding = GOOD
    await asyncio.sleep(20)
    assert rig.began() == [0, 2, 12, 14, 24]
    assert rig.states() == [(0, "Unknown"), (2, "Healthy")]


async def test_no_drift(rig: Rig):
    rig.prepare = lambda prober: setattr(prober, "took", 0.3)
    await rig.engine.apply(one(interval="1s", timeout="1s", retryInterval="1s"))
    await asyncio.sleep(1000)
    assert abs(len(rig.began()) - 1000) <= 1
    assert all(abs(at - index) < 0.06 for index, at in enumerate(rig.began()))


async def test_attempts_slower_than_the_interval_do_not_pile_up(rig: Rig):
    rig.prepare = lambda prober: setattr(prober, "took", 3.5)
    await rig.engine.apply(one(interval="1s", timeout="1s", retryInterval="1s"))
    await asyncio.sleep(35)
    assert rig.opened[0].most_at_once == 1
    assert len(rig.began()) == 10
    rig.opened[0].took = 0.0
    rig.opened[0].began.clear()
    await asyncio.sleep(10)
    gaps = [after - before for before, after in pairwise(rig.began())]
    assert min(gaps[1:]) > 0.9  # what was missed is not made up for


async def test_initial_delay(rig: Rig):
    await rig.engine.apply(one(initialDelay="7s"))
    await asyncio.sleep(10)
    assert rig.began() == [7, 9]


async def test_due_within_the_same_tick_start_together(rig: Rig):
    await rig.engine.apply(one())
    await asyncio.sleep(0.03)
    await rig.engine.apply(resource(probe("a"), name="late", namespace="other", interval="10s"))
    await asyncio.sleep(25)
    assert rig.began(0)[2:] == rig.began(1)[2:]


async def test_suspended_resource_and_probe(rig: Rig):
    await rig.engine.apply(resource(probe("a", suspend=True), probe("b"), probe("c", suspend=False), suspend=True))
    await asyncio.sleep(60)
    assert [prober.declared.name for prober in rig.opened] == ["c"]
    rows = rig.engine.status("default/demo").probes
    assert [(row.name, row.reason) for row in rows] == [
        ("a", "Suspended"),
        ("b", "Suspended"),
        ("c", "ProbeSucceeded"),
    ]


async def test_suspending_ends_the_attempt_and_closes(rig: Rig):
    rig.prepare = lambda prober: setattr(prober, "took", 3)
    await rig.engine.apply(one())
    await asyncio.sleep(1)
    await rig.engine.apply(one(suspend=True))
    assert (rig.opened[0].cancelled, rig.opened[0].closed) == (1, 1)
    await asyncio.sleep(60)
    assert rig.engine.status("default/demo").probes[0].reason == "Suspended"
    assert rig.recorded == []


async def test_probe_now(rig: Rig):
    await rig.engine.apply(one(successThreshold=1))
    await asyncio.sleep(4)
    rig.engine.probe_now(KEY)
    rig.engine.probe_now(KEY)
    rig.engine.probe_now(("default/demo", "nobody"))
    await asyncio.sleep(11)
    assert rig.began() == [0, 4, 14]


async def test_probe_now_joins_an_attempt_under_way(rig: Rig):
    rig.prepare = lambda prober: setattr(prober, "took", 3)
    await rig.engine.apply(one(successThreshold=1))
    await asyncio.sleep(1)
    rig.engine.probe_now(KEY)
    await asyncio.sleep(8)
    assert rig.began() == [0]


# Changes of the spec


async def test_only_what_changed_starts_afresh(rig: Rig):
    await rig.engine.apply(resource(probe("a"), probe("b"), probe("c"), successThreshold=1))
    await asyncio.sleep(5)
    await rig.engine.apply(resource(probe("a"), probe("b", port=81), generation=2, successThreshold=1))
    await asyncio.sleep(1)
    assert [(p.declared.name, p.closed) for p in rig.opened] == [("a", 0), ("b", 1), ("c", 1), ("b", 0)]
    assert rig.began(0) == [0]
    assert rig.began(3) == [5]
    assert {seen.generation for seen in rig.recorded if seen.started > EPOCH + 4} == {2}


async def test_an_attempt_under_way_for_the_old_spec_counts_no_more(rig: Rig):
    rig.prepare = lambda prober: setattr(prober, "took", 3)
    await rig.engine.apply(one(failureThreshold=1, successThreshold=1))
    rig.opened[0].finding = REFUSED
    await asyncio.sleep(2.9)
    await rig.engine.apply(resource(probe("a", port=81), interval="10s", failureThreshold=1, successThreshold=1))
    await asyncio.sleep(4)
    assert [seen.finding for seen in rig.recorded] == [GOOD]
    assert rig.states() == [(0, "Unknown"), (2.9, "Unknown"), (5.9, "Healthy")]


async def test_an_old_attempt_that_goes_on_for_others_counts_no_more(rig: Rig):
    """Two resources share an exchange; one of them is changed while an attempt is under way."""
    rig.prepare = lambda prober: setattr(prober, "took", 3)
    await rig.engine.apply(one(successThreshold=1))
    await rig.engine.apply(resource(probe("a"), name="other", interval="10s", retryInterval="2s", failureThreshold=1))
    await asyncio.sleep(0)
    rig.opened[0].finding = REFUSED
    await asyncio.sleep(1)
    await rig.engine.apply(resource(probe("a", port=81), interval="10s", successThreshold=1, generation=2))
    await asyncio.sleep(6)
    assert [(prober.declared.tcp and prober.declared.tcp.port, prober.closed) for prober in rig.opened] == [
        (80, 0),
        (81, 0),
    ]
    seen = [(one.resource, one.finding.reason.value) for one in rig.recorded]
    assert seen.count(("default/demo", "ConnectionRefused")) == 0
    assert ("default/other", "ConnectionRefused") in seen
    assert rig.engine.status("default/demo").probes[0].verdict == "Healthy"


async def test_it_may_come_back_to_an_exchange_that_is_in_the_middle_of_an_attempt(rig: Rig):
    rig.prepare = lambda prober: setattr(prober, "took", 3)
    await rig.engine.apply(one())
    await rig.engine.apply(resource(probe("a"), name="other", timeout="5s"))
    await asyncio.sleep(1)
    await rig.engine.apply(one(suspend=True))
    await rig.engine.apply(one())
    await asyncio.sleep(60)
    assert rig.opened[0].most_at_once == 1
    assert len(rig.opened) == 1
    assert rig.engine.status("default/demo").probes[0].verdict == "Healthy"


async def test_removal_ends_attempts_and_closes(rig: Rig):
    rig.prepare = lambda prober: setattr(prober, "took", 3)
    await rig.engine.apply(resource(probe("a"), probe("b"), probe("c")))
    await asyncio.sleep(1)
    told = len(rig.told)
    await rig.engine.remove("default/demo")
    assert [(prober.cancelled, prober.closed) for prober in rig.opened] == [(1, 1)] * 3
    await rig.engine.remove("default/demo")
    await asyncio.sleep(60)
    assert len(rig.told) == told
    assert rig.engine.resources == []
    assert [rig.began(index) for index in range(3)] == [[0], [0], [0]]


async def test_a_removed_resource_leaves_nothing_in_the_queue(rig: Rig):
    await rig.engine.apply(resource(probe("a"), probe("b", initialDelay="10s")))
    await asyncio.sleep(1)
    await rig.engine.remove("default/demo")
    assert len(rig.engine._scheduler) == 0


async def test_who_is_due_while_an_attempt_for_somebody_else_goes_on_takes_part_in_it(rig: Rig):
    rig.prepare = lambda prober: setattr(prober, "took", 3)
    await rig.engine.apply(one())
    await rig.engine.apply(resource(probe("a", initialDelay="1s"), name="other", successThreshold=1))
    await asyncio.sleep(0.5)
    await rig.engine.remove("default/demo")  # only it was waiting
    await asyncio.sleep(10)
    assert rig.opened[0].most_at_once == 1
    assert rig.began() == [0]
    assert rig.states()[-1] == (3, "Healthy")


class SlowToEnd(Scripted):
    """One whose attempts take a while to end when they are cancelled."""

    async def attempt(self, timeout: float) -> Finding:
        try:
            return await super().attempt(timeout)
        except asyncio.CancelledError:
            await asyncio.sleep(2)
            raise


async def test_what_ends_slowly_holds_up_nothing_that_happens_meanwhile(rig: Rig, monkeypatch: pytest.MonkeyPatch):
    """While one attempt takes its time to be cancelled, another ends, and the resource is changed once more."""
    running = asyncio.ensure_future(rig.engine.run())

    def open_prober(namespace: str, declared: Probe) -> Scripted:
        rig.opened.append(SlowToEnd(namespace, declared) if declared.name == "a" else Scripted(namespace, declared))
        rig.opened[-1].took = 3
        return rig.opened[-1]

    monkeypatch.setattr(rig.engine._exchanges, "_open", open_prober)
    await rig.engine.apply(resource(probe("a"), probe("b")))
    await asyncio.sleep(2)
    removal = asyncio.ensure_future(rig.engine.remove("default/demo"))
    await asyncio.sleep(0.1)
    await rig.engine.apply(resource(probe("b", port=82)))
    await asyncio.sleep(30)
    await removal
    assert not running.done()
    assert rig.engine.status("default/demo").probes[0].verdict == "Healthy"
    running.cancel()


# Sharing


async def test_two_resources_that_ask_the_same_make_one_attempt(rig: Rig):
    rig.prepare = lambda prober: setattr(prober, "took", 1)
    await rig.engine.apply(one())
    await rig.engine.apply(one().model_copy(update={"metadata": resource(probe("x"), name="other").metadata}))
    await asyncio.sleep(16)
    assert len(rig.opened) == 1
    assert rig.began() == [0, 2, 12]
    assert {status.probes[0].verdict for status in map(rig.engine.status, ("default/demo", "default/other"))} == {
        "Healthy"
    }
    await rig.engine.remove("default/other")
    assert rig.opened[0].closed == 0
    await rig.engine.remove("default/demo")
    assert rig.opened[0].closed == 1


@pytest.mark.parametrize(
    "other",
    [
        resource(probe("a"), name="other", namespace="elsewhere"),
        resource(probe("a"), name="other", timeout="4s"),
        resource(probe("a", port=81), name="other"),
    ],
    ids=["namespace", "timeout", "target"],
)
async def test_what_differs_is_not_shared(rig: Rig, other: BackendHealth):
    await rig.engine.apply(resource(probe("a")))
    await rig.engine.apply(other)
    assert len(rig.opened) == 2


async def test_the_attempts_timeout_is_the_declared_one(rig: Rig):
    await rig.engine.apply(one(timeout="700ms"))
    await asyncio.sleep(1)
    assert rig.opened[0].timeouts == {0.7}


# Blind


async def test_the_others_are_asked_at_once_and_the_blind_when_it_is_over(rig: Rig):
    slow: dict[str, Any] = {"interval": "60s", "retryInterval": "30s", "timeout": "5s"}
    slow |= {"successThreshold": 1, "failureThreshold": 1}
    await rig.engine.apply(resource(probe("a", interval="20s"), probe("b"), probe("c"), **slow))
    await asyncio.sleep(10)
    for prober in rig.opened:
        prober.took, prober.finding = 5, SILENT
    await asyncio.sleep(30)  # until 40; a is silent from 20 to 25
    assert rig.began(1)[:2] == [0, 25]
    assert {row.reason for row in rig.engine.status("default/demo").probes} == {"Blind"}
    for prober in rig.opened:
        prober.took, prober.finding = 0.01, GOOD
    await asyncio.sleep(16)  # a is asked at 45 at the latest, and then the others at once
    assert {row.reason for row in rig.engine.status("default/demo").probes} == {"ProbeSucceeded"}
    assert "Unhealthy" not in [state for _, state in rig.states()]


async def test_one_silent_among_others_is_unhealthy_after_three_attempts(rig: Rig):
    await rig.engine.apply(
        resource(probe("a"), probe("b"), interval="60s", retryInterval="1s", timeout="5s", failureThreshold=1)
    )
    await asyncio.sleep(30)
    rig.opened[0].took, rig.opened[0].finding = 5, SILENT
    await asyncio.sleep(60)  # the next attempt is at 61
    assert rig.engine.status("default/demo").probes[0].reason == "Timeout"
    assert [state for _, state in rig.states()] == ["Unknown", "Unknown", "Healthy", "Unknown", "Unhealthy"]
    assert rig.states()[-1][0] <= 61 + 3 * 5 + 0.2


# Once


async def test_once_is_one_attempt_of_everything(rig: Rig):
    rig.engine = rig.new_engine(once=True)
    rig.prepare = lambda prober: setattr(prober, "took", 1)
    await rig.engine.apply(resource(probe("a", initialDelay="30s"), probe("b"), probe("c", suspend=True)))
    await rig.engine.run_once()
    assert [len(prober.began) for prober in rig.opened] == [1, 1]
    assert [row.verdict for row in rig.engine.status("default/demo").probes] == ["Healthy", "Healthy", "Unknown"]
    await asyncio.sleep(100)
    assert len(rig.recorded) == 2


async def test_once_tells_a_dead_backend_from_a_lost_network(rig: Rig):
    rig.engine = rig.new_engine(once=True)
    await rig.engine.apply(resource(probe("a"), probe("b")))
    rig.opened[0].finding, rig.opened[0].took = SILENT, 5
    await rig.engine.run_once()
    assert [row.reason for row in rig.engine.status("default/demo").probes] == ["Timeout", "ProbeSucceeded"]


async def test_once_surfaces_our_own_fault(rig: Rig):
    rig.engine = rig.new_engine(once=True)
    await rig.engine.apply(one())
    rig.opened[0].error = ZeroDivisionError("ours")
    with pytest.raises(ZeroDivisionError):
        await rig.engine.run_once()


# Ends


async def test_a_fault_in_the_sink_surfaces_from_run(rig: Rig):
    def failing(declared: BackendHealth, status: BackendHealthStatus) -> None:
        if status.summary and status.summary.state == "Healthy":
            raise LookupError("ours")

    rig.engine = Engine(open_prober=rig.open, clock=lambda: EPOCH + rig.now, sink=failing)
    await rig.engine.apply(one())
    with pytest.raises(LookupError, match="ours"):
        await asyncio.wait_for(rig.engine.run(), 30)


async def test_a_fault_surfaces_from_a_later_run_too(rig: Rig):
    await rig.engine.apply(one())
    with pytest.raises(TimeoutError):
        await asyncio.wait_for(rig.engine.run(), 1)
    rig.opened[0].error = LookupError("ours")
    with pytest.raises(LookupError):
        await asyncio.wait_for(rig.engine.run(), 30)


async def test_an_attempt_that_somebody_else_cancels_does_not_vanish(rig: Rig):
    await rig.engine.apply(one())
    rig.opened[0].error = asyncio.CancelledError()
    with pytest.raises(RuntimeError, match="cancelled"):
        await asyncio.wait_for(rig.engine.run(), 30)


async def test_close_leaves_no_task_and_nothing_open(rig: Rig):
    before = asyncio.all_tasks()
    rig.prepare = lambda prober: setattr(prober, "took", 3)
    await rig.engine.apply(resource(*(probe(f"p{number}") for number in range(50))))
    await asyncio.sleep(1)
    assert len(asyncio.all_tasks()) == len(before) + 50
    await rig.engine.close()
    assert asyncio.all_tasks() == before
    assert all((prober.cancelled, prober.closed) == (1, 1) for prober in rig.opened)
    await asyncio.sleep(100)
    assert all(len(prober.began) == 1 for prober in rig.opened)
    await rig.engine.close()


# Real sockets


def mixture(silent_port: int, redis_port: int) -> list[BackendHealth]:
    """200 probes of three kinds, each with an exchange of its own: 150 hang, 50 keep a connection."""

    def each(kind: str, target: Callable[[int], dict[str, Any]]) -> BackendHealth:
        probes = [{"name": f"p{number}", kind: target(number)} for number in range(50)]
        return resource(*probes, name=kind, timeout="30s")

    kept = [{"name": f"p{n}", "redis": {"url": f"redis://127.0.0.1:{redis_port}/{n}"}} for n in range(50)]
    return [
        each("redis", lambda n: {"url": f"redis://127.0.0.1:{silent_port}/{n}"}),
        each("http", lambda n: {"url": f"http://127.0.0.1:{silent_port}/{n}"}),
        each("tcp", lambda n: {"host": "127.0.0.1", "port": silent_port, "expect": f"{n}"}),
        resource(*kept, name="kept", interval="30s", retryInterval="30s"),
    ]


async def eventually(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 30
    while not condition():
        assert time.monotonic() < deadline, "not in time"
        await asyncio.sleep(0.02)


def sockets() -> int:
    found = 0
    for entry in Path("/proc/self/fd").iterdir():
        with contextlib.suppress(FileNotFoundError):  # the folder's own, closed meanwhile
            found += str(entry.readlink()).startswith("socket:")
    return found


@pytest.mark.looptime(False)
@pytest.mark.parametrize("end", ["close", "remove"])
async def test_200_probes_cancelled_leave_no_socket_and_no_task(end: str):
    with RedisServer(options={"databases": "64", "maxclients": "200"}) as redis, misbehaving.silent() as silent:
        tasks, before = asyncio.all_tasks(), sockets()
        recorded: list[Observation] = []
        context = Context(Dialer(), MemorySecrets())
        engine = Engine(
            open_prober=lambda _, declared: Prober(build(declared, context)),
            clock=time.time,
            sink=lambda *_: None,
            record=recorded.append,
        )
        resources = mixture(silent.port, redis.port)
        for declared in resources:
            await engine.apply(declared)
        await eventually(lambda: silent.connections == 150 and len(recorded) == 50)
        assert {seen.finding.reason for seen in recorded} == {Reason.PROBE_SUCCEEDED}
        assert len(asyncio.all_tasks() - tasks) >= 150
        assert sockets() >= before + 200 + 150  # both ends of the silent ones are ours
        if end == "remove":
            await asyncio.gather(*(engine.remove(declared.key) for declared in resources))
        else:
            await engine.close()
        await eventually(lambda: silent.connections == 0)
        await eventually(lambda: sockets() == before)
        assert asyncio.all_tasks() == tasks
        await eventually(lambda: redis.info("clients")["connected_clients"] == 1)
        await engine.close()
    assert len(recorded) == 50
