"""From objects in the cluster to resources in the engine, and from their beliefs to what is written and told."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Collection
from dataclasses import dataclass
from typing import Any

from backendhealth.core.annotations import suspended_until
from backendhealth.core.knowledge import Knowledge
from backendhealth.core.remediation.situation import Situation
from backendhealth.core.remediation.situations import situation_of
from backendhealth.core.remediation.storm import unhealthy_until
from backendhealth.core.restoring import written_status
from backendhealth.core.spec.backendhealth import BackendHealth, Probe
from backendhealth.core.spec.status import BackendHealthStatus, RemediationView
from backendhealth.core.stalled import stalled_status
from backendhealth.core.validate import validate
from backendhealth.core.verdict import Verdict
from backendhealth.core.writing import age_of
from backendhealth.engine.engine import Engine
from backendhealth.engine.ports import WallClock
from backendhealth.kube.api import Json
from backendhealth.kube.audience import Audience
from backendhealth.kube.overlay import Overlay
from backendhealth.kube.served import Known, created_at, incident_in, key_of, known_of
from backendhealth.kube.writer import StatusWriter

log = logging.getLogger(__name__)

JUST_CREATED = 10.0
"""Seconds for which somebody may be waiting for the first verdict of an object, wherever we heard of it."""
LookUp = Callable[[BackendHealth, Knowledge | None], Knowledge | None]
"""See Profiles.knowledge_of."""
MAX_TIMER = 3600.0  # seconds; a clock that is stepped meanwhile is noticed by then


@dataclass(frozen=True, slots=True)
class _Waiting:
    """A resource whose platform's profile is not listed yet."""

    resource: BackendHealth
    previous: BackendHealthStatus | None
    spread: bool


class Controller:
    """Feeds the engine; what it knows is engine.remediation.ports.Situations.

    `serves` says whether we may act in a namespace at this moment; `overlay` what is told of remediation.
    """

    def __init__(
        self,
        *,
        writer: StatusWriter,
        serves: Callable[[str], bool],
        clock: WallClock,
        audience: Audience,
        overlay: Overlay,
    ) -> None:
        self._writer = writer
        self._serves = serves
        self._clock = clock
        self._audience = audience
        self._overlay = overlay
        self._believed: Callable[[str], None] = lambda _: None
        self._engine: Engine | None = None
        self._look_up: LookUp | None = None
        self._applied: dict[str, BackendHealth] = {}
        self._in_force: dict[str, Knowledge] = {}
        """Kept while an object's spec can't be used: its last good profile is meant to stay."""
        self._waiting: dict[str, _Waiting] = {}
        self._unread: dict[str, dict[str, str]] = {}
        self._known: dict[str, Known] = {}
        self._recorded: dict[str, str] = {}
        """The incident that the object in the cluster tells."""
        self._told: dict[str, BackendHealthStatus] = {}
        self._driving: set[str] = set()
        """What the engine has told anything of: it knows these."""
        self._unhealthy: set[str] = set()
        self._before: dict[str, float] = {}
        self._timers: dict[str, asyncio.TimerHandle] = {}
        self._ending: set[asyncio.Task[None]] = set()

    def drive(self, engine: Engine, look_up: LookUp, believed: Callable[[str], None]) -> None:
        """The engine to feed, which must have `told` as its sink, and what tells what is known of a platform.

        `believed` is told the key of whatever has another status, or is gone.
        """
        self._engine = engine
        self._look_up = look_up
        self._believed = believed

    @property
    def served(self) -> dict[str, str]:
        """UID by key of all objects that are served now."""
        return {key: known.uid for key, known in self._known.items()}

    def seen(self, raw: Json, *, listed: bool) -> None:
        """Take an object as it stands in the cluster; `listed`: one of many that come at once."""
        meta = raw["metadata"]
        key = key_of(raw)
        if not self._serves(meta["namespace"]):
            return
        if meta.get("deletionTimestamp"):
            self.gone(key, meta["uid"])
            return
        known = self._known.get(key)
        if known and known.uid != meta["uid"]:
            self.gone(key, known.uid)
            known = None
        now = known_of(raw)
        if known and now.generation < known.generation:  # a late event; newer ones are on their way
            return
        self._writer.seen(key, meta["uid"], meta["resourceVersion"], raw.get("status"))
        if known is None or (known.generation, known.asked) != (now.generation, now.asked):
            self._known[key] = now
            self._meet(raw, new=known is None, listed=listed)
        self._record(key, incident_in(raw))
        age = age_of(raw.get("status"), self._clock())
        if age is not None:
            self._audience.written(key, self._clock() - age)

    def gone(self, key: str, uid: str) -> None:
        """The object was deleted; another one of its name is not meant."""
        known = self._known.get(key)
        if known and known.uid == uid:
            self._drop(key)

    def drop(self, which: Callable[[str], bool]) -> None:
        """Stop everything in the namespaces that `which` holds for: they are another's now."""
        for key in [key for key in self._known if which(key.split("/", 1)[0])]:
            self._drop(key)

    def reconsider(self) -> None:
        """What is known of some resource's platform may have changed: a diagnosis is made anew, no probe."""
        for waiting in list(self._waiting.values()):
            self._apply(waiting)
        for key, resource in list(self._applied.items()):
            if resource.spec.profile_ref is not None and self._known_of(resource) not in (None, self._in_force[key]):
                self._apply(_Waiting(resource, None, spread=False))

    def told(self, resource: BackendHealth, status: BackendHealthStatus) -> None:
        """The engine's sink."""
        if resource.key in self._known:  # else it was dropped meanwhile, and the engine is about to hear of it
            self._driving.add(resource.key)
            self._tell(resource.key, status)

    def remediated(self, key: str, view: RemediationView | None) -> None:
        """Take what is to be told of a resource's remediation: engine.remediation.ports.Tell."""
        if key in self._known:
            self._overlay.tell(key, view)
            self._lay_over(key)

    def policies_changed(self, namespace: str) -> None:
        """What holds remediation back because it can't be read may have changed."""
        for key in [key for key in self._known if key.startswith(f"{namespace}/")]:
            self._lay_over(key)

    def situation(self, key: str) -> Situation | None:
        """See Situations."""
        known, status = self._known.get(key), self._told.get(key)
        if known is None or status is None or not self._serves(key.split("/", 1)[0]):
            return None
        observed = self._driven.observed(key) if key in self._driving else frozenset()
        return situation_of(key, known.uid, status, observed, self._recorded.get(key, ""))

    def counted(self) -> tuple[int, int]:
        """See Situations."""
        return len(self._unhealthy), len(self._known)

    def unhealthy_before(self) -> Collection[float]:
        """See Situations."""
        return self._before.values()

    def logs_read(self, resource: BackendHealth, probe: Probe, problem: str) -> None:
        """The logs of a probe's pods were looked through, or why they can't be: told once for each why."""
        known = self._known.get(resource.key)
        if known is None:
            return
        unread = self._unread.setdefault(resource.key, {})
        if problem and problem != unread.get(probe.name):
            self._audience.logs_unread(known.ref, problem)
        unread[probe.name] = problem

    async def close(self) -> None:
        """Wait for what is being ended."""
        for timer in self._timers.values():
            timer.cancel()
        await asyncio.gather(*self._ending)

    def _meet(self, raw: Json, *, new: bool, listed: bool) -> None:
        key = key_of(raw)
        previous = self._told.get(key) or written_status(raw.get("status"))
        if previous is not None and new:
            self._told[key] = previous  # what was told before we came is not told again
            last = unhealthy_until(previous, self._clock())
            if last is not None:
                self._before[key] = last
            self._count(key, previous)
            self._overlay.restore(key, previous)
        many = listed and new and self._clock() - created_at(raw) > JUST_CREATED
        self._take(raw, previous, new=new, spread=many)

    def _take(self, raw: Json, previous: BackendHealthStatus | None, *, new: bool, spread: bool) -> None:
        key = key_of(raw)
        resource, problems = validate({name: value for name, value in raw.items() if name != "status"})
        self._arm(key, raw)
        if resource is None:
            self._forget(key)
            if not new:
                self._end(self._driven.remove(key))
            generation = raw["metadata"].get("generation", 1)
            self._tell(key, stalled_status(generation, problems, previous, self._clock()))
            return
        self._audience.declared(resource)
        self._apply(_Waiting(resource, previous, spread))

    def _apply(self, taken: _Waiting) -> None:
        resource, key = taken.resource, taken.resource.key
        knowledge = self._known_of(resource)
        if knowledge is None and key not in self._applied:
            self._waiting[key] = taken
            return
        knowledge = knowledge or self._in_force[key]
        self._waiting.pop(key, None)
        self._applied[key], self._in_force[key] = resource, knowledge
        self._end(self._driven.apply(resource, knowledge=knowledge, restored=taken.previous, spread=taken.spread))

    def _known_of(self, resource: BackendHealth) -> Knowledge | None:
        if self._look_up is None:
            raise RuntimeError("no profiles yet")
        return self._look_up(resource, self._in_force.get(resource.key))

    def _forget(self, key: str) -> None:
        """Nothing of it is in the engine any more."""
        self._applied.pop(key, None)
        self._waiting.pop(key, None)
        self._driving.discard(key)

    def _arm(self, key: str, raw: Json) -> None:
        """Come back when a suspension by annotation ends."""
        timer = self._timers.pop(key, None)
        if timer:
            timer.cancel()
        until = suspended_until(raw["metadata"].get("annotations") or {})
        left = 0.0 if until is None else until - self._clock()
        if left > 0:
            self._timers[key] = asyncio.get_running_loop().call_later(min(left, MAX_TIMER), self._resume, key, raw)

    def _record(self, key: str, incident: str) -> None:
        if self._recorded.get(key, "") != incident:
            self._recorded[key] = incident
            self._believed(key)

    def _resume(self, key: str, raw: Json) -> None:
        if key in self._known:
            self._take(raw, self._told.get(key), new=False, spread=False)

    def _drop(self, key: str) -> None:
        del self._known[key]
        self._forget(key)
        self._in_force.pop(key, None)
        self._unread.pop(key, None)
        self._recorded.pop(key, None)
        self._told.pop(key, None)
        self._unhealthy.discard(key)
        self._before.pop(key, None)
        self._overlay.forget(key)
        timer = self._timers.pop(key, None)
        if timer:
            timer.cancel()
        self._writer.forget(key)
        self._audience.forgot(key)
        self._end(self._driven.remove(key))
        self._believed(key)

    def _tell(self, key: str, status: BackendHealthStatus) -> None:
        self._put(key, self._overlay.over(key, status, self._told.get(key)))
        self._believed(key)

    def _lay_over(self, key: str) -> None:
        """Tell anew what is told, with what is to be told of remediation now."""
        told = self._told.get(key)
        status = self._overlay.over(key, told, told) if told is not None else None
        if status is not None and status != told:
            self._put(key, status)

    def _put(self, key: str, status: BackendHealthStatus) -> None:
        old = self._told.get(key)
        self._told[key] = status
        self._count(key, status)
        self._writer.put(key, status)
        self._audience.changed(self._known[key].ref, old, status)

    def _count(self, key: str, status: BackendHealthStatus) -> None:
        if status.summary is not None and status.summary.state == Verdict.UNHEALTHY:
            self._unhealthy.add(key)
        else:
            self._unhealthy.discard(key)

    @property
    def _driven(self) -> Engine:
        if self._engine is None:
            raise RuntimeError("no engine yet")
        return self._engine

    def _end(self, ending: Any) -> None:
        # its changes are made before its first await: in the order of these calls, whatever takes long to be closed
        task = asyncio.get_running_loop().create_task(ending)
        self._ending.add(task)
        task.add_done_callback(self._ended)

    def _ended(self, task: asyncio.Task[None]) -> None:
        self._ending.discard(task)
        if not task.cancelled() and task.exception() is not None:
            log.error("a resource could not be taken or dropped by our own fault", exc_info=task.exception())
