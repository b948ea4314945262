"""The files of examples/ and the lines of the README, on the real cluster."""

from __future__ import annotations

import re
import subprocess
from collections.abc import Iterator

import pytest
import yaml

from tests.cluster.access import Kubectl
from tests.cluster.cluster import Cluster
from tests.e2e import backends, platform
from tests.e2e.declared import columns, reasons, wait_for
from tests.e2e.platform import ROOT
from tests.e2e.test_secrets import run
from tests.servers.process import wait_until

EXAMPLES = ROOT / "examples"
NAMESPACE = "placeos"


@pytest.fixture
def placeos(installed: Kubectl) -> Iterator[Kubectl]:
    """The namespace that the examples are for."""
    installed.kubectl("create", "namespace", NAMESPACE)
    yield installed
    installed.kubectl("delete", "namespace", NAMESPACE, timeout=60)


def labelled(name: str, key: str, value: str, copies: int) -> backends.Backend:
    """Pods that an example looks for."""
    container = {"image": backends.images.BUSYBOX, "command": ["sleep", "1000"], "readinessProbe": None}
    return backends.Backend(name, container, 80, copies=copies)


def test_each_example_is_applied_and_works_as_far_as_its_backends_are_there(placeos: Kubectl, own_cluster: Cluster):
    platform_of_four = (backends.redis(), backends.etcd(), backends.elasticsearch())
    serve = "mkdir -p /tmp/w/api/engine/v2; echo '{}' > /tmp/w/api/engine/v2/index.html; exec httpd -f -p 3000 -h /tmp/w"
    api = backends.Backend("api", {"image": backends.images.BUSYBOX, "command": ["sh", "-c", serve]}, 3000)
    objects = [one for backend in (*platform_of_four, api) for one in backend.objects(NAMESPACE)]
    placeos.kubectl("apply", "-f", "-", input=yaml.safe_dump_all(objects))
    for name, label, count in (
        ("core", "app.kubernetes.io/name=core", 2),
        ("driver", "app.kubernetes.io/component=driver", 1),
    ):
        for number in range(count):
            placeos.kubectl(
                "-n", NAMESPACE, "run", f"{name}-{number}", f"--image={backends.images.BUSYBOX}", f"--labels={label}",
                "--image-pull-policy=Never", "--command", "--", "sleep", "1000",
            )  # fmt: skip
    files = sorted(EXAMPLES.glob("*.yaml"))
    placeos.kubectl("apply", *(argument for file in files for argument in ("-f", str(file))))
    demo = (EXAMPLES / "demo" / "backendhealth.yaml.in").read_text()
    demo = demo.replace("${ETCD_PORT}", "2379").replace("${REDIS_PORT}", "6379")
    placeos.kubectl("-n", NAMESPACE, "apply", "-f", "-", input=demo)
    names = {one["metadata"]["name"] for file in files for one in yaml.safe_load_all(file.read_text()) if one["kind"] == "BackendHealth"}
    assert names | {"demo"} == columns(placeos, NAMESPACE).keys()

    wait_for(placeos, NAMESPACE, "workloads", "Healthy")
    wait_for(placeos, NAMESPACE, "demo", "Unknown", "AddressRefused")  # it is for the command line: loopback
    there = dict.fromkeys(("etcd", "redis", "elasticsearch", "api"), "ProbeSucceeded")
    # no RethinkDB runs here: its Secret was read, its name is looked up in vain
    expected = {**there, "rethinkdb": "DNSNameNotFound"}

    def as_expected() -> bool:
        placeos.kubectl(
            "-n", NAMESPACE, "annotate", "--overwrite", "bh", "placeos", "backendhealth.dev/probe-requested-at=again"
        )
        return reasons(placeos, NAMESPACE, "placeos") == expected

    try:
        wait_until(as_expected, 60, "the platform of the example")
    except TimeoutError as error:
        raise AssertionError(f"{error}: {reasons(placeos, NAMESPACE, 'placeos')}\n{platform.told(placeos)}") from error


def lines_of_the_readme() -> str:
    """What the README has a newcomer type on a throw-away cluster, from `kubectl apply` on, as a script."""
    text = (ROOT / "README.md").read_text()
    (block,) = re.findall(r"### Try it on a throw-away cluster.*?```console\n(.*?)```", text, re.DOTALL)
    lines = [line.removeprefix("$ ") for line in block.splitlines()]
    assert lines[0] == "make cluster"
    assert lines[-1] == "make cluster-down"
    kept = [line for line in lines[1:-1] if not line.startswith("export ") and "--watch" not in line]
    assert "kubectl apply -k manifests/overlays/cluster-wide" in kept
    return "\n".join(["set -e", f"cd {ROOT}", *kept])


@pytest.mark.timeout(240)
def test_the_lines_of_the_readme(installed: Kubectl, own_cluster: Cluster, product_image: str):
    (image,) = set(re.findall(r"image: (\S+)", (ROOT / "manifests" / "base" / "deployment.yaml").read_text()))
    own_cluster.tag_image(product_image, f"docker.io/library/{image}")  # as `make cluster` does
    try:
        run(installed, lines_of_the_readme())
        wait_for(installed, NAMESPACE, "cache", "Unhealthy", "ConnectionRefused")
        assert columns(installed, NAMESPACE).keys() == {"placeos", "workloads", "cache"}
    finally:
        installed.kubectl("delete", "namespace", NAMESPACE, "--ignore-not-found", timeout=60)
        platform.install(installed, "cluster-wide", product_image)
