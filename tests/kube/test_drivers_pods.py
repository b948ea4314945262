"""PlaceOS's cores found as pods of a real API server, and as they register in a real etcd or Redis."""

from __future__ import annotations

import contextlib
import functools
import json
import urllib.request
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import yaml

from backendhealth.core.observation import Finding
from backendhealth.core.reasons import Reason
from backendhealth.core.spec.backendhealth import Probe
from backendhealth.core.verdict import Verdict
from backendhealth.kube.api import Api, connect
from backendhealth.kube.podwatch import PodWatches
from backendhealth.probes.dialer import Dialer
from backendhealth.probes.registry import Context, build
from tests.cli.support import resource, run, secret
from tests.kube.pods import Pods
from tests.probes.checks import eventually
from tests.probes.placeos.helpers import BY_KEY, OK, Probing, secrets
from tests.servers import etcd
from tests.servers.kubernetes import ControlPlane
from tests.servers.placeos import PlaceOS
from tests.servers.postgres import PASSWORD, Postgres
from tests.servers.process import LOOPBACK, free_port, port_answers
from tests.servers.redis import RedisServer
from tests.unit.podmaking import Json, good, pod

SELECTOR = {"matchLabels": {"app": "core"}}
HOSTS = {"core-0": "127.0.0.2", "core-1": "127.0.0.3"}
"""The address of each core's pod; the API server has them as its status."""


@dataclass
class Platform:
    """API and two cores at addresses of their own, as in pods."""

    placeos: PlaceOS
    discovery: dict[str, object]

    def uri(self, core: str) -> str:
        return f"http://{HOSTS[core]}:{(self.placeos.processes[core].env or {})['PORT']}"

    def deregister(self, core: str) -> None:
        """Out of discovery, and running."""
        wish = urllib.request.Request(f"{self.uri(core)}/api/core/v1/double/deregister", b"{}")
        with urllib.request.urlopen(wish, timeout=10):
            pass

    def restart(self, core: str) -> None:
        self.placeos.kill(core)
        self.placeos.start(core)


def started(stack: contextlib.ExitStack, kind: str, database: Postgres) -> Platform:
    redis = stack.enter_context(RedisServer())
    members = stack.enter_context(etcd.Cluster()) if kind == "etcd" else None
    database.sql(f"CREATE DATABASE place_{kind}")
    url = f"redis://{LOOPBACK}:{redis.port}"
    placeos = PlaceOS(
        generation="postgres-etcd" if members else "postgres",
        etcd=members.urls[0] if members else None,
        redis=url,
        elasticsearch=f"http://{LOOPBACK}:{free_port()}",  # nothing here is listed
        database=f"postgresql://postgres:{PASSWORD}@{LOOPBACK}:{database.port}/place_{kind}",
        cores=2,
        services=("api", "core"),
    )
    for core, host in HOSTS.items():
        process = placeos.processes[core]
        env = process.env = {**(process.env or {}), "BIND": host}
        process.ready = functools.partial(port_answers, int(env["PORT"]), host)
    stack.enter_context(placeos)
    return Platform(placeos, {"etcd": {"endpoints": members.urls}} if members else {"redis": {"url": url}})


@pytest.fixture(scope="module")
def platforms() -> Iterator[dict[str, Platform]]:
    with contextlib.ExitStack() as stack:
        database = stack.enter_context(Postgres(settings={"max_connections": "60"}))
        yield {kind: started(stack, kind, database) for kind in ("etcd", "redis")}


@pytest.fixture(params=["etcd", "redis"])
def platform(request: pytest.FixtureRequest, platforms: dict[str, Platform]) -> Iterator[Platform]:
    found = platforms[request.param]
    yield found
    for core in HOSTS:
        if not found.placeos.processes[core].running:
            found.placeos.start(core)


@pytest.fixture
async def pods(api: Api, namespace: str) -> Pods:
    """Both cores' pods, ready."""
    there = Pods(api, namespace)
    for name in HOSTS:
        await there.create(name, ready(name))
    return there


def ready(name: str) -> Json:
    return good(name, podIP=HOSTS[name], podIPs=[{"ip": HOSTS[name]}])


class Seeing(Probing):
    """The probe on pods of one namespace; `signals` are how often it asked for an attempt by itself."""

    def __init__(self, platform: Platform, watches: PodWatches, namespace: str) -> None:
        self.signals = 0
        target: dict[str, Any] = {"url": platform.placeos.api_url, **BY_KEY, "cores": {"selector": SELECTOR}}
        probe = Probe.model_validate({"name": "drivers", "drivers": target | {"discovery": platform.discovery}})
        super().__init__(build(probe, Context(Dialer(), secrets(), namespace, watches, self._signal)))

    def _signal(self) -> None:
        self.signals += 1

    async def core(self, reason: Reason) -> Finding:
        """What is found of cores, once it is that."""
        return (await self.until(lambda found: found.parts["component/core"].reason is reason)).parts["component/core"]


@contextlib.asynccontextmanager
async def seeing(platform: Platform, api: Api, namespace: str) -> AsyncIterator[Seeing]:
    async with PodWatches(api) as watches:
        probing = Seeing(platform, watches, namespace)
        try:
            await probing.core(OK)
            yield probing
        finally:
            await probing.exchange.close()


def reasons(core: Finding) -> dict[str, Reason]:
    """By the subject's name; a core that is registered is called by its address, one that is not by its pod."""
    return {one.subject.removeprefix("core/").partition(":")[0]: one.reason for one in core.subjects}


async def test_a_ready_pod_that_is_not_registered_is_named(
    platform: Platform, pods: Pods, api: Api, namespace: str
) -> None:
    async with seeing(platform, api, namespace) as probing:
        platform.deregister("core-0")
        found = await probing.core(Reason.CORE_NOT_REGISTERED)
        # the address tells which: by number alone it would be the last
        assert found.message.startswith("core-0 runs, but not in discovery: 1 core is registered")
        assert reasons(found) == {"core-0": Reason.CORE_NOT_REGISTERED, HOSTS["core-1"]: OK}
        signals = probing.signals
        await pods.patch("core-0", pod("core-0", phase="Running"))  # not ready: nobody misses it
        await eventually(lambda: probing.signals > signals, "a change of pods asks for an attempt")
        assert (await probing.core(OK)).message == "1 core is registered"
        await pods.patch("core-0", ready("core-0"))
        await probing.core(Reason.CORE_NOT_REGISTERED)
        platform.restart("core-0")
        assert reasons(await probing.core(OK)) == dict.fromkeys(HOSTS.values(), OK)


async def test_a_core_that_died_is_stale_until_its_registration_ends(
    platform: Platform, pods: Pods, api: Api, namespace: str
) -> None:
    async with seeing(platform, api, namespace) as probing:
        platform.placeos.kill("core-1")
        await pods.delete("core-1")
        found = await probing.core(Reason.STALE_PLACEMENT)
        assert platform.uri("core-1") in found.message
        assert reasons(found) == {HOSTS["core-0"]: OK, HOSTS["core-1"]: Reason.STALE_PLACEMENT}
        assert (await probing.core(OK)).message == "1 core is registered"  # its lease or key has ended


async def test_a_registration_without_a_pod(platform: Platform, pods: Pods, api: Api, namespace: str) -> None:
    """All pods are dead: nobody is left to prune Redis's lookup, and etcd's key of this one has no lease."""
    async with seeing(platform, api, namespace) as probing:
        for core in HOSTS:
            platform.placeos.kill(core)
            await pods.delete(core)
        uri = platform.placeos.add_stale_core()
        try:
            left = {LOOPBACK} if "etcd" in platform.discovery else {LOOPBACK, *HOSTS.values()}
            found = await probing.until(lambda one: set(reasons(one.parts["component/core"])) == left)
            assert uri in found.parts["component/core"].message
        finally:
            platform.placeos.remove_stale_core()
        assert found.parts["component/core"].reason is Reason.STALE_PLACEMENT
        assert found.reason is Reason.API_UNAVAILABLE, "the drivers are not to blame"


async def test_the_command_line_sees_them_with_a_kubeconfig(
    platform: Platform, pods: Pods, control_plane: ControlPlane, namespace: str, tmp_path: Path
) -> None:
    """Also where no probe is of the kind `pods`."""
    target = {"url": platform.placeos.api_url, **BY_KEY, "cores": {"selector": SELECTOR}}
    raw = yaml.safe_load(resource({"name": "drivers", "drivers": target}, interval="5s", timeout="4s"))
    raw["metadata"]["namespace"] = namespace
    file = tmp_path / "demo.yaml"
    file.write_text(yaml.safe_dump(raw) + secret("api", {"key": PlaceOS.api_key}, namespace))
    await pods.create("core-2", good("core-2", podIP="127.0.0.4", podIPs=[{"ip": "127.0.0.4"}]))
    done = run("check", "-o", "json", "-f", file, "--kubeconfig", control_plane.kubeconfig)
    status = json.loads(done.stdout)["status"]
    assert status["diagnosis"]["rootCauses"][0]["reason"] == "CoreNotRegistered", status
    assert "core-2 runs, but not in discovery" in status["diagnosis"]["rootCauses"][0]["message"]


async def test_who_may_not_see_pods_is_told_the_line_that_grants_it(
    platform: Platform, pods: Pods, control_plane: ControlPlane, namespace: str
) -> None:
    kubectl = control_plane.kubectl
    kubectl("-n", namespace, "create", "serviceaccount", "prober")
    stranger = str(control_plane.token_kubeconfig(namespace, "prober"))
    async with await connect(stranger, None) as api, PodWatches(api) as watches:
        probing = Seeing(platform, watches, namespace)
        try:
            found = await probing.until(lambda one: one.parts["component/core"].reason is Reason.PODS_FORBIDDEN)
            core = found.parts["component/core"]
            assert (found.reason, core.verdict) == (OK, Verdict.UNKNOWN), "what the drivers do is seen nevertheless"
            line = core.message.partition("; to grant it: ")[2]
            assert "--verb=list,watch --resource=pods" in line
            platform.placeos.kill("core-1")
            stale = await probing.core(Reason.STALE_PLACEMENT)  # what is seen without pods is told first
            assert platform.uri("core-1") in stale.message
            platform.placeos.start("core-1")
            await probing.core(Reason.PODS_FORBIDDEN)
            for command in line.split("; "):
                kubectl(*command.split()[1:])
            await probing.core(OK)
        finally:
            await probing.exchange.close()
