"""Pods of a real kubelet in every kind of trouble (made by `python -m tests.cluster.podshapes`), and what is told."""

from __future__ import annotations

import datetime as dt
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from backendhealth.core.observation import Finding
from backendhealth.core.pods import pod_of
from backendhealth.core.podstate import Restarts, judged, remembered
from backendhealth.core.reasons import Reason
from backendhealth.core.spec.pods import PodsProbe

DATA = Path(__file__).parents[1] / "data" / "pods"
TARGET = PodsProbe.model_validate({"selector": {"matchLabels": {"app": "x"}}})
LAST = {
    "ready": (Reason.PROBE_SUCCEEDED, "1 of 1 pods are ready"),
    "crash-loop": (Reason.CRASH_LOOP_BACK_OFF, "container main keeps crashing: it ended with exit code 3 at "),
    "oom-loop": (Reason.OOM_KILLED, "container main was killed for using more memory than its limit at "),
    "oom-once": (Reason.PODS_DEGRADED, "container main was killed for using more memory than its limit at "),
    "image-never": (Reason.IMAGE_PULL_FAILED, "(ErrImageNeverPull): Container image"),
    "image-pull": (Reason.IMAGE_PULL_FAILED, "container main can't get its image"),
    "image-name": (Reason.IMAGE_PULL_FAILED, "(InvalidImageName): Failed to apply default image tag"),
    "config": (Reason.CONTAINER_CONFIG_ERROR, '(CreateContainerConfigError): secret "gone" not found'),
    "start": (Reason.CONTAINER_START_FAILED, "/nope: no such file or directory"),
    "hook": (Reason.CRASH_LOOP_BACK_OFF, "container main keeps crashing"),
    "init-crash": (Reason.CRASH_LOOP_BACK_OFF, "init container prepare keeps crashing: it ended with exit code 4 at "),
    "unschedulable": (Reason.UNSCHEDULABLE, "no node takes it: 0/1 nodes are available: 1 Insufficient cpu"),
    "gated": (Reason.UNSCHEDULABLE, "Scheduling is blocked due to non-empty scheduling gates"),
    "unready": (Reason.NOT_ENOUGH_READY, "container main runs, but its readiness probe fails"),
    "liveness": (Reason.CRASH_LOOP_BACK_OFF, "container main keeps crashing"),
    "no-volume": (Reason.NOT_ENOUGH_READY, "(container main): if it stays so, its events tell of volumes"),
    "completed": (Reason.NO_PODS, "0 being deleted, 1 ended"),
    "failed": (Reason.POD_FAILED, "it has failed: container main has ended with exit code 2 at "),
    "deleted": (Reason.NO_PODS, "1 being deleted, 0 ended"),
}


def newest(shape: dict[str, Any]) -> float:
    """The newest time that the object tells of, in seconds since the epoch."""

    def times(node: Any) -> Iterator[float]:
        if isinstance(node, dict | list):
            for value in node.values() if isinstance(node, dict) else node:
                yield from times(value)
        elif isinstance(node, str) and node.endswith("Z"):
            yield dt.datetime.fromisoformat(node).timestamp()

    return max(times(shape))


def findings(name: str) -> list[Finding]:
    """What is told of each state of one pod, as they came."""
    history: Restarts = {}
    found = []
    for shape in json.loads((DATA / f"{name}.json").read_text()):
        now = newest(shape)
        history = remembered(history, [pod_of(shape)], now, 600)
        found.append(judged(TARGET, [pod_of(shape)], history, now))
    return found


def test_every_recording_is_judged():
    assert {path.stem for path in DATA.glob("*.json")} == set(LAST)


@pytest.mark.parametrize("name", LAST)
def test_what_is_told_in_the_end(name: str):
    reason, words = LAST[name]
    last = findings(name)[-1]
    assert last.reason is reason
    assert words in last.message


@pytest.mark.parametrize("name", ["crash-loop", "oom-loop", "init-crash", "liveness"])
def test_who_keeps_crashing_never_seems_to_be_well_in_between(name: str):
    reason, _ = LAST[name]
    told = [finding.reason for finding in findings(name)]
    assert len(told) > 10
    assert set(told[told.index(reason) :]) == {reason}


def test_nothing_is_healthy_before_it_is_ready():
    for name in ("image-never", "image-pull", "image-name", "config", "start", "init-crash", "unready", "no-volume"):
        assert Reason.PROBE_SUCCEEDED not in {finding.reason for finding in findings(name)}, name
