"""The status that the command line prints and Kubernetes holds: conditions, probes, diagnosis, history."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from backendhealth.core.spec.base import Model
from backendhealth.core.spec.profile import Effect
from backendhealth.core.verdict import Verdict

Message = Annotated[str, Field(max_length=1024)]
ShortText = Annotated[str, Field(max_length=253)]
Timestamp = Annotated[str, Field(max_length=32, json_schema_extra={"format": "date-time"})]
ConditionStatus = Literal["True", "False", "Unknown"]


class Condition(Model):
    """A Kubernetes condition."""

    type: Annotated[str, Field(min_length=1, max_length=316)] = Field(description="Name of the condition.")
    status: ConditionStatus = Field(description="Whether it holds.")
    reason: ShortText = Field(description="CamelCase word for why.")
    message: Message = Field(description="Details for people.")
    last_transition_time: Timestamp = Field(description="When `status` last changed.")
    observed_generation: int = Field(description="Generation of the spec that this was seen with.")


class Summary(Model):
    """Strings for the printed columns."""

    state: ShortText = Field(description="The worst verdict of all components.")
    root_cause: ShortText = Field(default="", description="The components that are the cause.")
    reason: ShortText = Field(default="", description="Why, in one word.")
    impact: Message = Field(default="", description="What users can't do meanwhile.")
    since: Timestamp | None = Field(default=None, description="Since when the state stands.")
    message: Message = Field(default="", description="What was seen, for people.")


class SubjectStatus(Model):
    """A part of a target that is not healthy: an endpoint, member, table, index."""

    subject: ShortText = Field(description="kind/name of the part.")
    verdict: Verdict = Field(description="Its verdict.")
    reason: ShortText = Field(description="Why.")
    message: Message = Field(description="Details for people.")


class PartStatus(Model):
    """A part of a probe that is judged by itself."""

    name: ShortText = Field(description="symptom/NAME or component/NAME.")
    verdict: Verdict = Field(description="Verdict after thresholds.")
    reason: ShortText = Field(description="Why.")
    message: Message = Field(description="Details for people.")
    since: Timestamp = Field(description="Since when the verdict stands.")


class ProbeStatus(Model):
    """What one probe believes now."""

    name: ShortText = Field(description="Name of the probe.")
    component: ShortText = Field(description="Component that it speaks for.")
    verdict: Verdict = Field(description="Verdict after thresholds.")
    reason: ShortText = Field(description="Why.")
    message: Message = Field(description="Details for people.")
    since: Timestamp = Field(description="Since when the verdict stands.")
    subjects: Annotated[list[SubjectStatus], Field(max_length=64)] = Field(
        default=[], description="Parts of the target that are not healthy."
    )
    parts: Annotated[list[PartStatus], Field(max_length=32)] = Field(
        default=[],
        description="What it says of symptoms and of other components, each judged by itself.",
        json_schema_extra={"x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["name"]},
    )


class RootCause(Model):
    """A component that is a cause, not a symptom."""

    component: ShortText = Field(description="The component.")
    reason: ShortText = Field(description="Why.")
    message: Message = Field(description="Details for people.")
    since: Timestamp = Field(description="Since when.")
    evidence: Annotated[list[Message], Field(max_length=8)] = Field(
        default=[],
        description="What was observed that says so.",
        json_schema_extra={"x-kubernetes-list-type": "atomic"},  # sentences that are cut may become the same
    )
    next_step: Message = Field(default="", description="What to look at.")


class Explained(Model):
    """A component or symptom that fails because of something else."""

    name: ShortText = Field(description="The component or symptom.")
    by: Annotated[list[ShortText], Field(max_length=16)] = Field(description="The components that explain it.")
    because: Message = Field(description="Why they do.")


class Suspect(Model):
    """A component that may be the cause of something unexplained."""

    component: ShortText = Field(description="The component.")
    because: Message = Field(description="What speaks against it.")


class Unexplained(Model):
    """A component or symptom that fails, and it is not known why."""

    name: ShortText = Field(description="The component or symptom.")
    because: Message = Field(description="What is missing to tell the cause.")


class Impact(Model):
    """What users notice of one feature."""

    feature: ShortText = Field(description="The feature, as users call it.")
    effect: Effect = Field(description="Works, Degraded or Fails.")
    because: Message = Field(description="A sentence for people.")


class Mismatch(Model):
    """Where what was measured contradicts the profile."""

    name: ShortText = Field(description="The symptom, feature or component.")
    message: Message = Field(description="What the profile says, and what was measured.")


class Diagnosis(Model):
    """What is believed to be wrong, and what it means to users."""

    root_causes: Annotated[list[RootCause], Field(max_length=100)] = Field(
        default=[],
        description="Components that are causes.",
        json_schema_extra={"x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["component"]},
    )
    explained: Annotated[list[Explained], Field(max_length=100)] = Field(
        default=[],
        description="Components and symptoms that fail because of something else.",
        json_schema_extra={"x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["name"]},
    )
    unexplained: Annotated[list[Unexplained], Field(max_length=100)] = Field(
        default=[],
        description="Components and symptoms that fail, and it is not known why (yet).",
        json_schema_extra={"x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["name"]},
    )
    suspects: Annotated[list[Suspect], Field(max_length=32)] = Field(
        default=[],
        description="What may be the cause of the unexplained, the likeliest first.",
        json_schema_extra={"x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["component"]},
    )
    next_question: Message = Field(default="", description="What a person should find out next.")
    impact: Annotated[list[Impact], Field(max_length=64)] = Field(
        default=[],
        description="What users notice, the most important feature first; all features while anything fails.",
        json_schema_extra={"x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["feature"]},
    )
    mismatches: Annotated[list[Mismatch], Field(max_length=32)] = Field(
        default=[],
        description="Where what was measured contradicts the profile.",
        json_schema_extra={"x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["name"]},
    )


class Incident(Model):
    """An uninterrupted time of at least one unhealthy component."""

    id: ShortText = Field(description="Identifier, stable while it lasts.")
    since: Timestamp = Field(description="When it began.")


class Transition(Model):
    """One change of a component's verdict."""

    at: Timestamp = Field(description="When.")
    component: ShortText = Field(description="Which component.")
    verdict: Verdict = Field(description="Its new verdict.")
    reason: ShortText = Field(description="Why.")


class RemediationHold(Model):
    """A guard that holds a rule of a policy back."""

    policy: ShortText = Field(description="Name of the RemediationPolicy.")
    rule: ShortText = Field(description="Name of its rule; empty: all of them.")
    guard: ShortText = Field(description="The guard, in one word.")
    message: Message = Field(description="Why it holds, for people.")
    until: Timestamp | None = Field(default=None, description="When it lets go by itself, where that is known.")


class RemediationView(Model):
    """What the policies that name this resource make of it."""

    holds: Annotated[list[RemediationHold], Field(max_length=64)] = Field(
        default=[],
        description="What holds rules back that would act otherwise, by policy and rule, the first guard first.",
        json_schema_extra={"x-kubernetes-list-type": "atomic"},
    )
    active: Annotated[list[ShortText], Field(max_length=64)] = Field(
        default=[], description="Names of the Remediations that are not at their end."
    )


class BackendHealthStatus(Model):
    """What the operator believes."""

    observed_generation: int = Field(description="Generation of the spec that this status speaks of.")
    heartbeat_time: Timestamp | None = Field(
        default=None, description="When this was last written: at each change, and now and then as a sign of life."
    )
    probe_requested_at: ShortText | None = Field(
        default=None,
        description=(
            "The value of the annotation backendhealth.dev/probe-requested-at that was last answered: every probe has"
            " made an attempt since."
        ),
    )
    summary: Summary | None = Field(default=None, description="Strings for the printed columns.")
    conditions: Annotated[list[Condition], Field(max_length=128)] = Field(
        default=[],
        description=(
            "Ready, Healthy, one <Component>Healthy for each component; Degraded, Reconciling, Stalled only while true."
        ),
        json_schema_extra={"x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["type"]},
    )
    probes: Annotated[list[ProbeStatus], Field(max_length=100)] = Field(
        default=[],
        description="What each probe believes.",
        json_schema_extra={"x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["name"]},
    )
    diagnosis: Diagnosis | None = Field(default=None, description="What is believed to be wrong.")
    incident: Incident | None = Field(default=None, description="The incident that is open.")
    history: Annotated[list[Transition], Field(max_length=20)] = Field(
        default=[], description="The last 20 changes, newest first."
    )
    remediation: RemediationView | None = Field(
        default=None, description="What is done about it, and what is not; only where a policy names this resource."
    )
