"""The RemediationPolicyTest document: what probes see over time, and what a policy must make of it."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import ConfigDict, Field

from backendhealth.core.spec.backendhealth import ObjectMeta, ProfileRef
from backendhealth.core.spec.base import Model, Name, ObjectName, Text, duration_between, meaning
from backendhealth.core.spec.diagnosistest import At, See
from backendhealth.core.spec.profile import ReasonName
from backendhealth.core.spec.remediation import Phase
from backendhealth.core.spec.status import Timestamp

POLICY_TEST_KIND = "RemediationPolicyTest"

StepOf = Annotated[
    str,
    Field(
        min_length=1,
        max_length=66,
        pattern=meaning(
            "a rule, or RULE/N for the N-th step of its escalation, counted from 2", r"^[-a-z0-9]+(/[2-9])?$"
        ),
    ),
]
"""`restart-core` is the rule's action, `restart-core/2` its first escalation."""
Count = Annotated[int, Field(ge=0, le=100_000)]
Ago = Annotated[str, duration_between("0s", "720h")]
Effect = Literal["Done", "Failed", "Unknown"]


class Others(Model):
    """All other BackendHealths, for the storm breaker."""

    unhealthy: Count = Field(description="How many of them are unhealthy.")
    total: Count = Field(description="How many there are.")


class PolicyStep(Model):
    """What changes at one time; it stands until a later step changes it."""

    at: At = Field(description="Time since the begin of the case, e.g. 30s.")
    see: Annotated[dict[str, See], Field(max_length=100)] = Field(
        default={}, description="What is seen from now on, as in a DiagnosisTest."
    )
    effects: Annotated[dict[str, Effect], Field(max_length=64)] = Field(
        default={}, description="What comes of a rule's actions from now on: Done (the default), Failed or Unknown."
    )
    approve: Annotated[list[Name], Field(max_length=64)] = Field(
        default=[], description="Rules whose waiting Remediations a person approves."
    )
    reject: Annotated[list[Name], Field(max_length=64)] = Field(
        default=[], description="Rules whose waiting Remediations a person rejects."
    )
    others: Others | None = Field(default=None, description="All other BackendHealths.")
    switched_off: bool | None = Field(default=None, description="Whether all remediation is switched off.")


class Before(Model):
    """A Remediation of an earlier incident."""

    rule: StepOf = Field(description="The rule, and the step of its escalation.")
    target: Text | None = Field(default=None, description="What was acted on; default: what the rule acts on here.")
    phase: Phase = Field(default="Succeeded", description="What came of it.")
    ago: Ago = Field(description="How long before the case it ended.")


class ExpectedDecision(Model):
    """What must have been decided at one time. Only what is named is compared."""

    at: At = Field(description="Time since the begin of the case, e.g. 45s.")
    actions: Annotated[list[StepOf], Field(max_length=256)] | None = Field(
        default=None, description="All steps of rules that were taken until then, each once, in their order."
    )
    targets: Annotated[dict[str, Annotated[list[Text], Field(max_length=64)]], Field(max_length=64)] = Field(
        default={}, description="What a step has been done to, in any order."
    )
    phases: Annotated[dict[str, Phase], Field(max_length=64)] = Field(
        default={}, description="The phase of the step's newest Remediation."
    )
    holds: Annotated[dict[str, Annotated[list[ReasonName], Field(max_length=32)]], Field(max_length=64)] = Field(
        default={}, description="All guards that hold a rule, the first one first; an empty list: none does."
    )
    until: Annotated[dict[str, At], Field(max_length=64)] = Field(
        default={}, description="When the first of a rule's guards lets go by itself, as time since the begin."
    )
    unmatched: Annotated[dict[str, Text], Field(max_length=64)] = Field(
        default={}, description="Text of why the diagnosis is not the one that a rule is for."
    )


class NeverDecided(Model):
    """What must not be decided at any time of the case."""

    actions: Annotated[list[StepOf], Field(max_length=64)] = Field(
        default=[], description="Rules, or steps of their escalation, of which no Remediation is ever created."
    )


class PolicyCase(Model):
    """What is seen over time, and what must be decided. Before the first step everything is healthy."""

    name: Text = Field(description="What it shows.")
    claim: Text | None = Field(default=None, description="The sentence of a document or a runbook that it proves.")
    start: Timestamp = Field(
        default="2026-01-05T12:00:00Z", description="When it begins, for maintenance windows; a Monday by default."
    )
    history: Annotated[list[Before], Field(max_length=256)] = Field(
        default=[], description="What was done before, in earlier incidents."
    )
    steps: Annotated[list[PolicyStep], Field(min_length=1, max_length=256)] = Field(
        description="What is seen and done, by time."
    )
    expect: Annotated[list[ExpectedDecision], Field(min_length=1, max_length=256)] = Field(
        description="What must have been decided, by time; the case ends with the last one."
    )
    never: NeverDecided | None = Field(default=None, description="What must not be decided at any time of the case.")


class PolicyTestSpec(Model):
    """Cases for one policy on one resource."""

    policy: ObjectName = Field(description="The RemediationPolicy under test, among the files.")
    backend_health: ObjectName | None = Field(
        default=None,
        description="A BackendHealth among the files; default: one for each case, with a probe for each name.",
    )
    profile_ref: ProfileRef | None = Field(
        default=None, description="The profile; default: that of the BackendHealth, else `generic`."
    )
    cases: Annotated[list[PolicyCase], Field(min_length=1, max_length=1000)] = Field(
        description="The cases.", json_schema_extra={"x-kubernetes-list-map-keys": ["name"]}
    )


class RemediationPolicyTest(Model):
    """Unit tests of a RemediationPolicy, for `backendhealth test`."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)
    api_version: Literal["backendhealth.dev/v1alpha1"] = Field(alias="apiVersion")
    kind: Literal["RemediationPolicyTest"]
    metadata: ObjectMeta
    spec: PolicyTestSpec

    @property
    def key(self) -> str:
        """`namespace/name`."""
        return f"{self.metadata.namespace}/{self.metadata.name}"
