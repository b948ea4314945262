"""RemediationPolicies and Remediations as they stand in the cluster: read, or as much of them as can be."""

from __future__ import annotations

import datetime as dt
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar, get_args

from pydantic import ValidationError

from backendhealth.core.observation import clip
from backendhealth.core.remediation.limits import PROMISED
from backendhealth.core.spec.actions import Action
from backendhealth.core.spec.backendhealth import API_VERSION, ObjectMeta
from backendhealth.core.spec.base import Model
from backendhealth.core.spec.remediation import (
    FINAL,
    REMEDIATION_KIND,
    Cause,
    PolicyRef,
    Remediation,
    RemediationSpec,
    RemediationStatus,
    RemediationTarget,
    Revert,
)
from backendhealth.core.spec.remediationpolicy import POLICY_KIND
from backendhealth.core.statusof import timestamp
from backendhealth.core.validate import Problem, summed, validate_policy, validate_remediation
from backendhealth.engine.remediation.ports import Stored, StoredPolicy
from backendhealth.kube.api import ApiUnavailable, Json

_KEPT = ("name", "namespace", "generation", "labels", "annotations")
_TOLD = 3
"""Problems of an object that are told; `backendhealth lint` tells them all."""
_NO_NAME = "unreadable"
_M = TypeVar("_M", bound=Model)


@dataclass(frozen=True, slots=True)
class PolicyObject:
    """A RemediationPolicy; without `stored` the `problem` says why it can't be used."""

    namespace: str
    name: str
    uid: str
    version: str
    stored: StoredPolicy | None
    problem: str = ""
    named: frozenset[str] = frozenset()
    """The BackendHealths that it names, as far as can be told."""


@dataclass(frozen=True, slots=True)
class RemediationObject:
    """A Remediation; with a `problem` it can't be read, and is taken for one that may have had its effect.

    `owned` is whether it can be told which policy it counts for.
    """

    namespace: str
    name: str
    uid: str
    version: str
    stored: Stored
    problem: str = ""
    owned: bool = True


def policy_object(raw: Json) -> PolicyObject:
    """What is kept of a RemediationPolicy. Raises ApiUnavailable for what is no object."""
    meta = _identified(raw)
    policy, problems = validate_policy(_document(POLICY_KIND, raw))
    stored = StoredPolicy(policy, meta["uid"]) if policy is not None else None
    named = policy.spec.backend_healths if policy is not None else _texts(_at(raw, "spec", "backendHealths"))
    ids = (meta["namespace"], meta["name"], meta["uid"], meta["resourceVersion"])
    return PolicyObject(*ids, stored, _summed(problems), frozenset(named))


def remediation_object(raw: Json) -> RemediationObject:
    """What is kept of a Remediation. Raises ApiUnavailable for what is no object."""
    meta = _identified(raw)
    created = _instant(meta.get("creationTimestamp"))
    remediation, problems = validate_remediation(_document(REMEDIATION_KIND, raw))
    problem, owned, never = _summed(problems), True, ""
    status = _status(raw.get("status"))
    if remediation is None:
        owned = _part(PolicyRef, _at(raw, "spec", "policyRef")) is not None
        remediation = _salvaged(raw, meta)
        if status is not None and status.phase in PROMISED and _asked_for(raw):
            never = problem
        elif status is not None and status.phase not in FINAL:
            status = None
    elif status is None:
        problem = "its status can't be read"
    status = status or _feared(raw.get("status"), created, problem)
    stored = Stored(remediation, status, meta["uid"], meta["resourceVersion"], created, never)
    return RemediationObject(
        meta["namespace"], meta["name"], meta["uid"], meta["resourceVersion"], stored, problem, owned
    )


def _identified(raw: Json) -> Json:
    meta: Json = raw.get("metadata") or {}
    if not meta.get("uid") or not meta.get("resourceVersion") or not meta.get("namespace"):
        raise ApiUnavailable("what answers for the API server is another server: it sent no object")
    return meta


def _document(kind: str, raw: Json) -> Json:
    """The object without its status, and without what is kept of it for others."""
    meta = {name: value for name, value in raw["metadata"].items() if name in _KEPT}
    rest = {name: value for name, value in raw.items() if name not in {"status", "metadata"}}
    # the items of a list need not say what they are
    return {"apiVersion": API_VERSION, "kind": kind, **rest, "metadata": meta}


def _summed(problems: Sequence[Problem]) -> str:
    return clip(summed(problems, _TOLD))


def _status(raw: Any) -> RemediationStatus | None:
    """None for one that can't be read; fields that only a newer version knows are left out."""
    try:
        return RemediationStatus.model_validate_json(json.dumps(raw or {}), by_alias=True, extra="ignore")
    except (ValidationError, TypeError, RecursionError):
        return None


def _feared(raw: Any, created: float, problem: str) -> RemediationStatus:
    """The worst that a Remediation that can't be read may have come to: it acted, and as late as it tells of."""
    told = raw if isinstance(raw, Mapping) else {}
    times = [_instant(told.get(name)) for name in ("startedAt", "effectAt", "finishedAt")]
    at = timestamp(max(created, *times))
    message = clip(f"this version can't read it, so it counts as one that may have had its effect: {problem}")
    return RemediationStatus(phase="Unknown", message=message, started_at=at, finished_at=at)


def _salvaged(raw: Json, meta: Json) -> Remediation:
    """A Remediation with those parts of the spec that can be read, as far as it is counted by them."""
    spec = _at(raw, "spec") or {}
    policy = _part(PolicyRef, spec.get("policyRef")) or PolicyRef(name=_NO_NAME)
    target = _part(RemediationTarget, spec.get("target")) or RemediationTarget(kind="Workload", name=_NO_NAME)
    rule, mode, step = spec.get("rule"), spec.get("mode"), spec.get("step")
    kept = RemediationSpec.model_construct(
        policy_ref=policy,
        rule=rule if isinstance(rule, str) else None,
        step=step if isinstance(step, int) else 0,
        cause=_part(Cause, spec.get("cause")),
        requested_by=_text(spec.get("requestedBy")),
        mode="DryRun" if mode == "DryRun" else "Enforce",
        target=target,
        action=_action(spec.get("action")),
        revert=_part(Revert, spec.get("revert")),
        not_after=timestamp(_instant(meta.get("creationTimestamp"))),
    )
    named = ObjectMeta.model_construct(name=meta["name"], namespace=meta["namespace"])
    return Remediation.model_construct(
        api_version="backendhealth.dev/v1alpha1", kind="Remediation", metadata=named, spec=kept, status=None
    )


def _asked_for(raw: Json) -> bool:
    """Whether a person wants it: what an operator has made may be a newer one's, which knows how to go on with it."""
    spec = _at(raw, "spec") or {}
    return spec.get("rule") is None and spec.get("revert") is None and isinstance(spec.get("requestedBy"), str)


def _action(raw: Any) -> Action:
    """What of an action can be read; at least of which kind it is."""
    kinds = {field.alias: (name, get_args(field.annotation)[0]) for name, field in Action.model_fields.items()}
    named = [kinds[one] for one in raw if one in kinds] if isinstance(raw, Mapping) else []
    return _part(Action, raw) or Action.model_construct(**{name: model.model_construct() for name, model in named[:1]})


def _part(model: type[_M], raw: Any) -> _M | None:
    try:
        return model.model_validate(raw, by_alias=True, by_name=False) if isinstance(raw, Mapping) else None
    except ValidationError:
        return None


def _at(raw: Any, *path: str) -> Any:
    for name in path:
        raw = raw.get(name) if isinstance(raw, Mapping) else None
    return raw


def _text(raw: Any) -> str | None:
    return raw if isinstance(raw, str) else None


def _texts(raw: Any) -> list[str]:
    return [one for one in raw if isinstance(one, str)] if isinstance(raw, list) else []


def _instant(text: Any) -> float:
    """Seconds since the epoch; 0 for what is no time."""
    try:
        return dt.datetime.fromisoformat(text).timestamp() if isinstance(text, str) else 0.0
    except (ValueError, OverflowError):
        return 0.0
