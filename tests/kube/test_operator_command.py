"""`backendhealth operator` as a command: what it is given, how it starts, waits and ends, what it logs."""

from __future__ import annotations

import datetime as dt
import functools
import json
import os
import re
import secrets
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.kube.operator import ROOT, Operator, Resources, tcp
from tests.kube.unguarded import without
from tests.servers.kubernetes import ControlPlane
from tests.servers.misbehaving import Server
from tests.servers.process import LOOPBACK, Process, free_port, wait_until

TEXT_LINE = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z (DEBUG|INFO|WARNING|ERROR|CRITICAL) +\S.*")


def run(*arguments: str, **environ: str) -> subprocess.CompletedProcess[str]:
    """The command until it ends by itself."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("BACKENDHEALTH_", "KUBE"))}
    return subprocess.run(
        [sys.executable, "-m", "backendhealth", "operator", *arguments],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
        env={**kept, "PYTHONPATH": str(ROOT / "operator"), **environ},
    )


@pytest.fixture
def others(control_plane: ControlPlane) -> Iterator[list[Resources]]:
    """Five more namespaces."""
    names = [f"more-{secrets.token_hex(4)}" for _ in range(5)]
    for name in names:
        control_plane.request("POST", "/api/v1/namespaces", {"metadata": {"name": name}})
    yield [Resources(control_plane, name) for name in names]
    for name in names:
        control_plane.request("DELETE", f"/apis/backendhealth.dev/v1alpha1/namespaces/{name}/backendhealths")
        control_plane.request("DELETE", f"/api/v1/namespaces/{name}")


def ended(operator: Process, within: float) -> int:
    """The exit code, once it has ended by itself."""
    assert operator._popen is not None
    return operator._popen.wait(within)


def leases(plane: ControlPlane, namespace: str) -> dict[str, str]:
    """Holder by name."""
    found = plane.request("GET", f"/apis/coordination.k8s.io/v1/namespaces/{namespace}/leases")["items"]
    return {one["metadata"]["name"]: one["spec"].get("holderIdentity") or "" for one in found}


# What it is given


def test_every_setting_that_is_wrong_is_named_at_once():
    done = run(
        *("--heartbeat-interval", "soon", "--shards", "0", "--log-format", "xml"),
        *("--listen", "8080", "--allow-targets", "10.0.0.0/99"),
        BACKENDHEALTH_NAMESPACES="ok,Not_Ok",
        BACKENDHEALTH_SECRET_TTL="1",
        BACKENDHEALTH_LOGLEVEL="debug",
        BACKENDHEALTH_LEADER_ELECT="maybe",
    )
    assert done.returncode == 2
    assert done.stdout == ""
    said = done.stderr.splitlines()
    for words in (
        "--heartbeat-interval soon: not a duration",
        "--shards 0: must be greater than or equal to 1",
        "--log-format xml: must be 'text' or 'json'",
        "--listen 8080: must be HOST:PORT",
        "--allow-targets 10.0.0.0/99: must be a network",
        "BACKENDHEALTH_NAMESPACES=Not_Ok: must be lower-case letters",
        "BACKENDHEALTH_SECRET_TTL=1: not a duration",
        "BACKENDHEALTH_LOGLEVEL: there is no such setting; did you mean BACKENDHEALTH_LOG_LEVEL?",
        "BACKENDHEALTH_LEADER_ELECT=maybe: must be true or false",
        "--lease-namespace (or BACKENDHEALTH_LEASE_NAMESPACE): not in a pod",
    ):
        assert sum(words in line for line in said) == 1, (words, said)
    assert len(said) == 10


def test_an_unknown_flag_is_bad_input():
    done = run("--heartbeat-intervall", "1m", "--no-leader-elect")
    assert done.returncode == 2
    assert "unrecognized arguments: --heartbeat-intervall" in done.stderr


@pytest.mark.parametrize(
    "content",
    [
        pytest.param(None, id="missing"),
        pytest.param("", id="empty"),
        pytest.param("{", id="no-yaml"),
        pytest.param("- a\n- list\n", id="a-list"),
        pytest.param("just text", id="text"),
        pytest.param("apiVersion: v1\nkind: Config\n", id="nothing-in-it"),
        pytest.param(
            "apiVersion: v1\nkind: Config\ncurrent-context: gone\nclusters: []\nusers: []\ncontexts: []\n",
            id="no-context",
        ),
        pytest.param(
            "apiVersion: v1\nkind: Config\ncurrent-context: a\nclusters: [{name: c, cluster: {}}]\n"
            "users: [{name: u, user: {}}]\ncontexts: [{name: a, context: {cluster: c, user: u}}]\n",
            id="no-server",
        ),
        pytest.param("\x00\x01\x02", id="binary"),
    ],
)
def test_without_a_usable_kubeconfig_it_ends_with_one_line(tmp_path: Path, content: str | None):
    path = tmp_path / "kubeconfig"
    if content is not None:
        path.write_text(content)
    done = run("--no-leader-elect", "--kubeconfig", str(path), "--listen", f"{LOOPBACK}:0")
    assert done.returncode == 1, done.stderr
    (line,) = done.stderr.splitlines()
    assert str(path) in line


def test_a_folder_is_no_kubeconfig(tmp_path: Path):
    done = run("--no-leader-elect", "--kubeconfig", str(tmp_path))
    assert done.returncode == 1, done.stderr
    (line,) = done.stderr.splitlines()
    assert str(tmp_path) in line


def test_neither_a_kubeconfig_nor_a_pod(tmp_path: Path):
    done = run("--no-leader-elect", HOME=str(tmp_path))
    assert done.returncode == 1, done.stderr
    (line,) = done.stderr.splitlines()
    assert "no kubeconfig, and not in a pod" in line


def test_a_port_that_is_taken(control_plane: ControlPlane, target: Server):
    address = f"{LOOPBACK}:{target.port}"
    done = run("--no-leader-elect", "--kubeconfig", str(control_plane.kubeconfig), "--listen", address)
    assert done.returncode == 1
    (line,) = done.stderr.splitlines()
    assert address in line
    assert "Address already in use" in line
    assert "--listen" in line


# How it starts, waits and ends


def test_an_api_server_that_is_not_there_yet_is_waited_for(
    control_plane: ControlPlane, resources: Resources, target: Server
):
    resources.apply("demo", tcp(target))
    operator = Operator(control_plane, resources.namespace)
    control_plane.stop_api()
    try:
        operator.start(wait=False)
        wait_until(lambda: "does not answer" in operator.log(), 15, "it says what it waits for")
        began = time.monotonic()
        wait_until(lambda: time.monotonic() - began > 7, 10, "it asks again")
        assert operator.log().count("does not answer") == 1
        assert operator.get("/healthz")[0] == 200
        assert operator.get("/readyz")[0] == 503
        control_plane.start_api()
        resources.wait("demo", "Healthy", 30)
        assert "Traceback" not in operator.log(20_000)
    finally:
        operator.close()
        if not control_plane.answers():
            control_plane.start_api()


def test_crds_that_are_not_there_yet_are_waited_for(control_plane: ControlPlane, resources: Resources, target: Server):
    control_plane.kubectl("delete", "crd", "backendhealths.backendhealth.dev")
    operator = Operator(control_plane, resources.namespace)
    try:
        operator.start(wait=False)
        wait_until(lambda: "kubectl apply -k crds" in operator.log(), 15, "it says what to do")
        assert operator.get("/healthz")[0] == 200
    finally:
        control_plane.apply_crds()
    try:
        resources.apply("demo", tcp(target))
        resources.wait("demo", "Healthy", 30)
        assert operator.log(20_000).count("kubectl apply -k crds") <= 2  # away, and then there but not quite ready
        assert "Traceback" not in operator.log(20_000)
    finally:
        operator.close()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_ends_it_within_two_seconds_and_releases_its_lease(
    control_plane: ControlPlane, resources: Resources, target: Server, number: signal.Signals
):
    with Operator(control_plane, resources.namespace, "--identity", "me") as operator:
        resources.apply("demo", tcp(target))
        resources.wait("demo", "Healthy")
        (holder,) = leases(control_plane, resources.namespace).values()
        assert holder.startswith("me")  # with a word of its own, so that no two processes share it
        os.kill(operator.pid, number)
        assert ended(operator, 2) == 0
        assert leases(control_plane, resources.namespace) == {"backendhealth-shard-0": ""}
        assert "Traceback" not in operator.log(20_000)
        assert "Unclosed" not in operator.log(20_000)
        wait_until(lambda: target.connections == 0, 2, "its connections are closed")


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_while_it_waits_for_the_api_server_ends_it(
    tmp_path: Path, control_plane: ControlPlane, number: signal.Signals
):
    away = tmp_path / "kubeconfig"
    away.write_text(
        control_plane.kubeconfig.read_text().replace(control_plane.url, f"https://{LOOPBACK}:{free_port()}")
    )
    operator = Operator(control_plane, "default", kubeconfig=away)
    try:
        operator.start(wait=False)
        wait_until(lambda: "does not answer" in operator.log(), 15, "it waits")
        os.kill(operator.pid, number)
        assert ended(operator, 2) == 0
        assert "Traceback" not in operator.log()
        assert "Unclosed" not in operator.log()
    finally:
        operator.close()


class KopfRun(Process):
    """`kopf run -m backendhealth.kube.handlers`, with all settings in variables."""

    def __init__(self, plane: ControlPlane, namespace: str) -> None:
        self.port = free_port()
        settings = {
            "KUBECONFIG": str(plane.kubeconfig),
            "NAMESPACES": namespace,
            "LEASE_NAMESPACE": namespace,
            "LISTEN": f"{LOOPBACK}:{self.port}",
            "ALLOW_TARGETS": "127.0.0.0/8",
            "LOG_FORMAT": "json",
        }
        super().__init__(
            "kopf",
            [
                *(str(Path(sys.executable).with_name("kopf")), "run", "-m", "backendhealth.kube.handlers"),
                *("--namespace", namespace),
            ],
            ready=lambda: '"logger": "backendhealth' in self.log(20_000),
            env={
                **os.environ,
                **{f"BACKENDHEALTH_{name}": value for name, value in settings.items()},
                "PYTHONPATH": str(ROOT / "operator"),
            },
        )


def test_kopf_run_does_the_same_work(control_plane: ControlPlane, resources: Resources, target: Server):
    with KopfRun(control_plane, resources.namespace) as kopf_run:
        resources.apply("demo", tcp(target))
        resources.wait("demo", "Healthy")
        resources.apply("demo", {**tcp(target), "tcp": {"host": LOOPBACK, "port": free_port()}})
        resources.wait("demo", "Unhealthy ConnectionRefused")
        assert resources.get("demo")["metadata"].get("finalizers") is None
        assert resources.get("demo")["metadata"].get("annotations") is None
        os.kill(kopf_run.pid, signal.SIGTERM)
        assert ended(kopf_run, 5) == 0
        assert "Traceback" not in kopf_run.log(20_000)
        assert "Unclosed" not in kopf_run.log(20_000)
        assert leases(control_plane, resources.namespace) == {"backendhealth-shard-0": ""}


def test_a_part_that_ends_by_its_own_fault_ends_it(control_plane: ControlPlane, namespace: str):
    with without("planted"):
        operator = Operator(control_plane, namespace)
    try:
        assert ended(operator.start(wait=False), 20) == 1
        log = operator.log(20_000)
        assert "ended by its own fault: stopping" in log
        assert "RuntimeError: planted" in log
    finally:
        operator.close()


# Whom it serves


def test_without_leader_election_there_is_no_lease(control_plane: ControlPlane, resources: Resources, target: Server):
    with Operator(control_plane, resources.namespace, "--no-leader-elect"):
        resources.apply("demo", tcp(target))
        resources.wait("demo", "Healthy")
        assert leases(control_plane, resources.namespace) == {}


def test_three_shards_serve_all_namespaces(
    control_plane: ControlPlane, resources: Resources, others: list[Resources], target: Server
):
    flags = ("--lease-namespace", resources.namespace, "--shards", "3")
    with Operator(control_plane, "", *flags) as operator:
        for one in (resources, *others):
            one.apply("demo", tcp(target))
        for one in (resources, *others):
            one.wait("demo", "Healthy")
        assert set(leases(control_plane, resources.namespace)) == {f"backendhealth-shard-{n}" for n in range(3)}
        assert operator.metric("backendhealth_leader") == 3
        os.kill(operator.pid, signal.SIGTERM)
        assert ended(operator, 2) == 0
        assert set(leases(control_plane, resources.namespace).values()) == {""}


def test_two_namespaces_and_no_other(
    control_plane: ControlPlane, resources: Resources, others: list[Resources], target: Server
):
    second, third = others[:2]
    both = f"{resources.namespace},{second.namespace}"
    with Operator(control_plane, both, "--lease-namespace", resources.namespace):
        for one in (third, resources, second):
            one.apply("demo", tcp(target))
        resources.wait("demo", "Healthy")
        second.wait("demo", "Healthy")
        assert third.status("demo") == {"observedGeneration": -1}


# What it logs


@pytest.mark.parametrize("log_format", ["text", "json"])
def test_each_line_of_the_log_parses(
    control_plane: ControlPlane, resources: Resources, target: Server, log_format: str
):
    flags = ("--log-format", log_format, "--log-level", "debug")
    with Operator(control_plane, resources.namespace, *flags) as operator:
        resources.apply("demo", tcp(target))
        resources.wait("demo", "Healthy")
        target.close()
        resources.wait("demo", "Unhealthy")
        operator.stop()
        lines = operator.log(200_000).splitlines()
    assert 4 <= len(lines) <= 40
    parse = as_json if log_format == "json" else functools.partial(TEXT_LINE.fullmatch)
    assert all(parse(line) for line in lines), lines
    change = next(line for line in lines if "Unhealthy" in line)
    assert f"{resources.namespace}/demo" in change
    if log_format == "json":
        fields = as_json(change)
        assert fields["resource"] == f"{resources.namespace}/demo"
        assert (fields["state"], fields["rootCause"], fields["level"]) == ("Unhealthy", "a", "warning")


def as_json(line: str) -> dict[str, Any]:
    """The fields of a line; raises ValueError."""
    fields: dict[str, Any] = json.loads(line)
    assert {"time", "level", "logger", "message"} <= fields.keys()
    assert dt.datetime.fromisoformat(fields["time"]).tzinfo is not None
    return fields
