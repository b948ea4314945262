"""The writer of statuses on a real API server: one write a change, none lost, none while nothing changes."""

from __future__ import annotations

import asyncio
import json
import shlex
import time
from typing import Any

import pytest

from backendhealth.core.spec.status import BackendHealthStatus, Summary
from backendhealth.kube.api import Api, ApiError, ApiUnavailable, connect
from backendhealth.kube.writer import StatusWriter
from tests.kube.writing import Rig, bare, eventually, outage, status
from tests.servers.kubernetes import ControlPlane
from tests.unit.test_writing import full


@pytest.fixture
async def rig(control_plane: ControlPlane, api: Api, namespace: str):
    async with Rig(control_plane, api, namespace) as rig:
        yield rig


async def test_a_change_shows_within_a_second_and_is_one_write(rig: Rig):
    key = await rig.make()
    for number in range(100):
        rig.writer.put(key, status(f"state {number}"))
        await asyncio.sleep(0)  # probes settle one after the other
    await rig.shows("state 99", within=1)
    await rig.idle()
    assert rig.writes() == 1
    written = rig.object()
    assert written["status"]["heartbeatTime"]
    assert written["metadata"]["labels"] == {"team": "a"}
    assert written["spec"]["probes"][0]["name"] == "a"
    assert written["metadata"]["generation"] == 1


async def test_each_change_is_one_write_and_silence_is_none(rig: Rig):
    key = await rig.make()
    for number in range(5):
        rig.writer.put(key, status(f"state {number}"))
        await rig.shows(f"state {number}")
        await rig.idle()
        rig.writer.put(key, status(f"state {number}"))  # an equal state is no change
        await rig.idle()
    await eventually(lambda: rig.seen[key]["status"]["summary"]["message"] == "state 4", 5, "the watch shows the last")
    await rig.idle()
    assert rig.writes(None) == 5
    assert rig.counted == {"written": 5}


async def test_what_the_object_shows_already_is_not_written_after_a_restart(
    rig: Rig, control_plane: ControlPlane, api: Api, namespace: str
):
    key = await rig.make()
    rig.writer.put(key, status("as it is"))
    await rig.idle()
    rig.writer.forget(key)  # else it would defend what it wrote
    async with Rig(control_plane, api, namespace) as second:
        await eventually(lambda: key in second.seen, 5, "seen")
        second.writer.put(key, status("as it is"))
        await second.idle()
        assert second.writes(None) == 0
        second.writer.put(key, status("changed"))
        await second.shows("changed")
        await second.idle()
        assert second.writes(None) == 1


async def test_put_before_seen_is_written_when_seen(rig: Rig):
    rig.writer.put(rig.key("a"), status("early"))
    await rig.make()
    await rig.shows("early")


async def test_a_change_of_the_spec_costs_no_write_and_no_conflict(rig: Rig):
    key = await rig.make()
    rig.writer.put(key, status("one"))
    await rig.shows("one")
    rig.plane.kubectl(
        *("-n", rig.namespace, "patch", "backendhealth", "a", "--type=merge", "-p", '{"spec": {"interval": "45s"}}')
    )
    await eventually(lambda: rig.seen[key]["metadata"]["generation"] == 2, 5, "the new spec seen")
    await rig.idle()
    assert rig.writes(None) == 1
    rig.writer.put(key, status("two", generation=2))
    await rig.shows("two")
    await rig.idle()
    assert rig.counted == {"written": 2}


async def test_a_conflict_is_read_anew_and_the_newest_state_wins(rig: Rig):
    key = await rig.make()
    rig.writer.put(key, status("one"))
    await rig.shows("one")
    await rig.idle()
    rig.follows = False  # a watch that lags
    rig.plane.kubectl("-n", rig.namespace, "label", "backendhealth", "a", "x=y")
    rig.writer.put(key, status("two"))
    await rig.shows("two")
    await rig.idle()
    assert rig.counted == {"written": 2, "conflict": 1}
    assert rig.object()["metadata"]["labels"]["x"] == "y"


async def test_a_write_whose_answer_was_lost_is_not_repeated(rig: Rig, monkeypatch: pytest.MonkeyPatch):
    request = rig.api.request
    lost: list[Any] = []

    async def answers_get_lost(method: str, *parts: Any, **more: Any) -> Any:
        answer = await request(method, *parts, **more)
        if method == "PUT" and not lost:
            lost.append(answer)
            raise ApiUnavailable("the deadline passed")
        return answer

    key = await rig.make()
    rig.follows = False
    monkeypatch.setattr(rig.api, "request", answers_get_lost)
    rig.writer.put(key, status("one"))
    await eventually(lambda: lost, 5, "the answer lost")
    await rig.idle()
    assert rig.writes(None) == 1
    rig.writer.put(key, status("two"))
    await rig.shows("two")
    await rig.idle()
    assert rig.writes(None) == 2  # and no conflict


async def test_what_others_write_is_undone_once_for_each_time(rig: Rig):
    key = await rig.make()
    rig.writer.put(key, status("ours"))
    await rig.shows("ours")
    await rig.idle()
    rig.overwrite("theirs")
    await rig.shows("ours")
    await rig.idle()
    assert rig.counted == {"written": 1, "overwritten": 1}


async def test_who_overwrites_us_again_and_again_gets_no_fight(rig: Rig):
    key = await rig.make()
    rig.writer.put(key, status("ours"))
    await rig.shows("ours")
    for _ in range(5):
        rig.overwrite("theirs")
        await rig.shows("ours")
        await rig.idle()
    rig.overwrite("theirs")
    await eventually(lambda: rig.seen[key]["status"]["summary"]["message"] == "theirs", 5, "seen")
    await rig.idle()
    assert rig.message() == "theirs"
    assert rig.counted["overwritten"] == 5
    rig.writer.put(key, status("news"))  # a change is told all the same
    await rig.shows("news")


async def test_a_deleted_object_is_dropped(rig: Rig):
    key = await rig.make()
    rig.follows = False
    await rig.delete()
    rig.writer.seen(key, rig.seen[key]["metadata"]["uid"], rig.seen[key]["metadata"]["resourceVersion"], None)
    rig.writer.put(key, status("too late"))
    await rig.idle()
    assert sum(rig.writes(code) for code in (200, 201)) == 0


async def test_another_object_of_the_same_name_never_gets_the_old_ones_state(rig: Rig):
    key = await rig.make()
    rig.follows = False
    await rig.delete()
    rig.plane.request("POST", rig.path, bare("a", rig.namespace))
    rig.writer.put(key, status("of the old one"))
    await rig.idle()
    assert rig.message() == ""
    fresh = rig.object()["metadata"]
    rig.writer.seen(key, fresh["uid"], fresh["resourceVersion"], rig.object().get("status"))
    await rig.idle()
    assert rig.message() == ""
    rig.writer.put(key, status("of the new one"))
    await rig.shows("of the new one")


async def test_a_late_write_of_a_replica_that_lost_its_lease_fails_on_the_version(rig: Rig):
    key = await rig.make()
    before = rig.object()
    rig.writer.put(key, status("of the new leader"))
    await rig.shows("of the new leader")
    before["status"] = {"observedGeneration": 1}
    with pytest.raises(ApiError, match="409 Conflict"):
        await rig.api.request("PUT", f"{rig.path}/a/status", body=before)
    assert rig.message() == "of the new leader"


async def test_who_may_not_write_waits_and_writes_when_it_may(rig: Rig, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("backendhealth.kube.writer.AGAIN", 0.2)
    key = await rig.make()
    rig.may_write = False
    rig.writer.put(key, status("held back"))
    await rig.writer.flush(0.5)
    assert (rig.message(), rig.writer.queue, rig.writes(None)) == ("", 1, 0)
    rig.may_write = True
    await rig.shows("held back")


async def test_without_a_grant_it_is_told_once_how_to_give_it(
    control_plane: ControlPlane, namespace: str, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr("backendhealth.kube.writer.FORBIDDEN_AGAIN", 0.5)
    control_plane.kubectl("-n", namespace, "create", "serviceaccount", "writer")
    async with (
        await connect(str(control_plane.token_kubeconfig(namespace, "writer")), None) as poor,
        await control_plane.api() as admin,
        Rig(control_plane, admin, namespace) as rig,
    ):
        monkeypatch.setattr(rig.writer, "_api", poor)
        key, other = await rig.make(), await rig.make("b")
        rig.writer.put(key, status("not allowed yet"))
        rig.writer.put(other, status("nor this"))
        await eventually(lambda: rig.counted["forbidden"] >= 4, 20, "refused several times")
        (told,) = [record.getMessage() for record in caplog.records]
        for line in told.partition("to grant it: ")[2].split("; "):
            control_plane.kubectl(*shlex.split(line)[1:])
        await rig.shows("not allowed yet")
        await rig.shows("nor this", "b")
        await rig.idle()
        control_plane.kubectl("-n", namespace, "delete", "rolebinding", "--all")
        caplog.clear()
        rig.writer.put(key, status("not allowed any more"))
        await eventually(lambda: "may not write" in caplog.text, 20, "told again")
        assert rig.message() == "not allowed yet"


async def test_flush_writes_at_once(rig: Rig):
    key = await rig.make()
    rig.writer.put(key, status("last words"))
    await rig.writer.flush(5)
    assert rig.message() == "last words"
    assert rig.writer.queue == 0


async def test_a_forgotten_object_is_not_written(rig: Rig):
    key = await rig.make()
    rig.writer.put(key, status("never"))
    rig.writer.forget(key)
    rig.writer.forget("never/seen")
    await rig.writer.flush(5)
    assert rig.writes(None) == 0


async def test_a_heartbeat_and_nothing_else(control_plane: ControlPlane, api: Api, namespace: str):
    async with Rig(control_plane, api, namespace, heartbeat=1.5) as rig:
        key = await rig.make()
        rig.writer.put(key, status("steady"))
        await rig.shows("steady")
        first = rig.object()["status"]["heartbeatTime"]
        began = time.monotonic()
        await eventually(lambda: rig.counted["heartbeat"] == 3, 8, "heartbeats")
        assert 3 * 1.5 * 0.9 - 0.3 < time.monotonic() - began < 3 * 1.5 + 1
        assert rig.object()["status"]["heartbeatTime"] > first
        assert rig.counted == {"written": 1, "heartbeat": 3}


async def test_a_restored_status_keeps_its_heartbeat(control_plane: ControlPlane, api: Api, namespace: str):
    async with Rig(control_plane, api, namespace) as rig:
        key = await rig.make()
        rig.writer.put(key, status("steady"))
        await rig.shows("steady")
    writer = StatusWriter(api, may_write=lambda _: True, heartbeat=3600, clock=lambda: time.time() + 3400)
    found = rig.object()
    writer.seen(key, found["metadata"]["uid"], found["metadata"]["resourceVersion"], found["status"])
    due = writer._entries[key].beat_due - asyncio.get_running_loop().time()
    assert 0 <= due <= 360  # a tenth of the interval is for spreading them


@pytest.mark.timeout(240)
async def test_a_thousand_objects_at_once(rig: Rig):
    count = 1000
    for number in range(0, count, 100):
        several = [bare(f"o{n}", rig.namespace) for n in range(number, number + 100)]
        await asyncio.gather(*(rig.api.request("POST", rig.path, body=one) for one in several))
    await eventually(lambda: len(rig.seen) == count, 60, "all seen")
    for n in range(count):
        rig.writer.put(rig.key(f"o{n}"), status("one"))
        rig.writer.put(rig.key(f"o{n}"), status("two"))
    assert rig.writer.queue == count
    await rig.idle(within=120)
    items, _ = await rig.api.list(rig.path)
    assert {item["status"]["summary"]["message"] for item in items} == {"two"}
    assert rig.writes(None) == count


async def changes_through_an_outage(rig: Rig, seconds: float) -> None:
    keys = [await rig.make(f"o{n}") for n in range(20)]
    for key in keys:
        rig.writer.put(key, status("before"))
    await rig.idle()
    async with outage(rig.plane):
        until = time.monotonic() + seconds
        number = 0
        while time.monotonic() < until:
            number += 1
            for key in keys:
                rig.writer.put(key, status(f"state {number}"))
            await asyncio.sleep(0.05)  # the loop goes on: an outage holds up nobody
        assert number > seconds * 10
        assert rig.writer.queue == len(keys)
    await rig.idle(within=30)
    assert {rig.message(f"o{n}") for n in range(20)} == {f"state {number}"}
    assert rig.counted["written"] == 2 * len(keys)


async def test_an_api_server_that_was_killed_loses_nothing(rig: Rig):
    await changes_through_an_outage(rig, 1)


@pytest.mark.long
@pytest.mark.timeout(300)
async def test_a_long_outage_loses_nothing(rig: Rig):
    await changes_through_an_outage(rig, 90)


async def test_an_api_server_that_hangs_loses_nothing(rig: Rig, monkeypatch: pytest.MonkeyPatch):
    request = rig.api.request
    monkeypatch.setattr(rig.api, "request", lambda *parts, **more: request(*parts, **{"timeout": 0.5, **more}))
    key = await rig.make()
    rig.plane.pause()
    try:
        rig.writer.put(key, status("one"))
        await eventually(lambda: rig.writer._down, 5, "a timeout")
        rig.writer.put(key, status("two"))
    finally:
        rig.plane.resume()
    await rig.shows("two", within=15)
    await rig.idle(within=15)
    # the first may have been applied when its answer was no longer waited for
    assert 1 <= rig.writes(200) <= 2


def as_model(raw: dict[str, Any]) -> BackendHealthStatus:
    return BackendHealthStatus.model_validate_json(json.dumps(raw))


async def test_a_status_filled_to_every_bound_is_cut_not_rejected(rig: Rig, caplog: pytest.LogCaptureFixture):
    key = await rig.make()
    rig.writer.put(key, as_model(full("😀" * 1024)))
    await eventually(lambda: rig.counted["written"] == 1, 30, "written")
    stored = rig.object()["status"]
    assert len(stored["probes"]) == 100
    assert len(stored["conditions"]) == 128
    assert stored["probes"][0]["subjects"][-1]["subject"].endswith("more")
    await rig.idle()
    assert rig.writes(None) == 1
    assert not caplog.records


async def test_an_object_with_little_room_left_gets_a_shorter_status(rig: Rig):
    probe = {"tcp": {"host": "a", "port": 80, "send": "<" * 4096, "expect": "x"}}  # stored as \\u003c
    large = bare("a", rig.namespace)
    large["spec"]["probes"] = [{"name": f"p{number}", **probe} for number in range(61)]
    rig.plane.request("POST", rig.path, large)
    await eventually(lambda: rig.key("a") in rig.seen, 5, "seen")
    rig.writer.put(rig.key("a"), as_model(full(name="x")))
    await eventually(lambda: rig.counted["written"] == 1, 30, "written")
    await rig.idle()
    assert rig.writes(500) in {1, 2}
    assert rig.counted == {"written": 1}
    assert len(rig.object()["status"]["conditions"]) == 128


async def test_an_invalid_state_is_logged_once_and_does_not_loop(rig: Rig, caplog: pytest.LogCaptureFixture):
    key = await rig.make()
    for number in range(3):
        long = Summary.model_construct(state=f"{number}" * 300)
        rig.writer.put(key, BackendHealthStatus(observed_generation=1).model_copy(update={"summary": long}))
        await eventually(lambda: not rig.writer.queue, 5, "rejected")
        assert rig.counted["rejected"] == number + 1
    await rig.idle()
    assert rig.writes(422) == 3
    assert [record.levelname for record in caplog.records] == ["ERROR"]
    assert "status.summary.state" in caplog.text
    rig.writer.put(key, status("valid"))
    await rig.shows("valid")
