"""The operator as a process of its own, on a real API server and with real backends on loopback."""

from __future__ import annotations

import math
import os
import sys
import urllib.error
import urllib.request
from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar

from prometheus_client.parser import text_string_to_metric_families

from tests.cluster.access import Admin
from tests.servers.misbehaving import Server
from tests.servers.process import LOOPBACK, Process, free_port, wait_until

ROOT = Path(__file__).parents[2]
PATH = "/apis/backendhealth.dev/v1alpha1/namespaces/{}/backendhealths"


class Operator(Process):
    """`backendhealth operator`; `namespace` is what it serves and where its Leases are."""

    module: ClassVar[str] = "backendhealth.cli.main"
    by: ClassVar[tuple[str, ...]] = ()
    """What runs the module in its own way: one of ours, and its arguments."""

    def __init__(
        self,
        plane: Admin,
        namespace: str,
        *flags: str,
        kubeconfig: Path | None = None,
        env: Mapping[str, str] | None = None,
    ) -> None:
        self.port = free_port()
        super().__init__(
            "operator",
            [
                *(sys.executable, "-m", *self.by, self.module, "operator"),
                *("--kubeconfig", str(kubeconfig or plane.kubeconfig), "--listen", f"{LOOPBACK}:{self.port}"),
                *("--namespaces", namespace, "--lease-namespace", namespace),
                *("--allow-targets", "127.0.0.0/8,::1/128", *flags),
            ],
            ready=self.is_ready,
            env={**os.environ, "PYTHONPATH": f"{ROOT / 'operator'}:{ROOT}", **(env or {})},
        )

    def get(self, path: str) -> tuple[int, str]:
        """Status and body of what it serves; status 0 when it doesn't."""
        try:
            with urllib.request.urlopen(f"http://{LOOPBACK}:{self.port}{path}", timeout=2) as answer:
                return answer.status, answer.read().decode()
        except urllib.error.HTTPError as error:
            return error.code, error.read().decode()
        except OSError:
            return 0, ""

    def is_ready(self) -> bool:
        return self.get("/readyz")[0] == 200

    def metric(self, name: str, /, **labels: str) -> float:
        """The sum of a metric's samples that have these labels; NaN while it does not answer."""
        status, text = self.get("/metrics")
        if status != 200:
            return math.nan
        families = list(text_string_to_metric_families(text))
        assert any(name.startswith(family.name) for family in families), f"there is no metric {name}"
        samples = (sample for family in families for sample in family.samples)
        return sum(one.value for one in samples if one.name == name and labels.items() <= one.labels.items())


def tcp(target: Server, name: str = "a") -> dict[str, Any]:
    """A probe that connects to `target`."""
    return {"name": name, "tcp": {"host": LOOPBACK, "port": target.port}}


class Resources:
    """BackendHealths of one namespace, as admin."""

    def __init__(self, plane: Admin, namespace: str) -> None:
        self.plane = plane
        self.namespace = namespace

    def apply(self, name: str, *probes: dict[str, Any], annotations: dict[str, str] | None = None, **spec: Any) -> Any:
        """Create or replace it; probes are made once a second unless `spec` says otherwise."""
        timing = {"interval": "1s", "retryInterval": "200ms", "timeout": "500ms"}
        body: dict[str, Any] = {
            "apiVersion": "backendhealth.dev/v1alpha1",
            "kind": "BackendHealth",
            "metadata": {"name": name, "namespace": self.namespace, "annotations": annotations or {}},
            "spec": {**timing, **spec, "probes": list(probes)},
        }
        path = PATH.format(self.namespace)
        try:
            there = self.get(name)
        except urllib.error.HTTPError:
            return self.plane.request("POST", path, body)
        body["metadata"]["resourceVersion"] = there["metadata"]["resourceVersion"]
        return self.plane.request("PUT", f"{path}/{name}", body)

    def annotate(self, name: str, **annotations: str) -> None:
        """Set annotations `backendhealth.dev/<name>`, with dashes for underscores; an empty value removes it."""
        items = [f"backendhealth.dev/{k.replace('_', '-')}{'=' + v if v else '-'}" for k, v in annotations.items()]
        self.plane.kubectl("-n", self.namespace, "annotate", "--overwrite", "backendhealth", name, *items)

    def get(self, name: str) -> Any:
        return self.plane.request("GET", f"{PATH.format(self.namespace)}/{name}")

    def delete(self, name: str) -> None:
        self.plane.request("DELETE", f"{PATH.format(self.namespace)}/{name}")

    def status(self, name: str) -> dict[str, Any]:
        found: dict[str, Any] = self.get(name)["status"]
        return found

    def state(self, name: str) -> str:
        """`Unhealthy ConnectionRefused`."""
        summary = self.status(name).get("summary") or {}
        return f"{summary.get('state', '')} {summary.get('reason', '')}".strip()

    def condition(self, name: str, kind: str) -> dict[str, Any]:
        return next((one for one in self.status(name)["conditions"] if one["type"] == kind), {})

    def wait(self, name: str, state: str, timeout: float = 15) -> None:
        """Until its state and reason begin with `state`."""
        try:
            wait_until(lambda: self.state(name).startswith(state), timeout, f"{name} {state}")
        except TimeoutError as error:
            raise AssertionError(f"{error}; it is: {self.status(name)}") from error
