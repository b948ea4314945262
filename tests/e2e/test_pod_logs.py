"""What pods log, looked through for the profile's signatures while something fails: a real kubelet, nothing shown."""

from __future__ import annotations

import contextlib
import json
import shlex
import time
from collections.abc import AsyncIterator
from typing import Any

import yaml

from backendhealth.core.knowledge import Knowledge
from backendhealth.core.spec.backendhealth import BackendHealth, Probe
from backendhealth.core.spec.profile import DiagnosisProfileSpec
from backendhealth.core.spec.status import BackendHealthStatus
from backendhealth.engine.engine import Engine
from backendhealth.engine.ports import Signal
from backendhealth.kube.api import Api, connect
from backendhealth.kube.podlogs import PodLogs
from backendhealth.kube.podwatch import PodWatches
from backendhealth.probes.dialer import Dialer
from backendhealth.probes.prober import Prober
from backendhealth.probes.registry import Context, build
from tests.cluster.access import Kubectl
from tests.e2e import platform
from tests.e2e.declared import apply, status
from tests.e2e.test_pods import RUNS, deployment
from tests.probes.checks import eventually
from tests.probes.support import MemorySecrets
from tests.servers.process import wait_until
from tests.unit.support import resource

SECRET = "planted-in-a-log"
SAYS = f"echo 'password={SECRET} etcdserver: no leader token={SECRET}'"
BECAUSE = "the core does not ask another member of etcd"
PROFILE = DiagnosisProfileSpec.model_validate(
    {
        "title": "A shop",
        "components": [
            {"name": "etcd", "title": "etcd"},
            {"name": "core", "title": "The core", "dependsOn": ["etcd"]},
        ],
        "signatures": [
            {"name": "no-leader", "pattern": "etcdserver: no leader", "implicates": ["core"], "because": BECAUSE}
        ],
    }
)


class Shop:
    """An engine with one probe of pods whose logs may be looked through."""

    def __init__(self, api: Api, namespace: str, account: str | None) -> None:
        self.told: list[BackendHealthStatus] = []
        self.problems: list[str] = []
        self.requests = 0
        self.pods = PodWatches(api)
        logs = PodLogs(api, self.pods, lambda _resource, _probe, problem: self.problems.append(problem))
        self._dialer = Dialer()
        probe = {"name": "core", "pods": {"selector": {"matchLabels": {"app": "core"}}, "logs": {}}}
        account_named: dict[str, Any] = {"serviceAccountName": account} if account else {}
        self.declared = resource(probe, namespace=namespace, interval="1s", **account_named)
        self.engine = Engine(
            open_prober=self._open,
            clock=time.time,
            sink=lambda _resource, status: self.told.append(status),
            read_logs=logs.read,
        )

    def _open(self, of: BackendHealth, probe: Probe, changed: Signal) -> Prober:
        return Prober(build(probe, Context(self._dialer, MemorySecrets(), of.metadata.namespace, self.pods, changed)))

    @property
    def said(self) -> str:
        """All that the newest diagnosis says."""
        diagnosis = self.told[-1].diagnosis if self.told else None
        return diagnosis.model_dump_json() if diagnosis else ""

    async def until_problem(self, part: str) -> str:
        await eventually(lambda: any(part in problem for problem in self.problems), part, 60)
        return next(problem for problem in self.problems if part in problem)


@contextlib.asynccontextmanager
async def shop(api: Api, namespace: str, account: str | None = "reader") -> AsyncIterator[Shop]:
    made = Shop(api, namespace, account)
    await made.engine.apply(made.declared, knowledge=Knowledge(PROFILE))
    try:
        yield made
    finally:
        await made.engine.close()
        await made.pods.close()


def grant(cluster: Kubectl, namespace: str) -> None:
    cluster.kubectl("-n", namespace, "create", "serviceaccount", "reader")
    kubectl = ("-n", namespace, "create")
    cluster.kubectl(*kubectl, "role", "reader", "--verb=get", "--resource=pods/log")
    cluster.kubectl(*kubectl, "rolebinding", "reader", "--role=reader", f"--serviceaccount={namespace}:reader")


async def test_a_crashing_pod_s_log_is_evidence_and_shows_no_secret(cluster: Kubectl, namespace: str):
    grant(cluster, namespace)
    async with await connect(str(cluster.kubeconfig), None) as api:
        cluster.kubectl("apply", "-n", namespace, "-f", "-", input=deployment(f"{SAYS}; exit 1"))
        async with shop(api, namespace) as one:
            await eventually(lambda: BECAUSE in one.said, "the signature is found", 60)
            (cause,) = one.told[-1].diagnosis.root_causes  # type: ignore[union-attr]
            assert cause.component == "core"
            assert not any(SECRET in status.model_dump_json() for status in one.told)
            assert set(one.problems) == {""}
            cluster.kubectl("apply", "-n", namespace, "-f", "-", input=deployment(f"{SAYS}; {RUNS}"))
            await eventually(lambda: BECAUSE not in one.said, "it runs: what is logged is no matter", 60)


async def test_nothing_is_read_while_nothing_fails(cluster: Kubectl, namespace: str):
    grant(cluster, namespace)
    asked: list[str] = []
    async with await connect(str(cluster.kubeconfig), None, lambda *seen: asked.append(seen[1])) as api:
        cluster.kubectl("apply", "-n", namespace, "-f", "-", input=deployment(f"{SAYS}; {RUNS}"))
        cluster.kubectl("rollout", "status", "-n", namespace, "deployment/core", "--timeout=30s")
        async with shop(api, namespace) as one:
            await eventually(
                lambda: bool(one.told) and one.told[-1].probes[0].verdict == "Healthy", "it is healthy", 30
            )
            assert BECAUSE not in one.said
        assert "pods/log" not in asked


async def test_without_an_account_and_without_a_grant_it_says_how(cluster: Kubectl, namespace: str):
    async with await connect(str(cluster.kubeconfig), None) as api:
        cluster.kubectl("apply", "-n", namespace, "-f", "-", input=deployment(f"{SAYS}; exit 1"))
        async with shop(api, namespace, None) as one:
            await one.until_problem("set spec.serviceAccountName")
        cluster.kubectl("-n", namespace, "create", "serviceaccount", "reader")
        async with shop(api, namespace) as one:
            told = await one.until_problem("to grant it: ")
            assert one.told[-1].probes[0].verdict == "Unhealthy"
            assert BECAUSE not in one.said
        for line in told.partition("; to grant it: ")[2].split("; "):
            cluster.kubectl(*shlex.split(line)[1:])
        async with shop(api, namespace) as one:
            await eventually(lambda: BECAUSE in one.said, "it may be read now", 60)


def test_the_operator_in_its_pod_says_in_an_event_what_to_grant_and_then_reads(installed: Kubectl, namespace: str):
    profile = {
        "apiVersion": "backendhealth.dev/v1alpha1",
        "kind": "DiagnosisProfile",
        "metadata": {"name": "shop", "namespace": namespace},
        "spec": PROFILE.model_dump(mode="json", by_alias=True, exclude_none=True),
    }
    installed.kubectl("apply", "-f", "-", input=yaml.safe_dump(profile))
    installed.kubectl("apply", "-n", namespace, "-f", "-", input=deployment(f"{SAYS}; exit 1"))
    installed.kubectl("-n", namespace, "create", "serviceaccount", "reader")
    core = {"name": "core", "pods": {"selector": {"matchLabels": {"app": "core"}}, "logs": {}}}
    apply(installed, namespace, "demo", core, serviceAccountName="reader", profileRef={"name": "shop"})
    granted: list[str] = []

    def is_found() -> bool:
        events = installed.kubectl("-n", namespace, "events", "--for", "backendhealth/demo", "-o", "json")
        notes = [one["message"] for one in json.loads(events)["items"] if one["reason"] == "LogsNotRead"]
        for line in (part for note in notes for part in note.partition("; to grant it: ")[2].split("; ")):
            if line and line not in granted:
                granted.append(line)
                platform.run(installed, line)
        return BECAUSE in json.dumps(status(installed, namespace, "demo").get("diagnosis", {}))

    wait_until(is_found, 100, "the signature is found, once all that Events ask for is granted")
    assert any("impersonate" in line for line in granted)
    assert any("pods/log" in line for line in granted)
    everything = installed.kubectl("-n", namespace, "get", "bh,events", "-o", "yaml")
    assert SECRET not in everything + installed.kubectl("-n", platform.SYSTEM, "logs", platform.OPERATOR)
