"""What is judged of a pod, out of the API server's object: a small part of it, for there may be thousands."""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from backendhealth.core.observation import clip

Json = Mapping[str, Any]
_MAX_TEXT = 512
"""Characters kept of the API server's sentences."""
_BY_RUNTIME = frozenset({"StartError", "ContainerCannotRun"})
"""Ends of a container that never ran: the message is the runtime's. Any other may be the program's, secrets and all."""


@dataclass(frozen=True, slots=True)
class Ended:
    """How a container has ended. `at` is in seconds since the epoch, 0 when it is not known."""

    reason: str
    exit_code: int
    at: float
    message: str = ""


@dataclass(frozen=True, slots=True)
class Container:
    """The state of one container: `waiting` for the reason named, else ended, else running since `running`."""

    name: str
    image: str
    ready: bool
    restarts: int
    init: bool = False
    waiting: str = ""
    waiting_message: str = ""
    running: float = 0.0
    ended: Ended | None = None
    last: Ended | None = None
    """How it ended before it was started again."""


@dataclass(frozen=True, slots=True)
class Pod:
    """What is judged of a pod. Times are in seconds since the epoch, 0 when they are not known."""

    name: str
    uid: str
    phase: str
    created: float
    deleting: bool = False
    reason: str = ""
    message: str = ""
    node: str = ""
    ip: str = ""
    ready: bool = False
    ready_changed: float = 0.0
    """When `ready` became what it is."""
    unready_because: str = ""
    unscheduled: str = ""
    """Why it has no node, in the scheduler's words; empty when it has one or none was looked for yet."""
    containers: tuple[Container, ...] = ()

    @property
    def live(self) -> bool:
        """Whether it is to run: not on its way out, not at its end."""
        return not self.deleting and self.phase not in ("Succeeded", "Failed")

    @property
    def restarts(self) -> int:
        """Restarts of all its containers."""
        return sum(container.restarts for container in self.containers)


def pod_of(raw: Json) -> Pod:
    """The pod of the API server's object."""
    metadata, status = raw["metadata"], raw.get("status") or {}
    conditions = {one["type"]: one for one in status.get("conditions") or ()}
    ready, scheduled = conditions.get("Ready") or {}, conditions.get("PodScheduled") or {}
    return Pod(
        name=metadata["name"],
        uid=metadata["uid"],
        phase=status.get("phase") or "Pending",
        created=_time(metadata.get("creationTimestamp")),
        deleting=bool(metadata.get("deletionTimestamp")),
        reason=status.get("reason") or "",
        message=_text(status),
        node=(raw.get("spec") or {}).get("nodeName") or "",
        ip=status.get("podIP") or "",
        ready=ready.get("status") == "True",
        ready_changed=_time(ready.get("lastTransitionTime")),
        unready_because=_text(ready),
        unscheduled=_unscheduled(scheduled),
        containers=tuple(_containers(status)),
    )


def _unscheduled(condition: Json) -> str:
    if condition.get("status") != "False":
        return ""
    return _text(condition) or condition.get("reason") or "no node was found"


def _containers(status: Json) -> Iterator[Container]:
    for field in ("initContainerStatuses", "containerStatuses"):
        for one in status.get(field) or ():
            state, last = one.get("state") or {}, one.get("lastState") or {}
            waiting = state.get("waiting") or {}
            yield Container(
                name=one["name"],
                image=clip(one.get("image") or "", _MAX_TEXT),
                ready=bool(one.get("ready")),
                restarts=one.get("restartCount") or 0,
                init=field.startswith("init"),
                waiting=waiting.get("reason") or ("Waiting" if "waiting" in state else ""),
                waiting_message=_text(waiting),
                running=_time((state.get("running") or {}).get("startedAt")),
                ended=_ended(state.get("terminated")),
                last=_ended(last.get("terminated")),
            )


def _ended(raw: Json | None) -> Ended | None:
    if raw is None:
        return None
    reason = raw.get("reason") or ""
    message = _text(raw) if reason in _BY_RUNTIME else ""
    return Ended(reason, raw.get("exitCode") or 0, _time(raw.get("finishedAt")), message)


def _text(raw: Json) -> str:
    return clip(raw.get("message") or "", _MAX_TEXT)


def _time(text: str | None) -> float:
    return dt.datetime.fromisoformat(text).timestamp() if text else 0.0
