"""The way into a container whose image has no shell: an ephemeral container beside it, which sends the signal.

It can't be taken away again, and when it starts is not in our hands: so it is told until when it may act, and which pod
and container are meant; see `actions.sender`. Its name is made of what it is for, and a pod takes each name once.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import secrets
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from backendhealth.actions.podtargets import Running, path_of
from backendhealth.actions.ports import Acting, Effect, Json, Outcome, Refused, Silent
from backendhealth.actions.said import Said, unknown
from backendhealth.actions.sender import Wish
from backendhealth.core.observation import clip
from backendhealth.core.spec.remediation import RemediationSpec

START_WITHIN = 60.0
"""Seconds that the helper has to start, its image to be pulled: after them it does nothing."""
GRACE = 10.0
"""Seconds after that until nobody waits any more."""
_LOOK_AGAIN = 0.3
_PATCH = "application/strategic-merge-patch+json"
_SEALED = {
    "allowPrivilegeEscalation": False,
    "capabilities": {"drop": ["ALL"]},
    "readOnlyRootFilesystem": True,
    "seccompProfile": {"type": "RuntimeDefault"},
}


async def deliver(acting: Acting, spec: RemediationSpec, found: Running, wish: Wish, what: str) -> Outcome:
    """Send the signal to processes of the container `found`. Raises Refused, Silent, Stop."""
    name = name_of(spec)
    if any(one["name"] == name for one in found.pod["spec"].get("ephemeralContainers") or ()):
        return Outcome(Effect.NOT_DONE, f"helper container {name} is there already: it may have been sent before")
    user = _user(found)
    if user is None:
        told = "its user is not known: set runAsUser in its securityContext"
        return Outcome(Effect.NOT_DONE, f"container {found.spec['name']} can't be sent a signal: {told}")
    wish = replace(wish, not_after=acting.clock() + START_WITHIN)
    patch = _patch(acting, found, wish, name, user)
    path = path_of(acting.namespace, spec.target.name, "ephemeralcontainers")
    await acting.fence(f"send {what}, by helper container {name}")
    await acting.cluster.request("PATCH", path, body=patch, content_type=_PATCH)
    return await _outcome(acting, spec, wish, name, what)


def name_of(spec: RemediationSpec) -> str:
    """The helper's name: the same for the same Remediation, whoever carries it out, and for no other."""
    told = spec.model_dump_json(exclude={"approval"}, by_alias=True)
    return f"backendhealth-{hashlib.sha256(told.encode()).hexdigest()[:16]}"


def _patch(acting: Acting, found: Running, wish: Wish, name: str, user: Json) -> Json:
    arguments = {
        "--signal": wish.signal,
        "--process": wish.process,
        "--pod-uid": wish.pod_uid,
        "--started": f"{wish.started:.0f}",
        "--not-after": f"{wish.not_after:.0f}",
        # another one's patch of the same name is then no repetition but a change, and that the API server refuses
        "--claim": secrets.token_hex(4),
    }
    helper = {
        "name": name,
        "image": acting.helper_image,
        "imagePullPolicy": "IfNotPresent",
        "command": ["python", "-I", "-m", "backendhealth.actions.sender"],
        "args": [f"{key}={value}" for key, value in arguments.items()],
        "targetContainerName": found.spec["name"],
        "securityContext": {**_SEALED, **user},
        "terminationMessagePolicy": "File",
    }
    return {"metadata": {"uid": found.pod["metadata"]["uid"]}, "spec": {"ephemeralContainers": [helper]}}


def _user(found: Running) -> Json | None:
    """User and group of the container, without whom no signal is let through; None when nobody tells."""
    own, pods = found.spec.get("securityContext") or {}, found.pod["spec"].get("securityContext") or {}
    seen = ((found.status.get("user") or {}).get("linux")) or {}
    user = _first(own.get("runAsUser"), pods.get("runAsUser"), seen.get("uid"))
    if user is None:
        return None
    group = _first(own.get("runAsGroup"), pods.get("runAsGroup"), seen.get("gid"))
    return {"runAsUser": user, "runAsNonRoot": user != 0} | ({} if group is None else {"runAsGroup": group})


def _first(*values: int | None) -> int | None:
    return next((value for value in values if value is not None), None)


async def _outcome(acting: Acting, spec: RemediationSpec, wish: Wish, name: str, what: str) -> Outcome:
    """Wait for the helper's end, and read what it has told."""
    state: Mapping[str, Any] = {}
    while acting.clock() < wish.not_after + GRACE:
        try:
            pod = await acting.cluster.request("GET", path_of(acting.namespace, spec.target.name))
        except Refused as refused:
            return unknown(what, refused.message)
        except Silent:
            pod = {}  # it may answer again
        if pod and pod["metadata"]["uid"] != spec.target.uid:
            return unknown(what, f"pod {spec.target.name} is gone")
        state = _statuses(pod).get(name, state) if pod else state
        if "terminated" in state:
            # not the time now: the line that confirms it may be logged long before the helper's end is known here
            return _told(state["terminated"].get("message") or "", what, wish.not_after - START_WITHIN)
        await asyncio.sleep(_LOOK_AGAIN)
    if "waiting" in state:
        told = f"helper container {name} has not started in time: {state['waiting'].get('reason') or 'it waits'}"
        return Outcome(Effect.NOT_DONE, clip(f"did not send {what}: {told}; should it start later, it does nothing"))
    return unknown(what, f"helper container {name} has not ended")


def _statuses(pod: Mapping[str, Any]) -> dict[str, Json]:
    statuses = (pod.get("status") or {}).get("ephemeralContainerStatuses") or ()
    return {one["name"]: one.get("state") or {} for one in statuses}


def _told(message: str, what: str, at: float) -> Outcome:
    try:
        told = json.loads(message)
        pids, missed = (tuple(int(pid) for pid in told[key]) for key in ("sent", "not_sent"))
        said = Said(pids, missed, str(told["because"]))
    except (ValueError, TypeError, KeyError):
        return unknown(what, f"the helper said {message!r}")
    return said.outcome(what, at)
