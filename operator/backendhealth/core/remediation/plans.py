"""What is decided about: a policy made ready, one BackendHealth, a moment."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from backendhealth.core.remediation.limits import Bounds, Ledger
from backendhealth.core.remediation.ruling import Hold, Ruling
from backendhealth.core.remediation.situation import Component, Past, Situation, World
from backendhealth.core.spec.remediationpolicy import RemediationPolicy


@dataclass(frozen=True, slots=True)
class Recovery:
    """What must work again, for how long, and since when at most; in seconds."""

    component: str
    delay: float
    within: float


@dataclass(frozen=True, slots=True)
class Rule:
    """A rule, made ready: times in seconds."""

    name: str
    component: str
    reasons: frozenset[str]
    lasting: float
    symptoms: bool
    unhealthy: tuple[str, ...]
    unknown: tuple[str, ...]
    flapping: bool
    after: Recovery | None
    waits: tuple[float, ...]
    """Before each escalation."""
    shown: frozenset[int]
    """Steps that succeed when they show to be done, whether they help or not: the next one follows."""
    free: Ruling
    """What is said of it when nothing holds."""
    asks: tuple[Ask, ...]
    """The guards that it is any use to ask."""


@dataclass(frozen=True, slots=True)
class Plan:
    """What depends on a policy alone."""

    policy: RemediationPolicy
    keys: frozenset[str]
    """`namespace/name` of the BackendHealths that it is for."""
    bounds: Bounds
    rules: tuple[Rule, ...]


@dataclass(slots=True)
class Case:
    """What the guards are asked about: one policy and one BackendHealth (None: none is meant), at a moment."""

    plan: Plan
    situation: Situation | None
    ledger: Ledger
    world: World
    now: float
    here: Sequence[Past] = ()
    """Of the ledger those in this incident."""


Ask = Callable[[Case, Rule, Component], Hold | None]
"""A guard of a rule whose component is Unhealthy."""
