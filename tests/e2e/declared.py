"""BackendHealths as people declare and read them: with kubectl."""

from __future__ import annotations

import json
import re
from typing import Any

import yaml

from tests.cluster.access import Kubectl
from tests.e2e.platform import told
from tests.servers.process import ServerFailed, wait_until

FAST = {"interval": "1s", "retryInterval": "200ms", "timeout": "800ms"}

Probe = dict[str, Any]


def apply(cluster: Kubectl, namespace: str, name: str, *probes: Probe, **spec: Any) -> None:
    """Create or change a BackendHealth that probes once a second."""
    cluster.kubectl("apply", "-f", "-", input=manifest(namespace, name, *probes, **spec))


def manifest(namespace: str, name: str, *probes: Probe, **spec: Any) -> str:
    """A BackendHealth that probes once a second, as YAML."""
    body = {
        "apiVersion": "backendhealth.dev/v1alpha1",
        "kind": "BackendHealth",
        "metadata": {"name": name, "namespace": namespace},
        "spec": {**FAST, **spec, "probes": list(probes)},
    }
    return yaml.safe_dump(body, explicit_start=True)


def delete(cluster: Kubectl, namespace: str, *names: str) -> None:
    """Delete them."""
    cluster.kubectl("-n", namespace, "delete", "backendhealth", "--ignore-not-found", *names)


def status(cluster: Kubectl, namespace: str, name: str) -> dict[str, Any]:
    """Its status as it stands."""
    found: dict[str, Any] = json.loads(cluster.kubectl("-n", namespace, "get", "bh", name, "-o", "json"))["status"]
    return found


def condition(cluster: Kubectl, namespace: str, name: str, kind: str) -> dict[str, Any]:
    """One of its conditions; empty when it is not there."""
    conditions = status(cluster, namespace, name).get("conditions", [])
    return next((one for one in conditions if one["type"] == kind), {})


def reasons(cluster: Kubectl, namespace: str, name: str) -> dict[str, str]:
    """The reason of each of its probes."""
    return {probe["name"]: probe["reason"] for probe in status(cluster, namespace, name).get("probes", [])}


def columns(cluster: Kubectl, namespace: str) -> dict[str, dict[str, str]]:
    """What `kubectl get backendhealth` prints: by name, by column."""
    head, *rows = cluster.kubectl("-n", namespace, "get", "backendhealth").splitlines()
    starts = [found.start() for found in re.finditer(r"(?<!\S)(?:\S+ )*\S+", head)]
    cuts = [slice(start, end) for start, end in zip(starts, [*starts[1:], None], strict=True)]
    printed = [{head[cut].strip(): row[cut].strip() for cut in cuts} for row in rows]
    return {row["NAME"]: row for row in printed}


def wait_for(cluster: Kubectl, namespace: str, name: str, state: str, *any_of: str, timeout: float = 30) -> None:
    """Until its state is `state`, for one of the reasons where some are given."""

    def there() -> bool:
        summary = status(cluster, namespace, name).get("summary") or {}
        return summary.get("state") == state and (not any_of or summary.get("reason") in any_of)

    try:
        wait_until(there, timeout, f"{name} {state} {'|'.join(any_of)}")
    except (ServerFailed, TimeoutError) as error:
        seen = cluster.kubectl("-n", namespace, "get", "bh,pods,deployments,statefulsets", "-o", "wide", check=False)
        now = cluster.kubectl("-n", namespace, "get", "bh", name, "-o", "yaml", check=False)
        raise AssertionError(f"{error}\n{seen}\n{now}\n{told(cluster)}") from error
