"""The operator as people meet it: declare, look, change, suspend, ask, delete."""

from __future__ import annotations

import datetime as dt
import re
import time

from tests.kube.operator import Operator, Resources
from tests.servers.kubernetes import ControlPlane
from tests.servers.misbehaving import silent
from tests.servers.process import LOOPBACK, free_port, wait_until
from tests.servers.redis import RedisServer


def redis_at(port: int, name: str = "redis") -> dict[str, object]:
    return {"name": name, "redis": {"url": f"redis://{LOOPBACK}:{port}"}}


def test_status_follows_a_real_backend(operator: Operator, resources: Resources, control_plane: ControlPlane):
    with RedisServer() as redis:
        resources.apply("demo", redis_at(redis.port))
        resources.wait("demo", "Healthy")
        redis.kill()
        resources.wait("demo", "Unhealthy ConnectionRefused")
        status = resources.status("demo")
        assert status["incident"]["since"]
        assert status["diagnosis"]["rootCauses"][0]["component"] == "redis"
        printed = control_plane.kubectl("-n", resources.namespace, "get", "backendhealth").splitlines()
        assert re.split(r"\s{2,}", printed[1])[:4] == ["demo", "Unhealthy", "redis", "ConnectionRefused"]
        redis.start()
        resources.wait("demo", "Healthy")
    assert "incident" not in resources.status("demo")
    assert [change["verdict"] for change in resources.status("demo")["history"]][:3] == [
        "Healthy",
        "Unhealthy",
        "Healthy",
    ]


def test_a_fresh_object_is_not_current_and_then_it_is(operator: Operator, resources: Resources):
    operator.freeze()
    created = resources.apply("demo", redis_at(free_port()))
    assert created["status"] == {"observedGeneration": -1}
    operator.resume()
    resources.wait("demo", "Unhealthy")
    status = resources.status("demo")
    assert status["observedGeneration"] == created["metadata"]["generation"]
    assert {one["type"] for one in status["conditions"]} == {"Ready", "Healthy", "RedisHealthy"}


def test_a_change_of_the_spec_takes_effect_within_a_second(operator: Operator, resources: Resources):
    with silent() as first, silent() as second, silent() as other:
        stays = {"name": "other", "tcp": {"host": LOOPBACK, "port": other.port}}
        resources.apply("demo", {"name": "a", "tcp": {"host": LOOPBACK, "port": first.port}}, stays, interval="1h")
        resources.wait("demo", "Healthy")
        seen = other.accepted
        resources.apply("demo", {"name": "a", "tcp": {"host": LOOPBACK, "port": second.port}}, stays, interval="1h")
        wait_until(lambda: second.accepted > 0, 1, "the new target is probed")
        wait_until(lambda: resources.status("demo")["observedGeneration"] == 2, 2, "the new generation")
        resources.wait("demo", "Healthy")
        assert other.accepted == seen, "a probe that did not change was made again"


def test_deletion_stops_probing_within_a_second(operator: Operator, resources: Resources):
    with silent() as target:
        resources.apply("demo", {"name": "a", "tcp": {"host": LOOPBACK, "port": target.port}})
        resources.wait("demo", "Healthy")
        resources.delete("demo")
        deleted = time.monotonic()
        wait_until(lambda: operator.metric("backendhealth_state") == 0, 1, "it is forgotten")
        seen = target.accepted
        wait_until(lambda: time.monotonic() - deleted > 3, 5, "three intervals")
        assert target.accepted == seen
        assert target.connections == 0


def test_suspend_by_spec_and_by_annotation(operator: Operator, resources: Resources):
    with silent() as target:
        probe = {"name": "a", "tcp": {"host": LOOPBACK, "port": target.port}}
        resources.apply("demo", probe)
        resources.wait("demo", "Healthy")
        resources.apply("demo", probe, suspend=True)
        resources.wait("demo", "Suspended")
        resources.apply("demo", probe)
        resources.wait("demo", "Healthy")
        until = dt.datetime.now(dt.UTC) + dt.timedelta(seconds=4)
        resources.annotate("demo", suspended_until=until.strftime("%Y-%m-%dT%H:%M:%SZ"))
        resources.wait("demo", "Suspended")
        seen = target.accepted
        wait_until(lambda: dt.datetime.now(dt.UTC) > until - dt.timedelta(seconds=1.2), 5, "the end is near")
        assert target.accepted == seen
        resources.wait("demo", "Healthy", 8)
        resources.annotate("demo", suspended_until="tomorrow")
        wait_until(lambda: "not a time" in resources.condition("demo", "Ready")["message"], 5, "the notice")
        assert resources.state("demo") == "Healthy"


def test_probe_now_by_annotation_is_answered(operator: Operator, resources: Resources):
    with silent() as target:
        resources.apply("demo", {"name": "a", "tcp": {"host": LOOPBACK, "port": target.port}}, interval="1h")
        resources.wait("demo", "Healthy")
        seen = target.accepted
        resources.annotate("demo", probe_requested_at="now please")
        wait_until(lambda: resources.status("demo").get("probeRequestedAt") == "now please", 2, "the answer")
        assert target.accepted == seen + 1


def test_what_slipped_through_an_older_schema_stalls_alone(
    operator: Operator, resources: Resources, control_plane: ControlPlane
):
    name = "customresourcedefinitions/backendhealths.backendhealth.dev"
    path = f"/apis/apiextensions.k8s.io/v1/{name}"
    crd = control_plane.request("GET", path)
    version = crd["spec"]["versions"][0]
    schema = version["schema"]["openAPIV3Schema"]["properties"]["spec"]
    version["schema"]["openAPIV3Schema"]["properties"]["spec"] = {
        "type": "object",
        "x-kubernetes-preserve-unknown-fields": True,
    }
    control_plane.request("PUT", path, crd)
    try:
        wait_until(lambda: slips_through(resources), 10, "the older schema")
        resources.apply("good", redis_at(free_port()))
        resources.wait("bad", "Stalled InvalidSpec")
        resources.wait("good", "Unhealthy")
        stalled = resources.condition("bad", "Stalled")
        assert (stalled["status"], stalled["reason"]) == ("True", "InvalidSpec")
        assert "spec.probes[0].redis.url" in stalled["message"]
        assert resources.condition("bad", "Ready")["status"] == "False"
        resources.apply("bad", redis_at(free_port()))
        resources.wait("bad", "Unhealthy")
        assert resources.condition("bad", "Stalled") == {}
    finally:
        crd = control_plane.request("GET", path)
        crd["spec"]["versions"][0]["schema"]["openAPIV3Schema"]["properties"]["spec"] = schema
        control_plane.request("PUT", path, crd)
        wait_until(lambda: not slips_through(resources), 10, "the schema is back")


def slips_through(resources: Resources) -> bool:
    try:
        resources.apply("bad", {"name": "a", "redis": {"url": "http://nonsense"}})
    except OSError:
        return False
    return True
