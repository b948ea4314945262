"""What each action does, needs and leaves behind: the table that the reference page and the tests of grants go by."""

from __future__ import annotations

from dataclasses import dataclass

Grant = tuple[str, str, str]
"""API group (empty: the core one), resource (with its subresource), verb."""


@dataclass(frozen=True, slots=True)
class ActionInfo:
    """One row: for people, but for `verbs`, which are what the policy's ServiceAccount needs in its namespace."""

    kind: str
    does: str
    verbs: tuple[Grant, ...]
    reversible: str
    seen_by: str


_SIGNALS: tuple[Grant, ...] = (
    ("", "pods", "list"),
    ("", "pods", "get"),
    ("", "pods/log", "get"),
    ("", "pods/exec", "create"),
    ("", "pods/exec", "get"),
    ("", "pods/ephemeralcontainers", "patch"),
)
"""The last one is needed only for images without a shell."""
_KINDS = ("deployments", "statefulsets", "daemonsets")
_SECRET: tuple[Grant, ...] = (("", "secrets", "get"),)

_TABLE = (
    ActionInfo(
        "debugLogs",
        "Turns verbose logs on by SIGUSR1, and off again after `revertAfter`.",
        _SIGNALS,
        "By itself, by a Remediation of its own that is made together with it. Where the container restarts meanwhile"
        " nothing is left to take back; a level other than the default comes back with a restart only.",
        "The log line that `confirm` matches, within `confirmWithin`.",
    ),
    ActionInfo(
        "signal",
        "Sends a signal to processes that have a handler for it.",
        _SIGNALS,
        "No: what a process makes of a signal is its own affair.",
        "The log line that `confirm` matches; without `confirm`, that the signal was taken.",
    ),
    ActionInfo(
        "restartPods",
        "Evicts or deletes one pod, which its controller replaces.",
        (("", "pods", "list"), ("", "pods", "get"), ("", "pods", "delete"), ("", "pods/eviction", "create")),
        "No: the pod is gone, and with it its memory and its ephemeral volumes.",
        "A new pod of the same controller that is ready, within `readyWithin`.",
    ),
    ActionInfo(
        "rolloutRestart",
        "Makes a rollout of a workload as it is, by an annotation on its pod template.",
        tuple(("apps", kind, verb) for kind in _KINDS for verb in ("get", "patch")),
        "No; the annotation `backendhealth.dev/restarted-at` stays.",
        "The rollout is complete, as `kubectl rollout status` judges it, within `readyWithin`.",
    ),
    ActionInfo(
        "restartDriver",
        "Ends the process of one driver on one core of PlaceOS, which launches it anew.",
        _SECRET,
        "No: the driver's connections and memory are gone; its modules' settings are not.",
        "The driver was launched once more and stays running, within `runningWithin`.",
    ),
    ActionInfo(
        "reloadDriver",
        "Loads one driver of PlaceOS anew on all cores.",
        _SECRET,
        "No: the driver's connections and memory are gone; its modules' settings are not.",
        "The driver runs on all cores, within `runningWithin`.",
    ),
)

INFO: dict[str, ActionInfo] = {one.kind: one for one in _TABLE}
"""By Action.kind."""
