"""One turn: an observation in, beliefs and statuses out. No I/O and no clock: replay runs on it as well."""

from __future__ import annotations

from dataclasses import dataclass, replace

from backendhealth.core.observation import Observation
from backendhealth.core.probestate import ProbeState, Thresholds, initial, observe
from backendhealth.core.resourcestate import ResourceState, initial_state, shown, update
from backendhealth.core.spec.backendhealth import BackendHealth
from backendhealth.core.spec.hosts import hosts_of
from backendhealth.core.spec.status import BackendHealthStatus
from backendhealth.core.statusof import status_of
from backendhealth.core.timing import ProbeTiming, timing_of
from backendhealth.engine.ports import Sink

ProbeKey = tuple[str, str]
"""Key of the resource (`namespace/name`) and name of the probe."""
_ONCE = Thresholds(1, 1)


@dataclass(slots=True)
class _Held:
    state: ResourceState
    status: BackendHealthStatus
    timing: dict[str, ProbeTiming]


class Cycle:
    """The beliefs of all resources. `once`: one attempt decides, whatever the thresholds."""

    def __init__(self, sink: Sink, *, once: bool = False) -> None:
        self._sink = sink
        self._once = once
        self._held: dict[str, _Held] = {}
        self._hosts: dict[ProbeKey, frozenset[str]] = {}
        self._heard: dict[frozenset[str], float] = {}
        self._started: dict[ProbeKey, float] = {}
        self._doubted: set[ProbeKey] = set()

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

    def apply(self, resource: BackendHealth, now: float) -> set[str]:
        """Take a new or changed resource; answers with the names of the probes that start afresh."""
        old = self._held.get(resource.key)
        fresh = set()
        probes: dict[str, ProbeState] = {}
        timing = {probe.name: timing_of(resource.spec, probe) for probe in resource.spec.probes}
        before = {p.name: p for p in old.state.resource.spec.probes} if old else {}
        for probe in resource.spec.probes:
            known = old is not None and before.get(probe.name) == probe and old.timing[probe.name] == timing[probe.name]
            if old and known:
                probes[probe.name] = old.state.probes[probe.name]
            else:
                fresh.add(probe.name)
                probes[probe.name] = initial(now, suspended=timing[probe.name].suspended)
                self._forget((resource.key, probe.name))
            self._hosts[resource.key, probe.name] = hosts_of(probe.target)
        for name in before.keys() - probes.keys():
            self._forget((resource.key, name))
        self._take(resource, probes, timing, now, old)
        return fresh

    def _take(
        self,
        resource: BackendHealth,
        probes: dict[str, ProbeState],
        timing: dict[str, ProbeTiming],
        now: float,
        old: _Held | None,
    ) -> None:
        state = initial_state(resource, probes, now)
        if old:
            state = _carried(old.state, state)
        status = status_of(state, old.status if old else None, now)
        self._held[resource.key] = _Held(state, status, timing)
        self._sink(resource, status)

    def remove(self, key: str) -> None:
        """Forget a resource."""
        held = self._held.pop(key, None)
        for probe in held.state.resource.spec.probes if held else ():
            self._forget((key, probe.name))

    def _forget(self, key: ProbeKey) -> None:
        hosts = self._hosts.pop(key, None)
        self._started.pop(key, None)
        self._doubted.discard(key)
        if hosts is not None and hosts not in self._hosts.values():
            self._heard.pop(hosts, None)

    def observe(self, seen: Observation, now: float) -> list[ProbeKey]:
        """Take an observation; answers with the probes whose next attempt should come at once.

        An observation of a resource or probe that is gone meanwhile is dropped.
        """
        key = (seen.resource, seen.probe)
        held = self._held.get(seen.resource)
        if held is None or seen.probe not in held.state.probes:
            return []
        self._started[key] = seen.started
        silent = not seen.finding.contact
        if not silent:
            self._heard[self._hosts[key]] = seen.at
        before = held.state.probes[seen.probe]
        thresholds = _ONCE if self._once else held.timing[seen.probe].thresholds
        after = observe(before, seen, thresholds, self._heard_elsewhere(key) if silent else None)
        self._believe(held, key, before, after, now)
        if silent:
            return [] if after.armed else self._not_asked_since(after.silent_since or seen.started, key)
        return [other for other in self._doubted if other != key] if self._doubted else []

    def settle(self, now: float) -> None:
        """After one attempt of everything: who was silent while others were heard is not our network's fault."""
        for key in sorted(self._doubted):
            held = self._held[key[0]]
            before = held.state.probes[key[1]]
            elsewhere = self._heard_elsewhere(key)
            if elsewhere is not None and elsewhere >= (before.silent_since or 0):
                self._believe(held, key, before, replace(before, confirmed=True), now)

    def _believe(self, held: _Held, key: ProbeKey, before: ProbeState, after: ProbeState, now: float) -> None:
        component = next(p for p in held.state.resource.spec.probes if p.name == key[1]).component_name
        flaps = held.state.components[component].flaps.changes
        if after is before and not flaps:
            return
        (self._doubted.add if after.doubted else self._doubted.discard)(key)
        probes = {**held.state.probes, key[1]: after}
        shows = flaps or after.verdict is not before.verdict or _differs(before, after)
        if not shows:
            held.state = replace(held.state, probes=probes)
            return
        held.state = update(held.state, probes, [component], now)
        status = status_of(held.state, held.status, now)
        if status != held.status:
            held.status = status
            self._sink(held.state.resource, status)

    def _heard_elsewhere(self, key: ProbeKey) -> float | None:
        """When anything last came back from another host; None when no other host is probed."""
        mine = self._hosts[key]
        others = {hosts for hosts in self._hosts.values() if hosts != mine}
        return max((self._heard.get(hosts, 0.0) for hosts in others), default=None)

    def _not_asked_since(self, since: float, key: ProbeKey) -> list[ProbeKey]:
        mine = self._hosts[key]
        return [
            other for other, started in self._started.items() if started < since and self._hosts.get(other) != mine
        ]


def _differs(before: ProbeState, after: ProbeState) -> bool:
    return after.finding is not before.finding or shown(after)[0] is not shown(before)[0]


def _carried(old: ResourceState, new: ResourceState) -> ResourceState:
    """What outlives a change of the spec: the times of what has not changed, the incident, the history."""
    components = {
        name: old.components[name]
        if name in old.components and _same_verdict(old, new, name)
        else component
        for name, component in new.components.items()
    }
    carried = replace(new, components=components, incident_since=old.incident_since, history=old.history)
    return replace(carried, since=old.since) if carried.verdict is old.verdict else carried


def _same_verdict(old: ResourceState, new: ResourceState, name: str) -> bool:
    return old.components[name].underlying is new.components[name].verdict or (
        old.components[name].verdict is new.components[name].verdict
    )
