"""One replica's Leases on a real API server: what they say to people, who meddles with them, what may be missing."""

from __future__ import annotations

import asyncio
import contextlib
import datetime as dt
import itertools
import logging
import shlex
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field, replace
from typing import Any

import pytest
from kubernetes.aio import client

from backendhealth.core.leasing import micro_time, shard_of
from backendhealth.kube.api import Api, ApiError, connect
from backendhealth.kube.leases import Leases
from tests.kube.replicas import FAST, Cable
from tests.servers import misbehaving
from tests.servers.kubernetes import ControlPlane
from tests.servers.process import LOOPBACK

YEAR = 365 * 86_400.0
STEADY = replace(FAST, duration=9, renew_deadline=7, request_timeout=2)
"""As FAST, but a Lease is not lost where a busy machine's API server takes seconds for an answer."""


@dataclass
class Candidate:
    """Leases that run, and what they told."""

    leases: Leases
    task: asyncio.Task[None]
    told: list[tuple[str, int]] = field(default_factory=list)

    @property
    def words(self) -> list[str]:
        return [word for word, _ in self.told]

    async def stop(self) -> None:
        self.task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await self.task


Take = Callable[..., Candidate]


@pytest.fixture
async def take(api: Api, namespace: str) -> AsyncIterator[Take]:
    started: list[Candidate] = []

    def take(own: Api = api, **options: Any) -> Candidate:
        told: list[tuple[str, int]] = []
        leases = Leases(
            own,
            **{
                "namespace": namespace,
                "name": "test",
                "shards": 1,
                "identity": "me",
                "acquired": lambda shard: told.append(("acquired", shard)),
                "lost": lambda shard: told.append(("lost", shard)),
                "timing": FAST,
                **options,
            },
        )
        candidate = Candidate(leases, asyncio.create_task(leases.run()), told)
        started.append(candidate)
        return candidate

    yield take
    for candidate in started:
        await candidate.stop()


async def until(condition: Callable[[], bool], timeout: float = 10.0) -> float:
    """Seconds until `condition` held."""
    began = time.monotonic()
    async with asyncio.timeout(timeout):
        while not condition():
            await asyncio.sleep(0.01)
    return time.monotonic() - began


async def after(seconds: float) -> None:
    began = time.monotonic()
    await until(lambda: time.monotonic() - began > seconds, seconds + 10)


def path(namespace: str, lease: str = "test-shard-0") -> str:
    return f"/apis/coordination.k8s.io/v1/namespaces/{namespace}/leases/{lease}"


async def spec(api: Api, namespace: str) -> dict[str, Any]:
    found: dict[str, Any] = (await api.request("GET", path(namespace)))["spec"]
    return found


async def create(api: Api, namespace: str, lease: str = "test-shard-0", **fields: Any) -> None:
    body = {
        "apiVersion": "coordination.k8s.io/v1",
        "kind": "Lease",
        "metadata": {"name": lease, "labels": {"kept": "yes"}},
        "spec": fields,
    }
    await api.request("POST", path(namespace).rpartition("/")[0], body=body)


def seconds(text: str) -> float:
    return dt.datetime.fromisoformat(text).timestamp()


async def test_the_lease_tells_who_holds_it_since_when(
    take: Take, api: Api, namespace: str, control_plane: ControlPlane
):
    before = time.time()
    first = take()
    await until(lambda: first.leases.holds(0))
    told = await spec(api, namespace)
    assert told["holderIdentity"] == first.leases.identity
    assert first.leases.identity.startswith("me_")
    assert (told["leaseDurationSeconds"], told["leaseTransitions"]) == (3, 0)
    assert before - 0.001 <= seconds(told["acquireTime"]) <= seconds(told["renewTime"]) <= time.time()
    await after(FAST.renew_interval * 2.5)
    renewed = await spec(api, namespace)
    assert renewed.pop("renewTime") > told.pop("renewTime")
    assert renewed == told
    assert first.leases.identity in control_plane.kubectl("get", "leases", "-n", namespace)
    await first.stop()
    assert first.words == ["acquired", "lost"]
    given_away = await spec(api, namespace)
    assert (given_away["holderIdentity"], given_away["leaseDurationSeconds"]) == ("", 1)
    second = take()
    assert await until(lambda: second.leases.holds(0)) < 1
    taken = await spec(api, namespace)
    assert (taken["holderIdentity"], taken["leaseTransitions"]) == (second.leases.identity, 1)
    assert taken["acquireTime"] > given_away["acquireTime"]


async def test_lost_is_told_before_it_is_released(take: Take, control_plane: ControlPlane):
    released_then: list[bool] = []
    requests: list[str] = []
    async with await connect(str(control_plane.kubeconfig), None, lambda *told: requests.append(told[0])) as own:
        one = take(own, lost=lambda shard: released_then.append(bool(requests.count("PUT"))))
        await until(lambda: one.leases.holds(0))
        requests.clear()
        await one.stop()
    assert released_then == [False]
    assert requests.count("PUT") == 1
    assert one.leases.held == frozenset()


async def test_what_is_held(take: Take):
    one = take(shards=3)
    assert one.leases.held == frozenset()
    await until(lambda: len(one.leases.held) == 3)
    assert sorted(shard for _, shard in one.told) == [0, 1, 2]
    assert one.leases.holds_namespace("placeos")
    await one.stop()
    assert one.leases.held == frozenset()
    assert not one.leases.holds_namespace("placeos")


async def test_a_namespace_belongs_to_its_shard(take: Take, api: Api, namespace: str):
    shard = shard_of("placeos", 2)
    other = 1 - shard
    await create(api, namespace, f"test-shard-{other}", holderIdentity="somebody", leaseDurationSeconds=3)
    one = take(shards=2)
    await until(lambda: one.leases.held == {shard})
    assert one.leases.holds_namespace("placeos")
    assert not one.leases.holds(other)


async def test_by_the_clock_it_ends_before_anybody_is_told(take: Take):
    ahead = 0.0
    one = take(clock=lambda: time.monotonic() + ahead)
    await until(lambda: one.leases.holds(0))
    ahead = FAST.renew_deadline
    assert not one.leases.holds(0)
    assert one.leases.held == frozenset()
    assert one.words == ["acquired"]
    await until(lambda: one.words == ["acquired", "lost", "acquired"])


async def test_it_ends_at_the_deadline_while_a_request_hangs(take: Take, control_plane: ControlPlane):
    timing = replace(FAST, retry_interval=0.05, request_timeout=1.2)
    renewed: list[float] = []
    lost: list[float] = []

    def observe(method: str, _about: str, status: int) -> None:
        if method in {"POST", "PUT"} and status:
            renewed.append(time.monotonic())

    with Cable(control_plane).plugged() as cable:
        async with await connect(str(cable.kubeconfig), None, observe) as own:
            one = take(own, timing=timing, lost=lambda _: lost.append(time.monotonic()))
            await until(lambda: len(renewed) > 2)
            cable.cut()
            # the first attempt ends 0.5 + 1.2 s after the last renewal, the second a second after the deadline
            await until(lambda: bool(lost))
            assert lost[0] - renewed[-1] <= timing.renew_deadline + 0.2
            await one.stop()


async def test_the_times_in_a_lease_decide_nothing(take: Take, api: Api, namespace: str):
    async def a_lease_of(name: str, off: float) -> None:
        at = micro_time(time.time() + off)
        fields = {"leaseDurationSeconds": 3, "renewTime": at, "acquireTime": at, "leaseTransitions": 7}
        await create(api, namespace, f"{name}-shard-0", holderIdentity="gone", **fields)
        one = take(name=name)
        assert FAST.duration <= await until(lambda: one.leases.holds(0)) < FAST.duration + 1
        told = await api.request("GET", path(namespace, f"{name}-shard-0"))
        assert told["spec"]["leaseTransitions"] == 8
        assert told["metadata"]["labels"] == {"kept": "yes"}

    await asyncio.gather(a_lease_of("past", -YEAR), a_lease_of("now", 0.0), a_lease_of("future", YEAR))


async def test_a_holder_whose_wall_clock_is_wrong_keeps_it(take: Take):
    async def stepping(name: str, step: Callable[[int], float]) -> None:
        start, ticks = time.time(), itertools.count()
        one = take(name=name, wall=lambda: start + step(next(ticks)), timing=STEADY)
        await until(lambda: one.leases.holds(0))
        other = take(name=name, wall=lambda: start + YEAR, timing=STEADY)
        await after(STEADY.duration * 1.5)
        assert (name, one.words, other.words) == (name, ["acquired"], [])

    await asyncio.gather(
        stepping("stands-still", lambda _: 0.0),
        stepping("runs-backwards", lambda tick: -tick * 3600.0),
        stepping("jumps", lambda tick: YEAR if tick % 2 else -YEAR),
    )


async def test_a_lease_that_is_deleted_stays_its_holders(take: Take, api: Api, namespace: str):
    one = take()
    await until(lambda: one.leases.holds(0))
    other = take()
    await after(FAST.retry_interval * 2)
    renewed = await spec(api, namespace)
    async with asyncio.timeout(5):
        while await spec(api, namespace) == renewed:
            await asyncio.sleep(0.01)
    await api.request("DELETE", path(namespace))  # the other sees it before the holder does
    await after(FAST.duration + 1)
    assert (one.words, other.words) == (["acquired"], [])
    assert (await spec(api, namespace))["holderIdentity"] == one.leases.identity


async def test_a_holder_that_is_edited_away_stops_and_waits(take: Take, api: Api, namespace: str):
    async def edited(name: str, fields: dict[str, Any]) -> None:
        one = take(name=name)
        await until(lambda: one.leases.holds(0))
        lease, how = path(namespace, f"{name}-shard-0"), "application/merge-patch+json"
        await api.request("PATCH", lease, body={"spec": fields}, content_type=how)
        assert await until(lambda: one.words == ["acquired", "lost"]) < FAST.renew_interval + 0.5
        assert not one.leases.holds(0)
        assert FAST.duration - 0.7 < await until(lambda: one.leases.holds(0))

    await asyncio.gather(
        edited("another", {"holderIdentity": "somebody"}),
        edited("for-long", {"holderIdentity": "somebody", "leaseDurationSeconds": 100_000}),
        edited("nobody", {"holderIdentity": None}),
    )


async def touch(api: Api, namespace: str, lasts: float) -> None:
    """Label the Lease again and again."""
    for number in range(20):
        body = {"metadata": {"labels": {"touched": str(number)}}}
        await api.request("PATCH", path(namespace), body=body, content_type="application/merge-patch+json")
        await after(lasts / 20)


async def test_who_labels_a_lease_neither_takes_nor_renews_it(
    take: Take, api: Api, namespace: str, control_plane: ControlPlane
):
    with Cable(control_plane).plugged() as cable:
        async with await connect(str(cable.kubeconfig), None) as own:
            one = take(own)
            await until(lambda: one.leases.holds(0))
            other = take()
            await touch(api, namespace, 1)
            await after(FAST.renew_interval * 2)
            assert (one.words, other.words) == (["acquired"], [])
            assert (await api.request("GET", path(namespace)))["metadata"]["labels"] == {"touched": "19"}
            cable.cut()
            await touch(api, namespace, FAST.duration)
            assert one.words == ["acquired", "lost"]
            await until(lambda: other.leases.holds(0), 1.5)
            await one.stop()


async def test_a_late_write_fails(take: Take, api: Api, namespace: str):
    one = take()
    await until(lambda: one.leases.holds(0))
    late = await api.request("GET", path(namespace))
    await one.stop()
    other = take()
    await until(lambda: other.leases.holds(0))
    with pytest.raises(ApiError, match="Conflict"):
        await api.request("PUT", path(namespace), body=late)
    assert (await spec(api, namespace))["holderIdentity"] == other.leases.identity


async def test_nothing_but_renewals_is_written(take: Take, control_plane: ControlPlane):
    requests: Counter[str] = Counter()
    idle: Counter[str] = Counter()

    def counter(into: Counter[str]) -> Callable[[str, str, int], None]:
        return lambda method, about, _status: into.update([f"{method} {about}"])

    async with (
        await connect(str(control_plane.kubeconfig), None, counter(requests)) as first,
        await connect(str(control_plane.kubeconfig), None, counter(idle)) as second,
    ):
        one = take(first)
        await until(lambda: one.leases.holds(0))
        other = take(second)
        await after(FAST.renew_interval / 2)
        requests.clear()
        await after(FAST.renew_interval * 4)
        assert set(requests) == {"PUT leases"}
        assert 3 <= requests["PUT leases"] <= 5
        assert set(idle) == {"GET leases"}
        await other.stop()
        assert set(idle) == {"GET leases"}  # what it never held it does not release
        await one.stop()


async def test_without_a_grant_the_line_that_helps_is_logged_once(
    take: Take, namespace: str, control_plane: ControlPlane, caplog: pytest.LogCaptureFixture
):
    caplog.set_level(logging.INFO)
    control_plane.kubectl("create", "serviceaccount", "operator", "-n", namespace)
    async with await connect(str(control_plane.token_kubeconfig(namespace, "operator")), None) as own:
        one = take(own, shards=2)
        await until(lambda: "to grant it: " in caplog.text)
        await after(FAST.retry_interval * 5)
        lines = [record.getMessage() for record in caplog.records if "no election" in record.getMessage()]
        assert len(lines) == 1
        assert "system:serviceaccount" in lines[0]
        for command in lines[0].partition("to grant it: ")[2].split("; "):
            control_plane.kubectl(*shlex.split(command)[1:])
        await until(lambda: one.leases.held == {0, 1})
        assert caplog.text.count("the election goes on") == 1

        # a grant that is taken away ends it at the deadline, and is told once
        control_plane.kubectl("delete", "rolebinding", "--all", "-n", namespace)
        assert await until(lambda: not one.leases.held) < FAST.renew_deadline + 1.5
        assert sorted(one.words) == ["acquired", "acquired", "lost", "lost"]
        assert caplog.text.count("to grant it: ") == 2
        await one.stop()


async def test_a_namespace_that_is_missing_is_told_once(take: Take, api: Api, caplog: pytest.LogCaptureFixture):
    take(namespace="no-such-namespace")
    await until(lambda: "not found" in caplog.text)
    await after(FAST.retry_interval * 5)
    assert caplog.text.count("no election") == 1


async def test_a_stop_without_an_api_server_is_quick(
    take: Take, control_plane: ControlPlane, caplog: pytest.LogCaptureFixture
):
    one = take()
    await until(lambda: one.leases.holds(0))
    other = take(identity="other")
    await after(FAST.retry_interval * 2)
    control_plane.pause()
    try:
        await other.stop()
        assert "not released" not in caplog.text  # it had nothing to release
        began = time.monotonic()
        await one.stop()
        assert time.monotonic() - began < FAST.request_timeout + 0.5
        assert one.words == ["acquired", "lost"]
        assert "not released, others wait for 3 s" in caplog.text
    finally:
        control_plane.resume()


async def test_what_is_no_api_server_gives_no_lease(take: Take, caplog: pytest.LogCaptureFixture):
    with misbehaving.http_like(200, {"Content-Type": "application/json"}, b"{}") as impostor:
        async with Api(client.Configuration(host=f"http://{LOOPBACK}:{impostor.port}")) as own:
            one = take(own)
            await until(lambda: "it sent no Lease" in caplog.text)
            await after(FAST.retry_interval * 5)
            assert one.words == []
            await one.stop()
