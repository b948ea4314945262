"""The RemediationPolicy resource: which action may follow which diagnosis, with every limit."""

from __future__ import annotations

from typing import Annotated, Any, ClassVar, Literal

from pydantic import AfterValidator, ConfigDict, Field
from pydantic_core import PydanticCustomError

from backendhealth.core.spec.actions import Action, DebugLogs, SendSignal
from backendhealth.core.spec.backendhealth import ObjectMeta
from backendhealth.core.spec.base import Model, Name, ObjectName, Rule, Text, duration_between, meaning
from backendhealth.core.spec.policyrules import (
    AFTER_RULES,
    LIMIT_RULES,
    POLICY_RULE_RULES,
    SPEC_RULES,
)
from backendhealth.core.spec.profile import ReasonName

POLICY_KIND = "RemediationPolicy"

Mode = Literal["DryRun", "Approve", "Enforce"]
Span = Annotated[str, duration_between("1s", "168h")]
SpanOrNone = Annotated[str, duration_between("0s", "168h")]
Percentage = Annotated[
    str,
    Field(max_length=4, pattern=meaning("a share from 1% to 100%", r"^([1-9][0-9]?|100)%$")),
]


def _checked_schedule(value: str) -> str:
    from backendhealth.core.remediation import windows  # noqa: PLC0415 - only policies with a window pay for it

    if told := windows.problem(value):
        raise PydanticCustomError("cron", "{told}", {"told": told})
    return value


def _checked_zone(value: str) -> str:
    from backendhealth.core.remediation import windows  # noqa: PLC0415 - only policies with a window pay for it

    if told := windows.problem("* * * * *", value):
        raise PydanticCustomError("time-zone", "{told}", {"told": told})
    return value


Schedule = Annotated[str, Field(min_length=9, max_length=128), AfterValidator(_checked_schedule)]
"""Five fields of cron; the API server can't check them, so only Python does."""
TimeZone = Annotated[str, Field(min_length=1, max_length=64), AfterValidator(_checked_zone)]
"""A name of the IANA database; the API server can't check it, so only Python does."""


def _map_list(key: str) -> dict[str, Any]:
    return {"x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": [key]}


class Limits(Model):
    """How much the policy may do, over all its rules, counted from its Remediations."""

    max: Annotated[int, Field(ge=1, le=1000)] = Field(default=4, description="Actions within `window` at most.")
    window: Span = Field(default="1h", description="Time over which actions are counted.")
    max_concurrent: Annotated[int, Field(ge=1, le=100)] = Field(
        default=1, description="Actions that are under way, or being verified, at a time."
    )
    cooldown: SpanOrNone = Field(
        default="10m",
        description="Time after an action on a target until the same rule acts on it again; it doubles with each that"
        " did not help.",
    )
    max_cooldown: SpanOrNone = Field(default="6h", description="How long the cool-down gets at most.")
    rules: ClassVar[tuple[Rule, ...]] = LIMIT_RULES


class StormBreaker(Model):
    """Holds everything while so much fails at once that the cause is elsewhere."""

    unhealthy_over: Percentage = Field(
        default="50%", description="Holds while more than this share of all BackendHealths are unhealthy."
    )
    of_at_least: Annotated[int, Field(ge=1, le=100_000)] = Field(
        default=5, description="With fewer BackendHealths than this it never holds."
    )
    cooldown: SpanOrNone = Field(default="10m", description="How long it goes on holding after the storm.")


class MaintenanceWindow(Model):
    """A time that comes again and again."""

    name: Name = Field(description="Name of the window.")
    schedule: Schedule = Field(description="When it begins: five fields of cron, e.g. `0 22 * * 1-5`.")
    duration: Annotated[str, duration_between("1m", "168h")] = Field(description="How long it lasts.")
    time_zone: TimeZone = Field(default="UTC", description="Time zone of the schedule, e.g. Australia/Sydney.")
    act: Literal["OnlyInside", "NeverInside"] = Field(
        default="OnlyInside",
        description="OnlyInside: nothing is done outside all windows of this kind. NeverInside: nothing is done in it.",
    )


class PauseRequest(Model):
    """Somebody wants the policy to do nothing for now."""

    by: Text = Field(description="Who.")
    reason: Text = Field(description="Why.")


class When(Model):
    """The diagnosis that the rule is for."""

    component: Name = Field(description="The component that is unhealthy.")
    reasons: Annotated[list[ReasonName], Field(max_length=32)] = Field(
        default=[], description="With one of these reasons, its own or one of its parts'; none: with any."
    )
    for_: SpanOrNone = Field(
        default="0s",
        alias="for",
        description="For at least this long. With 0s the first of many that fail at once is acted on before the"
        " stormBreaker can tell that they are many: give it longer than probes take to find that something is broken.",
    )
    include_symptoms: bool = Field(
        default=False, description="Also when it is not a root cause: something else explains it, or nothing does yet."
    )


class Unless(Model):
    """What the rule must not act beside."""

    unhealthy: Annotated[list[Name], Field(max_length=32)] = Field(
        default=[], description="Holds while one of these components is Unhealthy, or Unknown."
    )
    unknown: Annotated[list[Name], Field(max_length=32)] = Field(
        default=[], description="Holds while one of these components is Unknown."
    )
    flapping: bool = Field(default=True, description="Holds while the rule's component is Flapping.")


class After(Model):
    """Acts only once something that had failed works again."""

    recovery: Name = Field(description="Component that was unhealthy, and is healthy again.")
    delay: SpanOrNone = Field(default="1m", description="How long it must have been healthy.")
    within: Span = Field(default="1h", description="How long ago its recovery may be at most.")
    rules: ClassVar[tuple[Rule, ...]] = AFTER_RULES


class Verify(Model):
    """What must be true, and by when, for the action to count as helpful."""

    healthy: Annotated[list[Name], Field(max_length=32)] = Field(
        default=[], description="Components that are Healthy or Degraded; default: the rule's component."
    )
    within: Span = Field(default="5m", description="By when, from the end of the action.")


class Escalation(Model):
    """The next action, when the one before did not help."""

    action: Action = Field(description="What is done.")
    after: SpanOrNone = Field(
        default="0s",
        description="How long after the one before was found not to have helped; after debugLogs and signal without"
        " `verify`, 5m longer after they were confirmed.",
    )


class PolicyRule(Model):
    """Which action follows which diagnosis."""

    name: Name = Field(description="Name of the rule, unique in the policy.")
    when: When = Field(description="The diagnosis that it is for.")
    unless: Unless = Field(default=Unless(), description="What it must not act beside.")
    after: After | None = Field(default=None, description="Only once something else works again.")
    action: Action = Field(description="What is done.")
    verify: Verify | None = Field(
        default=None,
        description="When it counts as helpful. Default: the component is healthy within 5m. Without it, debugLogs and"
        " signal succeed as soon as they are confirmed: they help people to see, not the component to recover.",
    )
    escalation: Annotated[list[Escalation], Field(max_length=8)] = Field(
        default=[],
        description="What is done next, step by step, while the component stays unhealthy.",
        json_schema_extra={"x-kubernetes-list-type": "atomic"},
    )
    rules: ClassVar[tuple[Rule, ...]] = POLICY_RULE_RULES

    @property
    def steps(self) -> tuple[Action, ...]:
        """The action and those that follow it."""
        return (self.action, *(one.action for one in self.escalation))

    def verified_by(self, step: int) -> Verify | None:
        """When the step counts as helpful; None: that it was done is all that it is for."""
        if self.verify is None and isinstance(self.steps[step].does, DebugLogs | SendSignal):
            return None
        return self.verify or Verify()


class RemediationPolicySpec(Model):
    """Which action may follow which diagnosis, with every limit."""

    backend_healths: Annotated[list[ObjectName], Field(min_length=1, max_length=100)] = Field(
        description="BackendHealths of this namespace that it is for, by name."
    )
    mode: Mode = Field(
        default="DryRun",
        description="DryRun: only tell what would be done. Approve: a person approves each. Enforce: do it.",
    )
    service_account_name: ObjectName = Field(
        description="ServiceAccount of this namespace as which everything is done; the operator impersonates it."
    )
    approval_timeout: Annotated[str, duration_between("1m", "168h")] = Field(
        default="30m", description="How long a Remediation waits for approval, or for what holds it, until it expires."
    )
    limits: Limits = Field(default=Limits(), description="How much it may do.")
    storm_breaker: StormBreaker = Field(
        default=StormBreaker(), description="Holds everything while too much fails at once."
    )
    maintenance_windows: Annotated[list[MaintenanceWindow], Field(max_length=32)] = Field(
        default=[], description="When it may act, and when not.", json_schema_extra=_map_list("name")
    )
    pause_requests: Annotated[list[PauseRequest], Field(max_length=32)] = Field(
        default=[], description="While there is one, nothing is done.", json_schema_extra=_map_list("by")
    )
    remediation_rules: Annotated[list[PolicyRule], Field(min_length=1, max_length=64)] = Field(
        alias="rules", description="The rules, each by itself.", json_schema_extra=_map_list("name")
    )
    rules: ClassVar[tuple[Rule, ...]] = SPEC_RULES


class RemediationPolicy(Model):
    """Lets the operator act on a diagnosis: only as this says, and as this identity."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)
    api_version: Literal["backendhealth.dev/v1alpha1"] = Field(alias="apiVersion")
    kind: Literal["RemediationPolicy"]
    metadata: ObjectMeta
    spec: RemediationPolicySpec

    @property
    def key(self) -> str:
        """`namespace/name`."""
        return f"{self.metadata.namespace}/{self.metadata.name}"
