"""Events on a real API server, as kubectl shows them."""

from __future__ import annotations

import asyncio
import json
import re
import time
from collections import Counter
from typing import Any

import pytest

from backendhealth.core.spec.status import BackendHealthStatus
from backendhealth.kube.api import Api, connect
from backendhealth.kube.events import EventRecorder
from tests.kube.writing import bare, eventually
from tests.servers.kubernetes import ControlPlane
from tests.unit.test_announcing import BLIND, FINE, REFUSED, RISKY, status


class Rig:
    """A recorder with one object to tell of."""

    def __init__(self, plane: ControlPlane, api: Api, namespace: str) -> None:
        self.plane, self.namespace = plane, namespace
        self.counted: Counter[str] = Counter()
        self.recorder = self.with_budget(api, 300)

    def with_budget(self, api: Api, per_minute: int) -> EventRecorder:
        return EventRecorder(
            api,
            identity="replica-1",
            per_minute=per_minute,
            clock=time.time,
            count=lambda word: self.counted.update([word]),
        )

    def make(self, name: str = "shop") -> dict[str, Any]:
        path = f"/apis/backendhealth.dev/v1alpha1/namespaces/{self.namespace}/backendhealths"
        made = self.plane.request("POST", path, bare(name, self.namespace))
        kept = {key: made["metadata"][key] for key in ("name", "namespace", "uid")}
        return {"apiVersion": made["apiVersion"], "kind": made["kind"], **kept}

    def events(self) -> list[dict[str, Any]]:
        listed = self.plane.request("GET", f"/api/v1/namespaces/{self.namespace}/events")
        return list(listed["items"])

    def kubectl(self, *arguments: str) -> str:
        return self.plane.kubectl("-n", self.namespace, *arguments)

    async def done(self, **counted: int) -> None:
        await eventually(lambda: self.counted == counted, 10, f"{counted} (is {dict(self.counted)})")


@pytest.fixture
async def rig(control_plane: ControlPlane, api: Api, namespace: str):
    rig = Rig(control_plane, api, namespace)
    running = asyncio.get_running_loop().create_task(rig.recorder.run())
    yield rig
    assert not running.done()
    running.cancel()


def one(state: Any, message: str = "seen") -> BackendHealthStatus:
    return status(message, EtcdHealthy=state)


async def test_a_change_is_an_event_that_kubectl_shows(rig: Rig):
    ref = rig.make()
    rig.recorder.changed(
        ref, status(Healthy=FINE, EtcdHealthy=FINE), status("refused", Healthy=REFUSED, EtcdHealthy=REFUSED)
    )
    rig.recorder.changed(ref, one(REFUSED), one(FINE, "all is well"))
    await rig.done(created=3)
    described = rig.kubectl("describe", "backendhealth", "shop")
    assert re.search(r"Warning +ConnectionRefused +\d+s +backendhealth +Healthy is False: refused", described)
    assert re.search(r"Warning +ConnectionRefused +\d+s +backendhealth +EtcdHealthy is False: refused", described)
    assert re.search(r"Normal +ProbeSucceeded +\d+s +backendhealth +EtcdHealthy is True: all is well", described)
    listed = rig.kubectl("events", "--for", "backendhealth/shop")
    assert re.search(r"\d+s +Warning +ConnectionRefused +BackendHealth/shop +EtcdHealthy is False: refused", listed)


async def test_repeated_ones_are_counted_in_one_event(rig: Rig):
    ref = rig.make()
    for number in range(5):
        rig.recorder.changed(ref, one(FINE), one(REFUSED, f"refused {number}"))
        await rig.done(created=1, repeated=number) if number else await rig.done(created=1)
    (event,) = rig.events()
    assert (event["count"], event["message"]) == (5, "EtcdHealthy is False: refused 4")
    assert event["lastTimestamp"] >= event["firstTimestamp"]
    assert re.search(r"\(x5 over \d+s\)", rig.kubectl("describe", "backendhealth", "shop"))
    assert re.search(r"\(x5 over \d+s\)", rig.kubectl("events", "--for", "backendhealth/shop"))


async def test_what_waits_to_be_written_is_written_once(control_plane: ControlPlane, api: Api, namespace: str):
    rig = Rig(control_plane, api, namespace)
    ref = rig.make()
    for _ in range(100):
        rig.recorder.changed(ref, one(FINE), one(REFUSED))
    running = asyncio.get_running_loop().create_task(rig.recorder.run())
    await rig.done(created=1)
    assert [event["count"] for event in rig.events()] == [100]
    running.cancel()


async def test_a_storm_is_written_within_the_budget_and_its_count_is_true(rig: Rig):
    ref = rig.make()
    for number in range(200):
        rig.recorder.changed(ref, one(FINE), one(REFUSED))
        await eventually(lambda: not rig.recorder._queue.qsize(), 5, "queue empty")
        rig.recorder.changed(ref, one(REFUSED), one(RISKY if number % 2 else BLIND))
    await eventually(lambda: rig.counted["dropped"] > 0, 5, "the budget is spent")
    assert rig.counted["created"] + rig.counted["repeated"] <= 25
    assert sum(series.count for series in rig.recorder._series.values()) == 400
    assert {event["reason"] for event in rig.events()} == {"ConnectionRefused", "ClusterYellow", "Blind"}


async def test_the_total_budget_holds_for_all_objects(control_plane: ControlPlane, api: Api, namespace: str):
    rig = Rig(control_plane, api, namespace)
    recorder = rig.with_budget(api, 7)
    running = asyncio.get_running_loop().create_task(recorder.run())
    for number in range(20):
        recorder.changed({**rig.make(f"o{number}")}, one(FINE), one(REFUSED))
    await rig.done(created=7, dropped=13)
    running.cancel()


@pytest.mark.parametrize("name", ["n" * 253, f"{'n.' * 118}{'m' * 17}", "a"], ids=["long", "dots", "short"])
async def test_names_and_notes_of_any_length(rig: Rig, name: str):
    ref = rig.make(name)
    rig.recorder.changed(ref, one(FINE), one(REFUSED, "😀" * 1024))
    await rig.done(created=1)
    (event,) = rig.events()
    assert event["involvedObject"]["name"] == name
    assert re.fullmatch(r"[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*", event["metadata"]["name"])
    assert len(event["message"].encode()) <= 1024


async def test_an_event_that_has_expired_is_made_anew(rig: Rig):
    ref = rig.make()
    rig.recorder.changed(ref, one(FINE), one(REFUSED))
    await rig.done(created=1)
    rig.kubectl("delete", "events", "--all")
    rig.recorder.changed(ref, one(FINE), one(REFUSED))
    await rig.done(created=2)
    (event,) = rig.events()
    assert event["count"] == 2


async def test_a_later_series_is_an_event_of_its_own(rig: Rig, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("backendhealth.kube.events.AGGREGATION", -1.0)
    ref = rig.make()
    for _ in range(2):
        rig.recorder.changed(ref, one(FINE), one(REFUSED))
    await rig.done(created=2)
    assert [event["count"] for event in rig.events()] == [1, 1]


async def test_without_an_api_server_nothing_is_held_up(rig: Rig, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("backendhealth.kube.events.RETRY", 0.1)
    ref = rig.make()
    request = rig.recorder._api.request
    monkeypatch.setattr(rig.recorder._api, "request", lambda *a, **k: request(*a, **{"timeout": 0.3, **k}))
    rig.plane.pause()
    try:
        began = time.monotonic()
        rig.recorder.changed(ref, one(FINE), one(REFUSED))
        assert time.monotonic() - began < 0.1
        await rig.done(failed=1)
    finally:
        rig.plane.resume()
    rig.recorder.changed(ref, one(FINE), one(REFUSED))
    await eventually(lambda: rig.counted["created"] == 1, 10, "created")
    # whether the hung requests were applied after all or not: it is one Event
    assert [event["count"] for event in rig.events()] in ([1], [2])


async def test_without_a_grant_nothing_is_repeated_or_logged_aloud(
    control_plane: ControlPlane, namespace: str, caplog: pytest.LogCaptureFixture
):
    control_plane.kubectl("-n", namespace, "create", "serviceaccount", "mute")
    async with await connect(str(control_plane.token_kubeconfig(namespace, "mute")), None) as poor:
        rig = Rig(control_plane, poor, namespace)
        running = asyncio.get_running_loop().create_task(rig.recorder.run())
        start = control_plane.audit_log.stat().st_size
        rig.recorder.changed(rig.make(), one(FINE), one(REFUSED))
        await rig.done(failed=1)
        running.cancel()
    asked = [
        one
        for one in control_plane.audited(start)
        if one.get("objectRef", {}).get("resource") == "events" and one["objectRef"]["namespace"] == namespace
    ]
    assert len(asked) == 1
    assert not [record for record in caplog.records if record.levelname != "DEBUG"]
    assert json.dumps(rig.events()) == "[]"
