"""What is believed of one BackendHealth: its probes, their components, the incident and the history."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace

from backendhealth.core.annotations import Request
from backendhealth.core.diagnosis.evidence import Answer
from backendhealth.core.durations import human, seconds
from backendhealth.core.flapping import Flaps, flap
from backendhealth.core.knowledge import NOTHING_KNOWN, Knowledge
from backendhealth.core.observation import Finding, clip
from backendhealth.core.probestate import ProbeState
from backendhealth.core.reasons import Reason
from backendhealth.core.spec.backendhealth import BackendHealth, FlapDetection, Probe, condition_prefix
from backendhealth.core.spec.status import Diagnosis
from backendhealth.core.verdict import Verdict, worst

MAX_HISTORY = 20
UNDIAGNOSED = Answer(Diagnosis())


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
    """The belief of one resource at one generation. `probes` holds the parts of probes, too, by `part_key`."""

    resource: BackendHealth
    probes: Mapping[str, ProbeState]
    components: Mapping[str, ComponentState]
    since: float
    incident_since: float | None = None
    history: tuple[Change, ...] = ()
    request: Request = field(default_factory=Request)
    knowledge: Knowledge = NOTHING_KNOWN
    answer: Answer = UNDIAGNOSED

    @property
    def verdict(self) -> Verdict:
        """The worst of the components and symptoms."""
        symptoms = (shown(state)[0] for state in self.symptoms.values())
        return worst((*(component.verdict for component in self.components.values()), *symptoms))

    @property
    def symptoms(self) -> dict[str, ProbeState]:
        """What is believed of each symptom that a probe answers; of several answers the worst."""
        told = symptom_members(self.resource)
        return {
            name: max((self.probes[key] for key in keys), key=lambda state: shown(state)[0].rank)
            for name, keys in told.items()
        }

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


def part_key(probe: str, part: str) -> str:
    """Key of a part among the probes: no name of a probe holds a slash."""
    return f"{probe}/{part}"


def states_of(probe: Probe) -> list[str]:
    """Keys of what is believed of a probe: its own finding, then its parts."""
    return [probe.name, *(part_key(probe.name, part) for part in probe.parts)]


def shown(state: ProbeState) -> tuple[Verdict, Finding]:
    """Verdict and finding as they are told: Unknown (Blind) as long as a silent failure may be our own network's."""
    if not state.doubted:
        return state.verdict, state.finding
    return Verdict.UNKNOWN, Finding(
        Reason.BLIND, clip(f"nobody answers us, neither this backend ({state.finding.message}) nor any other")
    )


def shown_since(state: ProbeState) -> float:
    """Since when what is shown stands, in seconds since the epoch."""
    return max(state.since, state.silent_since or 0) if state.doubted else state.since


def initial_state(resource: BackendHealth, probes: Mapping[str, ProbeState], now: float) -> ResourceState:
    """The belief before any attempt."""
    components = {
        name: ComponentState(*_combine(members, probes), since=now)
        for name, members in component_members(resource).items()
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
    members = component_members(state.resource)
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


def component_members(resource: BackendHealth) -> dict[str, list[str]]:
    """Keys of the probes, and parts of probes, that speak for each component."""
    members: dict[str, list[str]] = {}
    for probe in resource.spec.probes:
        members.setdefault(probe.component_name, []).append(probe.name)
    declared = {condition_prefix(name).lower(): name for name in members}
    for probe in resource.spec.probes:
        for part, name in _parts(probe, "component"):
            # one that differs in dashes only is the same: there is one condition for both
            component = declared.setdefault(condition_prefix(name).lower(), name)
            members.setdefault(component, []).append(part_key(probe.name, part))
    return members


def symptom_members(resource: BackendHealth) -> dict[str, list[str]]:
    """Keys of the parts of probes that answer each symptom."""
    members: dict[str, list[str]] = {}
    for probe in resource.spec.probes:
        for part, name in _parts(probe, "symptom"):
            members.setdefault(name, []).append(part_key(probe.name, part))
    return members


def _parts(probe: Probe, kind: str) -> list[tuple[str, str]]:
    return [(part, part.removeprefix(f"{kind}/")) for part in probe.parts if part.startswith(f"{kind}/")]


def _combine(members: list[str], probes: Mapping[str, ProbeState]) -> tuple[Verdict, Finding]:
    told = [(*shown(probes[key]), key) for key in members]
    verdict, finding, key = max(told, key=lambda one: one[0].rank)
    if len(members) > 1 and verdict is not Verdict.HEALTHY:
        finding = replace(finding, message=clip(f"{key.split('/')[0]}: {finding.message}"))
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
