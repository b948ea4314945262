"""Acts as far as policies allow: looks at a namespace whenever anything in it has changed, one look at a time."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Coroutine, Hashable
from dataclasses import dataclass, field
from typing import Any

from backendhealth.core.remediation.viewing import view
from backendhealth.core.spec.status import RemediationView
from backendhealth.engine.remediation.book import Book
from backendhealth.engine.remediation.carrying import Carrier
from backendhealth.engine.remediation.claiming import Claimer, soonest
from backendhealth.engine.remediation.fencing import Around, At, Ports
from backendhealth.engine.remediation.ports import (
    Announce,
    Conflict,
    OpenActing,
    Performers,
    Serves,
    Situations,
    Store,
    StoredPolicy,
    Switch,
    Tell,
    Unavailable,
)
from backendhealth.engine.remediation.pruning import prunable
from backendhealth.engine.remediation.steady import SteadyClock
from backendhealth.engine.scheduler import TICK, Scheduler

log = logging.getLogger(__name__)

ASK_AGAIN = 5.0
"""Seconds between two looks at the switch and the clock."""
LOOK_AGAIN = 30.0
"""Seconds until it is looked again at what is held back, whatever has changed."""
PRUNE_AGAIN = 600.0
_LONGEST = 3600.0
_GRACE = 5.0
_GRACE_LOOK = 0.02
_NEVER = float("inf")


@dataclass(slots=True)
class _Place:
    """One namespace. Times are seconds since the epoch, but `pruned` is the loop's."""

    namespace: str
    keys: set[str] = field(default_factory=set)
    """BackendHealths that have changed since the last look."""
    everything: bool = True
    dirty: bool = True
    task: asyncio.Task[None] | None = None
    told: dict[str, RemediationView | None] = field(default_factory=dict)
    again: dict[str, float] = field(default_factory=dict)
    """When to look at a BackendHealth again, if nothing happens."""
    pruned: float = 0.0


async def _pass(_: str) -> None:
    """Nobody wants to know."""


class Remediator:
    """`changed` and `object_changed` are called from within the event loop and return at once.

    `serves` must hold only while no other process can be at work in the namespace; when it begins to, the store must
    have been read anew (`settled`), and `object_changed` be called.
    """

    def __init__(  # noqa: PLR0913 - the ports
        self,
        *,
        store: Store,
        situations: Situations,
        open_acting: OpenActing,
        performers: Performers,
        switch: Switch,
        serves: Serves,
        tell: Tell,
        announce: Announce,
        clock: Callable[[], float],
        identity: str,
        at: At = _pass,
    ) -> None:
        """`clock` is the wall's; `at` is told each of fencing.STEPS."""
        self._ports = Ports(store, situations, open_acting, performers, switch, serves, identity, at)
        self._tell = tell
        self._around = Around(self._ports, SteadyClock(clock))
        self._book = Book(store, serves, announce, self._wrote)
        self._claimer = Claimer(self._ports, self._around, self._book)
        self._carrier = Carrier(self._ports, self._around, self._book, self._spawn)
        self._places: dict[str, _Place] = {}
        self._timers = Scheduler(self._due)
        self._tasks: asyncio.TaskGroup | None = None

    def changed(self, key: str) -> None:
        """What is believed of the BackendHealth `namespace/name` has changed, or was seen by this process."""
        place = self._place(key.partition("/")[0])
        place.keys.add(key)
        self._wake(place)

    def object_changed(self, namespace: str) -> None:
        """A policy or Remediation in the namespace has changed, or whether the namespace is ours."""
        place = self._place(namespace)
        place.everything = True
        self._wake(place)

    def everything_changed(self) -> None:
        """Anything may have changed, anywhere."""
        for namespace in list(self._places):
            self.object_changed(namespace)

    async def run(self) -> None:
        """Until cancelled."""
        try:
            async with asyncio.TaskGroup() as tasks:
                try:
                    await self._around.ask()
                    self._tasks = tasks
                    for place in self._places.values():
                        self._wake(place)
                    await self._keep_asking()
                finally:
                    self._tasks = None  # a group that ends takes no more
        finally:
            self._timers.close()

    async def close(self, grace: float = _GRACE) -> None:
        """Begin nothing more; give what has begun so many seconds to come to its outcome. `run` is cancelled after."""
        self._around.closing = True
        end = asyncio.get_running_loop().time() + grace
        while self._carrier.acting and asyncio.get_running_loop().time() < end:  # noqa: ASYNC110 - at the end only
            await asyncio.sleep(_GRACE_LOOK)

    async def _keep_asking(self) -> None:
        before = self._around.off, self._around.turns
        while True:
            await asyncio.sleep(ASK_AGAIN)
            if any(self._ports.store.policies(name) for name in self._places):
                await self._around.ask()
            now = self._around.off, self._around.turns  # an action's fence may have seen it off, and on is as before
            if self._note_storms() or now != before:
                before = now
                self.everything_changed()

    def _note_storms(self) -> bool:
        policies = (one for name in self._places for one in self._ports.store.policies(name))
        return self._around.note_storms({one.policy.spec.storm_breaker for one in policies})

    def _place(self, namespace: str) -> _Place:
        return self._places.setdefault(namespace, _Place(namespace))

    def _wrote(self, namespace: str) -> None:
        self.object_changed(namespace)

    def _due(self, namespace: Hashable) -> None:
        place = self._place(str(namespace))
        now = self._around.clock.now()
        place.keys |= {key for key, at in place.again.items() if at <= now}
        self._wake(place)

    def _wake(self, place: _Place) -> None:
        place.dirty = True
        if self._tasks is not None and place.task is None:
            place.task = self._tasks.create_task(self._work(place))

    def _spawn(self, work: Coroutine[Any, Any, None], within: Coroutine[Any, Any, None]) -> None:
        def close(_: object = None) -> None:  # a task that is cancelled before it has begun closes neither
            work.close()
            within.close()

        if self._tasks is None:
            close()
            return
        self._tasks.create_task(_logged(work)).add_done_callback(close)

    async def _work(self, place: _Place) -> None:
        """Look, for as long as there is anything new; never twice at the same time, or limits could be overrun."""
        try:
            await asyncio.sleep(0)  # changes that come together are looked at together
            while place.dirty:
                place.dirty = False
                await _logged(self._look(place))
        finally:
            place.task = None

    async def _look(self, place: _Place) -> None:
        namespace, store = place.namespace, self._ports.store
        if self._around.closing:
            return
        if not self._ports.serves(namespace) or not store.settled(namespace):
            place.told.clear()  # whoever serves it next tells
            place.everything = True
            return
        if self._note_storms():
            self.everything_changed()
        policies = {one.policy.metadata.name: one for one in store.policies(namespace)}
        await self._carry(namespace, policies)
        keys, place.keys, everything, place.everything = place.keys, set(), place.everything, False
        by_key: dict[str, list[StoredPolicy]] = {}
        for policy in policies.values():
            for name in policy.policy.spec.backend_healths:
                by_key.setdefault(f"{namespace}/{name}", []).append(policy)
        for key in sorted({*by_key, *place.told, *keys} if everything else keys):
            await self._decide(place, key, by_key.get(key, []))
        await self._prune(place, policies)
        self._schedule(place)

    async def _carry(self, namespace: str, policies: dict[str, StoredPolicy]) -> None:
        unfinished = self._book.unfinished(namespace)
        for one in unfinished:
            newest = self._book.newest(one)
            if newest is not None:
                await self._carrier.look(newest, policies.get(one.remediation.spec.policy_ref.name))

    async def _decide(self, place: _Place, key: str, policies: list[StoredPolicy]) -> None:
        situation = self._ports.situations.situation(key)
        place.again.pop(key, None)
        if situation is None:
            place.told.pop(key, None)
            return
        rulings = {
            one.policy.metadata.name: await self._claimer.look(place.namespace, one, situation) for one in policies
        }
        again = soonest([one for some in rulings.values() for one in some], self._around.clock.now(), LOOK_AGAIN)
        if again is not None:
            place.again[key] = again
        told = view(rulings, self._book.past(place.namespace), situation.uid) if policies else None
        if key not in place.told or place.told[key] != told:
            place.told[key] = told
            self._tell(key, told)

    async def _prune(self, place: _Place, policies: dict[str, StoredPolicy]) -> None:
        at = asyncio.get_running_loop().time()
        if place.pruned and at - place.pruned < PRUNE_AGAIN:
            return
        place.pruned = at
        plain = {name: one.policy for name, one in policies.items()}
        stored, now = self._ports.store.remediations(place.namespace), self._around.clock.now()
        try:
            for one in prunable(stored, plain, self._ports.situations.situation, now):
                await self._ports.store.delete(one)
        except (Conflict, Unavailable) as error:
            log.info("old Remediations of %s are kept for now: %s", place.namespace, error)

    def _schedule(self, place: _Place) -> None:
        unfinished = self._book.unfinished(place.namespace)
        times = [self._carrier.again_at(one) for one in unfinished]
        first = min((at for at in (*times, *place.again.values()) if at is not None), default=_NEVER)
        if unfinished:
            first = min(first, self._around.clock.now() + LOOK_AGAIN)
        if first == _NEVER:
            self._timers.cancel(place.namespace)
            return
        wait = min(max(first - self._around.clock.now(), 0.0), _LONGEST)
        self._timers.schedule(
            place.namespace, asyncio.get_running_loop().time() + wait + TICK
        )  # which may be early by so much


async def _logged(work: Coroutine[Any, Any, None]) -> None:
    """A fault of our own ends one look, or one Remediation's, and nothing else."""
    try:
        await work
    except Exception:
        log.exception("a fault of the operator's own in remediation")
