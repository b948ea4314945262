"""The DiagnosisTest document: what probes see over time, and what must be told of it. Never an object of a cluster."""

from __future__ import annotations

from typing import Annotated, Any, ClassVar, Literal

from pydantic import ConfigDict, Field, model_validator

from backendhealth.core.spec.backendhealth import ObjectMeta, ProfileRef
from backendhealth.core.spec.base import Model, Name, ObjectName, Text, duration_between, meaning
from backendhealth.core.spec.profile import Effect, ReasonName

TEST_KIND = "DiagnosisTest"
HEALTHY = "Healthy"
"""What may be written for the reason ProbeSucceeded."""

At = Annotated[str, duration_between("0s", "24h")]
Shown = Annotated[
    str,
    Field(
        min_length=1,
        max_length=253,
        pattern=meaning(
            "a component, a symptom or a probe, or symptom/NAME or component/NAME to tell them apart",
            r"^((symptom|component)/)?[a-z0-9]([-a-z0-9]*[a-z0-9])?$",
        ),
    ),
]
Names = Annotated[list[Name], Field(max_length=100)]
ShownNames = Annotated[list[Shown], Field(max_length=100)]
Texts = Annotated[list[Text], Field(max_length=32)]


class _Short(Model):
    """A mapping of which one field, `short`, may be written alone."""

    short: ClassVar[str]

    @model_validator(mode="before")
    @classmethod
    def _whole(cls, value: Any) -> Any:
        return {cls.short: value} if isinstance(value, str) else value


class SeenSubject(_Short):
    """What is seen of one part of a target; a reason alone is enough."""

    short = "reason"
    reason: ReasonName = Field(description="Healthy, or a reason that a probe gives.")
    message: Text | None = Field(default=None, description="What the probe says; default: what the reason means.")


class See(_Short):
    """What an attempt sees; a reason alone is enough."""

    short = "reason"
    reason: ReasonName = Field(description="Healthy, or a reason that a probe gives.")
    message: Text | None = Field(default=None, description="What the probe says; default: what the reason means.")
    subjects: Annotated[dict[str, SeenSubject], Field(max_length=64)] = Field(
        default={}, description="Parts of the target: endpoints, members, drivers."
    )
    contact: bool = Field(
        default=True, description="Whether anything came back from the target; false may be our own network."
    )


class Step(Model):
    """What changes at one time; it stands until a later step changes it."""

    at: At = Field(description="Time since the begin of the case, e.g. 30s.")
    see: Annotated[dict[str, See], Field(min_length=1, max_length=100)] = Field(
        description="What is seen from now on. Each is attempted at once, in this order, then at the probe's interval."
    )


class ExpectedEffect(_Short):
    """What users notice of a feature; the effect alone is enough."""

    short = "effect"
    effect: Effect = Field(description="Works, Degraded or Fails.")
    because: Text | None = Field(default=None, description="Text that the sentence about it holds.")


class Expected(Model):
    """What must be told at one time. Only what is named is compared."""

    at: At = Field(description="Time since the begin of the case, e.g. 45s.")
    state: Literal["Healthy", "Degraded", "Unknown", "Unhealthy", "Suspended"] | None = Field(
        default=None, description="The column STATE."
    )
    root_causes: Names | None = Field(default=None, description="All root causes, in any order.")
    reason: Text | None = Field(default=None, description="The column REASON.")
    explained: Annotated[dict[str, Names], Field(max_length=100)] = Field(
        default={}, description="Components and symptoms, each with all that explain it."
    )
    unexplained: ShownNames | None = Field(default=None, description="All that is not explained, in any order.")
    suspects: Names | None = Field(default=None, description="All suspects, the likeliest first.")
    next_question: Text | None = Field(default=None, description="Text that the next question holds.")
    impact: Annotated[dict[str, ExpectedEffect], Field(max_length=64)] = Field(
        default={}, description="Features of the profile, by name, and what users notice of them."
    )
    mismatches: Names | None = Field(
        default=None, description="All features and components that contradict the profile, in any order."
    )
    conditions: Annotated[dict[str, Literal["True", "False", "Unknown", "Absent"]], Field(max_length=128)] = Field(
        default={}, description="Conditions by type, with their status."
    )
    next_steps: Annotated[dict[str, Text], Field(max_length=100)] = Field(
        default={}, description="Root causes, each with a text that its next step holds."
    )
    told: Texts = Field(
        default=[], description="Texts that the diagnosis in plain words holds, each within one of its lines."
    )
    summary: Text | None = Field(default=None, description="Text that the summary's message holds.")


class Never(Model):
    """What must not be told at any time of the case, not even in one write."""

    root_causes: Names = Field(default=[], description="Components that are never called a root cause.")
    suspects: Names = Field(default=[], description="Components that are never suspected.")
    mismatches: Names = Field(default=[], description="Features and components that never contradict the profile.")


class DiagnosisCase(Model):
    """What is seen over time, and what must be told. Before the first step everything is healthy."""

    name: Text = Field(description="What it shows.")
    claim: Text | None = Field(default=None, description="The sentence of a document or a runbook that it proves.")
    steps: Annotated[list[Step], Field(min_length=1, max_length=256)] = Field(description="What is seen, by time.")
    expect: Annotated[list[Expected], Field(min_length=1, max_length=256)] = Field(
        description="What must be told, by time; the case ends with the last one."
    )
    blamed: Names | None = Field(
        default=None, description="All components that are called a root cause at any time of the case, in any order."
    )
    never: Never | None = Field(default=None, description="What must not be told at any time of the case.")


class DiagnosisTestSpec(Model):
    """Cases for one profile on one resource."""

    profile_ref: ProfileRef | None = Field(
        default=None, description="The profile under test; default: that of the BackendHealth, else `generic`."
    )
    backend_health: ObjectName | None = Field(
        default=None,
        description="A BackendHealth among the files; default: one for each case, with a probe for each component and"
        " symptom that its steps name.",
    )
    cases: Annotated[list[DiagnosisCase], Field(min_length=1, max_length=1000)] = Field(
        description="The cases.", json_schema_extra={"x-kubernetes-list-map-keys": ["name"]}
    )


class DiagnosisTest(Model):
    """Unit tests of a DiagnosisProfile, for `backendhealth test`."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)
    api_version: Literal["backendhealth.dev/v1alpha1"] = Field(alias="apiVersion")
    kind: Literal["DiagnosisTest"]
    metadata: ObjectMeta
    spec: DiagnosisTestSpec

    @property
    def key(self) -> str:
        """`namespace/name`."""
        return f"{self.metadata.namespace}/{self.metadata.name}"
