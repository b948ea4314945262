"""The cluster's objects as the models of `core`, as far as this version understands them."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any, TypeVar

from pydantic import ValidationError

from backendhealth.cli.plugin.session import BadInput, Session
from backendhealth.core.remediation.situation import Past
from backendhealth.core.remediation.situations import instant, past_of
from backendhealth.core.restoring import written_status
from backendhealth.core.spec.base import Model
from backendhealth.core.spec.remediation import FINAL, Remediation, RemediationSpec, RemediationStatus
from backendhealth.core.spec.remediationpolicy import RemediationPolicy
from backendhealth.core.spec.status import BackendHealthStatus

POLICIES = "remediationpolicies"
REMEDIATIONS = "remediations"
BACKEND_HEALTHS = "backendhealths"
Json = dict[str, Any]
_Read = TypeVar("_Read", bound=Model)


@dataclass(frozen=True, slots=True)
class Watched:
    """A BackendHealth as it stands; without a status nobody has probed it yet."""

    raw: Json
    status: BackendHealthStatus | None

    @property
    def name(self) -> str:
        """Its name."""
        return str(self.raw["metadata"]["name"])

    @property
    def namespace(self) -> str:
        """Its namespace."""
        return str(self.raw["metadata"]["namespace"])


@dataclass(frozen=True, slots=True)
class Done:
    """A Remediation as it stands; `created` in seconds since the epoch."""

    raw: Json
    spec: RemediationSpec
    status: RemediationStatus
    created: float

    @property
    def name(self) -> str:
        """Its name."""
        return str(self.raw["metadata"]["name"])

    @property
    def final(self) -> bool:
        """Whether nothing more comes of it."""
        return self.status.phase in FINAL

    @property
    def past(self) -> Past:
        """What is remembered of it."""
        return past_of(self.name, self.spec, self.status, self.created)

    @property
    def asker(self) -> str:
        """Who wanted it: a person, or a rule of a policy."""
        if self.spec.requested_by:
            return self.spec.requested_by
        return f"rule {self.spec.rule} of {self.spec.policy_ref.name}" if self.spec.rule else self.spec.policy_ref.name


@dataclass(frozen=True, slots=True)
class Governed:
    """A policy as it stands."""

    policy: RemediationPolicy
    uid: str

    @property
    def name(self) -> str:
        """Its name."""
        return self.policy.metadata.name


def _model(model: type[_Read], raw: Json) -> _Read | None:
    try:  # fields that only a newer version knows are left out
        return model.model_validate_json(json.dumps(raw), by_alias=True, extra="ignore")
    except ValidationError:
        return None


def watched(raw: Json) -> Watched:
    """A BackendHealth of the API server's object."""
    return Watched(raw, written_status(raw.get("status")))


def done(raw: Json) -> Done | None:
    """A Remediation of the API server's object; None for one that can't be understood."""
    one = _model(Remediation, {key: value for key, value in raw.items() if key != "status"})
    status = _model(RemediationStatus, raw.get("status") or {})
    if one is None or status is None:
        return None
    return Done(raw, one.spec, status, instant(raw["metadata"]["creationTimestamp"]))


def governed(raw: Json) -> Governed | None:
    """A RemediationPolicy of the API server's object; None for one that can't be understood."""
    policy = _model(RemediationPolicy, {key: value for key, value in raw.items() if key != "status"})
    return Governed(policy, raw["metadata"]["uid"]) if policy else None


async def backend_health(session: Session, name: str) -> Watched:
    """One by its name. Raises BadInput, ApiError, ApiUnavailable."""
    return watched(await session.get(BACKEND_HEALTHS, name))


async def remediation(session: Session, name: str) -> Done:
    """One by its name. Raises BadInput, ApiError, ApiUnavailable."""
    one = done(await session.get(REMEDIATIONS, name))
    if one is None:
        raise BadInput(f"Remediation {name} can't be understood by this version: update kubectl-backendhealth")
    return one


async def remediations(session: Session, namespace: str | None = None) -> list[Done]:
    """All of the namespace, oldest first. Raises ApiError, ApiUnavailable."""
    found = [one for raw in await session.list(REMEDIATIONS, namespace) if (one := done(raw)) is not None]
    return sorted(found, key=lambda one: one.created)


async def policies(session: Session) -> list[Governed]:
    """All of the namespace that can be understood. Raises ApiError, ApiUnavailable."""
    return [one for raw in await session.list(POLICIES) if (one := governed(raw)) is not None]
