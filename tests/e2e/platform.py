"""The product as it is installed, and backends in pods for it to probe."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import yaml

from tests.cluster import images
from tests.cluster.access import Kubectl
from tests.servers.process import wait_until

ROOT = Path(__file__).parents[2]
SYSTEM = "backendhealth-system"
OPERATOR = "deployment/backendhealth-operator"
FAST = {"interval": "1s", "retryInterval": "200ms", "timeout": "800ms"}


def install(cluster: Kubectl, overlay: str, image: str, **env: str) -> None:
    """Apply an overlay with `image` in place of the published one, and wait until it is rolled out."""
    rendered = cluster.kubectl("kustomize", str(ROOT / "manifests" / "overlays" / overlay))
    objects = list(yaml.safe_load_all(re.sub(r"image: backendhealth:\S+", f"image: {image}", rendered)))
    for one in objects:
        if one["kind"] == "Deployment":
            container = one["spec"]["template"]["spec"]["containers"][0]
            container["env"] += [{"name": name, "value": value} for name, value in env.items()]
    # the namespace and the CRDs first: what follows needs them
    objects.sort(key=lambda one: one["kind"] not in {"Namespace", "CustomResourceDefinition"})
    cluster.kubectl("apply", "--server-side", "--force-conflicts", "-f", "-", input=yaml.safe_dump_all(objects))
    cluster.kubectl("-n", SYSTEM, "rollout", "status", OPERATOR, "--timeout=90s", timeout=100)


def backend(cluster: Kubectl, namespace: str, name: str, container: dict[str, Any], port: int = 80) -> None:
    """A Deployment of one pod and its Service, ready when this returns."""
    labels = {"app": name}
    container = {"name": name, "imagePullPolicy": "Never", **container}
    pod = {"metadata": {"labels": labels}, "spec": {"containers": [container], "terminationGracePeriodSeconds": 1}}
    objects = [
        {
            "apiVersion": "apps/v1",
            "kind": "Deployment",
            "metadata": {"name": name, "namespace": namespace},
            "spec": {"replicas": 1, "selector": {"matchLabels": labels}, "template": pod},
        },
        {
            "apiVersion": "v1",
            "kind": "Service",
            "metadata": {"name": name, "namespace": namespace},
            "spec": {"selector": labels, "ports": [{"port": port}]},
        },
    ]
    cluster.kubectl("apply", "-f", "-", input=yaml.safe_dump_all(objects))
    cluster.kubectl("-n", namespace, "rollout", "status", f"deployment/{name}", "--timeout=60s", timeout=70)


def redis(cluster: Kubectl, namespace: str, name: str = "redis") -> None:
    """Redis behind the Service `name`."""
    backend(cluster, namespace, name, {"image": images.REDIS, **_ready_on(6379)}, 6379)


def etcd(cluster: Kubectl, namespace: str, name: str = "etcd") -> None:
    """One member of etcd behind the Service `name`."""
    backend(cluster, namespace, name, {"image": images.ETCD, **_ready_on(2379)}, 2379)


def shell(cluster: Kubectl, namespace: str, name: str, script: str) -> None:
    """A pod that runs `script`."""
    backend(cluster, namespace, name, {"image": images.BUSYBOX, "command": ["sh", "-c", script]})


def _ready_on(port: int) -> dict[str, Any]:
    return {"readinessProbe": {"tcpSocket": {"port": port}, "periodSeconds": 1}}


def apply(cluster: Kubectl, namespace: str, name: str, *probes: dict[str, Any], **spec: Any) -> None:
    """Create or change a BackendHealth that probes once a second."""
    body = {
        "apiVersion": "backendhealth.dev/v1alpha1",
        "kind": "BackendHealth",
        "metadata": {"name": name, "namespace": namespace},
        "spec": {**FAST, **spec, "probes": list(probes)},
    }
    cluster.kubectl("apply", "-f", "-", input=yaml.safe_dump(body))


def status(cluster: Kubectl, namespace: str, name: str) -> dict[str, Any]:
    """Its status as it stands."""
    found: dict[str, Any] = json.loads(cluster.kubectl("-n", namespace, "get", "bh", name, "-o", "json"))["status"]
    return found


def columns(cluster: Kubectl, namespace: str, name: str) -> dict[str, str]:
    """What `kubectl get backendhealth` prints, by column."""
    head, row = cluster.kubectl("-n", namespace, "get", "backendhealth", name).splitlines()
    starts = [found.start() for found in re.finditer(r"(?<!\S)(?:\S+ )*\S+", head)]
    cuts = [slice(start, end) for start, end in zip(starts, [*starts[1:], None], strict=True)]
    return {head[cut].strip(): row[cut].strip() for cut in cuts}


def wait_for(cluster: Kubectl, namespace: str, name: str, state: str, reason: str = "", timeout: float = 40) -> None:
    """Until its state is `state`, for `reason` where one is given."""

    def there() -> bool:
        summary = status(cluster, namespace, name).get("summary") or {}
        return summary.get("state") == state and reason in summary.get("reason", "")

    try:
        wait_until(there, timeout, f"{name} {state} {reason}")
    except TimeoutError as error:
        seen = status(cluster, namespace, name)
        logs = cluster.kubectl("-n", SYSTEM, "logs", OPERATOR, "--tail=30", check=False)
        raise AssertionError(f"{error}; it is {seen}\n{logs}") from error
