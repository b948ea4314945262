"""One turn: an observation in, beliefs and statuses out. No I/O and no clock: replay runs on it as well."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, replace

from backendhealth.core.annotations import probe_requested_at, suspended_until
from backendhealth.core.attempts import NONE, Attempts
from backendhealth.core.diagnosed import Texts, diagnosed
from backendhealth.core.diagnosis.evidence import NEVER
from backendhealth.core.diagnosis.graph import upstream
from backendhealth.core.knowledge import NOTHING_KNOWN, Knowledge
from backendhealth.core.observation import Observation
from backendhealth.core.probestate import NOBODY, ProbeState, Thresholds, initial, listen, observe
from backendhealth.core.reasons import Reason
from backendhealth.core.resourcestate import (
    ResourceState,
    component_members,
    initial_state,
    renewed,
    shown,
    states_of,
    update,
)
from backendhealth.core.restoring import restored_attempts, restored_state
from backendhealth.core.speakers import Speaker, speakers
from backendhealth.core.spec.backendhealth import BackendHealth
from backendhealth.core.spec.hosts import hosts_of
from backendhealth.core.spec.profile import Signature
from backendhealth.core.spec.status import BackendHealthStatus
from backendhealth.core.statusof import status_of
from backendhealth.core.timing import ProbeTiming, timing_of
from backendhealth.core.verdict import Verdict
from backendhealth.engine.hearing import Hearing, ProbeKey
from backendhealth.engine.ports import Sink

_ONCE = Thresholds(1, 1)


@dataclass(slots=True)
class _Held:
    state: ResourceState
    status: BackendHealthStatus
    timing: dict[str, ProbeTiming]
    speakers: dict[str, Speaker]
    attempts: dict[str, Attempts]
    """By the keys of what is believed: of probes and of their parts."""
    texts: Texts = field(default_factory=dict)
    proven: frozenset[str] = frozenset()
    """Keys of what the newest attempt agrees with: what was restored, or may be our own network's fault, is not there.
    """
    silences: dict[str, ProbeState] = field(default_factory=dict)
    """By key: silence as it was heard by this process alone. What was restored is taken for confirmed, and is not."""

    def waits_for(self, speaker: Speaker, now: float) -> bool:
        """Whether the diagnosis waits for what the probe says, or for the time that it is now."""
        answer = self.state.answer
        return not answer.asked.isdisjoint(speaker.names) or (answer.again_at is not None and answer.again_at <= now)

    def to_ask(self, probe: str) -> list[str]:
        """The probes that must tell how things stand since something has failed, and have not made an attempt since."""
        onsets = [self.attempts[key].onset for key in self.speakers[probe].keys if key in self.attempts]
        wanted = set(self.state.answer.asked)
        if any(onset is not None for onset in onsets):
            wanted |= upstream(self.state.knowledge.profile, self.speakers[probe].names)
        if not wanted:
            return []
        failing = max((one.onset for one in self.attempts.values() if one.onset is not None), default=NEVER)
        return [
            name
            for name, speaker in self.speakers.items()
            if name != probe and not wanted.isdisjoint(speaker.names) and self.attempts.get(name, NONE).newest < failing
        ]


class Cycle:
    """The beliefs of all resources. `once`: one attempt decides, whatever the thresholds.

    `proven` is told the key of a resource of which `observed` has changed while its status may not have.
    """

    def __init__(self, sink: Sink, *, once: bool = False, proven: Callable[[str], None] | None = None) -> None:
        self._sink = sink
        self._proven = proven
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

    def observed(self, key: str) -> frozenset[str]:
        """The components whose present verdict is what the newest attempts have found, here and beyond doubt.

        A verdict that was restored is not, nor one that an attempt contradicts, nor silence that nobody else's answer
        shows to be the target's own.
        """
        held = self._held[key]
        return frozenset(
            name
            for name, members in component_members(held.state.resource).items()
            if _observed(held, members, held.state.components[name].verdict)
        )

    def timing(self, key: ProbeKey) -> ProbeTiming:
        """The timing in force for a probe."""
        return self._held[key[0]].timing[key[1]]

    def deciding(self, key: ProbeKey) -> bool:
        """Whether the probe's last attempt left its verdict, or that of one of its parts, open."""
        held = self._held[key[0]]
        return any(held.state.probes[name].deciding for name in held.speakers[key[1]].keys)

    def believed(self, key: ProbeKey) -> bool:
        """Whether anything was ever found out about the probe."""
        return self._held[key[0]].state.probes[key[1]].finding.reason is not Reason.PENDING

    def requested(self, key: str) -> list[ProbeKey]:
        """The probes that are asked by annotation for an attempt at once, and have not made one since."""
        return [(key, name) for name in sorted(self._held[key].state.request.unanswered)]

    def apply(
        self,
        resource: BackendHealth,
        now: float,
        restored: BackendHealthStatus | None = None,
        knowledge: Knowledge = NOTHING_KNOWN,
    ) -> set[str]:
        """Take a new or changed resource; answers with the names of the probes that start afresh.

        `restored` is the status that was written of a resource before it was known here.
        """
        old = self._held.get(resource.key)
        fresh = set()
        probes: dict[str, ProbeState] = {}
        attempts: dict[str, Attempts] = {}
        timing = {probe.name: timing_of(resource.spec, probe) for probe in resource.spec.probes}
        if (suspended_until(resource.metadata.annotations) or 0) > now:
            timing = {name: replace(one, suspended=True) for name, one in timing.items()}
        before = {p.name: p for p in old.state.resource.spec.probes} if old else {}
        moved = old is not None and old.state.resource.spec.service_account_name != resource.spec.service_account_name
        for probe in resource.spec.probes:
            stays = before.get(probe.name) == probe and not (moved and probe.uses_secrets)
            if old and stays and old.timing[probe.name] == timing[probe.name]:
                probes |= {name: old.state.probes[name] for name in states_of(probe)}
                attempts |= {name: old.attempts[name] for name in states_of(probe) if name in old.attempts}
                continue
            key = (resource.key, probe.name)
            fresh.add(probe.name)
            probes |= dict.fromkeys(states_of(probe), initial(now, suspended=timing[probe.name].suspended))
            self._hearing.forget(key)
            if not timing[probe.name].suspended:
                self._hearing.expect(key, hosts_of(probe.target))
        for name in before.keys() - timing.keys():
            self._hearing.forget((resource.key, name))
        suspended = frozenset(name for name, one in timing.items() if one.suspended)
        if old is None and restored is not None:
            state = restored_state(resource, restored, now, suspended)
            attempts = restored_attempts(state, now)
        else:
            state = renewed(old.state, resource, probes, now) if old else initial_state(resource, probes, now)
        wanted = probe_requested_at(resource.metadata.annotations)
        asked = state.request.asked(wanted, frozenset(timing) - suspended, now)
        state = replace(state, request=asked, knowledge=knowledge)
        texts = old.texts if old else {}
        state = diagnosed(state, attempts, now, once=self._once, texts=texts)
        status = status_of(state, old.status if old else restored, now)
        kept = old.proven & attempts.keys() if old else frozenset()
        self._held[resource.key] = _Held(state, status, timing, speakers(resource), attempts, texts, kept)
        if old is None or status != old.status:
            self._sink(resource, status)
        return fresh

    def signatures(self, key: str) -> list[Signature]:
        """Those of the profile in force."""
        return self._held[key].state.knowledge.profile.signatures

    def logged(self, key: str, texts: Texts, now: float) -> None:
        """Take what signatures have found in the logs of the resource's pods, in place of what was found before."""
        held = self._held.get(key)
        if held is not None and held.texts != texts:
            held.texts = texts
            self._tell(held, (), now)

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
        if held is None or seen.probe not in held.timing:
            return []
        proven = held.proven
        self._hearing.hear(key, seen)
        noted = self._note(held, seen, None if seen.finding.contact else self._hearing.elsewhere(key))
        speaker = held.speakers[seen.probe]
        flaps = any(held.state.components[name].flaps.changes for name in speaker.components)
        request = held.state.request.attempted(seen.probe, seen.started)
        answered = request is not held.state.request and not request.unanswered
        held.state = replace(held.state, request=request) if request is not held.state.request else held.state
        after = held.state.probes[seen.probe]
        # once, a doubt is told only if it is still there in the end
        if (flaps or answered or noted or held.waits_for(speaker, now)) and not (self._once and after.doubted):
            self._tell(held, speaker.components, now)
        if self._proven is not None and held.proven != proven:
            self._proven(seen.resource)
        asked = self._hearing.to_ask(key, seen, after)
        return [*asked, *((held.state.resource.key, name) for name in held.to_ask(seen.probe))]

    def settle(self, now: float) -> None:
        """After one attempt of everything: who was silent while others were heard is not our network's fault."""
        for key in self._hearing.unheard:
            held = self._held[key[0]]
            if self._hearing.elsewhere(key) != NOBODY:
                state = replace(held.state.probes[key[1]], confirmed=True)
                self._hearing.believe(key, state)
                held.state = replace(held.state, probes={**held.state.probes, key[1]: state})
            self._tell(held, held.speakers[key[1]].components, now)

    def _note(self, held: _Held, seen: Observation, elsewhere: float | None) -> bool:
        """Weigh a finding and its parts; answers with whether anything that is told has changed."""
        thresholds = _ONCE if self._once else held.timing[seen.probe].thresholds
        changed: dict[str, ProbeState] = {}
        told = False
        for name, finding in held.speakers[seen.probe].findings(seen.finding):
            before = held.state.probes[name]
            one = seen if finding is seen.finding else replace(seen, finding=finding)
            after = observe(before, one, thresholds, elsewhere)
            held.attempts[name] = held.attempts.get(name, NONE).made(finding.verdict, seen.started, seen.at, after)
            if _agrees(held, name, one, after, elsewhere) is not (name in held.proven):
                held.proven ^= {name}
            if after is not before:
                changed[name] = after
                told = told or _differs(before, after)
        if changed:
            if seen.probe in changed:
                self._hearing.believe((seen.resource, seen.probe), changed[seen.probe])
            held.state = replace(held.state, probes={**held.state.probes, **changed})
        return told

    def _tell(self, held: _Held, components: Iterable[str], now: float) -> None:
        state = update(held.state, held.state.probes, components, now)
        held.state = diagnosed(state, held.attempts, now, once=self._once, texts=held.texts)
        status = status_of(held.state, held.status, now)
        if status != held.status:
            held.status = status
            self._sink(held.state.resource, status)


def _agrees(held: _Held, name: str, seen: Observation, after: ProbeState, elsewhere: float | None) -> bool:
    """Whether an attempt shows what is believed after it: silence does only where others were heard meanwhile."""
    if seen.finding.contact:
        held.silences.pop(name, None)
    if seen.finding.verdict is not after.verdict or after.verdict is Verdict.UNKNOWN:
        return False
    if seen.finding.contact:
        return True
    silence = held.silences.get(name) or replace(after, silent_since=None, armed_at=None, confirmed=False)
    silence = held.silences[name] = listen(silence, seen, elsewhere)
    return silence.confirmed and elsewhere is not None and not after.doubted


def _observed(held: _Held, members: list[str], verdict: Verdict) -> bool:
    """One failing member is enough to tell that a component fails; that it works takes all of them."""
    if verdict is Verdict.UNHEALTHY:
        return any(name in held.proven and held.state.probes[name].verdict is verdict for name in members)
    return held.proven.issuperset(members)


def _differs(before: ProbeState, after: ProbeState) -> bool:
    return after.finding is not before.finding or shown(after)[0] is not shown(before)[0]
