"""What a policy is decided by: one BackendHealth as its status tells it, and what was done before."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from backendhealth.core.verdict import Verdict


@dataclass(frozen=True, slots=True)
class Subject:
    """A part of a component that is not healthy, e.g. `driver/CORE/KEY` or `pod/NAME`."""

    name: str
    reason: str


@dataclass(frozen=True, slots=True)
class Component:
    """One component as the status tells it. `since` is in seconds since the epoch.

    `root`: it is a root cause. `observed`: an attempt of this very process found it so; a status that was restored
    tells nothing that may be acted on.
    """

    name: str
    verdict: Verdict
    reason: str
    message: str
    since: float
    root: bool = False
    explained_by: tuple[str, ...] = ()
    subjects: tuple[Subject, ...] = ()
    observed: bool = True


@dataclass(frozen=True, slots=True)
class Changed:
    """One transition of a component, at a time in seconds since the epoch."""

    at: float
    component: str
    verdict: Verdict


@dataclass(frozen=True, slots=True)
class Situation:
    """One BackendHealth; `history` is newest first, `incident` is empty without one.

    `recorded`: the cluster holds that incident, so that whoever takes over knows it as the same one.
    """

    key: str
    uid: str
    incident: str = ""
    incident_since: float = 0.0
    recorded: bool = True
    suspended: bool = False
    components: Mapping[str, Component] = field(default_factory=dict)
    history: tuple[Changed, ...] = ()


@dataclass(frozen=True, slots=True)
class Past:
    """A Remediation that there is. Times are seconds since the epoch; 0: not yet. `target` is RemediationTarget.id."""

    name: str
    policy: str
    """UID of the policy; its name where a person has given no UID."""
    rule: str
    step: int
    backend_health: str
    """Its UID."""
    incident: str
    target: str
    phase: str
    dry: bool = False
    by_hand: bool = False
    revert: bool = False
    created: float = 0.0
    began: float = 0.0
    ended: float = 0.0
    needless: bool = False
    """What was wanted was so already: it had no effect."""


@dataclass(frozen=True, slots=True)
class World:
    """What else is known at a moment: `unhealthy` of `total` BackendHealths, when a storm was last seen.

    `switched_off` says why all remediation is off, empty when it is on; `serves` whether the namespace is ours now.
    """

    unhealthy: int = 0
    total: int = 0
    storm_seen: float | None = None
    switched_off: str = ""
    serves: bool = True
