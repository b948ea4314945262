"""The cluster that the other tests here stand on."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import urllib.error
import urllib.request
from pathlib import Path

import pytest

from tests.cluster import build, cgroups, images
from tests.cluster.access import Kubectl
from tests.cluster.cluster import Cluster, missing
from tests.servers.process import cache_dir, wait_until

ROOT = Path(__file__).parents[2]
# runs until it is told to stop, and says USR1 when it gets that
SHELL = "trap 'echo got USR1' USR1; trap 'exit 0' TERM; while :; do sleep 0.1; done"


def start(cluster: Kubectl, namespace: str, name: str, *command: str, image: str = images.BUSYBOX) -> None:
    """Start a pod and wait until it is ready."""
    arguments = ("--labels", f"app={name}", *(("--command", "--", *command) if command else ()))
    cluster.kubectl("run", name, "-n", namespace, f"--image={image}", "--image-pull-policy=Never", *arguments)
    cluster.kubectl("wait", "-n", namespace, f"pod/{name}", "--for=condition=Ready", "--timeout=30s")


def test_a_pod_runs_and_takes_an_exec_with_its_exit_code(cluster: Kubectl, namespace: str):
    start(cluster, namespace, "shell", "sh", "-c", SHELL)
    assert cluster.kubectl("exec", "-n", namespace, "shell", "--", "hostname") == "shell\n"
    assert "exit code 7" in cluster.kubectl("exec", "-n", namespace, "shell", "--", "sh", "-c", "exit 7", check=False)
    cluster.kubectl("exec", "-n", namespace, "shell", "--", "kill", "-USR1", "1")
    wait_until(lambda: "got USR1" in cluster.kubectl("logs", "-n", namespace, "shell"), 10, "the signal's log line")


def test_a_crashing_pod_shows_crash_loop_back_off(cluster: Kubectl, namespace: str):
    cluster.kubectl("run", "crash", "-n", namespace, f"--image={images.BUSYBOX}", "--command", "--", "false")
    wait_until(lambda: "CrashLoopBackOff" in cluster.kubectl("get", "pod", "-n", namespace), 30, "CrashLoopBackOff")


def test_a_deployment_behind_a_service_is_reached_by_name_from_a_pod(cluster: Kubectl, namespace: str):
    serve = "mkdir /tmp/w; echo hello > /tmp/w/index.html; httpd -f -p 8080 -h /tmp/w"
    cluster.kubectl(
        "create", "deployment", "web", "-n", namespace, f"--image={images.BUSYBOX}", "--", "sh", "-c", serve
    )
    cluster.kubectl("expose", "deployment", "web", "-n", namespace, "--port=80", "--target-port=8080")
    start(cluster, namespace, "client", "sh", "-c", SHELL)
    request = r'printf "GET / HTTP/1.0\r\n\r\n" | nc web 80'
    wait_until(
        lambda: "hello" in cluster.kubectl("exec", "-n", namespace, "client", "--", "sh", "-c", request, check=False),
        20,
        "the Service's answer",
    )


HEALTH = r'printf "GET /health HTTP/1.0\r\n\r\n" | nc 127.0.0.1 2379'


@pytest.mark.parametrize(
    ("image", "ask", "answer"),
    [(images.REDIS, ["redis-cli", "ping"], "PONG"), (images.ETCD, ["sh", "-c", HEALTH], '"health":"true"')],
    ids=["redis", "etcd"],
)
def test_backends_run_in_pods(cluster: Kubectl, namespace: str, image: str, ask: list[str], answer: str):
    start(cluster, namespace, "backend", image=image)
    wait_until(
        lambda: answer in cluster.kubectl("exec", "-n", namespace, "backend", "--", *ask, check=False),
        20,
        "the backend's answer",
    )


def test_the_products_image_runs_as_nobody(cluster: Kubectl, namespace: str, product_image: str):
    cluster.kubectl(
        "run", "help", "-n", namespace, f"--image={product_image}", "--image-pull-policy=Never", "--restart=Never",
        "--", "--help",
    )  # fmt: skip
    cluster.kubectl("wait", "-n", namespace, "pod/help", "--for=jsonpath={.status.phase}=Succeeded", "--timeout=30s")
    assert "usage: backendhealth" in cluster.kubectl("logs", "-n", namespace, "help")


def test_a_signal_from_the_node_stops_a_pods_process(own_cluster: Cluster, namespace: str):
    start(own_cluster, namespace, "redis", image=images.REDIS)
    pid = own_cluster.pod_pid(namespace, "redis")
    assert "redis-server" in Path(f"/proc/{pid}/cmdline").read_text()
    ping = ("exec", "-n", namespace, "redis", "--", "timeout", "1", "redis-cli", "ping")
    os.kill(pid, signal.SIGSTOP)
    try:
        assert "PONG" not in own_cluster.kubectl(*ping, check=False)
    finally:
        os.kill(pid, signal.SIGCONT)
    assert "PONG" in own_cluster.kubectl(*ping)


def test_a_port_of_a_pod_is_reached_from_the_host(own_cluster: Cluster, namespace: str):
    serve = "mkdir /tmp/w; echo hello > /tmp/w/index.html; exec httpd -f -p 8080 -h /tmp/w"
    start(own_cluster, namespace, "web", "sh", "-c", serve)
    address = own_cluster.kubectl("get", "pod", "-n", namespace, "web", "-o", "jsonpath={.status.podIP}")
    port = own_cluster.forward(address, 8080)

    def said_hello() -> bool:
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{port}/", timeout=5) as answer:
                return bool(answer.read() == b"hello\n")
        except OSError:  # the pod is ready before its server is
            return False

    wait_until(said_hello, 10, "the pod's answer on the host")


def test_pods_go_on_while_the_api_server_is_dead(own_cluster: Cluster, namespace: str):
    start(own_cluster, namespace, "shell", "sh", "-c", SHELL)
    pid = own_cluster.pod_pid(namespace, "shell")
    own_cluster.stop_api()
    try:
        assert not own_cluster.answers()
        assert Path(f"/proc/{pid}").exists()
    finally:
        own_cluster.start_api()
    assert own_cluster.pod_pid(namespace, "shell") == pid
    own_cluster.pause()
    own_cluster.resume()
    assert own_cluster.answers()


def test_requests_are_audited(own_cluster: Cluster, namespace: str):
    size = own_cluster.audit_log.stat().st_size
    own_cluster.kubectl("create", "configmap", "seen", "-n", namespace)
    created = [event["objectRef"] for event in own_cluster.audited(size) if event["verb"] == "create"]
    assert {"seen", namespace} <= {value for reference in created for value in reference.values()}


def test_fake_nodes_run_pods_for_scale(own_cluster: Cluster, namespace: str):
    own_cluster.fake_nodes(2)
    try:
        toleration = {"key": "kwok.x-k8s.io/node", "operator": "Exists"}
        spec = {"tolerations": [toleration], "nodeSelector": {"type": "kwok"}}
        overrides = json.dumps({"spec": spec})
        own_cluster.kubectl("run", "fake", "-n", namespace, "--image=none", f"--overrides={overrides}")
        own_cluster.kubectl("wait", "-n", namespace, "pod/fake", "--for=condition=Ready", "--timeout=30s")
    finally:
        own_cluster.kubectl("delete", "pod", "fake", "-n", namespace, "--force")
        own_cluster.kubectl("delete", "nodes", "-l", "type=kwok")


_UP_AND_DIE = """
import os, sys
from tests.cluster.cluster import Cluster
with Cluster() as cluster:
    print(cluster.directory, *(str(member.own) for member in cluster.node.cgroups.members), sep="\\n", flush=True)
    if sys.argv[1] == "crash":
        os.kill(os.getpid(), 9)
"""


@pytest.mark.parametrize("end", ["close", "crash"])
def test_nothing_is_left_when_it_ends(end: str, cluster: Kubectl):
    if not isinstance(cluster, Cluster) or missing():
        pytest.skip("an existing cluster is not ours to end")
    mounts = Path("/proc/self/mounts").read_text()
    environment = {**os.environ, "PYTHONPATH": f"{ROOT}/operator:{ROOT}"}
    done = subprocess.run(
        [sys.executable, "-c", _UP_AND_DIE, end],
        cwd=ROOT,
        env=environment,
        capture_output=True,
        text=True,
        timeout=90,
        check=False,
    )
    assert done.returncode == (0 if end == "close" else -9), done.stderr
    directory, *groups = done.stdout.split()
    assert len(groups) == len(cgroups.hierarchies())

    def nobody() -> bool:
        return not any(path.read_text().strip() for group in groups for path in Path(group).glob("**/cgroup.procs"))

    wait_until(nobody, 10, "the last process gone")
    assert Path("/proc/self/mounts").read_text() == mounts
    if end == "close":
        assert not Path(directory).exists()
        assert not [group for group in groups if Path(group).exists()]
    shutil.rmtree(directory, ignore_errors=True)


def test_the_kubectl_in_use_is_the_clusters(own_cluster: Cluster):
    versions = json.loads(own_cluster.kubectl("version", "-o", "json"))
    assert versions["serverVersion"]["gitVersion"] == versions["clientVersion"]["gitVersion"] == f"v{build.version()}"


@pytest.mark.timeout(400)  # builds the image again where a file of it has changed meanwhile
def test_the_command_starts_one_and_refuses_a_second(own_cluster: Cluster, product_image: str, tmp_path: Path):
    for kept in cache_dir().iterdir():  # all but the cluster that a person may have up
        if kept.name.startswith(("kubernetes-", "images")):
            (tmp_path / kept.name).symlink_to(kept)

    def command(name: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-m", "tests.cluster", name],
            cwd=ROOT,
            env={**os.environ, "BACKENDHEALTH_CACHE": str(tmp_path)},
            capture_output=True,
            text=True,
            timeout=280,
            check=False,
        )

    try:
        up = command("up")
        assert up.returncode == 0, up.stderr
        kubeconfig = next(line for line in up.stdout.splitlines() if line.startswith("export KUBECONFIG="))
        other = Kubectl(build.home() / "kubectl", Path(kubeconfig.partition("=")[2]), tmp_path / "kubectl")
        assert " Ready " in other.kubectl("get", "nodes")
        assert command("status").returncode == 0
        second = command("up")
        assert second.returncode == 1
        assert "a cluster is up already" in second.stderr
    finally:
        assert command("down").returncode == 0
    assert command("status").returncode == 1
    assert not other.kubeconfig.exists()
