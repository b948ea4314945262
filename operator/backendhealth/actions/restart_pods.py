"""Pods deleted or evicted, so that their owner replaces them: one at a time, each at most once in an incident."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator, Mapping

from backendhealth.actions.podtargets import Changed, Unfit, path_of, pod_now, pods_of
from backendhealth.actions.ports import Acting, Effect, Json, Outcome, Silent
from backendhealth.core.durations import seconds
from backendhealth.core.pods import pod_of
from backendhealth.core.podstate import remembered, restarted
from backendhealth.core.podtroubles import Trouble, trouble_of, worth
from backendhealth.core.remediation.situation import Component
from backendhealth.core.spec.actions import AnyAction, RestartPods
from backendhealth.core.spec.pods import PodsProbe
from backendhealth.core.spec.remediation import RemediationSpec, RemediationTarget

_WINDOW = seconds(str(PodsProbe.model_fields["restart_window"].default))
_DIGEST = 5  # characters of a pod's UID, digested, that one of its owner's other pods is known by
_SECOND = 1.0
"""When a pod was created is told in whole seconds: one of the very second in which it began may be a replacement."""
_LINE = 250
_LINES = 12


class RestartPodsPerformer:
    """See actions.ports.Performer."""

    async def targets(self, acting: Acting, action: AnyAction, component: Component) -> list[RemediationTarget]:
        """The next pod; none while a replacement is on its way, and none of the incident's own replacements."""
        action = _restart_pods(action)
        pods = await pods_of(acting, action.pod_selector)
        if any(pod["metadata"].get("deletionTimestamp") or _is_starting(pod, acting.clock()) for pod in pods):
            return []
        old = [pod for pod in pods if _owner(pod) and pod_of(pod).created + _SECOND <= component.since]
        chosen = list(_chosen(old, action, component, acting.clock()))
        return [
            RemediationTarget(kind="Pod", name=pod["metadata"]["name"], uid=pod["metadata"]["uid"])
            for pod in chosen[:1]
        ]

    async def perform(self, acting: Acting, spec: RemediationSpec) -> Outcome:
        """Delete or evict it, if it is still that pod, and one of those that are meant."""
        action = _restart_pods(spec.action.does)
        try:
            pod = await pod_now(acting, spec.target)
            others = await self._others(acting, action, pod)
            if action.pods == "Troubled" and _trouble(pod, acting.clock()) is None:
                return Outcome(Effect.NOT_DONE, f"pod {spec.target.name} is not in trouble any more", needless=True)
        except (Changed, Unfit, Silent) as why:
            return Outcome(Effect.NOT_DONE, f"{why}: nothing was done")
        facts = {"owner": str(_owner(pod)["uid"]), **_packed(others)}
        path, name = path_of(acting.namespace, spec.target.name), spec.target.name
        options = {"preconditions": {"uid": spec.target.uid}}
        if action.method == "Evict":
            metadata = {"name": name, "namespace": acting.namespace}
            eviction = {"apiVersion": "policy/v1", "kind": "Eviction", "metadata": metadata, "deleteOptions": options}
            await acting.fence(f"evict pod {name}")
            await acting.cluster.request("POST", f"{path}/eviction", body=eviction)
            return Outcome(Effect.DONE, f"evicted pod {name}", facts)
        await acting.fence(f"delete pod {name}")
        await acting.cluster.request("DELETE", path, body={"apiVersion": "v1", "kind": "DeleteOptions", **options})
        return Outcome(Effect.DONE, f"deleted pod {name}", facts)

    async def verified(self, acting: Acting, spec: RemediationSpec, facts: Mapping[str, str]) -> str | None:
        """Whether that pod is gone, and one that was not there before is ready under the same owner."""
        pods = await pods_of(acting, _restart_pods(spec.action.does).pod_selector)
        if any(pod["metadata"]["uid"] == spec.target.uid for pod in pods):
            return None
        known = set(_unpacked(facts))
        owned = [pod for pod in pods if _owner(pod).get("uid") == facts["owner"]]
        new = [pod_of(pod) for pod in owned if _digest(pod["metadata"]["uid"]) not in known]
        return "" if any(pod.live and pod.ready for pod in new) else None

    async def _others(self, acting: Acting, action: RestartPods, pod: Json) -> list[str]:
        """UIDs of the owner's pods, this one too. Raises Unfit."""
        owner = _owner(pod)
        if not owner:
            raise Unfit(f"pod {pod['metadata']['name']} has no controller that would replace it")
        pods = await pods_of(acting, action.pod_selector)
        return [one["metadata"]["uid"] for one in pods if _owner(one).get("uid") == owner["uid"]]


def _restart_pods(action: AnyAction) -> RestartPods:
    if not isinstance(action, RestartPods):
        raise TypeError("not restartPods")
    return action


def _chosen(pods: Iterable[Json], action: RestartPods, component: Component, now: float) -> Iterator[Json]:
    live = [pod for pod in pods if pod_of(pod).live]
    match action.pods:
        case "All":
            yield from live
        case "Subjects":
            named = {subject.name for subject in component.subjects}
            yield from (pod for pod in live if f"pod/{pod['metadata']['name']}" in named)
        case "Troubled":
            found = [(worth(trouble), pod) for pod in live if (trouble := _trouble(pod, now))]
            yield from (pod for _, pod in sorted(found, key=lambda one: one[0]))


def _trouble(raw: Json, now: float) -> Trouble | None:
    """What ails the pod, if it is more than that it is just starting."""
    pod = pod_of(raw)
    trouble = trouble_of(pod, now, _WINDOW, restarted(remembered({}, [pod], now, _WINDOW), pod))
    return None if trouble is None or trouble.passing else trouble


def _is_starting(raw: Json, now: float) -> bool:
    pod = pod_of(raw)
    trouble = trouble_of(pod, now, _WINDOW, {})
    return pod.live and trouble is not None and trouble.passing


def _owner(pod: Json) -> Json:
    """The controller that replaces the pod, empty when nothing does: a node only owns what it makes itself."""
    owners = pod["metadata"].get("ownerReferences") or ()
    return next((one for one in owners if one.get("controller") and one["kind"] != "Node"), {})


def _digest(uid: str) -> str:
    return hashlib.sha256(uid.encode()).hexdigest()[:_DIGEST]


def _packed(uids: Iterable[str]) -> dict[str, str]:
    """Who they are, in as few characters as will do."""
    text = "".join(_digest(uid) for uid in uids)
    lines = [text[start : start + _LINE] for start in range(0, len(text), _LINE)]
    return {f"known-{number}": line for number, line in enumerate(lines[:_LINES])}


def _unpacked(facts: Mapping[str, str]) -> Iterator[str]:
    for key, line in facts.items():
        if key.startswith("known-"):
            yield from (line[start : start + _DIGEST] for start in range(0, len(line), _DIGEST))
