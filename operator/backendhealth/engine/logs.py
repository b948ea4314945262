"""Looks through pods' logs while something fails, for what the profile's signatures find in them."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, replace

from backendhealth.core.diagnosed import Texts
from backendhealth.core.logreading import Reading, due_at, found_in, readers, wrong
from backendhealth.core.spec.backendhealth import BackendHealth
from backendhealth.core.spec.profile import Signature
from backendhealth.core.spec.status import BackendHealthStatus
from backendhealth.engine.ports import ReadLogs


@dataclass(slots=True)
class _Watched:
    """A resource of which something fails."""

    resource: BackendHealth
    status: BackendHealthStatus
    last: Reading | None = None
    timer: asyncio.TimerHandle | None = None
    reading: asyncio.Task[None] | None = None

    def end(self) -> None:
        """Read no more."""
        if self.timer is not None:
            self.timer.cancel()
        if self.reading is not None:
            self.reading.cancel()


class LogReading:
    """`signatures` are those in force for a resource, by its key; `found` takes what they find.

    `failed` is told a fault of our own.
    """

    def __init__(
        self,
        read: ReadLogs,
        signatures: Callable[[str], list[Signature]],
        found: Callable[[str, Texts], None],
        failed: Callable[[BaseException], None],
    ) -> None:
        self._read = read
        self._signatures = signatures
        self._found = found
        self._failed = failed
        self._watched: dict[str, _Watched] = {}
        self._ending: set[asyncio.Task[None]] = set()

    def told(self, resource: BackendHealth, status: BackendHealthStatus) -> None:
        """A resource has this status now."""
        key = resource.key
        if not wrong(status).failing or not readers(resource) or not self._signatures(key):
            if self.forget(key):  # what was logged then is no evidence of what fails next
                asyncio.get_running_loop().call_soon(self._found, key, {})
            return
        one = self._watched.setdefault(key, _Watched(resource, status))
        one.resource, one.status = resource, status
        self._plan(one)

    def forget(self, key: str) -> bool:
        """Read nothing more for a resource; answers with whether anything was read or to be read."""
        one = self._watched.pop(key, None)
        if one is not None:
            one.end()
        return one is not None

    async def finish(self) -> None:
        """Read at once for what fails and was not read for, and wait for all readings: nothing comes later."""
        while True:
            for one in self._watched.values():
                if one.reading is None and (one.last is None or wrong(one.status).failing - one.last.failing):
                    if one.timer is not None:
                        one.timer.cancel()
                    self._start(one)
            under_way = [one.reading for one in self._watched.values() if one.reading is not None]
            if not under_way:
                return
            await asyncio.gather(*under_way)

    async def close(self) -> None:
        """End all readings."""
        for key in list(self._watched):
            self.forget(key)
        await asyncio.gather(*self._ending, return_exceptions=True)

    def _plan(self, one: _Watched) -> None:
        if one.timer is not None:
            one.timer.cancel()
            one.timer = None
        loop = asyncio.get_running_loop()
        at = due_at(wrong(one.status), one.last, loop.time())
        if at is not None and one.reading is None:
            one.timer = loop.call_at(at, self._start, one)

    def _start(self, one: _Watched) -> None:
        one.timer = None
        loop = asyncio.get_running_loop()
        one.last = Reading(wrong(one.status).failing, loop.time())
        one.reading = loop.create_task(self._look(one))
        self._ending.add(one.reading)
        one.reading.add_done_callback(self._ended)

    async def _look(self, one: _Watched) -> None:
        resource, signatures = one.resource, self._signatures(one.resource.key)
        texts: dict[str, tuple[str, ...]] = {}
        unread = False
        for probe in readers(resource):
            logged = await self._read(resource, probe)
            unread = unread or logged.unread
            found = found_in(logged.lines, signatures)
            if found:
                texts[probe.component_name] = (*texts.get(probe.component_name, ()), *found)
        one.reading = None
        if one.last is not None:
            one.last = replace(one.last, unread=unread)
        self._found(resource.key, texts)
        if self._watched.get(resource.key) is one:
            self._plan(one)

    def _ended(self, task: asyncio.Task[None]) -> None:
        self._ending.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            self._failed(error)
