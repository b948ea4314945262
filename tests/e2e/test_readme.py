"""What the README shows of remediation, typed in again: PlaceOS in pods, a driver that hangs, and the very output.

README_PRINT=1 prints what is really said, to be put there.
"""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.actions.place import Place, phase_of
from tests.cluster.cluster import Cluster
from tests.e2e.placeos import Pods, objects
from tests.e2e.test_placeos import NAMESPACE, TIMING
from tests.e2e.test_placeos_remediation import EXAMPLES, hang_a_driver
from tests.kube.remediating import path
from tests.scenarios.running import specification
from tests.servers.placeos import PlaceOS
from tests.servers.process import wait_until

ROOT = EXAMPLES.parent
README = (ROOT / "README.md").read_text(encoding="utf-8")
NAME = "placeos"
_NAME = re.compile(r"restart-drivers-[0-9a-f]{16}")
_VARIES = (
    (re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ"), "TIME"),
    (re.compile(r"\b\d+(m\d+)?s\b"), "AGE"),
    (re.compile(r"core-\d"), "core-N"),
    (re.compile(r"\b0[0-9A-Z]{25}\b"), "ULID"),
    (re.compile(r"drivers_(display|probe)_[0-9a-f]{6}"), "DRIVER"),
    (re.compile(r"[ \t]+"), " "),
)


def section() -> str:
    """The part about remediation."""
    return README.partition("### Let it act, as far as you say")[2].partition("\n## ")[0]


def blocks(language: str) -> list[str]:
    """Its blocks in a language."""
    return re.findall(rf"```{language}\n(.*?)```", section(), re.DOTALL)


@pytest.fixture
def place(pods: Pods, own_cluster: Cluster, product_image: str) -> Iterator[Place]:
    """The platform, healthy, and the account as examples/policy.yaml has it."""
    made = Place(own_cluster, NAMESPACE, product_image)
    example = yaml.safe_load_all((EXAMPLES / "policy.yaml").read_text(encoding="utf-8"))
    accounts = [one for one in example if one and one["kind"] != "RemediationPolicy"]
    notes = {"backendhealth.dev/allow": f"remediationpolicy/{NAME}", "backendhealth.dev/allow-hosts": "api"}
    meta = {"name": "placeos-admin", "namespace": NAMESPACE, "annotations": notes}
    secret = {"apiVersion": "v1", "kind": "Secret", "metadata": meta, "stringData": {"key": PlaceOS.api_key}}
    spec = specification(TIMING, {"builtIn": "placeos-postgres-etcd"}, pods.probes())
    made.apply(*accounts, secret, *objects(NAMESPACE, NAME, spec))
    made.resources.wait(NAME, "Healthy", 60)
    yield made
    made.clear()


@pytest.mark.timeout(300)  # it may bring everything up
def test_a_dry_run_an_approval_and_the_record_are_as_the_readme_has_them(place: Place):
    (policy,), console = blocks("yaml"), blocks("console")[0]
    place.cluster.request("POST", path(NAMESPACE, "remediationpolicies"), yaml.safe_load(policy))
    hang_a_driver(place)
    shown = list(dict.fromkeys(_NAME.findall(console)))
    for block in re.split(r"^\$ ", console, flags=re.MULTILINE)[1:]:
        command, _, expected = block.partition("\n")
        _until(place, command)
        told = typed(place, _renamed(command, shown, names(place)))
        if "README_PRINT" in os.environ:
            print(f"$ {command}\n{told}", end="")
        else:
            assert _plain(_renamed(told, names(place), shown)) == _plain(expected), told


def names(place: Place) -> list[str]:
    """Of all Remediations, the first one first."""
    found = sorted(place.all(), key=lambda one: (one["metadata"]["creationTimestamp"], one["spec"]["mode"] != "DryRun"))
    return [one["metadata"]["name"] for one in found]


def _until(place: Place, command: str) -> None:
    """Until what the command is to show is there."""
    phases: Callable[[], list[Any]] = lambda: sorted(phase_of(one) for one in place.all())  # noqa: E731
    if " patch " in command or " approve " in command:
        return
    approved = any("approval" in one["spec"] for one in place.all())
    policy = place.cluster.request("GET", path(NAMESPACE, "remediationpolicies", NAME))
    wanted = ["AwaitingApproval", "DryRun"] if policy["spec"]["mode"] == "Approve" else ["DryRun"]
    wanted = ["DryRun", "Succeeded"] if approved else wanted
    wait_until(lambda: phases() == wanted, 60, f"{wanted}: {place.all()}")


def typed(place: Place, command: str) -> str:
    """What the command prints."""
    found = f"{Path(sys.executable).parent}:{Path(place.cluster.binary).parent}:{os.environ['PATH']}"
    environment = {**os.environ, "PATH": found, "KUBECONFIG": str(place.cluster.kubeconfig)}
    argv = shlex.split(command, comments=True)
    done = subprocess.run(
        argv, env={**environment, "PYTHONPATH": str(ROOT / "operator")}, capture_output=True, text=True, timeout=60,
        check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return done.stdout


def _renamed(text: str, before: list[str], after: list[str]) -> str:
    for old, new in zip(before, after, strict=False):
        text = text.replace(old, new)
    return text


def _plain(text: str) -> list[str]:
    """Its lines without what differs from run to run, which their order does by the names."""
    for pattern, instead in _VARIES:
        text = pattern.sub(instead, text)
    return sorted(line.strip() for line in text.strip().splitlines())
