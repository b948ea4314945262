"""What is believed of one BackendHealth: its probes, their components, the incident and the history."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace

from backendhealth.core.annotations import Request
from backendhealth.core.durations import human, seconds
from backendhealth.core.flapping import Flaps, flap
from backendhealth.core.observation import Finding, clip
from backendhealth.core.probestate import ProbeState
from backendhealth.core.reasons import Reason
from backendhealth.core.spec.backendhealth import BackendHealth, FlapDetection
from backendhealth.core.verdict import Verdict, worst

MAX_HISTORY = 20


@dataclass(frozen=True, slots=True)
class ComponentState:
    """The verdict of one component, the finding that tells why, and since when."""

    verdict: Verdict
    finding: Finding
    since: float
    flaps: Flaps = field(default_factory=Flaps)
    underlying: Verdict = Verdict.UNKNOWN
    """The verdict of its probes, whether or not it is held at Flapping."""


@dataclass(frozen=True, slots=True)
class Change:
    """A component's new verdict."""

    at: float
    component: str
    verdict: Verdict
    reason: Reason


@dataclass(frozen=True, slots=True)
class ResourceState:
    """The belief of one resource at one generation."""

    resource: BackendHealth
    probes: Mapping[str, ProbeState]
    components: Mapping[str, ComponentState]
    since: float
    incident_since: float | None = None
    history: tuple[Change, ...] = ()
    request: Request = field(default_factory=Request)

    @property
    def verdict(self) -> Verdict:
        """The worst of the components."""
        return worst(component.verdict for component in self.components.values())

    @property
    def suspended(self) -> bool:
        """Whether nothing is probed, on purpose."""
        return all(component.finding.reason is Reason.SUSPENDED for component in self.components.values())

    @property
    def incident_id(self) -> str:
        """Stable while the incident lasts; empty without one."""
        if self.incident_since is None:
            return ""
        # to the second, as a status tells it: the same after a restart
        return hashlib.sha256(f"{self.resource.key}@{int(self.incident_since)}".encode()).hexdigest()[:12]


def shown(state: ProbeState) -> tuple[Verdict, Finding]:
    """Verdict and finding as they are told: Unknown (Blind) as long as a silent failure may be our own network's."""
    if not state.doubted:
        return state.verdict, state.finding
    return Verdict.UNKNOWN, Finding(
        Reason.BLIND, clip(f"nobody answers us, neither this backend ({state.finding.message}) nor any other")
    )


def initial_state(resource: BackendHealth, probes: Mapping[str, ProbeState], now: float) -> ResourceState:
    """The belief before any attempt."""
    components = {
        name: ComponentState(*_combine(members, probes), since=now) for name, members in _members(resource).items()
    }
    return ResourceState(resource, probes, components, now)


def update(state: ResourceState, probes: Mapping[str, ProbeState], touched: Iterable[str], now: float) -> ResourceState:
    """The belief after the probes of the components in `touched` have changed."""
    return _dated(state, _moved(state, probes, touched, now), now)


def renewed(
    state: ResourceState, resource: BackendHealth, probes: Mapping[str, ProbeState], now: float
) -> ResourceState:
    """The belief after the spec has changed: the incident, the history and the times of what stayed as it was go on."""
    fresh = initial_state(resource, probes, now).components
    components = {name: state.components.get(name, component) for name, component in fresh.items()}
    begun = replace(state, resource=resource, components=components)
    return _dated(state, _moved(begun, probes, components, now), now)


def _moved(state: ResourceState, probes: Mapping[str, ProbeState], touched: Iterable[str], now: float) -> ResourceState:
    members = _members(state.resource)
    settings = state.resource.spec.flap_detection or FlapDetection()
    components = dict(state.components)
    changes = []
    for name in touched:
        before = components[name]
        components[name] = after = _component(before, *_combine(members[name], probes), settings, now)
        if (after.verdict, after.finding.reason) != (before.verdict, before.finding.reason):
            changes.append(Change(now, name, after.verdict, after.finding.reason))
    history = (*reversed(changes), *state.history)[:MAX_HISTORY]
    return replace(state, probes=probes, components=components, history=history)


def _dated(before: ResourceState, after: ResourceState, now: float) -> ResourceState:
    verdict = after.verdict
    since = before.since if (verdict, after.suspended) == (before.verdict, before.suspended) else now
    incident = before.incident_since
    if verdict is Verdict.UNHEALTHY:
        incident = now if incident is None else incident
    elif verdict is not Verdict.UNKNOWN:  # an incident that we can't see any more is not over
        incident = None
    return replace(after, since=since, incident_since=incident)


def _members(resource: BackendHealth) -> dict[str, list[str]]:
    members: dict[str, list[str]] = {}
    for probe in resource.spec.probes:
        members.setdefault(probe.component_name, []).append(probe.name)
    return members


def _combine(members: list[str], probes: Mapping[str, ProbeState]) -> tuple[Verdict, Finding]:
    told = [(*shown(probes[name]), name) for name in members]
    verdict, finding, name = max(told, key=lambda one: one[0].rank)
    if len(members) > 1 and verdict is not Verdict.HEALTHY:
        finding = replace(finding, message=clip(f"{name}: {finding.message}"))
    return verdict, finding


def _component(
    before: ComponentState, verdict: Verdict, finding: Finding, settings: FlapDetection, now: float
) -> ComponentState:
    flaps = flap(
        before.flaps,
        now,
        changed=_crossed(before.underlying, verdict),
        limit=settings.changes,
        window=seconds(settings.window),
    )
    underlying = verdict
    if flaps.held and verdict is not Verdict.UNKNOWN:  # what we can't see we don't accuse
        # no count: it would change, and be written, each time that an old change leaves the window
        often = f"changed more than {settings.changes} times within {human(seconds(settings.window))}"
        finding = Finding(Reason.FLAPPING, clip(f"{often}; last: {finding.message}"), finding.subjects)
        verdict = Verdict.UNHEALTHY
    since = before.since if verdict is before.verdict else now
    return ComponentState(verdict, finding, since, flaps, underlying)


def _crossed(before: Verdict, after: Verdict) -> bool:
    """Whether it went from working to failing or back; our own ignorance is no change of the backend."""
    if Verdict.UNKNOWN in (before, after):
        return False
    return (before is Verdict.UNHEALTHY) is not (after is Verdict.UNHEALTHY)
