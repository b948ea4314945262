"""The `pods` probe and what a real kubelet, scheduler and Deployment controller make of pods."""

from __future__ import annotations

import json
from typing import Any

from backendhealth.core.reasons import Reason
from backendhealth.kube.api import connect
from tests.cluster import images
from tests.cluster.access import Kubectl
from tests.kube.watched import Watched, watching

RUNS = "trap 'exit 0' TERM; while :; do sleep 0.2; done"


def deployment(script: str = RUNS, image: str = images.BUSYBOX, **container: Any) -> str:
    """A Deployment of one pod `app: core` that runs a script."""
    main = {"name": "main", "image": image, "imagePullPolicy": "Never", "command": ["sh", "-c", script], **container}
    labels = {"app": "core"}
    template = {"metadata": {"labels": labels}, "spec": {"containers": [main], "terminationGracePeriodSeconds": 1}}
    spec = {"replicas": 1, "selector": {"matchLabels": labels}, "template": template}
    return json.dumps({"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "core"}, "spec": spec})


async def test_a_deployment_through_its_troubles(cluster: Kubectl, namespace: str):
    def apply(manifest: str) -> None:
        cluster.kubectl("apply", "-n", namespace, "-f", "-", input=manifest)

    def only_reason(watched: Watched) -> list[str]:
        return [one.reason for one in watched.probe.subjects]

    async with await connect(str(cluster.kubeconfig), None) as api, watching(api, namespace) as watched:
        await watched.until(Reason.NO_PODS)
        apply(deployment())
        await watched.until(Reason.PROBE_SUCCEEDED, timeout=30)
        # a rollout that hangs: the old pod serves on
        apply(deployment(image="localhost/nope:1"))
        await watched.until(Reason.PODS_DEGRADED, timeout=30)
        assert only_reason(watched) == [Reason.IMAGE_PULL_FAILED]
        # and one that goes through: never a moment without a ready pod
        before = len(watched.told)
        apply(deployment(env=[{"name": "VERSION", "value": "2"}]))
        await watched.until(Reason.PROBE_SUCCEEDED, timeout=30)
        cluster.kubectl("rollout", "status", "-n", namespace, "deployment/core", "--timeout=30s")
        assert {status.probes[0].verdict for _, status in watched.told[before:]} == {"Healthy"}
        cluster.kubectl("scale", "-n", namespace, "deployment/core", "--replicas=0")
        await watched.until(Reason.NO_PODS, timeout=30)
        apply(deployment("exit 3"))
        await watched.until(Reason.CRASH_LOOP_BACK_OFF, timeout=60)
        apply(deployment(resources={"requests": {"cpu": "100"}}))
        cluster.kubectl("delete", "pod", "-n", namespace, "-l", "app=core", "--wait=false")
        await watched.until(Reason.UNSCHEDULABLE, timeout=60)
        assert "Insufficient cpu" in watched.probe.message
