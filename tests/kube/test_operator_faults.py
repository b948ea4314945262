"""The operator when the API server, its watch, its clock, or one of its replicas fails."""

from __future__ import annotations

import functools
import os
import signal
import time
from pathlib import Path
from typing import Any

import pytest

from tests.kube.operator import Operator, Resources, tcp
from tests.servers.kubernetes import ControlPlane
from tests.servers.misbehaving import Server, silent
from tests.servers.process import LOOPBACK, wait_until
from tests.servers.redis import RedisServer


def redis_at(server: RedisServer) -> dict[str, object]:
    return {"name": "redis", "redis": {"url": f"redis://{LOOPBACK}:{server.port}"}}


def told(status: dict[str, Any]) -> dict[str, Any]:
    """A status without what a heartbeat changes."""
    return {name: value for name, value in status.items() if name != "heartbeatTime"}


@pytest.mark.parametrize("seconds", [15, pytest.param(600, marks=[pytest.mark.long, pytest.mark.timeout(800)])])
def test_probing_goes_on_without_the_api_server_and_the_newest_state_is_written(
    operator: Operator, resources: Resources, control_plane: ControlPlane, target: Server, seconds: int
):
    with RedisServer() as redis:
        resources.apply("demo", redis_at(redis), tcp(target))
        resources.wait("demo", "Healthy")
        control_plane.stop_api()
        try:
            seen, stopped = target.accepted, time.monotonic()
            redis.kill()
            wait_until(lambda: "lost, not renewed" in operator.log(20_000), 20, "its Lease can't be renewed")
            wait_until(lambda: time.monotonic() - stopped > seconds, seconds, "the outage lasts")
            assert target.accepted - seen > 0.8 * seconds, "probing goes on"
            assert operator.get("/healthz")[0] == 200
            assert operator.log(100_000).count("\n") < 40, "no flood"
        finally:
            control_plane.start_api()
        resources.wait("demo", "Unhealthy ConnectionRefused", 30)
        assert operator.get("/healthz")[0] == 200


def test_what_was_deleted_while_the_watch_was_lost_is_found(
    operator: Operator, resources: Resources, control_plane: ControlPlane, target: Server
):
    with silent() as other:
        resources.apply("gone", tcp(target))
        resources.apply("stays", tcp(other))
        resources.wait("gone", "Healthy")
        resources.wait("stays", "Healthy")
        operator.freeze()
        resources.delete("gone")
        resources.apply("new", tcp(other, "b"))
        control_plane.compact()  # the watch that comes back gets 410
        operator.resume()
        resources.wait("new", "Healthy", 30)
        wait_until(lambda: operator.metric("backendhealth_state", name="gone") == 0, 30, "it is dropped")
        wait_until(lambda: target.connections == 0, 5, "its connections are closed")
        assert operator.metric("backendhealth_state", name="stays") == 1


def test_a_killed_operator_loses_nothing_of_what_was_known(
    operator: Operator, resources: Resources, control_plane: ControlPlane, target: Server
):
    with RedisServer() as redis:
        resources.apply("demo", redis_at(redis), tcp(target), interval="2s")
        resources.wait("demo", "Healthy")
        redis.kill()
        resources.wait("demo", "Unhealthy")
        before = resources.get("demo")
        operator.kill()
        operator.start()
        wait_until(lambda: operator.metric("backendhealth_probe_attempts_total") >= 4, 30, "it probes again")
        after = resources.get("demo")
        assert told(after["status"]) == told(before["status"])
        assert after["metadata"]["resourceVersion"] == before["metadata"]["resourceVersion"], "it was written in vain"
        events = control_plane.request("GET", f"/api/v1/namespaces/{resources.namespace}/events")["items"]
        unhealthy = [e for e in events if e["reason"] == "ConnectionRefused"]
        assert {e["count"] for e in unhealthy} == {1}


def test_killed_again_and_again_while_it_writes(control_plane: ControlPlane, resources: Resources):
    """Each state that is seen afterwards is one that the backend really had, and times never go back."""
    with (
        RedisServer() as redis,
        Operator(control_plane, resources.namespace, "--no-leader-elect") as operator,
    ):
        resources.apply("demo", redis_at(redis), failureThreshold=1, successThreshold=1)
        since = ""
        for _ in range(3):
            resources.wait("demo", "Healthy", 30)
            assert resources.condition("demo", "Healthy")["lastTransitionTime"] >= since
            since = resources.condition("demo", "Healthy")["lastTransitionTime"]
            redis.kill()
            wait_until(lambda: "Unhealthy" in operator.log(500), 10, "it has noticed, and is about to write")
            operator.kill()
            operator.log_path.write_text("")
            redis.start()
            operator.start()
        resources.wait("demo", "Healthy", 30)
        times = [change["at"] for change in resources.status("demo")["history"]]
        assert times == sorted(times, reverse=True)


def test_another_replica_takes_over_from_a_paused_one_whose_late_writes_fail(
    operator: Operator, resources: Resources, control_plane: ControlPlane, namespace: str, target: Server
):
    with RedisServer() as redis, Operator(control_plane, namespace) as standby:
        resources.apply("demo", redis_at(redis), tcp(target))
        resources.wait("demo", "Healthy")
        assert (operator.metric("backendhealth_leader"), standby.metric("backendhealth_leader")) == (1, 0)
        redis.kill()
        wait_until(lambda: "Unhealthy" in operator.log(500), 10, "it has noticed")
        operator.freeze()  # with a write on its way, or about to be
        paused = time.monotonic()
        wait_until(lambda: standby.metric("backendhealth_leader") == 1, 25, "the standby takes over")
        assert time.monotonic() - paused <= 20
        redis.start()
        resources.wait("demo", "Healthy", 20)
        version = resources.get("demo")["metadata"]["resourceVersion"]
        attempts = operator.get  # frozen: it can't tell
        operator.resume()
        wait_until(lambda: operator.metric("backendhealth_leader") == 0, 5, "the late one steps down")
        wait_until(lambda: operator.metric("backendhealth_state") == 0, 5, "it has dropped everything")
        assert attempts("/healthz")[0] == 200
        assert resources.get("demo")["metadata"]["resourceVersion"] == version
        assert resources.state("demo") == "Healthy"


def test_a_clean_stop_hands_over_within_two_seconds(
    operator: Operator, resources: Resources, control_plane: ControlPlane, namespace: str, target: Server
):
    with Operator(control_plane, namespace) as standby:
        resources.apply("demo", tcp(target))
        resources.wait("demo", "Healthy")
        stopped = time.monotonic()
        os.kill(operator.pid, signal.SIGTERM)
        wait_until(lambda: standby.metric("backendhealth_leader") == 1, 5, "the standby takes over")
        assert time.monotonic() - stopped <= 2
        wait_until(lambda: not operator.running, 5, "it ends")
        assert "Traceback" not in operator.log(20_000)


@pytest.mark.parametrize("seconds", [20, pytest.param(600, marks=[pytest.mark.long, pytest.mark.timeout(800)])])
def test_a_quiet_world_costs_no_write_but_leases(
    control_plane: ControlPlane, resources: Resources, target: Server, seconds: float
):
    with Operator(control_plane, resources.namespace, "--heartbeat-interval", "1h") as operator:
        resources.apply("demo", tcp(target))
        resources.wait("demo", "Healthy")
        wait_until(lambda: operator.metric("backendhealth_status_queue_length") == 0, 5, "nothing waits")
        wait_until(lambda: resources.condition("demo", "Reconciling") == {}, 5, "all is known")
        start, began = control_plane.audit_log.stat().st_size, time.monotonic()
        wait_until(lambda: time.monotonic() - began >= seconds, seconds + 5, "time passes")
        writes = [
            (one["verb"], one["objectRef"]["resource"])
            for one in control_plane.audited(start)
            if one["verb"] not in {"get", "list", "watch"}
            and one.get("userAgent", "").startswith(("backendhealth", "kopf"))
        ]
        assert set(writes) == {("update", "leases")}
        assert target.accepted > seconds / 2


def test_the_wall_clock_is_stepped_by_an_hour_and_back(
    control_plane: ControlPlane, resources: Resources, target: Server, tmp_path: Path
):
    clock = tmp_path / "clock"
    clock.write_text("+0")
    with RedisServer() as redis, Operator(control_plane, resources.namespace, env=faked(clock)) as operator:
        resources.apply("demo", redis_at(redis), tcp(target))
        resources.wait("demo", "Healthy")
        for offset in ("+1h", "+0"):
            clock.write_text(offset)
            enough = target.accepted + 3
            wait_until(functools.partial(has_accepted, target, enough), 6, "probing goes on at its pace")
            redis.kill()
            resources.wait("demo", "Unhealthy ConnectionRefused")
            redis.start()
            resources.wait("demo", "Healthy")
            assert operator.metric("backendhealth_leader") == 1
        assert operator.log(20_000).count("acquired") == 1, "the Lease was never lost"
        assert operator.get("/healthz")[0] == 200


def test_the_crd_is_upgraded_with_objects_in_place(
    operator: Operator, resources: Resources, control_plane: ControlPlane, target: Server
):
    path = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions/backendhealths.backendhealth.dev"
    crd = control_plane.request("GET", path)
    properties = crd["spec"]["versions"][0]["schema"]["openAPIV3Schema"]["properties"]
    for newer in ("heartbeatTime", "probeRequestedAt", "incident"):  # an older CRD does not know them
        del properties["status"]["properties"][newer]
    control_plane.request("PUT", path, crd)
    try:
        resources.apply("demo", tcp(target))
        resources.wait("demo", "Healthy")
        wait_until(lambda: operator.metric("backendhealth_status_queue_length") == 0, 5, "nothing waits")
    finally:
        control_plane.apply_crds()
    resources.annotate("demo", probe_requested_at="after the upgrade")
    wait_until(lambda: resources.status("demo").get("probeRequestedAt") == "after the upgrade", 10, "the new field")
    assert resources.state("demo") == "Healthy"


def test_the_crd_is_deleted_and_comes_back(
    operator: Operator, resources: Resources, control_plane: ControlPlane, target: Server
):
    resources.apply("demo", tcp(target))
    resources.wait("demo", "Healthy")
    control_plane.kubectl("delete", "crd", "backendhealths.backendhealth.dev")
    try:
        wait_until(lambda: operator.metric("backendhealth_state") == 0, 20, "it is forgotten")
        wait_until(lambda: "is not served yet" in operator.log(20_000), 20, "it says what it waits for")
        assert operator.get("/healthz")[0] == 200
    finally:
        control_plane.apply_crds()
    resources.apply("demo", tcp(target))
    resources.wait("demo", "Healthy", 30)
    resources.apply("second", tcp(target))
    resources.wait("second", "Healthy", 30)
    resources.delete("second")
    gone = functools.partial(operator.metric, "backendhealth_state", name="second")
    wait_until(lambda: gone() == 0, 3, "the watch works: no list tells that so soon")
    assert "Traceback" not in operator.log(20_000)


def has_accepted(target: Server, count: int) -> bool:
    return target.accepted > count


def faketime_library() -> str:
    found = sorted(Path("/usr/lib").glob("**/faketime/libfaketime.so.1"))
    if not found:
        pytest.skip("libfaketime is missing: apt-get install libfaketime")
    return str(found[0])


def faked(clock: Path) -> dict[str, str]:
    """The environment of a process whose wall clock is set by what stands in that file."""
    return {
        "LD_PRELOAD": faketime_library(),
        "FAKETIME_TIMESTAMP_FILE": str(clock),
        "FAKETIME_NO_CACHE": "1",
        "FAKETIME_DONT_FAKE_MONOTONIC": "1",
    }
