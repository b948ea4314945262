"""A rollout of a workload as it is: the pod template gets an annotation, by server-side apply.

The annotation is the only field that our field manager has. A GitOps controller that applies its own manifest by
server-side apply (Flux, Argo CD with ServerSideApply) or by a three-way merge (Argo CD) leaves it there. Flux takes
over, and then removes, what managers have set whose name begins with `kubectl`: so ours must not. Who replaces the
whole object (`kubectl replace`, Argo CD with Replace=true, some operators) removes the annotation, and that makes
another rollout: it can't be prevented, but is seen, and said.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Mapping

from backendhealth.actions.ports import Acting, Effect, Json, Outcome, Silent
from backendhealth.core.remediation.situation import Component
from backendhealth.core.spec.actions import AnyAction, RolloutRestart
from backendhealth.core.spec.remediation import RemediationSpec, RemediationTarget

ANNOTATION = "backendhealth.dev/restarted-at"
_APPLY = "application/apply-patch+yaml"
_PLURALS = {"Deployment": "deployments", "StatefulSet": "statefulsets", "DaemonSet": "daemonsets"}


class RolloutRestartPerformer:
    """See actions.ports.Performer."""

    async def targets(self, acting: Acting, action: AnyAction, component: Component) -> list[RemediationTarget]:  # noqa: ARG002
        """The workload. Raises Refused when there is none."""
        workload = _rollout_restart(action).workload
        found = await acting.cluster.request("GET", _path(acting, workload.kind, workload.name))
        uid = found["metadata"]["uid"]
        return [RemediationTarget(kind="Workload", name=f"{workload.kind}/{workload.name}", uid=uid)]

    async def perform(self, acting: Acting, spec: RemediationSpec) -> Outcome:
        """Set the annotation anew, if it is still that workload, and one that would roll out."""
        try:
            found = await self._now(acting, spec)
        except Silent as silent:
            return Outcome(Effect.NOT_DONE, f"{silent}: nothing was done")
        kind, _, name = spec.target.name.partition("/")
        if found["metadata"]["uid"] != spec.target.uid:
            return Outcome(Effect.NOT_DONE, f"{spec.target.name} is another one by now")
        if why := _why_not(kind, found["spec"]):
            return Outcome(Effect.NOT_DONE, f"{spec.target.name} would not roll out: {why}")
        at = dt.datetime.fromtimestamp(acting.clock(), dt.UTC).isoformat(timespec="milliseconds")
        body = {
            "apiVersion": "apps/v1",
            "kind": kind,
            "metadata": {"name": name, "uid": spec.target.uid},  # with it, nothing is made that is not there
            "spec": {"template": {"metadata": {"annotations": {ANNOTATION: at}}}},
        }
        query = {"fieldManager": acting.field_manager, "force": "true"}
        await acting.fence(f"restart {spec.target.name} by a rollout")
        done = await acting.cluster.request(
            "PATCH", _path(acting, kind, name), query=query, body=body, content_type=_APPLY
        )
        facts = {"restartedAt": at, "generation": str(done["metadata"]["generation"])}
        return Outcome(Effect.DONE, f"rollout of {spec.target.name} begun", facts)

    async def verified(self, acting: Acting, spec: RemediationSpec, facts: Mapping[str, str]) -> str | None:
        """Whether the rollout is complete, as `kubectl rollout status` judges it."""
        found = await self._now(acting, spec)
        if found["metadata"]["uid"] != spec.target.uid:
            return f"{spec.target.name} is another one by now"
        annotations = found["spec"]["template"]["metadata"].get("annotations") or {}
        if annotations.get(ANNOTATION) != facts["restartedAt"]:
            return (
                f"somebody has replaced {spec.target.name} and removed our annotation: it rolls out once more;"
                " use restartPods for what is replaced as a whole"
            )
        if (found.get("status") or {}).get("observedGeneration", 0) < int(facts["generation"]):
            return None
        return _STATES[spec.target.name.partition("/")[0]](found["spec"], found["status"])

    async def _now(self, acting: Acting, spec: RemediationSpec) -> Json:
        kind, _, name = spec.target.name.partition("/")
        return await acting.cluster.request("GET", _path(acting, kind, name))


def _rollout_restart(action: AnyAction) -> RolloutRestart:
    if not isinstance(action, RolloutRestart):
        raise TypeError("not rolloutRestart")
    return action


def _path(acting: Acting, kind: str, name: str) -> str:
    return f"/apis/apps/v1/namespaces/{acting.namespace}/{_PLURALS[kind]}/{name}"


def _why_not(kind: str, spec: Json) -> str:
    """What keeps a changed template from being rolled out; empty when nothing does."""
    if spec.get("paused"):
        return "it is paused"
    if kind != "DaemonSet" and spec.get("replicas") == 0:
        return "it is scaled to zero"
    strategy = spec.get("updateStrategy") or {}
    if strategy.get("type") == "OnDelete":
        return "its update strategy is OnDelete"
    if (strategy.get("rollingUpdate") or {}).get("partition"):
        return "its update strategy has a partition"
    return ""


def _deployment(spec: Json, status: Json) -> str | None:
    for one in status.get("conditions") or ():
        if one["type"] == "Progressing" and one.get("reason") == "ProgressDeadlineExceeded":
            return f"the rollout is stuck: {one.get('message') or 'its deadline passed'}"
    updated = status.get("updatedReplicas", 0)
    complete = updated >= spec["replicas"] and status.get("replicas", 0) <= updated
    return "" if complete and status.get("availableReplicas", 0) >= updated else None


def _stateful_set(spec: Json, status: Json) -> str | None:
    ready = status.get("readyReplicas", 0) >= spec["replicas"] and status.get("updatedReplicas", 0) >= spec["replicas"]
    return "" if ready and status.get("updateRevision") == status.get("currentRevision") else None


def _daemon_set(_spec: Json, status: Json) -> str | None:
    desired = status.get("desiredNumberScheduled", 0)
    complete = status.get("updatedNumberScheduled", 0) >= desired
    return "" if complete and status.get("numberAvailable", 0) >= desired else None


_STATES = {"Deployment": _deployment, "StatefulSet": _stateful_set, "DaemonSet": _daemon_set}
