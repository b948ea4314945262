"""The PlaceOS double in pods, on real backends in pods, and the means to break it."""

from __future__ import annotations

import contextlib
import functools
import json
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from tests.cluster.cluster import Cluster
from tests.e2e import backends
from tests.e2e.backends import Backend, frozen, of_the_machine
from tests.scenarios.loopback import QUICK
from tests.servers.placeos import PlaceOS
from tests.servers.placeos.platform import QUICK as SHORT
from tests.servers.postgres import SUPERUSER
from tests.servers.process import ServerFailed

ROOT = Path(__file__).parents[2]
USER, PORT, CORES = 10001, 3000, 2
KEPT = ("postgres", "elasticsearch")
"""Backends that find their data again when their pod is another."""
_ENV = {
    **SHORT,
    **QUICK,
    "PYTHONPATH": str(ROOT),
    "PYTHONDONTWRITEBYTECODE": "1",
    "BIND": "0.0.0.0",
    "PORT": str(PORT),
    "DOUBLE_STATE": "/data",
    "ETCD_HOST": "etcd",
    "ETCD_PORT": "2379",  # Kubernetes sets it to a URL where there is a Service of that name
    "DOUBLE_QUERY_TIMEOUT": "0.4",  # a driver that hangs is told within a probe's time
    "REDIS_URL": "redis://redis:6379",
    "ES_URI": "http://elasticsearch:9200",
    "PG_DATABASE_URL": f"postgresql://{SUPERUSER}@postgres:5432/postgres",
    "SEED_DOMAINS": "api,front",
}
_POST = (
    "import sys, urllib.request as u; head = {'Content-Type': 'application/json'};"
    "u.urlopen(u.Request(sys.argv[1], sys.argv[2].encode(), head, method='POST'), timeout=10)"
)


class Pods:
    """A platform in a namespace of its own; `begin` and `end` a fault by its name."""

    def __init__(self, cluster: Cluster, namespace: str) -> None:
        self._cluster = cluster
        self._namespace = namespace
        self._frozen: dict[str, contextlib.ExitStack] = {}

    def start(self) -> None:
        """Bring it up and fill the database; returns when all is ready."""
        self._cluster.kubectl("create", "namespace", self._namespace)
        whole = [
            replace(backends.etcd(), copies=1, container=_single_etcd()),
            backends.redis(),
            self._kept(backends.postgres()),
            self._kept(backends.elasticsearch()),
        ]
        backends.start(self._cluster, self._namespace, *whole, timeout=90)
        self._seed()
        names = {
            "api": "api",
            "core": "core",
            "triggers": "triggers",
            "staff": "staff",
            "search-ingest": "searchingest",
        }
        services = [_service(name, f"tests.servers.placeos.{module}") for name, module in names.items()]
        front = _service("front", f"tests.scenarios.balancer 0.0.0.0 {PORT} api {PORT}")
        backends.start(self._cluster, self._namespace, *services, front, timeout=90)

    def _kept(self, backend: Backend) -> Backend:
        """The backend with its data on the node: it is found again when it is scaled up."""
        folder = self._cluster.directory / "kept" / backend.name
        folder.mkdir(parents=True)
        folder.chmod(0o777)
        script = backend.container["command"][-1].replace("rm -rf /data/db; ", "rm -f /data/db/postmaster.pid; ")
        script = script.replace("/usr/bin/cp -R", "test -d /data/db || /usr/bin/cp -R")
        volumes = [v for v in backend.volumes if v["name"] != "data"]
        volumes.append({"name": "data", "hostPath": {"path": str(folder)}})
        container = {**backend.container, "command": ["sh", "-c", script]}
        return replace(backend, container=container, volumes=tuple(volumes))

    def _seed(self) -> None:
        deployment = _service("seed", "tests.servers.placeos.seed").objects(self._namespace)[1]
        template = deployment["spec"]["template"]
        del template["spec"]["containers"][0]["readinessProbe"]
        spec = {**template["spec"], "restartPolicy": "OnFailure"}
        metadata = {"name": "seed", "namespace": self._namespace}
        pod = {"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": spec}
        self._cluster.kubectl("apply", "-f", "-", input=json.dumps(pod))
        self._kubectl("wait", "pod/seed", "--for=jsonpath={.status.phase}=Succeeded", "--timeout=60s")

    def probes(self) -> list[dict[str, Any]]:
        """What is to be declared, as on loopback; Services by their names."""
        services = {name: f"http://{name}:{PORT}" for name in ("triggers", "staff", "search-ingest")}
        cores = [f"http://core-{number}.core.{self._namespace}.svc:{PORT}" for number in range(CORES)]
        key = {"name": "placeos", "key": "key"}
        users = {"url": f"http://front:{PORT}", "apiKeySecretRef": key, "system": PlaceOS.system}
        users |= {"module": PlaceOS.module, "function": PlaceOS.function, "services": {**services, "core": cores[0]}}
        etcd = {"endpoints": ["http://etcd:2379"]}
        drivers = {"coreUrls": cores, "cores": {"expected": CORES}, "discovery": {"etcd": etcd}}
        return [
            {"name": "etcd", "etcd": etcd},
            {"name": "postgres", "postgres": {"host": "postgres"}},
            {"name": "redis", "redis": {"url": "redis://redis:6379"}},
            {"name": "elasticsearch", "elasticsearch": {"urls": ["http://elasticsearch:9200"]}},
            {"name": "api", "http": {"url": f"http://api:{PORT}/api/engine/v2/version"}},
            {"name": "users", "component": "load-balancer", "placeos": users},
            {"name": "drivers", "drivers": {"url": f"http://api:{PORT}", "apiKeySecretRef": key, **drivers}},
        ]

    def begin(self, fault: str) -> None:
        """Do it; returns when it is done."""
        self._acts[fault][0]()

    def end(self, fault: str) -> None:
        """Take it back; returns when what was broken works again by itself."""
        self._acts[fault][1]()

    @functools.cached_property
    def _acts(self) -> Mapping[str, tuple[Callable[[], object], Callable[[], object]]]:
        names = {name: name for name in ("etcd", "redis", "elasticsearch", "core", "api")}
        names |= {"database": "postgres", "load-balancer": "front"}
        acts: dict[str, tuple[Callable[[], object], Callable[[], object]]] = {}
        for name, app in names.items():
            part = functools.partial
            acts[f"{name}-down"] = part(self._scale, app, 0), part(self._scale, app, CORES if app == "core" else 1)
            acts[f"{name}-hangs"] = part(self._freeze, app), part(self._thaw, app)
        acts["driver-crashes"] = functools.partial(self._crash, -1), functools.partial(self._crash, None)
        broken = "Error: undefined method 'pong'"
        acts["driver-does-not-compile"] = (
            functools.partial(self._compile, broken),
            functools.partial(self._compile, None),
        )
        acts["core-not-registered"] = self._deregister, functools.partial(self._delete, "core")
        return acts

    def _scale(self, app: str, copies: int) -> None:
        kind = "statefulset" if app == "core" else "deployment"
        self._kubectl("scale", f"{kind}/{app}", f"--replicas={copies}")
        if not copies:
            self._kubectl("wait", "pod", "-l", f"app={app}", "--for=delete", "--timeout=30s")
        elif app not in ("core", "api"):  # which wait for their backends, that may be away on purpose
            self._kubectl("rollout", "status", f"{kind}/{app}", "--timeout=60s")

    def _delete(self, app: str) -> None:
        self._kubectl("delete", "pod", "-l", f"app={app}", "--grace-period=1")

    def _freeze(self, app: str) -> None:
        stack = self._frozen[app] = contextlib.ExitStack()
        stack.enter_context(frozen(self._cluster, self._namespace, *self._pods(app)))

    def _thaw(self, app: str) -> None:
        self._frozen.pop(app).close()

    def _crash(self, launches: int | None) -> None:
        key = PlaceOS.driver_key("driver-probe")
        self._ask_cores("/double/faults", {"kind": "crash", "key": key, "value": launches})
        if launches is not None:
            # only the core that has the driver's module knows it
            self._ask_cores(f"/chaos/terminate?path={key}", {}, all_of_them=False)

    def _compile(self, output: str | None) -> None:
        key = PlaceOS.driver_key("driver-probe")
        self._ask_cores("/double/faults", {"kind": "compile", "key": key, "value": output})
        self._ask_cores("/drivers/driver-probe/reload", {}, all_of_them=False)

    def _deregister(self) -> None:
        self._ask_cores("/double/deregister", {})

    def _ask_cores(self, path: str, body: Mapping[str, object], *, all_of_them: bool = True) -> None:
        found = self._kubectl("get", "pods", "-l", "app=core", "-o", "jsonpath={.items[*].status.podIP}").split()
        for address in found:
            url = f"http://{address}:{PORT}/api/core/v1{path}"
            argv = [*self._cluster.netns(), sys.executable, "-c", _POST, url, json.dumps(body)]
            done = subprocess.run(argv, capture_output=True, text=True, timeout=20, check=False)
            if done.returncode and all_of_them:
                raise ServerFailed(f"{url}: {done.stderr[-500:]}")

    def _pods(self, app: str) -> list[str]:
        return self._kubectl("get", "pods", "-l", f"app={app}", "-o", "jsonpath={.items[*].metadata.name}").split()

    def _kubectl(self, *arguments: str) -> str:
        return self._cluster.kubectl("-n", self._namespace, *arguments, timeout=100)


def _service(name: str, module: str) -> Backend:
    """A service of the double: the machine's Python runs the checkout's own files."""
    paths = dict.fromkeys((ROOT, Path(sys.base_prefix), Path(sys.prefix)))
    shown = [path for path in paths if path == ROOT or ROOT not in path.parents]
    made = of_the_machine(name, f"exec {sys.executable} -m {module}", PORT, USER, *shown)
    env: list[dict[str, Any]] = [{"name": key, "value": value} for key, value in _ENV.items()]
    if name == "core":
        env.append({"name": "POD", "valueFrom": {"fieldRef": {"fieldPath": "metadata.name"}}})
        env.append({"name": "CORE_HOST_URI", "value": f"http://$(POD).core:{PORT}"})
    return replace(made, container={**made.container, "env": env}, copies=CORES if name == "core" else 1)


def _single_etcd() -> dict[str, Any]:
    container = backends.etcd().container
    return {"image": container["image"], "args": ["--advertise-client-urls=http://etcd:2379"]}


def objects(namespace: str, name: str, spec: Mapping[str, Any]) -> Sequence[dict[str, Any]]:
    """A BackendHealth, and the Secret that it uses with all that must be granted for it."""
    account, allowed = "backendhealth", {"backendhealth.dev/allow": name}
    group = "rbac.authorization.k8s.io"
    operator = {"kind": "ServiceAccount", "name": "backendhealth-operator", "namespace": "backendhealth-system"}

    def role(which: str, rule: Mapping[str, Any], subject: dict[str, str]) -> list[dict[str, Any]]:
        meta = {"name": which, "namespace": namespace}
        ref = {"apiGroup": group, "kind": "Role", "name": which}
        return [
            {"apiVersion": f"{group}/v1", "kind": "Role", "metadata": meta, "rules": [rule]},
            {
                "apiVersion": f"{group}/v1",
                "kind": "RoleBinding",
                "metadata": meta,
                "roleRef": ref,
                "subjects": [subject],
            },
        ]

    impersonate = {
        "apiGroups": [""],
        "resources": ["serviceaccounts"],
        "verbs": ["impersonate"],
        "resourceNames": [account],
    }
    reads = {"apiGroups": [""], "resources": ["secrets"], "verbs": ["get"], "resourceNames": ["placeos"]}
    secret = {"name": "placeos", "namespace": namespace, "annotations": allowed}
    return [
        {"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": account, "namespace": namespace}},
        *role("backendhealth-impersonate", impersonate, operator),
        *role("backendhealth-secrets", reads, {"kind": "ServiceAccount", "name": account, "namespace": namespace}),
        {"apiVersion": "v1", "kind": "Secret", "metadata": secret, "stringData": {"key": PlaceOS.api_key}},
        {
            "apiVersion": "backendhealth.dev/v1alpha1",
            "kind": "BackendHealth",
            "metadata": {"name": name, "namespace": namespace},
            "spec": {**spec, "serviceAccountName": account},
        },
    ]
