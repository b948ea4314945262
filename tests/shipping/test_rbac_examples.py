"""examples/permissions.yaml on a real API server: with it a probe gets its Secret, and without any part of it not."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import yaml

from tests.kube.operator import Operator, Resources
from tests.servers.kubernetes import ControlPlane
from tests.servers.process import LOOPBACK
from tests.servers.redis import RedisServer
from tests.shipping.support import MANIFESTS, OPERATOR, RBAC, ROOT, Object, apply, delete, of_kind, placed

PASSWORD = "planted-secret-of-a-team"
PATIENCE = 25


def example(namespace: str) -> list[Object]:
    """The example, put into a namespace that has both the operator and the application."""
    objects: list[Object] = list(yaml.safe_load_all((ROOT / "examples" / "permissions.yaml").read_text()))
    for one in objects:
        one["metadata"]["namespace"] = namespace
        for subject in one.get("subjects", ()):
            subject["namespace"] = namespace
    return objects


def secret(namespace: str, **annotations: str) -> Object:
    notes = {f"backendhealth.dev/{name.replace('_', '-')}": value for name, value in annotations.items()}
    metadata = {"name": "rethinkdb", "namespace": namespace, "annotations": notes}
    return {"apiVersion": "v1", "kind": "Secret", "metadata": metadata, "stringData": {"password": PASSWORD}}


@pytest.fixture
def rights(control_plane: ControlPlane, namespace: str, tmp_path: Path) -> Iterator[None]:
    """Those of the operator itself."""
    objects = of_kind(placed(MANIFESTS / "namespaced", namespace, tmp_path), *RBAC)
    apply(control_plane, objects)
    yield
    delete(control_plane, objects)


@pytest.fixture
def declared(control_plane: ControlPlane, namespace: str, rights: None) -> Iterator[Callable[[], Resources]]:
    """Declares `demo`, whose probe needs the Secret, and is watched by an operator."""
    found = Resources(control_plane, namespace)
    kubeconfig = control_plane.token_kubeconfig(namespace, OPERATOR)
    flags = ("--secret-ttl", "1s")
    with (
        RedisServer(password=PASSWORD) as redis,
        Operator(control_plane, namespace, *flags, kubeconfig=kubeconfig) as operator,
    ):
        auth = {"secretRef": {"name": "rethinkdb"}}
        probe = {"name": "redis", "redis": {"url": f"redis://{LOOPBACK}:{redis.port}", "auth": auth}}

        def declare() -> Resources:
            found.apply("demo", probe, serviceAccountName="backendhealth")
            return found

        yield declare
        assert PASSWORD not in operator.log(1_000_000)


def test_with_the_example_the_secret_is_used(
    control_plane: ControlPlane, namespace: str, declared: Callable[[], Resources]
):
    apply(control_plane, [*example(namespace), secret(namespace, allow="demo", allow_hosts=LOOPBACK)])
    declared().wait("demo", "Healthy", PATIENCE)


@pytest.mark.parametrize(
    ("without", "told"),
    [
        ("backendhealth-impersonate", "may not act as ServiceAccount backendhealth"),
        ("backendhealth-secrets", "ServiceAccount backendhealth may not read Secret rethinkdb"),
    ],
)
def test_without_a_role_it_is_not(
    control_plane: ControlPlane, namespace: str, declared: Callable[[], Resources], without: str, told: str
):
    granted = [one for one in example(namespace) if one["metadata"]["name"] != without]
    apply(control_plane, [*granted, secret(namespace, allow="demo")])
    resources = declared()
    resources.wait("demo", "Unknown SecretForbidden", PATIENCE)
    message = resources.condition("demo", "Healthy")["message"]
    assert told in message
    line = message.partition("`")[2].rpartition("`")[0]
    for command in line.split("; "):  # it does what it promises
        control_plane.kubectl(*command.split()[1:])
    resources.wait("demo", "Healthy", PATIENCE)


def test_without_the_owners_word_it_is_not(
    control_plane: ControlPlane, namespace: str, declared: Callable[[], Resources]
):
    apply(control_plane, [*example(namespace), secret(namespace, allow="others")])
    declared().wait("demo", "Unknown SecretNotAllowed", PATIENCE)
