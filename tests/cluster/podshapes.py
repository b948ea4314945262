"""`python -m tests.cluster.podshapes`: brings pods into every kind of trouble on a real node and keeps what is told.

Writes tests/data/pods/NAME.json, one list for each name below: the pod each time that its status had changed.
"""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

from tests.cluster import images
from tests.cluster.cluster import Cluster

DATA = Path(__file__).parents[1] / "data" / "pods"
SECONDS = 100.0
MOST = 36
"""States that are kept of one pod."""
UNJUDGED = ("managedFields", "annotations", "resourceVersion", "generation")
Json = dict[str, Any]


def sh(script: str, **more: Any) -> Json:
    """A container that runs a script."""
    return {"image": images.BUSYBOX, "imagePullPolicy": "Never", "command": ["sh", "-c", script], **more}


SLEEP = "trap 'exit 0' TERM; while :; do sleep 0.2; done"
FAILING = {"exec": {"command": ["false"]}, "periodSeconds": 1, "failureThreshold": 1}
SPECS: dict[str, Json] = {
    "ready": {"containers": [sh(SLEEP)]},
    "crash-loop": {"containers": [sh("sleep 1; exit 3")]},
    "oom-loop": {"containers": [sh("tail /dev/zero", resources={"limits": {"memory": "16Mi"}})]},
    "oom-once": {
        "containers": [
            sh(
                f"test -e /kept/x && {{ {SLEEP}; }}; touch /kept/x; tail /dev/zero",
                resources={"limits": {"memory": "16Mi"}},
                volumeMounts=[{"name": "kept", "mountPath": "/kept"}],
            )
        ],
        "volumes": [{"name": "kept", "emptyDir": {}}],
    },
    "image-never": {"containers": [{"image": "localhost/nope:1", "imagePullPolicy": "Never"}]},
    "image-pull": {"containers": [{"image": "registry.invalid/team/nope:1"}]},
    "image-name": {"containers": [{"image": "localhost/UPPER:1"}]},
    "config": {
        "containers": [sh(SLEEP, env=[{"name": "X", "valueFrom": {"secretKeyRef": {"name": "gone", "key": "key"}}}])]
    },
    "start": {"containers": [{**sh(SLEEP), "command": ["/nope"]}]},
    "hook": {"containers": [sh(SLEEP, lifecycle={"postStart": {"exec": {"command": ["false"]}}})]},
    "init-crash": {"initContainers": [sh("exit 4", name="prepare")], "containers": [sh(SLEEP)]},
    "unschedulable": {"containers": [sh(SLEEP, resources={"requests": {"cpu": "100"}})]},
    "gated": {"containers": [sh(SLEEP)], "schedulingGates": [{"name": "example.com/wait"}]},
    "unready": {"containers": [sh(SLEEP, readinessProbe=FAILING)]},
    "liveness": {
        "containers": [sh(SLEEP, livenessProbe=FAILING)],
        "terminationGracePeriodSeconds": 1,
    },
    "no-volume": {
        "containers": [sh(SLEEP, volumeMounts=[{"name": "gone", "mountPath": "/gone"}])],
        "volumes": [{"name": "gone", "configMap": {"name": "gone"}}],
    },
    "completed": {"containers": [sh("exit 0")], "restartPolicy": "Never"},
    "failed": {"containers": [sh("exit 2")], "restartPolicy": "Never"},
    "deleted": {"containers": [sh("trap : TERM; while :; do sleep 1; done")], "terminationGracePeriodSeconds": 30},
}


def main() -> None:
    """Record all at once."""
    with Cluster(say=print) as cluster:
        cluster.kubectl("create", "namespace", "shapes")
        for name, spec in SPECS.items():
            cluster.kubectl("apply", "-f", "-", input=json.dumps(pod(name, spec)))
        seen: dict[str, list[Json]] = {name: [] for name in SPECS}
        began = time.monotonic()
        while time.monotonic() - began < SECONDS:
            for found in cluster.request("GET", "/api/v1/namespaces/shapes/pods")["items"]:
                keep(seen[found["metadata"]["name"]], found)
            last = seen["deleted"][-1:]
            if last and ready(last[0]) and "deletionTimestamp" not in last[0]["metadata"]:
                cluster.kubectl("delete", "pod", "-n", "shapes", "deleted", "--wait=false")
            time.sleep(0.2)
    DATA.mkdir(parents=True, exist_ok=True)
    for name, shapes in seen.items():
        lines = ",\n".join(json.dumps(shape, separators=(",", ":")) for shape in shapes[:MOST])
        (DATA / f"{name}.json").write_text(f"[\n{lines}\n]\n")


def pod(name: str, spec: Json) -> Json:
    """A pod whose containers need no more than what is told about them."""
    for kind in ("containers", "initContainers"):
        for container in spec.get(kind, ()):
            container.setdefault("name", "main")
    metadata = {"name": name, "namespace": "shapes", "labels": {"app": name}}
    return {"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": spec}


def keep(shapes: list[Json], found: Json) -> None:
    """Add the pod if its status is new, without what nobody judges."""
    metadata = {key: value for key, value in found["metadata"].items() if key not in UNJUDGED}
    short = {"metadata": metadata, "spec": {"nodeName": found["spec"].get("nodeName")}, "status": found["status"]}
    if not shapes or (shapes[-1]["status"], shapes[-1]["metadata"]) != (short["status"], short["metadata"]):
        shapes.append(short)


def ready(found: Json) -> bool:
    """Whether its condition Ready is True."""
    return any(one["type"] == "Ready" and one["status"] == "True" for one in found["status"].get("conditions", ()))


if __name__ == "__main__":
    main()
