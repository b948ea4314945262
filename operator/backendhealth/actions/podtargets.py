"""One container of one pod, and whether it is still the one that was meant: by pod UID, name, restart count."""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from backendhealth.actions.ports import Acting, Json, Refused, Silent
from backendhealth.core.spec.pods import LabelSelector
from backendhealth.core.spec.remediation import RemediationTarget

MOST = 500
"""Pods that are asked for at a time."""


class Changed(Exception):  # noqa: N818 - what is said of the world
    """The target is not what was meant any more, for good: nothing may be done to it."""


class Unfit(Exception):  # noqa: N818 - what is said of the world
    """Nothing can be done to the target, or it can't be told what it is."""


@dataclass(frozen=True, slots=True)
class Running:
    """A container that runs. `started` is in seconds since the epoch; `pod` and `spec` as the API server has them."""

    pod: Json
    spec: Json
    status: Json
    started: float

    @property
    def restarts(self) -> int:
        """How often it has been restarted."""
        return int(self.status.get("restartCount") or 0)


def path_of(namespace: str, pod: str = "", sub: str = "") -> str:
    """Of a pod, or of all."""
    return "/".join(part for part in (f"/api/v1/namespaces/{namespace}/pods", pod, sub) if part)


async def pods_of(acting: Acting, selector: LabelSelector) -> list[Json]:
    """The pods that the selector finds, by name. Raises Refused, Silent."""
    query = {"labelSelector": selector.text, "limit": str(MOST)}
    listed = await acting.cluster.request("GET", path_of(acting.namespace), query=query)
    pods: list[Json] = listed.get("items") or []
    return sorted(pods, key=lambda pod: str(pod["metadata"]["name"]))


async def pod_now(acting: Acting, target: RemediationTarget) -> Json:
    """The target's pod. Raises Changed when it is gone, Unfit when the API server does not say."""
    try:
        pod = await acting.cluster.request("GET", path_of(acting.namespace, target.name))
    except Refused as refused:
        if refused.status == 404:
            raise Changed(f"pod {target.name} is gone") from None
        raise
    except Silent as silent:
        raise Unfit(str(silent)) from None
    if pod["metadata"]["uid"] != target.uid:
        raise Changed(f"pod {target.name} is another one by now")
    if pod["metadata"].get("deletionTimestamp"):
        raise Changed(f"pod {target.name} is being deleted")
    return pod


async def container_now(acting: Acting, target: RemediationTarget) -> Running:
    """The target's container. Raises Changed, Unfit; Refused when the pod may not be read."""
    pod = await pod_now(acting, target)
    found = running(pod, target.container)
    if found is None:
        raise Changed(f"container {target.container} of pod {target.name} does not run any more")
    if found.restarts != (target.restart_count or 0):
        raise Changed(f"container {target.container} of pod {target.name} was restarted")
    return found


def running(pod: Mapping[str, Any], container: str | None) -> Running | None:
    """The container of that name, or the first one, when it runs."""
    for spec in _containers(pod):
        if container in {None, spec["name"]}:
            statuses = (pod.get("status") or {}).get("containerStatuses") or ()
            status: Json = next((one for one in statuses if one["name"] == spec["name"]), {})
            started = ((status.get("state") or {}).get("running") or {}).get("startedAt")
            return Running(dict(pod), spec, status, dt.datetime.fromisoformat(started).timestamp()) if started else None
    return None


def target_of(found: Running) -> RemediationTarget:
    """What a Remediation names it by."""
    metadata = found.pod["metadata"]
    return RemediationTarget(
        kind="Pod",
        name=metadata["name"],
        uid=metadata["uid"],
        container=found.spec["name"],
        restart_count=found.restarts,
    )


def _containers(pod: Mapping[str, Any]) -> Iterator[Json]:
    yield from pod["spec"].get("containers") or ()
