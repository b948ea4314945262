"""Probes all resources by their schedules and hands on each change of status."""

from __future__ import annotations

import asyncio
import functools
from collections.abc import Callable, Hashable, Iterable
from typing import cast

from backendhealth.core.diagnosed import Texts
from backendhealth.core.knowledge import NOTHING_KNOWN, Knowledge
from backendhealth.core.observation import Finding, Observation
from backendhealth.core.spec.backendhealth import BackendHealth
from backendhealth.core.spec.status import BackendHealthStatus
from backendhealth.core.timing import first_attempt
from backendhealth.engine.cycle import Cycle
from backendhealth.engine.exchanges import Exchanges, Shared, end
from backendhealth.engine.hearing import ProbeKey
from backendhealth.engine.logs import LogReading
from backendhealth.engine.ports import OpenProber, ReadLogs, Recorder, Sink, WallClock
from backendhealth.engine.scheduler import Scheduler


class Engine:
    """The running engine. All methods are called from within the event loop.

    `lateness` is told, for each attempt, by how many seconds it is made too late; `proven` the key of a resource of
    which `observed` has changed.
    """

    def __init__(  # noqa: PLR0913 - the ports
        self,
        *,
        open_prober: OpenProber,
        clock: WallClock,
        sink: Sink,
        record: Recorder | None = None,
        lateness: Callable[[float], None] | None = None,
        read_logs: ReadLogs | None = None,
        proven: Callable[[str], None] | None = None,
        once: bool = False,
    ) -> None:
        self._clock = clock
        self._sink = sink
        self._cycle = Cycle(self._told, once=once, proven=proven)
        self._logs = LogReading(read_logs, self._cycle.signatures, self._logged, self._fail) if read_logs else None
        self._exchanges = Exchanges(open_prober, self._signalled)
        self._scheduler = Scheduler(self._start)
        self._record = record
        self._lateness = lateness
        self._once = once
        self._failed: asyncio.Future[None] | None = None
        self._due: dict[ProbeKey, float] = {}

    @property
    def resources(self) -> list[BackendHealth]:
        """All resources, in the order in which they came."""
        return self._cycle.resources

    def status(self, key: str) -> BackendHealthStatus:
        """The present status of a resource."""
        return self._cycle.status(key)

    def observed(self, key: str) -> frozenset[str]:
        """The components whose present verdict attempts of this process have shown; see Cycle.observed."""
        return self._cycle.observed(key)

    async def apply(
        self,
        resource: BackendHealth,
        *,
        knowledge: Knowledge = NOTHING_KNOWN,
        restored: BackendHealthStatus | None = None,
        spread: bool = False,
    ) -> None:
        """Take a new or changed resource, or what is known of its platform; only probes that changed start afresh.

        `restored` is what was believed of a resource before we knew it: that stands until a probe says otherwise.
        `spread`: it is one of many that come at once, so the first attempts are spread over their intervals.
        """
        fresh = self._cycle.apply(resource, self._clock(), restored, knowledge)
        stay = {probe.name for probe in resource.spec.probes} - fresh
        # all changes before the first await: nothing that happens meanwhile finds half of them
        ended = self._let_go([key for key in self._due if key[0] == resource.key and key[1] not in stay])
        now = asyncio.get_running_loop().time()
        for probe in resource.spec.probes:
            key = (resource.key, probe.name)
            timing = self._cycle.timing(key)
            if probe.name in fresh and not timing.suspended:
                self._exchanges.acquire(resource, probe, timing.timeout)
                wait = first_attempt(timing, "/".join(key), spread=spread, believed=self._cycle.believed(key))
                self._schedule(key, now + wait)
        for key in self._cycle.requested(resource.key):
            self._anew(self._exchanges.get(key), [key])
        await end(ended)

    async def remove(self, key: str) -> None:
        """Forget a resource, end its attempts and close what they kept."""
        self._cycle.remove(key)
        if self._logs is not None:
            self._logs.forget(key)
        await end(self._let_go([probe for probe in self._due if probe[0] == key]))

    def probe_now(self, key: ProbeKey) -> None:
        """Make the probe's next attempt at once; does nothing for one that is not scheduled."""
        if key in self._due and key not in self._exchanges.get(key).waiting:
            self._schedule(key, asyncio.get_running_loop().time())

    def most_late(self) -> float:
        """Seconds by which the most overdue attempt is late; 0 when none is."""
        return self._scheduler.most_late()

    async def run_once(self) -> None:
        """One attempt of everything that is not suspended."""
        for key in list(self._due):
            self._start(key)
        await asyncio.gather(*(self._attempt_of(key) for key in list(self._due)))
        self._cycle.settle(self._clock())
        if self._logs is not None:
            await self._logs.finish()

    async def close(self) -> None:
        """End all attempts, close all connections."""
        self._scheduler.close()
        self._due.clear()
        if self._logs is not None:
            await self._logs.close()
        await end(self._exchanges.release_all())

    async def run(self) -> None:
        """Run until cancelled; raises what a fault of our own (in the sink, the recorder, the cycle) raised."""
        self._failed = self._failed or asyncio.get_running_loop().create_future()
        await asyncio.shield(self._failed)  # cancelling a run must not settle it: faults would be lost after that

    def _told(self, resource: BackendHealth, status: BackendHealthStatus) -> None:
        self._sink(resource, status)
        if self._logs is not None:
            self._logs.told(resource, status)

    def _logged(self, key: str, texts: Texts) -> None:
        self._cycle.logged(key, texts, self._clock())

    async def _attempt_of(self, key: ProbeKey) -> None:
        under_way = self._exchanges.get(key).under_way
        if under_way is not None:
            await under_way

    def _let_go(self, keys: list[ProbeKey]) -> list[Shared]:
        for key in keys:
            del self._due[key]
            self._scheduler.cancel(key)
        return [shared for shared in map(self._exchanges.release, keys) if shared is not None]

    def _schedule(self, key: ProbeKey, at: float) -> None:
        self._due[key] = at
        self._scheduler.schedule(key, at)

    def _signalled(self, shared: Shared) -> None:
        if not self._once:
            self._anew(shared, shared.users)

    def _anew(self, shared: Shared, users: Iterable[ProbeKey]) -> None:
        """Make an attempt that begins from now on: the one under way, which they may join, is followed by another."""
        shared.again = shared.under_way is not None and not shared.under_way.done()
        for key in users:
            self.probe_now(key)

    def _start(self, item: Hashable) -> None:
        key = cast("ProbeKey", item)
        shared = self._exchanges.get(key)
        self._scheduler.cancel(key)
        if self._lateness is not None:
            self._lateness(max(0.0, asyncio.get_running_loop().time() - self._due[key]))
        shared.waiting[key] = None
        if shared.under_way is None or shared.under_way.done():
            shared.under_way = asyncio.get_running_loop().create_task(self._attempt(shared))
            shared.under_way.add_done_callback(functools.partial(self._attempted, shared))

    def _attempted(self, shared: Shared, task: asyncio.Task[None]) -> None:
        error = None if task.cancelled() else task.exception()
        if task.cancelled() and shared.waiting:  # not by us: whoever is let go of waits no longer
            error = RuntimeError("an attempt was cancelled by nobody who may")
        if error is not None and not self._once:
            self._fail(error)

    def _fail(self, error: BaseException) -> None:
        """A fault of our own ends the run."""
        self._failed = self._failed or asyncio.get_running_loop().create_future()
        if not self._failed.done():
            self._failed.set_exception(error)

    async def _attempt(self, shared: Shared) -> None:
        started = self._clock()
        finding = await shared.prober.attempt(shared.timeout)
        at = self._clock()
        waiting, shared.waiting = shared.waiting, {}
        for user in waiting:
            self._take(user, finding, started, at)
        if shared.again:
            shared.again = False
            for user in waiting:
                self.probe_now(user)

    def _take(self, key: ProbeKey, finding: Finding, started: float, at: float) -> None:
        resource = self._cycle.resource(key[0])
        seen = Observation(key[0], resource.metadata.generation, key[1], started, at, finding)
        if self._record is not None:
            self._record(seen)
        asked = self._cycle.observe(seen, at)
        if self._once:
            return
        timing = self._cycle.timing(key)
        pause = timing.retry_interval if self._cycle.deciding(key) else timing.interval
        # from when it was due, so that it does not drift; attempts that were missed are not made up for
        now = asyncio.get_running_loop().time()
        self._schedule(key, max(self._due[key] + pause, now))
        for other in asked:
            self.probe_now(other)
