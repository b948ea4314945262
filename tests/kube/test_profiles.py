"""DiagnosisProfiles in the cluster: in force at once, the last good one while one can't be used, and said so."""

from __future__ import annotations

import json
import shlex
import urllib.error
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.kube.operator import ROOT, Operator, Resources
from tests.servers.kubernetes import ControlPlane
from tests.servers.misbehaving import silent
from tests.servers.process import LOOPBACK, free_port, wait_until
from tests.servers.redis import RedisServer

PATH = "/apis/backendhealth.dev/v1alpha1/namespaces/{}/diagnosisprofiles"
CRD = "diagnosisprofiles.backendhealth.dev"
NAME = "shop"
Json = dict[str, Any]


def spec(effect: str = "Fails", title: str = "A shop") -> Json:
    """A shop whose cart, and nothing else, needs Redis."""
    return {
        "title": title,
        "components": [
            {
                "name": "redis",
                "title": "Redis",
                "effects": [{"feature": "cart", "effect": effect, "because": "carts are in Redis"}],
            },
            {"name": "shop", "title": "The shop", "dependsOn": ["redis"]},
        ],
        "features": [{"name": "cart", "title": "the cart"}],
    }


class Shop:
    """A namespace with the profile `shop` and BackendHealths that name it."""

    def __init__(self, plane: ControlPlane, namespace: str) -> None:
        self.plane = plane
        self.namespace = namespace
        self.resources = Resources(plane, namespace)

    def profile(self, spec: Json, name: str = NAME, namespace: str = "") -> None:
        """Create it or put another in its place."""
        path = PATH.format(namespace or self.namespace)
        body: Json = {
            "apiVersion": "backendhealth.dev/v1alpha1",
            "kind": "DiagnosisProfile",
            "metadata": {"name": name},
            "spec": spec,
        }
        try:
            there = self.plane.request("GET", f"{path}/{name}")
        except urllib.error.HTTPError:
            self.plane.request("POST", path, body)
        else:
            body["metadata"] = there["metadata"]
            self.plane.request("PUT", f"{path}/{name}", body)

    def remove(self) -> None:
        self.plane.request("DELETE", f"{PATH.format(self.namespace)}/{NAME}")

    def declare(self, **ref: str) -> None:
        """The BackendHealth `demo` whose Redis is down, probed once an hour unless something asks sooner."""
        reference = ref or {"name": NAME}
        self.resources.apply("demo", redis_probe(free_port()), profileRef=reference, interval="1h", failureThreshold=1)

    def status(self, name: str = "demo") -> Json:
        return self.resources.status(name)

    def stalled(self, name: str = "demo") -> str:
        """`ProfileNotFound message`, or nothing."""
        found = next((one for one in self.status(name).get("conditions", []) if one["type"] == "Stalled"), None)
        return f"{found['reason']} {found['message']}" if found else ""

    def impact(self, name: str = "demo") -> list[str]:
        """`the cart Fails`."""
        told = (self.status(name).get("diagnosis") or {}).get("impact", [])
        return [f"{one['feature']} {one['effect']}" for one in told if one["effect"] != "Works"]

    def until_impact(self, *wanted: str, timeout: float = 10) -> None:
        wait_until(lambda: self.impact() == list(wanted), timeout, f"{wanted}")

    def until_stalled(self, begins: str, timeout: float = 10) -> str:
        """The message of the condition, once it begins so; `""`: not stalled."""
        wait_until(lambda: bool(begins) == bool(told := self.stalled()) and told.startswith(begins), timeout, begins)
        return self.stalled()


@pytest.fixture
def shop(control_plane: ControlPlane, namespace: str) -> Iterator[Shop]:
    yield Shop(control_plane, namespace)
    assert control_plane.kubectl("get", "crd", CRD), "a test has left the cluster without the kind"


def test_a_changed_profile_changes_the_diagnosis_and_resets_no_probe(operator: Operator, shop: Shop):
    shop.profile(spec())
    shop.declare()
    shop.until_impact("the cart Fails")
    before = shop.status()
    attempts = operator.metric("backendhealth_probe_attempts_total", namespace=shop.namespace)
    shop.profile(spec(effect="Degraded"))
    shop.until_impact("the cart Degraded", timeout=3)
    after = shop.status()
    assert [one["since"] for one in after["probes"]] == [one["since"] for one in before["probes"]]
    assert (after["incident"], after["history"]) == (before["incident"], before["history"])
    assert operator.metric("backendhealth_probe_attempts_total", namespace=shop.namespace) == attempts
    assert not shop.stalled()


def test_gone_and_back(operator: Operator, shop: Shop):
    shop.profile(spec())
    shop.declare()
    shop.until_impact("the cart Fails")
    shop.remove()
    told = shop.until_stalled("ProfileNotFound")
    assert f"there is no DiagnosisProfile shop in namespace {shop.namespace}" in told
    assert "the last good one (A shop) stays in force" in told
    assert shop.impact() == ["the cart Fails"]
    shop.profile(spec(effect="Degraded"))
    shop.until_stalled("")
    shop.until_impact("the cart Degraded")


def test_probing_goes_on_while_there_is_none(operator: Operator, shop: Shop):
    with RedisServer() as redis:
        shop.resources.apply("demo", redis_probe(redis.port), profileRef={"name": NAME})
        shop.resources.wait("demo", "Healthy")
        assert "until then nothing is known of the platform" in shop.until_stalled("ProfileNotFound")
        redis.kill()
        shop.resources.wait("demo", "Unhealthy")
        assert shop.impact() == []
        shop.profile(spec())
        shop.until_impact("the cart Fails")
        shop.until_stalled("")


def test_after_a_restart_the_last_good_one_is_not_known_any_more(control_plane: ControlPlane, shop: Shop):
    with Operator(control_plane, shop.namespace):
        shop.profile(spec())
        shop.declare()
        shop.until_impact("the cart Fails")
        shop.remove()
        assert "stays in force" in shop.until_stalled("ProfileNotFound")
    with Operator(control_plane, shop.namespace):
        wait_until(lambda: "until then nothing is known" in shop.stalled(), 10, "it says that it knows nothing")
        assert shop.impact() == []


def test_restarted_with_its_profile_there_nothing_is_told_anew(control_plane: ControlPlane, shop: Shop):
    with Operator(control_plane, shop.namespace):
        shop.profile(spec())
        shop.declare()
        shop.until_impact("the cart Fails")
    before = shop.resources.get("demo")
    with Operator(control_plane, shop.namespace) as operator:
        wait_until(lambda: operator.metric("backendhealth_state", state="Unhealthy") == 1, 10, "it is served")
        shop.profile(spec(effect="Degraded"))
        shop.until_impact("the cart Degraded")
    after = shop.resources.get("demo")
    assert after["status"]["incident"] == before["status"]["incident"]
    assert after["status"]["history"] == before["status"]["history"]


def test_one_that_lint_refuses_and_an_older_schema_takes(operator: Operator, shop: Shop):
    shop.profile(spec())
    shop.declare()
    shop.until_impact("the cart Fails")
    # a circle is nothing that a schema can see
    wrong = spec(effect="Degraded")
    wrong["components"][0]["dependsOn"] = ["shop"]
    shop.profile(wrong)
    told = shop.until_stalled("ProfileInvalid")
    assert "DiagnosisProfile shop can't be used: spec.components" in told
    assert "the last good one (A shop) stays in force" in told
    assert shop.impact() == ["the cart Fails"]
    shop.profile(spec(effect="Degraded"))
    shop.until_stalled("")
    shop.until_impact("the cart Degraded")


def test_another_namespace_s_profile_is_not_used(control_plane: ControlPlane, shop: Shop):
    other = f"{shop.namespace}-other"
    control_plane.kubectl("create", "namespace", other)
    try:
        shop.profile(spec(), namespace=other)
        # all namespaces are watched: it is seen, and not taken all the same
        with Operator(control_plane, shop.namespace, "--namespaces", f"{shop.namespace},{other}"):
            shop.declare()
            assert f"in namespace {shop.namespace}" in shop.until_stalled("ProfileNotFound")
            assert shop.impact() == []
    finally:
        control_plane.request("DELETE", f"{PATH.format(other)}/{NAME}")
        control_plane.kubectl("delete", "namespace", other, "--wait=false")


def test_built_in_ones_and_slips(operator: Operator, shop: Shop):
    shop.declare(builtIn="placeos-postgress")
    told = shop.until_stalled("ProfileNotFound")
    assert 'did you mean "placeos-postgres"?' in told
    shop.declare(builtIn="placeos-postgres")
    shop.until_stalled("")
    wait_until(lambda: bool(shop.impact()), 10, "its impact is told")
    shop.profile(spec(), name="shops")
    shop.declare()
    assert 'did you mean "shops"?' in shop.until_stalled("ProfileNotFound")
    shop.declare(name="placeos-postgres")
    wait_until(lambda: "{builtIn: placeos-postgres}" in shop.stalled(), 10, "it names the built-in one")


def test_deleted_while_the_api_server_is_away(control_plane: ControlPlane, operator: Operator, shop: Shop):
    shop.profile(spec())
    shop.declare()
    shop.until_impact("the cart Fails")
    operator.freeze()
    try:
        shop.remove()
        control_plane.compact()  # nobody will be told of it by a watch
        control_plane.stop_api()
        control_plane.start_api()
    finally:
        operator.resume()
    shop.until_stalled("ProfileNotFound", timeout=30)
    assert shop.impact() == ["the cart Fails"]


def test_a_cluster_that_does_not_know_the_kind(control_plane: ControlPlane, shop: Shop):
    control_plane.kubectl("delete", "crd", CRD)
    try:
        with silent() as target, Operator(control_plane, shop.namespace):
            probe = {"name": "a", "tcp": {"host": LOOPBACK, "port": target.port}}
            shop.resources.apply("plain", probe)
            shop.resources.apply("built-in", probe, profileRef={"builtIn": "generic"})
            shop.resources.apply("demo", probe, profileRef={"name": NAME})
            for name in ("plain", "built-in", "demo"):
                shop.resources.wait(name, "Healthy")
            assert "the cluster does not know this kind" in shop.until_stalled("ProfileNotFound")
            assert (shop.stalled("plain"), shop.stalled("built-in")) == ("", "")
            known(control_plane)
            shop.profile(spec())
            shop.until_stalled("", timeout=15)
    finally:
        known(control_plane)


def known(plane: ControlPlane) -> None:
    """Let the cluster know the kind (again)."""
    plane.kubectl("apply", "-f", str(ROOT / "crds" / "backendhealth.dev_diagnosisprofiles.yaml"))
    plane.kubectl("wait", "--for=condition=Established", f"crd/{CRD}", "--timeout=10s")


def redis_probe(port: int) -> Json:
    return {"name": "redis", "redis": {"url": f"redis://{LOOPBACK}:{port}"}}


def test_forbidden_and_the_line_that_grants_it(control_plane: ControlPlane, shop: Shop, namespace: str):
    shop.profile(spec())
    with Operator(control_plane, namespace, "--no-leader-elect", kubeconfig=poor(control_plane, namespace)):
        shop.declare()
        told = shop.until_stalled("ProfileNotFound")
        assert "can't be seen" in told
        for line in told.partition("; to grant it: ")[2].split("; "):
            control_plane.kubectl(*shlex.split(line.strip("`"))[1:])
        shop.until_stalled("", timeout=15)
        shop.until_impact("the cart Fails")


def poor(plane: ControlPlane, namespace: str) -> Path:
    """The kubeconfig of an account that has all that the operator needs, but for DiagnosisProfiles."""
    plane.kubectl("-n", namespace, "create", "serviceaccount", "poor")
    rules = [
        {"apiGroups": ["backendhealth.dev"], "resources": ["backendhealths"], "verbs": ["get", "list", "watch"]},
        {"apiGroups": ["backendhealth.dev"], "resources": ["backendhealths/status"], "verbs": ["update"]},
    ]
    role = {
        "apiVersion": "rbac.authorization.k8s.io/v1",
        "kind": "Role",
        "metadata": {"name": "poor", "namespace": namespace},
        "rules": rules,
    }
    plane.kubectl("apply", "-f", "-", input=json.dumps(role))
    plane.kubectl("-n", namespace, "create", "rolebinding", "poor", "--role=poor", f"--serviceaccount={namespace}:poor")
    return plane.token_kubeconfig(namespace, "poor")
