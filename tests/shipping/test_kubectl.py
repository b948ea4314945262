"""What kubectl makes of our kinds: explain reads well, wait works, the examples are taken."""

from __future__ import annotations

import json
import re
import subprocess
import time
from pathlib import Path

import pytest
import yaml

from tests.cluster import build
from tests.servers.kubernetes import ControlPlane
from tests.servers.process import ServerFailed, wait_until
from tests.shipping.states import STATES
from tests.shipping.support import ROOT, Object

FOR_THE_COMMAND_LINE = {"diagnosis-test.yaml", "policy-test.yaml"}
EXAMPLES = sorted(
    path.relative_to(ROOT / "examples")
    for path in (ROOT / "examples").rglob("*.yaml*")
    if path.name not in FOR_THE_COMMAND_LINE and path.parent.name != "ci"
)
FIELD = re.compile(r"^( {2,})(\w+)\t<(.+?)>( -required-)?$")
STANDARD = {"apiVersion", "kind", "metadata"}
LINE = 120


def described(text: str) -> dict[str, str]:
    """Each field that `kubectl explain` printed, with its description."""
    fields: dict[str, str] = {}
    name = ""
    for line in text.partition("FIELDS:\n")[2].splitlines():
        if field := FIELD.match(line):
            name = field[2]
            fields[name] = ""
        elif name:
            fields[name] += line.strip()
    return fields


def explained(control_plane: ControlPlane, path: str) -> str:
    """What `kubectl explain` prints; the API server publishes the fields of a kind a moment after it serves it."""
    told: list[str] = []

    def published() -> bool:
        told.append(control_plane.kubectl("explain", path, check=False))
        return "couldn't find resource" not in told[-1]

    wait_until(published, 30, f"{path} published")
    return told[-1]


def test_explain_of_probes(control_plane: ControlPlane):
    told = explained(control_plane, "backendhealth.spec.probes")
    assert told.startswith("GROUP:      backendhealth.dev\nKIND:       BackendHealth\nVERSION:    v1alpha1\n")
    assert "FIELD: probes <[]Object>" in told
    fields = described(told)
    assert {"name", "interval", "timeout", "etcd", "redis", "pods"} <= fields.keys()
    assert not [name for name, text in fields.items() if not text.removeprefix("<no description>")]
    assert re.search(r"^  name\t<string> -required-$\n    Name of the probe", told, re.MULTILINE)


@pytest.mark.parametrize(
    "path", ["backendhealth", "bh.spec", "bh.status", "bh.spec.probes.redis", "bh.spec.probes.pods"]
)
def test_explain_describes_every_field(control_plane: ControlPlane, path: str):
    told = explained(control_plane, path)
    assert "<empty>" not in told
    fields = described(told)
    assert fields
    for name, text in fields.items():
        assert text not in {"", "<no description>"}, name
        assert name in STANDARD or re.search(r"[.)…'`]$|^ENUM|\.[^.]+$", text), f"{name}: {text}"


@pytest.fixture
def demo(control_plane: ControlPlane, namespace: str) -> str:
    """A BackendHealth that nobody probes."""
    made = STATES["healthy"]()
    del made["status"]
    made["metadata"] = {"name": "demo", "namespace": namespace}
    control_plane.kubectl("create", "-f", "-", input=json.dumps(made))
    return namespace


def show(control_plane: ControlPlane, namespace: str, state: str) -> None:
    """Write the status of `state`, as of the generation that it has now."""
    path = f"/apis/backendhealth.dev/v1alpha1/namespaces/{namespace}/backendhealths/demo"
    one: Object = control_plane.request("GET", path)
    one["status"] = STATES[state]()["status"]
    one["status"]["observedGeneration"] = one["metadata"]["generation"]
    control_plane.request("PUT", f"{path}/status", one)


def waiting(control_plane: ControlPlane, namespace: str, condition: str, seconds: int) -> tuple[str, ...]:
    return ("wait", f"--for=condition={condition}", "-n", namespace, "backendhealth/demo", f"--timeout={seconds}s")


def test_wait_ends_when_the_backends_are_healthy(control_plane: ControlPlane, demo: str):
    show(control_plane, demo, "unhealthy")
    with pytest.raises(ServerFailed, match="timed out waiting"):
        control_plane.kubectl(*waiting(control_plane, demo, "Healthy", 1))
    command = [str(build.binaries() / "kubectl"), *waiting(control_plane, demo, "Healthy", 20)]
    with subprocess.Popen(
        [*command, "--kubeconfig", str(control_plane.kubeconfig)], stdout=subprocess.PIPE, text=True
    ) as wait:
        show(control_plane, demo, "healthy")
        since = time.monotonic()
        told, _ = wait.communicate(timeout=20)
    assert wait.returncode == 0
    assert told == "backendhealth.backendhealth.dev/demo condition met\n"
    assert time.monotonic() - since < 10


@pytest.mark.parametrize(
    ("state", "condition"), [("unhealthy", "Ready"), ("invalid", "Stalled"), ("degraded", "Degraded")]
)
def test_wait_for_other_conditions(control_plane: ControlPlane, demo: str, state: str, condition: str):
    show(control_plane, demo, state)
    control_plane.kubectl(*waiting(control_plane, demo, condition, 10))


@pytest.mark.parametrize("state", STATES)
def test_every_status_is_taken_as_it_is(control_plane: ControlPlane, demo: str, state: str):
    show(control_plane, demo, state)
    path = f"/apis/backendhealth.dev/v1alpha1/namespaces/{demo}/backendhealths/demo"
    stored = control_plane.request("GET", path)["status"]
    expected = STATES[state]()["status"]
    assert stored == {**expected, "observedGeneration": 1}


@pytest.mark.parametrize("example", EXAMPLES, ids=str)
def test_an_example_is_taken(control_plane: ControlPlane, namespace: str, example: Path):
    text = (ROOT / "examples" / example).read_text().replace("${ETCD_PORT}", "2379").replace("${REDIS_PORT}", "6379")
    documents = list(yaml.safe_load_all(text))
    for one in documents:
        one["metadata"].pop("namespace", None)
    control_plane.kubectl(
        "apply", "--warnings-as-errors", "-n", namespace, "-f", "-", input=yaml.safe_dump_all(documents)
    )
    for one in documents:
        control_plane.kubectl("get", "-n", namespace, one["kind"], one["metadata"]["name"])
