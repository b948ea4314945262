"""A real one-node Kubernetes in namespaces of its own: all its parts, started in seconds, gone without a trace."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import socket
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Self

from tests.cluster import build, cgroups, images
from tests.cluster.access import Admin
from tests.cluster.components import API_PORT, Components
from tests.cluster.node import Node, Program
from tests.cluster.pki import ADMIN_GROUP, Pki
from tests.servers.process import LOOPBACK, ServerFailed

_ROOT = Path(__file__).parents[2]
_TOOLS = ("unshare", "nsenter", "mount", "ip", "iptables", "containerd", "ctr", "runc", "busybox", "ldd")
_CNI = Path("/usr/lib/cni/bridge")


def missing() -> str:
    """What keeps this machine from running a cluster, in one line; empty when nothing does."""
    if absent := build.missing():
        return absent
    if os.geteuid() != 0:
        return "a cluster with a real node needs root"
    absent = ", ".join(tool for tool in _TOOLS if shutil.which(tool) is None)
    if absent or not _CNI.exists():
        return f"not installed: {absent or 'CNI plugins'} (`make servers` installs them)"
    return cgroups.missing()


class Cluster(Admin):
    """etcd, API server, controller-manager, scheduler, containerd, kubelet, kube-proxy and CoreDNS; `with` runs them.

    Reached from the host by an ordinary kubeconfig. Ends with the process that started it.
    """

    def __init__(self, directory: Path | None = None, say: Callable[[str], None] = lambda _: None) -> None:
        """`directory`: where its files go (default: a temporary one); `say` gets a line for each step."""
        self.directory = directory or Path(tempfile.mkdtemp(prefix="bh-cluster-"))
        self.directory.mkdir(parents=True, exist_ok=True)
        self._say = say
        self._began = time.monotonic()
        binaries = build.binaries()
        self._listener = _listen()
        pki = Pki(self.directory / "pki")
        url = f"https://{LOOPBACK}:{self._listener.getsockname()[1]}"
        super().__init__(binaries / "kubectl", pki, pki.client("admin", ADMIN_GROUP), url)
        self._components = Components(binaries, self.directory, pki)
        self.audit_log = self._components.audit_log
        """One JSON line for each request that was answered, without bodies."""
        self.node = Node(self.directory)
        self.programs: dict[str, Program] = {}

    def __enter__(self) -> Self:
        try:
            self._up()
        except BaseException:
            self.close()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _up(self) -> None:
        parts = self._components
        self.node.start()
        self._step("namespaces")
        for name, argv in (
            ("etcd", parts.etcd()),
            ("containerd", parts.containerd()),
            ("kube-apiserver", parts.apiserver()),
        ):
            self._start(name, argv)
        self._forward(self._listener, LOOPBACK, API_PORT)
        self._import_images()
        self._step("images")
        self.programs["kube-apiserver"].wait_ready(self.answers, 60)
        self._step("API server ready")
        for name, argv in (
            ("kubelet", parts.kubelet()),
            ("kube-controller-manager", parts.controller_manager()),
            ("kube-scheduler", parts.scheduler()),
            ("kube-proxy", parts.proxy()),
            ("coredns", parts.dns()),
        ):
            self._start(name, argv)
        self.programs["kubelet"].wait_ready(self._node_ready, 60)
        self.programs["kube-controller-manager"].wait_ready(self._has_default_account, 60)
        self._step("node ready")

    def _step(self, what: str) -> None:
        self._say(f"{time.monotonic() - self._began:5.1f} s  {what}")

    def _start(self, name: str, argv: list[str]) -> None:
        self.programs[name] = Program(self.node, name, argv).start()

    def _import_images(self) -> None:
        self.programs["containerd"].wait_ready(self._runtime_answers, 30)
        for name, recipe in images.RECIPES.items():
            archive = self.directory / images.file_name(name)
            self.load_image(images.write(recipe(), archive))
            archive.unlink()

    def _runtime_answers(self) -> bool:
        with contextlib.suppress(ServerFailed):
            self.node.run("ctr", "version")
            return True
        return False

    def _node_ready(self) -> bool:
        nodes = self.request("GET", "/api/v1/nodes")["items"]
        return any("True" in _ready_states(node) for node in nodes)

    def _has_default_account(self) -> bool:
        accounts = self.request("GET", "/api/v1/namespaces/default/serviceaccounts")["items"]
        return any(account["metadata"]["name"] == "default" for account in accounts)

    def load_image(self, archive: Path) -> None:
        """Import an OCI (or Docker) archive under the names it carries."""
        self.node.run("ctr", "--namespace=k8s.io", "images", "import", "-", stdin=archive, timeout=120)

    def tag_image(self, name: str, alias: str) -> None:
        """Give an image that the node has another name as well."""
        self.node.run("ctr", "--namespace=k8s.io", "images", "tag", "--force", name, alias)

    def netns(self) -> list[str]:
        """The beginning of a command line that runs in the node's network: Services and pods are reached there."""
        return self.node.enter("--net")

    def forward(self, host: str, port: int) -> int:
        """A port on the host's loopback that leads to `host`:`port` as the node sees it, until the cluster ends."""
        listener = _listen()
        chosen = int(listener.getsockname()[1])
        self._forward(listener, host, port)
        return chosen

    def _forward(self, listener: socket.socket, host: str, port: int) -> None:
        argv = [sys.executable, "-m", "tests.cluster.forward", str(listener.fileno()), host, str(port)]
        forwarder = Program(self.node, f"forward-{host}-{port}", argv, namespaces=("--net", "--pid"), cwd=_ROOT)
        self.programs[forwarder.name] = forwarder.start(pass_fds=(listener.fileno(),))
        listener.close()

    def stop_api(self) -> None:
        """kill -9 of the API server; etcd and pods go on."""
        self.programs["kube-apiserver"].kill()

    def start_api(self) -> None:
        """Start the API server again, and wait until it is ready and serves all kinds."""
        server = self.programs["kube-apiserver"].start()
        server.wait_ready(self.answers, 60)
        self.wait_for_kinds()

    def pause(self) -> None:
        """SIGSTOP of the API server: connections stay open, nothing answers."""
        self.programs["kube-apiserver"].freeze()

    def resume(self) -> None:
        """SIGCONT of the API server; no harm if it runs."""
        self.programs["kube-apiserver"].resume()

    def pod_pid(self, namespace: str, pod: str, container: str | None = None) -> int:
        """The main process of a pod's (first) container, as the host sees it: for signals that come from the node."""
        found = self.request("GET", f"/api/v1/namespaces/{namespace}/pods/{pod}")
        statuses = found["status"].get("containerStatuses", [])
        identity = next(
            (status.get("containerID", "") for status in statuses if container in {None, status["name"]}), ""
        )
        pids = self.node.cgroups.processes_of(identity.rpartition("/")[2]) if identity else []
        if not pids:
            raise ServerFailed(f"{namespace}/{pod} has no running container {container or ''}".rstrip())
        return pids[0]

    def fake_nodes(self, count: int) -> None:
        """`count` more nodes that only look like nodes (kwok): pods that tolerate them are Running at once."""
        if "kwok" not in self.programs:
            self._start("kwok", self._components.kwok())
        known = len(self.request("GET", "/api/v1/nodes")["items"])
        for number in range(known, known + count):
            self.request("POST", "/api/v1/nodes", _fake_node(f"fake-{number}"))
        self.programs["kwok"].wait_ready(self._all_ready, 60)

    def _all_ready(self) -> bool:
        nodes = self.request("GET", "/api/v1/nodes")["items"]
        return all("True" in _ready_states(node) for node in nodes)

    def audited(self, start: int = 0) -> Iterator[dict[str, Any]]:
        """The audit log's events from byte `start` on (its size at the time: `audit_log.stat().st_size`)."""
        with self.audit_log.open("rb") as log:
            log.seek(start)
            for line in log:
                yield json.loads(line)

    def memory(self) -> dict[str, int]:
        """Resident bytes of each part."""
        sizes = self.node.cgroups.memory()
        return {name: sizes.get(program.pid, 0) for name, program in self.programs.items()}

    def close(self) -> None:
        """Kill everything, and delete what it stored and set up."""
        self._listener.close()
        self.node.kill()
        for program in self.programs.values():
            program.reap()
        self.node.clean_up()
        shutil.rmtree(self.directory, ignore_errors=True)


def _listen() -> socket.socket:
    listener = socket.create_server((LOOPBACK, 0), backlog=128)
    listener.setblocking(False)
    return listener


def _ready_states(node: dict[str, Any]) -> list[str]:
    conditions = node["status"].get("conditions", [])
    return [condition["status"] for condition in conditions if condition["type"] == "Ready"]


def _fake_node(name: str) -> dict[str, Any]:
    return {
        "apiVersion": "v1",
        "kind": "Node",
        "metadata": {
            "name": name,
            "annotations": {"kwok.x-k8s.io/node": "fake"},
            "labels": {"type": "kwok", "kubernetes.io/hostname": name},
        },
        "spec": {"taints": [{"key": "kwok.x-k8s.io/node", "value": "fake", "effect": "NoSchedule"}]},
    }
