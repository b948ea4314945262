"""What people, other programs and backends do wrong: a clear condition each, and nobody else is disturbed.

One operator serves the whole cluster for all of these. After each, its log must be short and without a traceback.
"""

from __future__ import annotations

import contextlib
import datetime as dt
import functools
import json
import os
import re
import socket
import subprocess
import time
from collections.abc import Iterator
from typing import Any

import pytest

from tests.kube.oldcrd import loosened
from tests.kube.operator import PATH, Operator, Resources, tcp
from tests.servers.http import HttpServer
from tests.servers.kubernetes import ControlPlane
from tests.servers.misbehaving import Server
from tests.servers.process import LOOPBACK, free_port, wait_until
from tests.servers.redis import RedisServer

MOST_LINES = 20
"""Log lines that one mistake may cost."""
LONGEST_NAME = ".".join(letter * length for letter, length in zip("abcd", (63, 63, 63, 61), strict=True))
SECRET = "/api/v1/namespaces/{}/secrets"
WEIRD = "💥 \x1b[31mred\x07 \u202edetrevni " + 5000 * "x"


@pytest.fixture(scope="module")
def serving(control_plane: ControlPlane) -> Iterator[Operator]:
    flags = ("--lease-namespace", "default", "--lease-name", "bad-input", "--secret-ttl", "5s")
    with Operator(control_plane, "", *flags) as running:
        yield running


@pytest.fixture(autouse=True)
def log(serving: Operator, namespace: str) -> Iterator[Log]:
    """What the operator logs during the test."""
    read = Log(serving)
    yield read
    said = read.text()
    print(said)
    assert "Traceback" not in said
    assert " ERROR " not in said
    assert " CRITICAL " not in said
    assert said.count("\n") <= MOST_LINES
    assert serving.get("/healthz")[0] == 200


class Log:
    """The operator's log from here on."""

    def __init__(self, operator: Operator) -> None:
        self._path = operator.log_path
        self._start = self._path.stat().st_size

    def text(self) -> str:
        """All lines so far."""
        return self._path.read_bytes()[self._start :].decode()


def redis_at(port: int, **more: Any) -> dict[str, Any]:
    return {"name": "redis", "redis": {"url": f"redis://{LOOPBACK}:{port}", **more}}


def bare(resources: Resources, name: str, spec: Any, **metadata: Any) -> Any:
    """Create an object whatever stands in it."""
    body = {
        "apiVersion": "backendhealth.dev/v1alpha1",
        "kind": "BackendHealth",
        "metadata": {"name": name, "namespace": resources.namespace, **metadata},
        "spec": spec,
    }
    return resources.plane.request("POST", PATH.format(resources.namespace), body)


def events(resources: Resources, name: str) -> list[dict[str, Any]]:
    found = resources.plane.request("GET", f"/api/v1/namespaces/{resources.namespace}/events")["items"]
    return [event for event in found if event["involvedObject"]["name"] == name]


# What slips through an older schema


def test_what_slips_through_an_older_schema_stalls_with_its_path_and_others_go_on(
    resources: Resources, serving: Operator, target: Server
):
    probe = {"name": "a", "redis": {"url": "redis://redis:6379"}}
    nested: Any = "bottom"
    for _ in range(500):
        nested = {"deeper": nested}
    bad = {
        "many": ({"probes": [{**probe, "name": f"p{n}"} for n in range(400)]}, "spec.probes: "),
        "text": ({"probes": "none"}, "spec.probes: "),
        "nothing": ({}, "spec.probes: "),
        "numbers": ({"interval": 5, "probes": [probe]}, "spec.interval: "),
        "nested": ({"probes": [probe], "interval": nested}, "spec.interval: "),
        "weird": ({"probes": [{**probe, "name": "💥\u202e\x1b[31m"}]}, "spec.probes[0].name: "),
        "twice": ({"probes": [probe, probe]}, "spec.probes[1].name: "),
        "huge": ({"probes": [probe], "interval": 500_000 * "9" + "s"}, "spec.interval: "),
        "regex": ({"probes": [{"name": "a", "tcp": {"host": "h", "port": 1, "expect": "("}}]}, ".tcp.expect: "),
    }
    resources.apply("good", tcp(target))
    resources.wait("good", "Healthy")
    with loosened(resources):
        for name, (spec, _) in bad.items():
            bare(resources, name, spec)
        for name, (_, path) in bad.items():
            resources.wait(name, "Stalled InvalidSpec", 30)
            stalled = resources.condition(name, "Stalled")
            assert (stalled["status"], stalled["reason"]) == ("True", "InvalidSpec")
            assert path in stalled["message"]
            assert len(stalled["message"]) <= 1024
            assert stalled["message"].isprintable()
            assert resources.condition(name, "Ready")["status"] == "False"
        accepted = target.accepted
        wait_until(lambda: target.accepted > accepted, 5, "the good one is probed")
        assert resources.state("good") == "Healthy"
        resources.apply("many", tcp(target))
        resources.wait("many", "Healthy")
        assert resources.condition("many", "Stalled") == {}
        for name in bad:
            resources.delete(name)


# Names, labels, annotations


def test_the_longest_names_there_are(resources: Resources, control_plane: ControlPlane, serving: Operator, log: Log):
    longest = "n" + 61 * "-" + "e"
    with RedisServer() as redis:
        resources.apply(LONGEST_NAME, {**redis_at(redis.port), "name": longest, "component": longest})
        resources.wait(LONGEST_NAME, "Healthy")
        redis.kill()
        resources.wait(LONGEST_NAME, "Unhealthy ConnectionRefused")
    assert len(LONGEST_NAME) == 253
    (cause,) = resources.status(LONGEST_NAME)["diagnosis"]["rootCauses"]
    assert cause["component"] == longest
    assert resources.condition(LONGEST_NAME, "NEHealthy")["status"] == "False"
    wait_until(lambda: "ConnectionRefused" in {e["reason"] for e in events(resources, LONGEST_NAME)}, 5, "its Event")
    labels = {"namespace": resources.namespace, "name": LONGEST_NAME}
    assert serving.metric("backendhealth_state", **labels) == 1
    assert f"{resources.namespace}/{LONGEST_NAME}: Unhealthy" in log.text()
    assert LONGEST_NAME in control_plane.kubectl("-n", resources.namespace, "get", "backendhealth")


def test_a_hundred_labels_and_annotations_of_others(resources: Resources, serving: Operator, target: Server):
    labels = {f"example.com/label-{n}": f"value-{n}" for n in range(100)}
    annotations = {f"example.com/note-{n}": f"{n} 💥\n{1000 * 'x'}" for n in range(100)}
    spec = {"interval": "1s", "timeout": "500ms", "retryInterval": "200ms", "probes": [tcp(target)]}
    bare(resources, "labelled", spec, labels=labels, annotations=annotations)
    resources.wait("labelled", "Healthy")
    kept = resources.get("labelled")["metadata"]
    assert (kept["labels"], kept["annotations"]) == (labels, annotations)
    assert "example.com" not in serving.get("/metrics")[1]


def test_managed_fields_nested_as_deep_as_the_api_server_takes_them(
    resources: Resources, control_plane: ControlPlane, target: Server
):
    """Whoever may write one object may do that, and all others are in the same lists and watches."""
    resources.apply("good", tcp(target))
    fields = '{"f:spec":' + 9000 * '{"f:a":' + "{}" + 9001 * "}"
    manager = '{"manager":"x","operation":"Update","apiVersion":"backendhealth.dev/v1alpha1","fieldsType":"FieldsV1"'
    metadata = f'{{"name":"deep","managedFields":[{manager},"fieldsV1":{fields}}}]}}'
    spec = json.dumps({"interval": "1s", "timeout": "500ms", "probes": [tcp(target)]})
    body = f'{{"apiVersion":"backendhealth.dev/v1alpha1","kind":"BackendHealth","metadata":{metadata},"spec":{spec}}}'
    control_plane.kubectl("create", "--raw", PATH.format(resources.namespace), "-f", "-", input=body)
    shown = ("-n", resources.namespace, "get", "backendhealth", "deep", "-o", "jsonpath={.status.summary.state}")
    try:
        wait_until(lambda: control_plane.kubectl(*shown) == "Healthy", 15, "it is probed like any other")
        resources.apply("good", tcp(target, "renamed"))
        wait_until(lambda: resources.status("good")["observedGeneration"] == 2, 2, "the watch goes on")
    finally:
        control_plane.kubectl("-n", resources.namespace, "delete", "backendhealth", "deep")


@pytest.mark.parametrize(
    "until",
    ["tomorrow", "x" * 10_000, "0001-01-01T00:00:00+23:59", "2026-13-45T99:99:99Z", "💥\n\x1b[31m", "2099-01-01"],
)
def test_a_suspension_until_nonsense_is_ignored_and_said_so(resources: Resources, target: Server, until: str):
    resources.apply("demo", tcp(target), annotations={"backendhealth.dev/suspended-until": until})
    resources.wait("demo", "Healthy")
    message = resources.condition("demo", "Ready")["message"]
    assert len(message) < 300
    past = until.startswith("0001")  # a time, if one that is over
    assert ("not a time" in message) is not past


def test_a_suspension_until_the_end_of_time_is_one(resources: Resources, target: Server):
    until = "9999-12-31T23:59:59+00:00"
    resources.apply("demo", tcp(target), annotations={"backendhealth.dev/suspended-until": until})
    resources.wait("demo", "Suspended")
    resources.annotate("demo", suspended_until="")
    resources.wait("demo", "Healthy")


def test_a_request_to_probe_of_ten_thousand_characters_is_answered_cut(resources: Resources, target: Server):
    resources.apply("demo", tcp(target), interval="1h")
    resources.wait("demo", "Healthy")
    accepted = target.accepted
    resources.apply("demo", tcp(target), interval="1h", annotations={"backendhealth.dev/probe-requested-at": WEIRD * 2})
    wait_until(lambda: "probeRequestedAt" in resources.status("demo"), 5, "the answer")
    told = resources.status("demo")["probeRequestedAt"]
    assert len(told) == 253
    assert told.startswith("💥 [31mred detrevni")
    assert told.isprintable()
    assert target.accepted == accepted + 1


# What backends answer


def test_what_a_redis_says_is_cut_to_one_printable_line(resources: Resources):
    said = f"-NOPE {WEIRD}".encode() + b"\xff\xfe\r\n"

    def handle(server: Server, conn: socket.socket) -> None:
        while asked := server.read_some(conn):
            server.send(conn, said * len(re.findall(rb"(?m)^\*\d+\r$", asked)))

    with Server(handle) as server:
        resources.apply("demo", redis_at(server.port))
        resources.wait("demo", "Unhealthy")
        (row,) = resources.status("demo")["probes"]
        assert "💥" in row["message"]
        assert row["message"].isprintable()
        assert len(row["message"]) <= 1024


def test_what_a_web_server_says_is_cut_to_one_printable_line(resources: Resources, log: Log):
    with HttpServer() as server:
        server.on("/", 200, json.dumps({"state": f"\ud800{WEIRD}"}).encode())
        expect = {"jsonPath": [{"path": "$.state", "equals": "fine"}]}
        resources.apply("demo", {"name": "api", "http": {"url": f"{server.url}/", "expect": expect}})
        resources.wait("demo", "Unhealthy")
        status = resources.status("demo")
        assert len(status["summary"]["message"]) <= 1024
        assert status["summary"]["message"].isprintable()
        version = resources.get("demo")["metadata"]["resourceVersion"]
        asked = len(server.requests)
        wait_until(lambda: len(server.requests) > asked + 3, 10, "it is asked again")
        assert resources.get("demo")["metadata"]["resourceVersion"] == version, "one write for one state"
    assert "\x1b" not in log.text()


# Secrets


def secret(resources: Resources, data: dict[str, str], **annotations: str) -> None:
    """Create or replace the Secret `backend`."""
    keys = {f"backendhealth.dev/{name}": value for name, value in annotations.items()}
    body = {"metadata": {"name": "backend", "annotations": keys}, "stringData": data}
    path = SECRET.format(resources.namespace)
    with contextlib.suppress(OSError):
        resources.plane.request("DELETE", f"{path}/backend")
    resources.plane.request("POST", path, body)


def run_line(plane: ControlPlane, message: str) -> None:
    """Run the command in a message as it stands, in a shell, as an admin would."""
    (line,) = re.findall("`([^`]+)`", message)
    environment = {
        **os.environ,
        "KUBECONFIG": str(plane.kubeconfig),
        "PATH": f"{plane._binaries}:{os.environ['PATH']}",
    }
    subprocess.run(["sh", "-c", line], check=True, capture_output=True, timeout=60, env=environment)


def test_each_line_that_a_missing_grant_prints_heals_it_within_seconds(
    resources: Resources, control_plane: ControlPlane, serving: Operator
):
    """From nothing (no ServiceAccount named, none there, no Role, no annotation) to Healthy, line by line."""
    pid = serving.pid
    with RedisServer(password="pl4nted-s3cret") as redis:
        secret(resources, {"password": "pl4nted-s3cret"})
        resources.apply("demo", redis_at(redis.port, auth={"secretRef": {"name": "backend"}}))
        for reason, about in (
            ("SecretForbidden", "serviceAccountName"),
            ("SecretForbidden", "may not read Secret backend"),
            ("SecretNotAllowed", "does not allow BackendHealth demo"),
        ):
            wait_until(functools.partial(is_told, resources, about), 15, f"{reason}: {about}")
            assert resources.state("demo") == f"Unknown {reason}"
            run_line(control_plane, resources.status("demo")["probes"][0]["message"])
        began = time.monotonic()
        resources.wait("demo", "Healthy")
        assert time.monotonic() - began < 10
        assert serving.pid == pid
        assert serving.running


def is_told(resources: Resources, about: str) -> bool:
    return about in resources.status("demo").get("summary", {}).get("message", "")


def test_a_secret_with_the_wrong_key_and_one_that_is_missing(resources: Resources, control_plane: ControlPlane):
    allowed = {"allow": "demo"}
    control_plane.kubectl("-n", resources.namespace, "create", "role", "reads", "--verb=get", "--resource=secrets")
    account = f"--serviceaccount={resources.namespace}:probes"  # there is no such ServiceAccount, and none is needed
    control_plane.kubectl("-n", resources.namespace, "create", "rolebinding", "reads", "--role=reads", account)
    with RedisServer(password="pl4nted-s3cret") as redis:
        probe = redis_at(redis.port, auth={"secretRef": {"name": "backend"}})
        resources.apply("demo", probe, serviceAccountName="probes")
        resources.wait("demo", "Unknown SecretNotFound")
        assert "Secret backend does not exist" in resources.status("demo")["summary"]["message"]
        secret(resources, {"passwort": "pl4nted-s3cret"}, **allowed)
        resources.wait("demo", "Unknown SecretKeyMissing")
        assert "Secret backend has no key password" in resources.status("demo")["summary"]["message"]
        secret(resources, {"password": "pl4nted-s3cret"}, **allowed)
        resources.wait("demo", "Healthy")


# Many probes


def test_a_hundred_probes_cost_a_write_or_two(resources: Resources, control_plane: ControlPlane, target: Server):
    start = control_plane.audit_log.stat().st_size
    resources.apply("demo", *[tcp(target, f"p{n}") for n in range(100)], interval="30s", timeout="5s")
    resources.wait("demo", "Healthy", 30)
    assert len(resources.status("demo")["probes"]) == 100
    writes = [
        one
        for one in control_plane.audited(start)
        if one["verb"] == "update"
        and one["objectRef"].get("subresource") == "status"
        and one["objectRef"]["namespace"] == resources.namespace
    ]
    assert 1 <= len(writes) <= 2, len(writes)


# What others do to our objects


def test_a_status_that_somebody_else_wrote_is_repaired(resources: Resources, target: Server):
    resources.apply("demo", tcp(target))
    resources.wait("demo", "Healthy")
    wait_until(lambda: resources.condition("demo", "Reconciling") == {}, 5, "all is known")
    before = told(resources.status("demo"))
    nonsense = [
        {"summary": {"state": "On fire", "rootCause": "mars", "reason": "Aliens", "message": 1000 * "💥"}},
        {"summary": None, "conditions": [], "probes": [], "history": [], "diagnosis": None},
        {"observedGeneration": 99, "incident": {"id": "x", "since": "2000-01-01T00:00:00Z"}},
        {"heartbeatTime": "9999-12-31T23:59:59Z", "probeRequestedAt": "never", "summary": {"since": None}},
    ]
    for patch in nonsense:
        at = ("-n", resources.namespace, "patch", "backendhealth", "demo", "--subresource=status", "--type=merge")
        resources.plane.kubectl(*at, "-p", json.dumps({"status": patch}))
        wait_until(lambda: told(resources.status("demo")) == before, 5, f"repaired after {patch}")


def told(status: dict[str, Any]) -> dict[str, Any]:
    """A status without what a heartbeat changes."""
    return {name: value for name, value in status.items() if name != "heartbeatTime"}


def test_a_new_object_of_the_same_name_knows_nothing_of_the_old(resources: Resources, target: Server):
    for round_ in range(5):
        resources.apply("demo", redis_at(free_port()), failureThreshold=1)
        if round_ % 2 == 0:  # else it is deleted with its first write on its way
            resources.wait("demo", "Unhealthy")
        old = resources.get("demo")
        resources.delete("demo")
        new = resources.apply("demo", tcp(target, "redis"))
        assert new["metadata"]["uid"] != old["metadata"]["uid"]
        resources.wait("demo", "Healthy")
        now = resources.get("demo")
        assert now["metadata"]["uid"] == new["metadata"]["uid"]
        created = dt.datetime.fromisoformat(new["metadata"]["creationTimestamp"])
        status = now["status"]
        assert [change["verdict"] for change in status["history"]] == ["Healthy"]
        assert dt.datetime.fromisoformat(status["history"][0]["at"]) >= created
        assert "incident" not in status
        assert all(dt.datetime.fromisoformat(one["lastTransitionTime"]) >= created for one in status["conditions"])
        resources.delete("demo")


def test_a_finalizer_of_others_holds_the_object_but_not_the_probing(
    resources: Resources, serving: Operator, target: Server
):
    spec = {"interval": "1s", "timeout": "500ms", "retryInterval": "200ms", "probes": [tcp(target)]}
    bare(resources, "held", spec, finalizers=["example.com/hold"])
    resources.wait("held", "Healthy")
    resources.delete("held")
    labels = {"namespace": resources.namespace, "name": "held"}
    wait_until(lambda: serving.metric("backendhealth_state", **labels) == 0, 2, "it is forgotten")
    accepted, version = target.accepted, resources.get("held")["metadata"]["resourceVersion"]
    resources.annotate("held", probe_requested_at="now")
    version = resources.get("held")["metadata"]["resourceVersion"]
    began = time.monotonic()
    wait_until(lambda: time.monotonic() - began > 3, 5, "three intervals")
    assert target.accepted == accepted
    assert target.connections == 0
    assert resources.get("held")["metadata"]["resourceVersion"] == version
    patch = json.dumps({"metadata": {"finalizers": None}})
    resources.plane.kubectl("-n", resources.namespace, "patch", "bh", "held", "--type=merge", "-p", patch)
    wait_until(lambda: "held" not in resources.plane.kubectl("-n", resources.namespace, "get", "bh"), 5, "it is gone")


def test_a_namespace_that_is_being_deleted(resources: Resources, control_plane: ControlPlane, log: Log):
    """Nothing may be created in it any more, Events included; what is still there is probed and told of."""
    with RedisServer() as redis:
        resources.apply("demo", redis_at(redis.port))
        resources.wait("demo", "Healthy")
        control_plane.request("DELETE", f"/api/v1/namespaces/{resources.namespace}")
        redis.kill()
        resources.wait("demo", "Unhealthy")
        redis.start()
        resources.wait("demo", "Healthy")
    assert "Unhealthy" not in {event["message"] for event in events(resources, "demo")}
    assert log.text().count("forbidden") <= 1
