"""Model of the probe that judges pods by what the API server tells of them."""

from __future__ import annotations

import re
from typing import Annotated, ClassVar, Literal

from pydantic import Field

from backendhealth.core.spec.base import Model, Name, Raw, Rule, duration_between, meaning

_PART = "[A-Za-z0-9]([-A-Za-z0-9_.]{0,61}[A-Za-z0-9])?"
_DNS_LABEL = "[a-z0-9]([-a-z0-9]*[a-z0-9])?"
LABEL_KEY = rf"^({_DNS_LABEL}([.]{_DNS_LABEL})*/)?{_PART}$"
MAX_LABEL_KEY = 253
"""Kubernetes would let a key with a long prefix have 317; nobody's has."""

LabelKey = Annotated[
    str,
    Field(
        min_length=1,
        max_length=MAX_LABEL_KEY,
        pattern=meaning("the key of a label, e.g. app.kubernetes.io/name", LABEL_KEY),
    ),
]
LabelValue = Annotated[
    str,
    Field(
        max_length=63,
        pattern=meaning(
            "the value of a label: letters, digits, dashes, dots, underscores, a letter or digit at both ends",
            rf"^({_PART})?$",
        ),
    ),
]


def _bad_keys(raw: Raw) -> list[tuple[str | int, ...]]:
    labels = raw.get("matchLabels") or {}
    return [(key,) for key in labels if len(key) > MAX_LABEL_KEY or not re.fullmatch(LABEL_KEY, key, re.ASCII)]


def _values_fit(raw: Raw) -> bool:
    return bool(raw.get("values")) is (raw["operator"] in ("In", "NotIn"))


class LabelExpression(Model):
    """One requirement on the labels."""

    key: LabelKey = Field(description="Key of the label.")
    operator: Literal["In", "NotIn", "Exists", "DoesNotExist"] = Field(
        description="In, NotIn: the label's value is one of `values`, or none. Exists, DoesNotExist: the label is set."
    )
    values: Annotated[list[LabelValue], Field(max_length=16)] = Field(
        default=[], description="Values for In and NotIn."
    )
    rules: ClassVar[tuple[Rule, ...]] = (
        Rule(
            id="values-go-with-in",
            message="In and NotIn need values, Exists and DoesNotExist take none",
            cel="(has(self.values) && self.values.size() > 0) == (self.operator in ['In', 'NotIn'])",
            fields=("operator", "values"),
            holds=_values_fit,
            field="values",
        ),
    )

    @property
    def text(self) -> str:
        """The requirement as a label selector in text."""
        match self.operator:
            case "Exists":
                return self.key
            case "DoesNotExist":
                return f"!{self.key}"
            case _:
                return f"{self.key} {self.operator.lower()} ({','.join(self.values)})"


class LabelSelector(Model):
    """Which pods: those that meet all requirements."""

    match_labels: Annotated[dict[str, LabelValue], Field(max_length=16)] = Field(
        default={}, description="Labels that the pods have."
    )
    match_expressions: Annotated[list[LabelExpression], Field(max_length=16)] = Field(
        default=[], description="Requirements on the pods' labels."
    )
    rules: ClassVar[tuple[Rule, ...]] = (
        Rule(
            id="selector-selects",
            message="an empty selector would select every pod: set matchLabels or matchExpressions",
            cel=(
                "has(self.matchLabels) && self.matchLabels.size() > 0 ||"
                " has(self.matchExpressions) && self.matchExpressions.size() > 0"
            ),
            fields=("matchLabels", "matchExpressions"),
            holds=lambda raw: bool(raw.get("matchLabels") or raw.get("matchExpressions")),
        ),
        Rule(
            id="label-key",
            message="the key of a label is a name of at most 63 characters, after a DNS name and a slash if need be",
            cel=(
                "!has(self.matchLabels) ||"
                f" self.matchLabels.all(k, k.size() <= {MAX_LABEL_KEY} && k.matches('{LABEL_KEY}'))"
            ),
            fields=("matchLabels",),
            holds=lambda raw: not _bad_keys(raw),
            field="matchLabels",
            where=_bad_keys,
        ),
    )

    @property
    def text(self) -> str:
        """The selector as the API server takes it in a query, e.g. `app=core,tier in (a,b)`."""
        labels = [f"{key}={value}" for key, value in self.match_labels.items()]
        return ",".join(labels + [expression.text for expression in self.match_expressions])


class PodLogs(Model):
    """What the pods log, looked through for the profile's signatures while something of the resource fails.

    Read as `serviceAccountName`, which must be allowed to get pods/log. No line is shown anywhere.
    """

    container: Name | None = Field(
        default=None, description="Container whose log it is; the pod's first one by default."
    )
    lines: Annotated[int, Field(ge=1, le=1000)] = Field(
        default=100, description="Last lines of each log that are looked at, in 64 KiB at most."
    )


class PodsProbe(Model):
    """Pods: how many are ready, and why the others are not, as the API server tells by a watch."""

    selector: LabelSelector = Field(description="Pods of the resource's namespace.")
    minimum_ready: Annotated[int, Field(ge=1, le=10000)] = Field(
        default=1, description="With fewer pods ready it is Unhealthy."
    )
    maximum_restarts: Annotated[int, Field(ge=0, le=1000)] = Field(
        default=3, description="Degraded (RestartsRising) when one pod restarts more often within `restartWindow`."
    )
    restart_window: Annotated[str, duration_between("10s", "24h")] = Field(
        default="10m", description="Time over which restarts are counted, and in which a kill for memory stays told."
    )
    logs: PodLogs | None = Field(
        default=None, description="Looks through the pods' logs while something fails. Not done by default."
    )
