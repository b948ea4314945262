"""The product as it is installed: its manifests applied, its pods found."""

from __future__ import annotations

import json
import os
import re
import subprocess
from pathlib import Path
from typing import Any

import yaml

from tests.cluster import build
from tests.cluster.access import Kubectl
from tests.cluster.cluster import Cluster
from tests.servers.process import ServerFailed, wait_until

ROOT = Path(__file__).parents[2]
SYSTEM = "backendhealth-system"
NAME = "backendhealth-operator"
OPERATOR = f"deployment/{NAME}"
USER = f"system:serviceaccount:{SYSTEM}:{NAME}"
SELECTOR = "app.kubernetes.io/component=operator"
SETTINGS = {"BACKENDHEALTH_HEARTBEAT_INTERVAL": "1h", "BACKENDHEALTH_SECRET_TTL": "2s"}
"""So that a test sees what would take a minute."""

Object = dict[str, Any]


def rendered(cluster: Kubectl, overlay: str, image: str) -> list[Object]:
    """The overlay's objects, with `image` in place of the published one and SETTINGS added."""
    text = cluster.kubectl("kustomize", str(ROOT / "manifests" / "overlays" / overlay))
    objects: list[Object] = list(yaml.safe_load_all(re.sub(r"image: backendhealth:\S+", f"image: {image}", text)))
    for one in objects:
        if one["kind"] == "Deployment":
            container = one["spec"]["template"]["spec"]["containers"][0]
            container["env"] += [{"name": name, "value": value} for name, value in SETTINGS.items()]
    return objects


def install(cluster: Kubectl, overlay: str, image: str) -> None:
    """Apply an overlay, and wait until it is rolled out. Raises ServerFailed with what the pods say."""
    objects = rendered(cluster, overlay, image)
    # the namespace and the CRDs first: what follows needs them
    objects.sort(key=lambda one: one["kind"] not in {"Namespace", "CustomResourceDefinition"})
    cluster.kubectl("apply", "--server-side", "--force-conflicts", "-f", "-", input=yaml.safe_dump_all(objects))
    (namespace,) = [one["metadata"]["namespace"] for one in objects if one["kind"] == "Deployment"]
    rolled_out(cluster, namespace)


def rolled_out(cluster: Kubectl, namespace: str = SYSTEM) -> None:
    """Wait until the operator's Deployment is as declared and no pod of a former one is left."""
    try:
        cluster.kubectl("-n", namespace, "rollout", "status", OPERATOR, "--timeout=60s", timeout=70)
        wait_until(lambda: all(not _is_leaving(pod) for pod in pods(cluster, namespace)), 40, "the old pods gone")
    except (ServerFailed, TimeoutError) as error:
        raise ServerFailed(f"{error}\n{told(cluster, namespace)}") from error


def told(cluster: Kubectl, namespace: str = SYSTEM) -> str:
    """What is known of the operator's pods: for the message of a failure."""
    selected = ("-n", namespace, "-l", SELECTOR)
    logs = ("logs", *selected, "--tail=40", "--prefix")
    parts = (("describe", "pods", *selected), logs, (*logs, "--previous"))
    return "\n".join(cluster.kubectl(*part, check=False) for part in parts)


def pods(cluster: Kubectl, namespace: str = SYSTEM) -> list[Object]:
    """The operator's pods."""
    found = cluster.kubectl("-n", namespace, "get", "pods", "-l", SELECTOR, "-o", "json")
    items: list[Object] = json.loads(found)["items"]
    return items


def pod(cluster: Kubectl, namespace: str = SYSTEM) -> str:
    """The name of the operator's only pod."""
    (found,) = [one["metadata"]["name"] for one in pods(cluster, namespace)]
    return str(found)


def replicas(cluster: Kubectl, count: int) -> None:
    """Scale the operator, and wait until it is so."""
    cluster.kubectl("-n", SYSTEM, "scale", OPERATOR, f"--replicas={count}")
    rolled_out(cluster)
    wait_until(lambda: len(pods(cluster)) == count, 40, f"{count} pods of the operator")


def restarts(cluster: Kubectl, name: str) -> int:
    """How often the kubelet has started the pod's container again."""
    (found,) = [one for one in pods(cluster) if one["metadata"]["name"] == name]
    return int(found["status"]["containerStatuses"][0]["restartCount"])


def log(cluster: Kubectl, name: str = OPERATOR) -> list[Object]:
    """The lines that a pod of the operator has logged."""
    lines = cluster.kubectl("-n", SYSTEM, "logs", name).splitlines()
    return [json.loads(line) for line in lines if line.startswith("{")]


def written(cluster: Cluster, start: int, user: str = USER) -> list[Object]:
    """The audit log's writes by the operator, its Leases left out, from byte `start` on."""
    return [
        event
        for event in cluster.audited(start)
        if event["user"]["username"] == user
        and event["verb"] not in {"get", "list", "watch"}
        and event["objectRef"]["resource"] != "leases"
    ]


def run(cluster: Kubectl, script: str) -> None:
    """Run lines as a person would, in a shell that finds kubectl and the cluster."""
    path = f"{build.home()}:{os.environ['PATH']}"
    environment = {**os.environ, "PATH": path, "KUBECONFIG": str(cluster.kubeconfig)}
    argv = ["bash", "-c", script]
    done = subprocess.run(argv, env=environment, capture_output=True, text=True, timeout=180, check=False)
    if done.returncode != 0:
        raise ServerFailed(f"{script}\n{done.stdout}{done.stderr}")


def _is_leaving(one: Object) -> bool:
    return "deletionTimestamp" in one["metadata"]
