"""The files of examples/ and the lines of the README, on the real cluster."""

from __future__ import annotations

import re
from typing import Any

import pytest
import yaml

from tests.cluster import images
from tests.cluster.access import Kubectl
from tests.cluster.cluster import Cluster
from tests.e2e import backends, platform
from tests.e2e.declared import columns, reasons, wait_for
from tests.e2e.platform import ROOT
from tests.servers.process import wait_until

EXAMPLES = ROOT / "examples"
NAMESPACE = "placeos"
API = "mkdir -p /tmp/w/api/engine/v2; echo {} > /tmp/w/api/engine/v2/index.html; exec httpd -f -p 3000 -h /tmp/w"


def examples(namespace: str) -> list[Any]:
    """The objects of all files, put into a namespace; DiagnosisTests are for the command line alone."""
    objects = [one for file in sorted(EXAMPLES.glob("*.yaml")) for one in yaml.safe_load_all(file.read_text())]
    objects = [one for one in objects if one["kind"] not in ("DiagnosisTest", "RemediationPolicyTest")]
    demo = (EXAMPLES / "demo" / "backendhealth.yaml.in").read_text()
    objects.append(yaml.safe_load(demo.replace("${ETCD_PORT}", "2379").replace("${REDIS_PORT}", "6379")))
    for one in objects:
        one["metadata"]["namespace"] = namespace
        for subject in one.get("subjects", ()):
            subject["namespace"] = subject["namespace"].replace(NAMESPACE, namespace)
    return objects


def pod(name: str, label: str, value: str) -> Any:
    """A pod that an example looks for."""
    container = {"name": "main", "image": images.BUSYBOX, "imagePullPolicy": "Never", "command": ["sleep", "1000"]}
    metadata = {"name": name, "labels": {f"app.kubernetes.io/{label}": value}}
    spec = {"containers": [container], "terminationGracePeriodSeconds": 1}
    return {"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": spec}


def test_each_example_is_taken_and_works_as_far_as_its_backends_are_there(
    installed: Kubectl, own_cluster: Cluster, namespace: str
):
    def seen() -> dict[str, str]:
        return reasons(installed, namespace, "placeos")

    declared = examples(namespace)
    installed.kubectl("-n", namespace, "apply", "-f", "-", input=yaml.safe_dump_all(declared))
    names = {one["metadata"]["name"] for one in declared if one["kind"] == "BackendHealth"}
    assert columns(installed, namespace).keys() == names
    pods = [pod("core-0", "name", "core"), pod("core-1", "name", "core"), pod("driver", "component", "driver")]
    installed.kubectl("-n", namespace, "apply", "-f", "-", input=yaml.safe_dump_all(pods))
    web = {"image": images.BUSYBOX, "command": ["sh", "-c", API]}
    api = backends.Backend("api", web, 3000)
    backends.start(installed, namespace, backends.redis(), backends.etcd(), backends.elasticsearch(), api)

    wait_for(installed, namespace, "workloads", "Healthy")
    wait_for(installed, namespace, "demo", "Unknown", "AddressRefused")  # it is for the command line: loopback
    installed.kubectl("-n", namespace, "annotate", "bh", "placeos", "backendhealth.dev/probe-requested-at=now")
    there = dict.fromkeys(("etcd", "redis", "elasticsearch", "api"), "ProbeSucceeded")
    # no RethinkDB runs here: its Secret was read, its name is looked up in vain
    expected = {**there, "rethinkdb": "DNSNameNotFound"}
    try:
        wait_until(lambda: seen() == expected, 60, "the platform of the example")
    except TimeoutError as error:
        raise AssertionError(f"{error}: {seen()}\n{platform.told(installed)}") from error


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
        platform.run(installed, lines_of_the_readme())
        wait_for(installed, NAMESPACE, "cache", "Unhealthy", "ConnectionRefused")
        assert columns(installed, NAMESPACE).keys() == {"placeos", "workloads", "cache"}
    finally:
        installed.kubectl("delete", "namespace", NAMESPACE, "--ignore-not-found", "--wait=false")
        platform.install(installed, "cluster-wide", product_image)
