"""From a failing verdict to its effect, in Enforce mode: the real operator on a real kube-apiserver evicts a pod.

The clock starts when a backend sends its first failing answer and ends when the API server has answered the eviction,
both by this machine's clock: judging the answer is within. The floor is a plain client that makes the same calls.
"""

from __future__ import annotations

import datetime as dt
import http.client
import json
import secrets
import ssl
import time
from collections.abc import Iterator
from http import HTTPStatus
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from bench.sut import BenchFailed
from tests.cluster import build
from tests.kube.operator import Operator, Resources
from tests.kube.remediating import SWITCH, path, policy, remediation, switch
from tests.servers.http import Answer, HttpServer, Request
from tests.servers.kubernetes import ControlPlane
from tests.servers.process import ServerFailed, wait_until

_ACCOUNT = "remediator"
_RULES = [
    {"apiGroups": [""], "resources": ["pods"], "verbs": ["get", "list"]},
    {"apiGroups": [""], "resources": ["pods/eviction"], "verbs": ["create"]},
]
_READY, _PATIENCE = 60.0, 30.0
"""Seconds for all to be healthy or over, and for one effect."""
Json = dict[str, Any]


def measured(count: int) -> dict[str, list[float]]:
    """Seconds of each of `count` floors and effects. Raises ServerFailed, BenchFailed."""
    if not build.is_built():
        raise ServerFailed(build.missing() or "Kubernetes is not built yet: `make servers` does it, once")
    with ControlPlane() as plane, HttpServer() as server:
        plane.apply_crds()
        stage = Stage(plane, server, [f"bench-{number}" for number in range(count)])
        try:
            with Operator(plane, stage.namespace):
                stage.until_all_healthy()
                effects = [stage.effect(name) for name in stage.backends]
                stage.until_all_succeeded()
        except TimeoutError as error:
            raise BenchFailed(str(error)) from None
        return {"floor": list(_floors(plane, stage, count)), "effect": effects}


class Backend:
    """Fails while it is told to, and remembers when it first did, in seconds since the epoch."""

    def __init__(self, server: HttpServer, name: str) -> None:
        self.url = f"{server.url}/{name}"
        self.failing = False
        self.failed_at = 0.0
        server.on_call(f"/{name}", self._answer)

    def _answer(self, _: Request) -> Answer:
        if not self.failing:
            return Answer()
        self.failed_at = self.failed_at or time.time()
        return Answer(status=503)


class Stage:
    """A namespace with a BackendHealth, a policy and a pod of each name."""

    def __init__(self, plane: ControlPlane, server: HttpServer, names: list[str]) -> None:
        self.plane = plane
        self.namespace = f"bench-{secrets.token_hex(4)}"
        self.backends = {name: Backend(server, name) for name in names}
        self._resources = Resources(plane, self.namespace)
        plane.request("POST", "/api/v1/namespaces", {"metadata": {"name": self.namespace}})
        switch(plane, self.namespace)
        self._account()
        for name, backend in self.backends.items():
            self.pod(name, name)
            probe = {"name": "api", "http": {"url": backend.url}}
            self._resources.apply(name, probe, failureThreshold=1, successThreshold=1)
            rule = {"name": "restart", "when": {"component": "api"}, "action": _restart(name)}
            spec: Json = {"backendHealths": [name], "mode": "Enforce", "rules": [rule]}
            body = policy(self.namespace, name, **spec)
            plane.request("POST", path(self.namespace, "remediationpolicies"), body)

    def until_all_healthy(self) -> None:
        """Raises TimeoutError."""
        wait_until(lambda: set(self._states()) == {"Healthy"}, _READY, "all are healthy")

    def effect(self, name: str) -> float:
        """Seconds from the backend's first failing answer to the API server's answer to the eviction; then it is over.

        Raises TimeoutError.
        """
        since, backend = self.plane.audit_log.stat().st_size, self.backends[name]
        backend.failing = True
        answered: list[float] = []

        def evicted() -> bool:
            answered[:] = self._evictions(since, name)
            return bool(answered)

        wait_until(evicted, _PATIENCE, f"the pod {name} is evicted")
        self.pod(f"{name}-new", name)  # there is no controller that would replace it
        backend.failing = False
        return answered[0] - backend.failed_at

    def until_all_succeeded(self) -> None:
        """Each was evicted once, and that helped. Raises TimeoutError, BenchFailed."""
        count = len(self.backends)
        wait_until(lambda: self._phases() == ["Succeeded"] * count, _READY, f"{count} Remediations have succeeded")
        evicted = sum(len(self._evictions(0, name)) for name in self.backends)
        if evicted != count:
            raise BenchFailed(f"{evicted} evictions, and not {count}")

    def pod(self, name: str, app: str) -> str:
        """One that is ready; its UID."""
        owner = {"apiVersion": "apps/v1", "kind": "ReplicaSet", "name": app, "uid": app, "controller": True}
        meta = {"name": name, "labels": {"app": app}, "ownerReferences": [owner]}
        image = "registry.example/team/api:1"
        spec = {"containers": [{"name": "main", "image": image}]}
        made = self.plane.request("POST", self.pods, {"metadata": meta, "spec": spec})
        running = {"running": {"startedAt": made["metadata"]["creationTimestamp"]}}
        container = {"name": "main", "image": image, "imageID": "", "ready": True, "restartCount": 0, "state": running}
        ready = [{"type": "Ready", "status": "True"}]
        made["status"] = {"phase": "Running", "conditions": ready, "containerStatuses": [container]}
        self.plane.request("PUT", f"{self.pods}/{name}/status", made)
        uid: str = made["metadata"]["uid"]
        return uid

    @property
    def pods(self) -> str:
        """Where they are."""
        return f"/api/v1/namespaces/{self.namespace}/pods"

    def _account(self) -> None:
        where = {"name": _ACCOUNT, "namespace": self.namespace}
        role = {"apiVersion": "rbac.authorization.k8s.io/v1", "kind": "Role", "metadata": where, "rules": _RULES}
        self.plane.kubectl("-n", self.namespace, "create", "serviceaccount", _ACCOUNT)
        self.plane.kubectl("apply", "-f", "-", input=json.dumps(role))
        bind = ("rolebinding", _ACCOUNT, f"--role={_ACCOUNT}", f"--serviceaccount={self.namespace}:{_ACCOUNT}")
        self.plane.kubectl("-n", self.namespace, "create", *bind)

    def _states(self) -> list[str]:
        items = self.plane.request("GET", path(self.namespace, "backendhealths"))["items"]
        return [(one.get("status", {}).get("summary") or {}).get("state", "") for one in items]

    def _phases(self) -> list[str]:
        items = self.plane.request("GET", path(self.namespace, "remediations"))["items"]
        return [one.get("status", {}).get("phase", "") for one in items]

    def _evictions(self, since: int, name: str) -> list[float]:
        """When each that was granted was answered, as the audit log has it from byte `since` on."""
        with self.plane.audit_log.open("rb") as log:
            log.seek(since)
            whole = log.read().rpartition(b"\n")[0]
        wanted = f"{self.pods}/{name}/eviction"
        events = (json.loads(line) for line in whole.splitlines() if wanted.encode() in line)
        return [
            dt.datetime.fromisoformat(one["stageTimestamp"]).timestamp()
            for one in events
            if one["requestURI"] == wanted and one["stage"] == "ResponseComplete" and _granted(one["responseStatus"])
        ]


def _granted(status: Json) -> bool:
    return int(status["code"]) < HTTPStatus.BAD_REQUEST


def _restart(app: str) -> Json:
    return {"restartPods": {"podSelector": {"matchLabels": {"app": app}}, "pods": "All"}}


def _floors(plane: ControlPlane, stage: Stage, count: int) -> Iterator[float]:
    """Seconds of the calls that the operator makes up to the effect, on a connection that is kept; it has ended."""
    client = Client(plane.url, plane.kubeconfig)
    try:
        for number in range(count):
            name = f"floor-{number}"
            uid = stage.pod(name, name)
            health = client.ask("GET", path(stage.namespace, "backendhealths", next(iter(stage.backends))))
            health["status"]["summary"]["message"] = f"floor {number}"
            began = time.perf_counter()
            _calls(client, stage, name, uid, health)
            yield time.perf_counter() - began
    finally:
        client.close()


def _calls(client: Client, stage: Stage, name: str, uid: str, health: Json) -> None:
    namespace, pod = stage.namespace, f"{stage.pods}/{name}"
    client.ask("PUT", path(namespace, "backendhealths", f"{health['metadata']['name']}/status"), health)
    account = {"Impersonate-User": f"system:serviceaccount:{namespace}:{_ACCOUNT}"}
    beside = f"{stage.pods}?labelSelector=app%3D{name}&limit=500"
    client.ask("GET", beside, headers=account)
    target = {"kind": "Pod", "name": name, "uid": uid}
    body = remediation(namespace, name, target=target, action=_restart(name))
    made = client.ask("POST", path(namespace, "remediations"), body)
    made["status"] = {"phase": "Running", "message": "has begun"}
    client.ask("PUT", path(namespace, "remediations", f"{name}/status"), made)
    client.ask("GET", pod, headers=account)
    client.ask("GET", beside, headers=account)
    client.ask("GET", f"/api/v1/namespaces/{namespace}/configmaps/{SWITCH}")
    client.ask("GET", path(namespace, "remediationpolicies", next(iter(stage.backends))))
    options = {"preconditions": {"uid": uid}}
    meta = {"name": name, "namespace": namespace}
    eviction = {"apiVersion": "policy/v1", "kind": "Eviction", "metadata": meta, "deleteOptions": options}
    client.ask("POST", f"{pod}/eviction", eviction, headers=account)


class Client:
    """The API server by the standard library, on one connection."""

    def __init__(self, url: str, kubeconfig: Path) -> None:
        """A test's: the pairs lie beside it."""
        tls = ssl.create_default_context(cafile=str(kubeconfig.with_name("ca.crt")))
        tls.load_cert_chain(kubeconfig.with_suffix(".crt"), kubeconfig.with_suffix(".key"))
        where = urlsplit(url)
        self._connection = http.client.HTTPSConnection(str(where.hostname), where.port, timeout=_PATIENCE, context=tls)

    def ask(self, method: str, url: str, body: Json | None = None, headers: dict[str, str] | None = None) -> Json:
        """Raises BenchFailed when it is refused."""
        sent = {"Content-Type": "application/json", "Accept": "application/json", **(headers or {})}
        self._connection.request(method, url, json.dumps(body) if body else None, sent)
        response = self._connection.getresponse()
        answer: Json = json.loads(response.read())
        if response.status >= HTTPStatus.BAD_REQUEST:
            raise BenchFailed(f"{method} {url}: {answer.get('message')}")
        return answer

    def close(self) -> None:
        self._connection.close()
