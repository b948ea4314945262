"""One turn: an observation in, beliefs and statuses out. No I/O and no clock: replay runs on it as well."""

from __future__ import annotations

from dataclasses import dataclass, replace

from backendhealth.core.annotations import probe_requested_at, suspended_until
from backendhealth.core.observation import Observation
from backendhealth.core.probestate import NOBODY, ProbeState, Thresholds, initial, observe
from backendhealth.core.reasons import Reason
from backendhealth.core.resourcestate import ResourceState, initial_state, renewed, shown, update
from backendhealth.core.restoring import restored_state
from backendhealth.core.spec.backendhealth import BackendHealth
from backendhealth.core.spec.hosts import hosts_of
from backendhealth.core.spec.status import BackendHealthStatus
from backendhealth.core.statusof import status_of
from backendhealth.core.timing import ProbeTiming, timing_of
from backendhealth.engine.hearing import Hearing, ProbeKey
from backendhealth.engine.ports import Sink

_ONCE = Thresholds(1, 1)


@dataclass(slots=True)
class _Held:
    state: ResourceState
    status: BackendHealthStatus
    timing: dict[str, ProbeTiming]
    components: dict[str, str]
    """Name of the component of each probe."""


class Cycle:
    """The beliefs of all resources. `once`: one attempt decides, whatever the thresholds."""

    def __init__(self, sink: Sink, *, once: bool = False) -> None:
        self._sink = sink
        self._once = once
        self._held: dict[str, _Held] = {}
        self._hearing = Hearing()

    @property
    def resources(self) -> list[BackendHealth]:
        """All resources, in the order in which they came."""
        return [held.state.resource for held in self._held.values()]

    def resource(self, key: str) -> BackendHealth:
        """The resource as it was last applied."""
        return self._held[key].state.resource

    def status(self, key: str) -> BackendHealthStatus:
        """The present status of the resource."""
        return self._held[key].status

    def timing(self, key: ProbeKey) -> ProbeTiming:
        """The timing in force for a probe."""
        return self._held[key[0]].timing[key[1]]

    def deciding(self, key: ProbeKey) -> bool:
        """Whether the probe's last attempt left its verdict open."""
        return self._held[key[0]].state.probes[key[1]].deciding

    def believed(self, key: ProbeKey) -> bool:
        """Whether anything was ever found out about the probe."""
        return self._held[key[0]].state.probes[key[1]].finding.reason is not Reason.PENDING

    def requested(self, key: str) -> list[ProbeKey]:
        """The probes that are asked by annotation for an attempt at once, and have not made one since."""
        return [(key, name) for name in sorted(self._held[key].state.request.unanswered)]

    def apply(self, resource: BackendHealth, now: float, restored: BackendHealthStatus | None = None) -> set[str]:
        """Take a new or changed resource; answers with the names of the probes that start afresh.

        `restored` is the status that was written of a resource before it was known here.
        """
        old = self._held.get(resource.key)
        fresh = set()
        probes: dict[str, ProbeState] = {}
        timing = {probe.name: timing_of(resource.spec, probe) for probe in resource.spec.probes}
        if (suspended_until(resource.metadata.annotations) or 0) > now:
            timing = {name: replace(one, suspended=True) for name, one in timing.items()}
        before = {p.name: p for p in old.state.resource.spec.probes} if old else {}
        moved = old is not None and old.state.resource.spec.service_account_name != resource.spec.service_account_name
        for probe in resource.spec.probes:
            stays = before.get(probe.name) == probe and not (moved and probe.uses_secrets)
            if old and stays and old.timing[probe.name] == timing[probe.name]:
                probes[probe.name] = old.state.probes[probe.name]
                continue
            key = (resource.key, probe.name)
            fresh.add(probe.name)
            probes[probe.name] = initial(now, suspended=timing[probe.name].suspended)
            self._hearing.forget(key)
            if not timing[probe.name].suspended:
                self._hearing.expect(key, hosts_of(probe.target))
        for name in before.keys() - probes.keys():
            self._hearing.forget((resource.key, name))
        suspended = frozenset(name for name, one in timing.items() if one.suspended)
        if old is None and restored is not None:
            state = restored_state(resource, restored, now, suspended)
        else:
            state = renewed(old.state, resource, probes, now) if old else initial_state(resource, probes, now)
        wanted = probe_requested_at(resource.metadata.annotations)
        state = replace(state, request=state.request.asked(wanted, frozenset(timing) - suspended, now))
        status = status_of(state, old.status if old else restored, now)
        components = {probe.name: probe.component_name for probe in resource.spec.probes}
        self._held[resource.key] = _Held(state, status, timing, components)
        if old is None or status != old.status:
            self._sink(resource, status)
        return fresh

    def remove(self, key: str) -> None:
        """Forget a resource."""
        held = self._held.pop(key, None)
        for name in held.state.probes if held else ():
            self._hearing.forget((key, name))

    def observe(self, seen: Observation, now: float) -> list[ProbeKey]:
        """Take an observation; answers with the probes whose next attempt should come at once.

        An observation of a resource or probe that is gone meanwhile is dropped.
        """
        key = (seen.resource, seen.probe)
        held = self._held.get(seen.resource)
        if held is None or seen.probe not in held.state.probes:
            return []
        self._hearing.hear(key, seen)
        before = held.state.probes[seen.probe]
        thresholds = _ONCE if self._once else held.timing[seen.probe].thresholds
        elsewhere = None if seen.finding.contact else self._hearing.elsewhere(key)
        after = observe(before, seen, thresholds, elsewhere)
        if after is not before:
            self._hearing.believe(key, after)
            held.state = replace(held.state, probes={**held.state.probes, key[1]: after})
        flaps = held.state.components[held.components[seen.probe]].flaps.changes
        request = held.state.request.attempted(seen.probe, seen.started)
        answered = request is not held.state.request and not request.unanswered
        held.state = replace(held.state, request=request) if request is not held.state.request else held.state
        # once, a doubt is told only if it is still there in the end
        if (flaps or answered or _differs(before, after)) and not (self._once and after.doubted):
            self._tell(held, seen.probe, now)
        return self._hearing.to_ask(key, seen, after)

    def settle(self, now: float) -> None:
        """After one attempt of everything: who was silent while others were heard is not our network's fault."""
        for key in self._hearing.unheard:
            held = self._held[key[0]]
            if self._hearing.elsewhere(key) != NOBODY:
                state = replace(held.state.probes[key[1]], confirmed=True)
                self._hearing.believe(key, state)
                held.state = replace(held.state, probes={**held.state.probes, key[1]: state})
            self._tell(held, key[1], now)

    def _tell(self, held: _Held, probe: str, now: float) -> None:
        held.state = update(held.state, held.state.probes, [held.components[probe]], now)
        status = status_of(held.state, held.status, now)
        if status != held.status:
            held.status = status
            self._sink(held.state.resource, status)


def _differs(before: ProbeState, after: ProbeState) -> bool:
    return after.finding is not before.finding or shown(after)[0] is not shown(before)[0]
