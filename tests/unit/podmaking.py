"""Pods as the API server tells of them, in the kubelet's shape, for the tests of their judgement."""

from __future__ import annotations

import datetime as dt
from typing import Any

NOW = 1_800_000_000.0
Json = dict[str, Any]


def clock(at: float) -> str:
    return dt.datetime.fromtimestamp(at, dt.UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def waiting(reason: str, message: str = "") -> Json:
    return {"waiting": {"reason": reason} | ({"message": message} if message else {})}


def running(since: float = NOW - 3600) -> Json:
    return {"running": {"startedAt": clock(since)}}


def ended(reason: str = "Error", code: int = 1, at: float = NOW - 5, message: str = "") -> Json:
    told = {"message": message} if message else {}
    times = {"startedAt": clock(at - 2), "finishedAt": clock(at), "containerID": "containerd://0"}
    return {"terminated": {"reason": reason, "exitCode": code, **times, **told}}


def container(
    state: Json | None = None, *, name: str = "main", restarts: int = 0, last: Json | None = None, ready: bool = False
) -> Json:
    image = "registry.example/team/main:1"
    return {
        "name": name,
        "image": image,
        "imageID": "",
        "ready": ready,
        "started": ready,
        "restartCount": restarts,
        "state": state or running(),
        "lastState": last or {},
    }


def condition(kind: str, status: str, since: float, **more: str) -> Json:
    return {"type": kind, "status": status, "lastProbeTime": None, "lastTransitionTime": clock(since), **more}


def pod(
    name: str = "a",
    *containers: Json,
    ready: bool = False,
    phase: str = "Running",
    age: float = 3600,
    since: float | None = None,
    init: tuple[Json, ...] = (),
    scheduled: str = "",
    deleting: bool = False,
    **status: Any,
) -> Json:
    """A pod; `since` is when its condition Ready last changed (default: at its creation), `age` its age in seconds."""
    created = NOW - age
    metadata = {"name": name, "uid": f"uid-{name}", "namespace": "default", "creationTimestamp": clock(created)}
    if deleting:
        metadata["deletionTimestamp"] = clock(NOW)
    no_node = {"reason": "Unschedulable", "message": scheduled}
    conditions = [condition("PodScheduled", "False" if scheduled else "True", created, **no_node if scheduled else {})]
    if not scheduled:
        conditions.append(condition("Ready", "True" if ready else "False", created if since is None else since))
    told: Json = {"phase": phase, "conditions": conditions, **status}
    if containers or not scheduled:
        told["containerStatuses"] = list(containers) or [container(ready=ready)]
    if init:
        told["initContainerStatuses"] = list(init)
    spec = {"containers": [{"name": "main"}]} | ({} if scheduled else {"nodeName": "node-1"})
    return {"metadata": metadata, "spec": spec, "status": told}


def good(name: str = "good", **more: Any) -> Json:
    return pod(name, container(ready=True), ready=True, **more)
