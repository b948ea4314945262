"""The DiagnosisProfile resource: what a failure means on a platform."""

from __future__ import annotations

from typing import Annotated, Any, ClassVar, Literal

from pydantic import ConfigDict, Field

from backendhealth.core.spec.backendhealth import ObjectMeta
from backendhealth.core.spec.base import Model, Name, Rule, SignatureRegex, Text, duration_between, meaning, url_of
from backendhealth.core.spec.profilerules import COMPONENT_RULES, CONFOUNDER_RULES, SIGNATURE_RULES, SPEC_RULES

PROFILE_KIND = "DiagnosisProfile"

Effect = Literal["Works", "Degraded", "Fails"]
ReasonName = Annotated[
    str,
    Field(
        min_length=1,
        max_length=63,
        pattern=meaning("a reason in CamelCase, e.g. QuorumLost", r"^[A-Z][A-Za-z0-9]*$"),
    ),
]


def _map_list(key: str) -> dict[str, Any]:
    return {"x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": [key]}


class FeatureEffect(Model):
    """What the failure of a component does to one feature."""

    feature: Name = Field(description="Name of the feature.")
    effect: Effect = Field(description="Works, Degraded or Fails.")
    because: Text = Field(description="A sentence for people: what users notice, and why.")


class ProfileComponent(Model):
    """A part of the platform that can fail. One that no probe speaks for can still be suspected."""

    name: Name = Field(description="Name, as the probes' `component` has it.")
    title: Text = Field(description="What people call it.")
    role: Text | None = Field(default=None, description="What it is there for, e.g. `configuration database`.")
    depends_on: Annotated[list[Name], Field(max_length=32)] = Field(
        default=[], description="Components without which this one fails."
    )
    redundant: bool = Field(
        default=False, description="It runs as several members: one may be lost without an effect for users."
    )
    own_reasons: Annotated[list[ReasonName], Field(max_length=32)] = Field(
        default=[],
        description="Reasons that are this component's own fault, whatever it depends on, e.g. `DriverCompileFailed`.",
    )
    recovery_grace: Annotated[str, duration_between("0s", "1h")] = Field(
        default="2m",
        description="How long it may take to recover after what it depends on has; after that the fault is its own.",
    )
    effects: Annotated[list[FeatureEffect], Field(max_length=64)] = Field(
        default=[],
        description="What its failure does to features; a feature that is not named works.",
        json_schema_extra=_map_list("feature"),
    )
    next_step: Text | None = Field(default=None, description="What a person should look at when it is the cause.")
    runbook: Annotated[str, url_of("http", "https", path=True, example="https://wiki/etcd")] | None = Field(
        default=None, description="Where to read on."
    )
    rules: ClassVar[tuple[Rule, ...]] = COMPONENT_RULES


class Feature(Model):
    """Something that users do with the platform."""

    name: Name = Field(description="Name of the feature.")
    title: Text = Field(description="What users call it, e.g. `new WebSockets`; the IMPACT column shows it.")


class Symptom(Model):
    """An end-to-end check; the list's order is the order of triage.

    A probe's part `symptom/NAME` answers it, or a component of the same name; a person otherwise.
    """

    name: Name = Field(description="Name of the symptom.")
    question: Text = Field(description="What a person is asked, so that yes means that it works: `Can you log in?`.")
    feature: Name | None = Field(default=None, description="The feature that it measures.")
    implicates: Annotated[list[Name], Field(min_length=1, max_length=16)] = Field(
        description="Components that are suspected when it fails, the likeliest first."
    )
    next_step: Text | None = Field(default=None, description="What to look at when it fails and nothing explains it.")


class Signature(Model):
    """An error text that speaks for or against components."""

    name: Name = Field(description="Name of the signature.")
    pattern: SignatureRegex = Field(description="RE2 expression, found anywhere in an error message or a log line.")
    implicates: Annotated[list[Name], Field(max_length=16)] = Field(
        default=[], description="Components that it speaks against, the likeliest first."
    )
    clears: Annotated[list[Name], Field(max_length=16)] = Field(
        default=[], description="Components that it speaks for: they are not suspected."
    )
    because: Text = Field(description="What the text means, for people.")
    rules: ClassVar[tuple[Rule, ...]] = SIGNATURE_RULES


class Confounder(Model):
    """What looks like a cause and is not."""

    name: Name = Field(description="Name of the confounder.")
    component: Name = Field(description="The component that looks like the cause.")
    reasons: Annotated[list[ReasonName], Field(max_length=32)] = Field(
        default=[], description="With one of these reasons; none: with any."
    )
    all_subjects: bool = Field(
        default=False, description="Only when every part of it fails, e.g. all drivers relaunch together."
    )
    suspects: Annotated[list[Name], Field(min_length=1, max_length=16)] = Field(
        description="What is the cause instead, the likeliest first."
    )
    because: Text = Field(description="Why, for people.")
    rules: ClassVar[tuple[Rule, ...]] = CONFOUNDER_RULES


class DiagnosisProfileSpec(Model):
    """Knowledge about a platform: what depends on what, and what users notice of a failure."""

    title: Text = Field(description="What it describes.")
    description: Annotated[str, Field(min_length=1, max_length=4096)] | None = Field(
        default=None, description="Which versions it holds for, and how to tell them."
    )
    components: Annotated[list[ProfileComponent], Field(max_length=100)] = Field(
        default=[], description="Parts of the platform.", json_schema_extra=_map_list("name")
    )
    features: Annotated[list[Feature], Field(max_length=64)] = Field(
        default=[], description="What users do with it, the most important first.", json_schema_extra=_map_list("name")
    )
    symptoms: Annotated[list[Symptom], Field(max_length=32)] = Field(
        default=[], description="End-to-end checks in the order of triage.", json_schema_extra=_map_list("name")
    )
    signatures: Annotated[list[Signature], Field(max_length=64)] = Field(
        default=[], description="Error texts and what they mean.", json_schema_extra=_map_list("name")
    )
    confounders: Annotated[list[Confounder], Field(max_length=32)] = Field(
        default=[], description="What looks like a cause and is not.", json_schema_extra=_map_list("name")
    )
    rules: ClassVar[tuple[Rule, ...]] = SPEC_RULES


class DiagnosisProfile(Model):
    """What the failure of a platform's components means: for each other and for users."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)
    api_version: Literal["backendhealth.dev/v1alpha1"] = Field(alias="apiVersion")
    kind: Literal["DiagnosisProfile"]
    metadata: ObjectMeta
    spec: DiagnosisProfileSpec

    @property
    def key(self) -> str:
        """`namespace/name`."""
        return f"{self.metadata.namespace}/{self.metadata.name}"
