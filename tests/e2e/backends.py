"""Backends in pods, for the product to probe, and what may happen to them."""

from __future__ import annotations

import contextlib
import json
import os
import pwd
import re
import signal
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from tests.cluster import images
from tests.cluster.access import Kubectl
from tests.cluster.cluster import Cluster
from tests.servers import elasticsearch as es
from tests.servers.elasticsearch.install import JVM_OPTIONS, archive, class_path, java
from tests.servers.postgres import binary, server_user, template
from tests.servers.process import wait_until

NOBODY = 65534
SERVE = "mkdir /tmp/w; echo hello > /tmp/w/index.html; exec httpd -f -p 80 -h /tmp/w"
MEMBERS = ("etcd-0", "etcd-1", "etcd-2")

Object = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Backend:
    """One container behind a Service of the same name."""

    name: str
    container: Object
    port: int
    volumes: tuple[Object, ...] = ()
    copies: int = 1

    def objects(self, namespace: str) -> list[Object]:
        """A Service, and a Deployment; for several copies a StatefulSet, whose pods have names of their own."""
        labels = {"app": self.name}
        container = {"name": self.name, "imagePullPolicy": "Never", **self._readiness(), **self.container}
        pod = {"containers": [container], "volumes": list(self.volumes), "terminationGracePeriodSeconds": 1}
        selector = {"selector": {"matchLabels": labels}}
        spec = {**selector, "replicas": self.copies, "template": {"metadata": {"labels": labels}, "spec": pod}}
        service: Object = {"selector": labels, "ports": [{"port": self.port}]}
        kind = "Deployment"
        if self.copies > 1:
            kind = "StatefulSet"
            spec |= {"serviceName": self.name, "podManagementPolicy": "Parallel"}
            service |= {"clusterIP": "None", "publishNotReadyAddresses": True}
        metadata = {"name": self.name, "namespace": namespace}
        return [
            {"apiVersion": "v1", "kind": "Service", "metadata": metadata, "spec": service},
            {"apiVersion": "apps/v1", "kind": kind, "metadata": metadata, "spec": spec},
        ]

    def _readiness(self) -> Object:
        return {"readinessProbe": {"tcpSocket": {"port": self.port}, "periodSeconds": 1}}


def redis(name: str = "redis", *arguments: str) -> Backend:
    """Redis."""
    return Backend(name, {"image": images.REDIS, "args": list(arguments)}, 6379)


def web() -> Backend:
    """Something that speaks HTTP."""
    return Backend("web", {"image": images.BUSYBOX, "command": ["sh", "-c", SERVE]}, 80)


def etcd() -> Backend:
    """Three members that keep their data when their container is started again."""
    peers = ",".join(f"{member}=http://{member}.etcd:2380" for member in MEMBERS)
    arguments = [
        "--name=$(MEMBER)",
        "--listen-peer-urls=http://0.0.0.0:2380",
        "--initial-advertise-peer-urls=http://$(MEMBER).etcd:2380",
        "--advertise-client-urls=http://$(MEMBER).etcd:2379",
        f"--initial-cluster={peers}",
        "--heartbeat-interval=50",
        "--election-timeout=500",
    ]
    name = {"name": "MEMBER", "valueFrom": {"fieldRef": {"fieldPath": "metadata.name"}}}
    data = {"name": "data", "mountPath": "/tmp"}
    container = {"image": images.ETCD, "args": arguments, "env": [name], "volumeMounts": [data]}
    return Backend("etcd", container, 2379, ({"name": "data", "emptyDir": {}},), copies=len(MEMBERS))


def postgres() -> Backend:
    """PostgreSQL that trusts everybody; the machine's own programs on a copy of a fresh cluster."""
    script = (
        f"/usr/bin/cp -R {template()} /data/db && /usr/bin/chmod 700 /data/db"
        " && echo 'host all all all trust' > /data/db/pg_hba.conf"
        f" && exec {binary('postgres')} -D /data/db -h 0.0.0.0 -k '' -c dynamic_shared_memory_type=mmap"
        " -c shared_buffers=8MB -c fsync=off -c ssl=off"
    )
    account = pwd.getpwnam(server_user() or pwd.getpwuid(os.geteuid()).pw_name)
    return of_the_machine("postgres", script, 5432, account.pw_uid, template())


def elasticsearch() -> Backend:
    """A single node of Elasticsearch, on the machine's own Java."""
    root = es.install()
    program = Path(java()).resolve()
    settings = {
        "cluster.name": "tests",
        "discovery.type": "single-node",
        "network.host": "_site_",
        "path.data": "/data/data",
        "path.logs": "/data/logs",
        "cluster.routing.allocation.disk.threshold_enabled": False,
        "node.processors": 2,
    }
    lines = "\n".join(f"{key}: {json.dumps(value)}" for key, value in settings.items())
    logging = "status = error\nrootLogger.level = off"
    options = " ".join([*JVM_OPTIONS, f"-XX:SharedArchiveFile={archive(root)}"])
    script = (
        f"mkdir -p /data/config && echo '{lines}' > /data/config/elasticsearch.yml"
        f" && echo '{logging}' > /data/config/log4j2.properties"
        f" && exec {program} -Xms256m -Xmx256m -Djava.io.tmpdir=/data {options} -cp '{class_path(root)}'"
        f" ServerMain {root} /data/config"
    )
    return of_the_machine("elasticsearch", script, 9200, NOBODY, root, Path("/etc/java-17-openjdk"))


def start(cluster: Kubectl, namespace: str, *backends: Backend, timeout: float = 60) -> None:
    """Start them all at once, and wait until they are ready."""
    objects = [one for backend in backends for one in backend.objects(namespace)]
    cluster.kubectl("apply", "-f", "-", input=yaml.safe_dump_all(objects))
    for one in objects:
        if one["kind"] != "Service":
            what = f"{one['kind'].lower()}/{one['metadata']['name']}"
            cluster.kubectl("-n", namespace, "rollout", "status", what, f"--timeout={timeout}s", timeout=timeout + 10)


def pod_of(cluster: Kubectl, namespace: str, name: str) -> str:
    """The name of the backend's only pod."""
    return (
        cluster.kubectl("-n", namespace, "get", "pods", "-l", f"app={name}", "-o", "name").strip().removeprefix("pod/")
    )


@contextlib.contextmanager
def frozen(cluster: Cluster, namespace: str, *pods: str) -> Iterator[None]:
    """All processes of these pods' containers stopped: their sockets stay open, nothing answers."""
    pids = [pid for pod in pods for pid in _processes(cluster, namespace, pod)]
    for pid in pids:
        os.kill(pid, signal.SIGSTOP)
    try:
        yield
    finally:
        for pid in pids:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGCONT)


@contextlib.contextmanager
def killed(cluster: Cluster, namespace: str, *pods: str) -> Iterator[None]:
    """kill -9 of these pods' containers; the kubelet, which would start them again at once, does so afterwards."""
    kubelet = cluster.programs["kubelet"]
    pids = [cluster.pod_pid(namespace, pod) for pod in pods]
    kubelet.freeze()
    try:
        for pid in pids:
            os.kill(pid, signal.SIGKILL)
        wait_until(lambda: not any(map(_runs, pids)), 10, "they are dead")
        yield
    finally:
        kubelet.resume()


def _runs(pid: int) -> bool:
    with contextlib.suppress(OSError):
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] not in "ZX"
    return False


def _processes(cluster: Cluster, namespace: str, pod: str) -> Iterable[int]:
    """The container's, the main one first."""
    found = cluster.request("GET", f"/api/v1/namespaces/{namespace}/pods/{pod}")
    (container,) = found["status"]["containerStatuses"]
    return cluster.node.cgroups.processes_of(re.sub(".*/", "", container["containerID"]))


def of_the_machine(name: str, script: str, port: int, user: int, *paths: Path) -> Backend:
    """Programs that are installed on the machine, run as `user` with room in /data; `paths` are shown to it."""
    shown = [Path("/usr"), Path("/lib"), Path("/lib64"), *paths]
    volumes: list[Mapping[str, Any]] = [{"name": "data", "emptyDir": {}}]
    mounts: list[Mapping[str, Any]] = [{"name": "data", "mountPath": "/data"}]
    for number, path in enumerate(path for path in shown if path.exists()):
        volumes.append({"name": f"host-{number}", "hostPath": {"path": str(path.resolve())}})
        mounts.append({"name": f"host-{number}", "mountPath": str(path), "readOnly": True})
    container = {
        "image": images.BUSYBOX,
        "command": ["sh", "-c", f"mkdir -p /data; rm -rf /data/db; {script}"],
        "securityContext": {"runAsUser": user, "runAsGroup": user},
        "volumeMounts": mounts,
    }
    return Backend(name, container, port, tuple(dict(volume) for volume in volumes))
