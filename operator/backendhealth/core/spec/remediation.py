"""The Remediation resource: one action, why, on what, as whom, and what came of it."""

from __future__ import annotations

from typing import Annotated, Any, ClassVar, Literal

from pydantic import ConfigDict, Field

from backendhealth.core.spec.actions import Action
from backendhealth.core.spec.backendhealth import ObjectMeta
from backendhealth.core.spec.base import Model, Name, ObjectName, Rule, Text
from backendhealth.core.spec.moments import timestamp
from backendhealth.core.spec.profile import ReasonName
from backendhealth.core.spec.remediationpolicy import Mode, Verify
from backendhealth.core.spec.remediationrules import REMEDIATION_RULES, TARGET_RULES
from backendhealth.core.spec.status import Message, ShortText, Timestamp

REMEDIATION_KIND = "Remediation"

Moment = Annotated[str, timestamp()]

Phase = Literal[
    "Pending",
    "AwaitingApproval",
    "Held",
    "Running",
    "Verifying",
    "Succeeded",
    "NotHelpful",
    "Failed",
    "Unknown",
    "Expired",
    "Rejected",
    "DryRun",
]
FINAL: frozenset[str] = frozenset({"Succeeded", "NotHelpful", "Failed", "Unknown", "Expired", "Rejected", "DryRun"})
"""Phases that are never left again."""
ACTED: frozenset[str] = frozenset({"Running", "Verifying", "Succeeded", "NotHelpful", "Failed", "Unknown"})
"""Phases in which there was an effect, or may have been one: they count against limits."""


class PolicyRef(Model):
    """The policy that allows it, as it stood then."""

    name: ObjectName = Field(description="Name of the RemediationPolicy, in the same namespace.")
    uid: ShortText | None = Field(default=None, description="UID of the policy.")
    generation: Annotated[int, Field(ge=0)] | None = Field(
        default=None, description="Generation of the policy that was decided by; with another one it is held."
    )


class Cause(Model):
    """The diagnosis that it follows."""

    backend_health: ObjectName = Field(description="Name of the BackendHealth, in the same namespace.")
    uid: ShortText = Field(description="Its UID.")
    incident: ShortText = Field(description="ID of the incident.")
    component: Name = Field(description="The component that was unhealthy.")
    reason: ReasonName = Field(description="Why.")
    message: Message = Field(description="What was seen.")


class RemediationTarget(Model):
    """What exactly is acted on; `id` tells two targets apart."""

    kind: Literal["Pod", "Workload", "Driver"] = Field(description="What it is.")
    name: ShortText = Field(description="Name of the pod, `Kind/name` of the workload, key of the driver.")
    uid: ShortText | None = Field(default=None, description="UID of the pod or workload: another of its name is safe.")
    container: Name | None = Field(default=None, description="The pod's container.")
    restart_count: Annotated[int, Field(ge=0)] | None = Field(
        default=None, description="How often the container had been restarted: after one more, nothing is done to it."
    )
    core: ShortText | None = Field(default=None, description="ID of the core that runs the driver.")
    rules: ClassVar[tuple[Rule, ...]] = TARGET_RULES

    @property
    def id(self) -> str:
        """The same for the same target, and for no other."""
        return "/".join(
            str(one) for one in (self.kind, self.name, self.uid, self.container, self.restart_count, self.core) if one
        )


class Revert(Model):
    """That it takes back what another one did, and which state of which container."""

    remediation: ObjectName = Field(description="Name of the Remediation that is taken back.")
    toggle: ShortText = Field(description="Key of what was toggled: pod UID, container, restart count.")
    epoch: Annotated[int, Field(ge=0)] = Field(description="How often that had been toggled on and off before.")
    not_before: Moment = Field(description="When it is taken back.")


class Approval(Model):
    """A person's decision; given once."""

    decision: Literal["Approved", "Rejected"] = Field(description="Approved or Rejected.")
    by: Text = Field(description="Who: the user name that the API server knows.")
    reason: Text | None = Field(default=None, description="Why.")


class RemediationSpec(Model):
    """One action. Nothing of it changes but `approval`, once."""

    summary: ShortText | None = Field(
        default=None,
        description="The action by its name, for the printed column; with ` off` for one that is a revert.",
    )
    policy_ref: PolicyRef = Field(description="The policy that allows it; its limits and its identity hold.")
    rule: Name | None = Field(default=None, description="The policy's rule; none: a person asked for it.")
    step: Annotated[int, Field(ge=0, le=8)] = Field(default=0, description="0: the rule's action; else its escalation.")
    cause: Cause | None = Field(default=None, description="The diagnosis that it follows; none: a person asked for it.")
    requested_by: Text | None = Field(default=None, description="The person who asked for it, as the API server knows.")
    mode: Mode = Field(default="Enforce", description="The policy's mode when it was created.")
    target: RemediationTarget = Field(description="What is acted on.")
    action: Action = Field(description="What is done.")
    verify: Verify | None = Field(
        default=None, description="When it counts as helpful; none: that it was done, and shows, is enough."
    )
    revert: Revert | None = Field(default=None, description="It takes back another one's effect.")
    not_after: Moment = Field(description="It is never begun after this.")
    approval: Approval | None = Field(default=None, description="A person's decision.")
    rules: ClassVar[tuple[Rule, ...]] = REMEDIATION_RULES


class HeldBy(Model):
    """A guard that holds something back."""

    guard: ShortText = Field(description="The guard, in one word.")
    message: Message = Field(description="Why it holds, for people.")
    until: Timestamp | None = Field(default=None, description="When it lets go by itself, where that is known.")


class RemediationStatus(Model):
    """How far it has come, and what was done."""

    phase: Phase = Field(default="Pending", description="How far it has come.")
    message: Message = Field(default="", description="What happened, for people.")
    holds: Annotated[list[HeldBy], Field(max_length=16)] = Field(
        default=[],
        description="What holds it back, the first guard first.",
        json_schema_extra={"x-kubernetes-list-type": "atomic"},
    )
    by: ShortText | None = Field(default=None, description="The operator's process that carries it out.")
    acting_as: ShortText | None = Field(default=None, description="The identity that it was done under.")
    started_at: Timestamp | None = Field(default=None, description="When it began: written before the effect.")
    effect_at: Timestamp | None = Field(default=None, description="When the effect was over.")
    verify_by: Timestamp | None = Field(default=None, description="By when it must have helped.")
    finished_at: Timestamp | None = Field(default=None, description="When it reached its last phase.")
    calls: Annotated[list[Message], Field(max_length=32)] = Field(
        default=[],
        description="The requests that were made, or in a dry run would be, in their order, each with its answer.",
        json_schema_extra={"x-kubernetes-list-type": "atomic"},
    )
    facts: Annotated[dict[str, ShortText], Field(max_length=16)] = Field(
        default={}, description="What was seen of the target before, by which success is told."
    )


class Remediation(Model):
    """One action on one target: why, under which policy, as whom, and what came of it."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)
    api_version: Literal["backendhealth.dev/v1alpha1"] = Field(alias="apiVersion")
    kind: Literal["Remediation"]
    metadata: ObjectMeta
    spec: RemediationSpec
    status: Any = None

    @property
    def key(self) -> str:
        """`namespace/name`."""
        return f"{self.metadata.namespace}/{self.metadata.name}"
