"""Remediations that a person asks for: made under the guards of a policy, and watched until their end."""

from __future__ import annotations

import asyncio
import re
import secrets
import time
from collections.abc import Sequence

from backendhealth.cli.plugin.reading import REMEDIATIONS, Done, Governed, done, policies, remediation
from backendhealth.cli.plugin.session import BadInput, Json, No, Session
from backendhealth.cli.plugin.showing import say, word
from backendhealth.core.spec.actions import Action
from backendhealth.core.spec.backendhealth import API_VERSION
from backendhealth.core.spec.remediation import REMEDIATION_KIND, PolicyRef, RemediationSpec, RemediationTarget, Revert
from backendhealth.core.spec.remediationrules import summary_of
from backendhealth.core.statusof import timestamp
from backendhealth.kube.api import ApiError

WAITS = 600.0
"""Seconds for which something asked for by hand may wait for what holds it, until it expires."""
PATIENCE = 900.0
"""Seconds for which its end is waited for."""
_POLL = 0.5
_MAX_NAME = 63


async def policy_of(session: Session, wanted: str | None) -> Governed:
    """The policy under whose guards it is done: the one named, or the only one. Raises BadInput."""
    found = await policies(session)
    names = ", ".join(sorted(one.name for one in found))
    chosen = [one for one in found if wanted in {None, one.name}]
    if len(chosen) == 1:
        return chosen[0]
    if not found:
        raise BadInput(
            f"no RemediationPolicy in the namespace {session.namespace}: its limits and its identity are needed"
        )
    if wanted:
        raise BadInput(f"no RemediationPolicy {wanted} in the namespace {session.namespace}: there are {names}")
    raise BadInput(f"there are several policies: choose with --policy one of {names}")


async def ask(  # noqa: PLR0913, PLR0917 - all that it is made of
    session: Session,
    policy: Governed,
    action: Action,
    target: RemediationTarget,
    user: str,
    revert: Revert | None = None,
) -> Done:
    """Create one. Raises ApiError, ApiUnavailable."""
    spec = RemediationSpec(
        summary=summary_of(action.kind, revert=revert is not None),
        policy_ref=PolicyRef(name=policy.name, uid=policy.uid, generation=policy.policy.metadata.generation),
        requested_by=user,
        target=target,
        action=action,
        revert=revert,
        not_after=timestamp(time.time() + WAITS),
    )
    body: Json = {
        "apiVersion": API_VERSION,
        "kind": REMEDIATION_KIND,
        "metadata": {"name": _name(action.kind, target.name)},
        "spec": spec.model_dump(mode="json", by_alias=True, exclude_none=True),
    }
    made = done(await session.api.request("POST", session.path(REMEDIATIONS), body=body))
    if made is None:
        raise BadInput("the API server's answer can't be understood by this version: update kubectl-backendhealth")
    say(f"{made.name}: {action.kind} on {target.kind} {target.name}, asked for by {user}")
    return made


def _name(kind: str, target: str) -> str:
    ending = f"-{secrets.token_hex(4)}"
    readable = re.sub(r"[^a-z0-9]+", "-", f"{kind}-{target}".lower()).strip("-")
    return readable[: _MAX_NAME - len(ending)].rstrip("-") + ending


async def until_final(session: Session, asked: Sequence[Done]) -> list[Done]:
    """Wait for the end of all, telling each phase. Raises No when it takes too long."""
    ends = time.monotonic() + PATIENCE
    return list(await asyncio.gather(*(_follow(session, one, ends) for one in asked)))


async def _follow(session: Session, one: Done, ends: float) -> Done:
    phase = ""
    while True:
        if one.status.phase != phase:
            phase = one.status.phase
            say(f"{one.name}: {word(phase)}{f': {one.status.message}' if one.status.message else ''}")
        if one.final:
            return one
        if time.monotonic() > ends:
            raise No(f"{one.name} is still {phase}: `kubectl get remediation {one.name}` tells how it goes on")
        await asyncio.sleep(_POLL)
        one = await remediation(session, one.name)


async def running_pods(session: Session, target: str) -> list[Json]:
    """Pods of `pod/NAME`, `deployment/NAME` …, `component/NAME`, or the pod of that name. Raises BadInput, ApiError."""
    kind, _, name = target.rpartition("/")
    core = f"/api/v1/namespaces/{session.namespace}/pods"
    match kind:
        case "" | "pod" | "pods" | "po":
            try:
                return [await session.api.request("GET", f"{core}/{name}")]
            except ApiError as error:
                if error.status != 404:
                    raise
                raise BadInput(
                    f"no pod {name} in the namespace {session.namespace}; deployment/NAME, statefulset/NAME"
                    " and component/NAME are understood, too"
                ) from None
        case "component":
            selectors = await _of_component(session, name)
        case _:
            selectors = [await _of_workload(session, kind, name)]
    pods: dict[str, Json] = {}
    for selector in selectors:
        found, _ = await session.api.list(core, {"labelSelector": selector})
        pods |= {one["metadata"]["name"]: one for one in found if not one["metadata"].get("deletionTimestamp")}
    if not pods:
        raise BadInput(f"{target} has no pod in the namespace {session.namespace} now")
    return [pods[name] for name in sorted(pods)]


_WORKLOADS = {
    **dict.fromkeys(("deployment", "deployments", "deploy"), "deployments"),
    **dict.fromkeys(("statefulset", "statefulsets", "sts"), "statefulsets"),
    **dict.fromkeys(("daemonset", "daemonsets", "ds"), "daemonsets"),
}


async def _of_workload(session: Session, kind: str, name: str) -> str:
    plural = _WORKLOADS.get(kind)
    if plural is None:
        raise BadInput(
            f"{kind}/{name}: give pod/NAME, deployment/NAME, statefulset/NAME, daemonset/NAME or component/NAME"
        )
    try:
        found = await session.api.request("GET", f"/apis/apps/v1/namespaces/{session.namespace}/{plural}/{name}")
    except ApiError as error:
        if error.status != 404:
            raise
        raise BadInput(f"no {kind} {name} in the namespace {session.namespace}") from None
    labels = (found["spec"].get("selector") or {}).get("matchLabels") or {}
    if not labels:
        raise BadInput(f"{kind}/{name} selects its pods by expressions alone: name the pods")
    return ",".join(f"{key}={value}" for key, value in labels.items())


async def _of_component(session: Session, name: str) -> list[str]:
    from backendhealth.core.validate import validate  # noqa: PLC0415 - only this way of naming needs it

    selectors: list[str] = []
    for raw in await session.list("backendhealths"):
        resource, _ = validate({key: value for key, value in raw.items() if key != "status"})
        probes = resource.spec.probes if resource else []
        mine = [one.pods for one in probes if one.component_name == name and one.pods is not None]
        selectors += [pods.selector.text for pods in mine]
    if not selectors:
        raise BadInput(f"no BackendHealth of {session.namespace} watches pods of a component {name}: name the pods")
    return selectors
