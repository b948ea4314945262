"""Writes statuses: the newest state wins, one write for each change, a heartbeat now and then, none lost."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Callable
from http import HTTPStatus
from typing import Any, cast

from backendhealth.core.grants import remedy
from backendhealth.core.observation import clip
from backendhealth.core.spec.backendhealth import API_VERSION, KIND
from backendhealth.core.spec.status import BackendHealthStatus
from backendhealth.core.statusof import timestamp
from backendhealth.core.writestate import WriteState
from backendhealth.core.writing import age_of, fingerprint, fitted, rendered
from backendhealth.engine.ports import WallClock
from backendhealth.engine.scheduler import TICK, Scheduler
from backendhealth.kube.api import Api, ApiError, ApiUnavailable, Json
from backendhealth.kube.retrying import attempts, transient

log = logging.getLogger(__name__)

WRITERS = 8
"""Writes under way at a time."""
DELAY = 0.075
"""Seconds from a change to its write: what changes together is written together."""
AGAIN = 5.0
"""Seconds until a write that was refused several times has its next turn."""
FORBIDDEN_AGAIN = 30.0
"""Seconds until a write that is not allowed is tried again."""
Count = Callable[[str], None]
"""Told what became of a write: written, heartbeat, overwritten, conflict, forbidden, rejected, gone, postponed."""


class StatusWriter:
    """The only one that writes statuses. All methods are called from within the event loop; keys are namespace/name.

    Of an object that was seen and put, its status is kept as it was put: changes by others are undone.
    """

    def __init__(
        self,
        api: Api,
        *,
        may_write: Callable[[str], bool],
        heartbeat: float,
        clock: WallClock,
        count: Count = lambda _: None,
    ) -> None:
        """`may_write` is asked for a namespace before every write; `heartbeat` is in seconds."""
        self._api = api
        self._may_write = may_write
        self._heartbeat = heartbeat
        self._clock = clock
        self._count = count
        self._entries: dict[str, WriteState] = {}
        self._dirty: set[str] = set()
        self._busy: set[str] = set()
        self._scheduler = Scheduler(self._due)
        self._ready: asyncio.Queue[str] = asyncio.Queue()
        self._settled = asyncio.Event()
        self._forbidden: set[str] = set()
        self._waiting: set[str] = set()
        self._down = False

    @property
    def queue(self) -> int:
        """States that wait to be written or are being written."""
        return len(self._dirty | self._busy)

    def seen(self, key: str, uid: str, resource_version: str, status: Json | None) -> None:
        """Take the object as the watch or a list shows it. Another uid is another object: what was put is dropped."""
        entry = self._entries.get(key)
        if entry is None or entry.uid != uid:
            wanted = entry.wanted if entry is not None and not entry.uid else None
            entry = self._entries[key] = WriteState(uid, resource_version, fingerprint(status), 0.0, wanted)
            self._beat_from(key, entry, status)
            if wanted is not None:
                self._touch(key)
        elif entry.saw(resource_version, status, self._now()):
            self._touch(key)

    def put(self, key: str, status: BackendHealthStatus) -> None:
        """Take the newest state; it is written soon after the object was seen, unless the object shows it already."""
        entry = self._entries.setdefault(key, WriteState("", "", "", 0.0))
        entry.wanted = status
        if entry.uid:
            self._touch(key)

    def forget(self, key: str) -> None:
        """Write nothing more of the object."""
        self._entries.pop(key, None)
        self._dirty.discard(key)
        self._waiting.discard(key)
        self._scheduler.cancel(key)
        self._settled.set()

    async def run(self) -> None:
        """Write until cancelled; once only."""
        try:
            async with asyncio.TaskGroup() as group:
                for _ in range(WRITERS):
                    group.create_task(self._work())
        finally:
            self._scheduler.close()

    async def flush(self, timeout: float) -> None:
        """Write all that waits now, for at most `timeout` seconds; `run` must be running."""
        for key in self._dirty - self._busy:
            self._scheduler.schedule(key, self._now())
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(timeout):
                while self._dirty or self._busy:
                    self._settled.clear()
                    await self._settled.wait()
        if self.queue:
            log.warning("%d statuses are not written: the next operator will", self.queue)

    def _now(self) -> float:
        return asyncio.get_running_loop().time()

    def _touch(self, key: str) -> None:
        if key not in self._dirty:
            self._dirty.add(key)
            if key not in self._busy:
                self._scheduler.schedule(key, self._now() + DELAY)

    def _due(self, item: object) -> None:
        key = cast("str", item)
        if key not in self._busy:
            self._busy.add(key)
            self._ready.put_nowait(key)

    async def _work(self) -> None:
        while True:
            key = await self._ready.get()
            pause = await self._settle(key)
            self._busy.discard(key)
            self._plan(key, pause)
            self._settled.set()

    def _plan(self, key: str, pause: float) -> None:
        entry = self._entries.get(key)
        if entry is None:
            self._dirty.discard(key)
        elif pause:
            self._dirty.add(key)
            self._scheduler.schedule(key, self._now() + pause)
        elif key in self._dirty:
            self._scheduler.schedule(key, self._now() + DELAY)
        elif entry.wanted is not None:
            self._scheduler.schedule(key, entry.next_look(self._now()))

    async def _settle(self, key: str) -> float:
        """Seconds until the key must be tried again; 0 when it is done with."""
        namespace = key.partition("/")[0]
        # right after its start an API server may not know its own roles yet: a 403 counts when it comes again
        patient = namespace not in self._forbidden
        try:
            return await attempts(lambda error: transient(error) or (patient and _not_allowed(error)))(self._try, key)
        except ApiError as error:
            return self._failed(key, error)

    async def _try(self, key: str) -> float:
        entry = self._entries.get(key)
        if entry is None:
            return 0.0
        try:
            if entry.stale:
                await self._reread(key, entry)
            if self._entries.get(key) is not entry:  # forgotten meanwhile
                return 0.0
            return await self._write_if_worth(key, entry)
        except ApiError as error:
            if not _gone(key, error):
                raise
            self._count("gone")
            entry.wanted = None
            return 0.0

    async def _write_if_worth(self, key: str, entry: WriteState) -> float:
        namespace = key.partition("/")[0]
        if not self._may_write(namespace):
            return AGAIN
        self._dirty.discard(key)
        if entry.wanted is None:
            return 0.0
        status = fitted(rendered(entry.wanted), entry.room)
        state = fingerprint(status)
        # the scheduler is early by a tick, and must not find that it is not time yet
        why = entry.why_write(state, self._now() + TICK, self._heartbeat)
        if not why:
            return 0.0
        try:
            await self._write(key, entry, status, state)
        except ApiError as error:
            if _passing(error) and not _too_large(error):
                raise
            return self._rejected(key, entry, state, error)
        self._count(why)
        self._waiting.discard(key)
        self._allowed(namespace)
        return 0.0

    async def _write(self, key: str, entry: WriteState, status: Json, state: str) -> None:
        namespace, _, name = key.partition("/")
        before = entry.version
        body = {
            "apiVersion": API_VERSION,
            "kind": KIND,
            "metadata": {"namespace": namespace, "name": name, "uid": entry.uid, "resourceVersion": before},
            "status": {**status, "heartbeatTime": timestamp(int(self._clock()))},
        }
        try:
            _, version, stored = _object(await self._request("PUT", f"{_path(key)}/status", body))
        except ApiUnavailable:
            entry.stale = True  # it may have been applied, and only the object tells
            raise
        except ApiError as error:
            if error.status == HTTPStatus.CONFLICT:
                entry.stale = True
                self._count("conflict")
            raise
        entry.wrote(state, before, version, stored, self._now())
        entry.beat_after(0.0, self._heartbeat, key, self._now())

    async def _reread(self, key: str, entry: WriteState) -> None:
        uid, version, status = _object(await self._request("GET", _path(key), None))
        if uid != entry.uid:  # re-created; the watch will tell
            entry.wanted = None
        entry.read(version, status, self._now())
        self._beat_from(key, entry, status)

    def _beat_from(self, key: str, entry: WriteState, status: Json | None) -> None:
        entry.beat_after(age_of(status, self._clock()), self._heartbeat, key, self._now())

    async def _request(self, method: str, path: str, body: Any) -> Json:
        try:
            answer = await self._api.request(method, path, body=body)
        except ApiUnavailable as error:
            if not self._down:
                log.warning("statuses wait: %s", error)
            self._down = True
            raise
        if self._down:
            log.info("the API server answers again; %d statuses to write", self.queue)
        self._down = False
        return answer

    def _failed(self, key: str, error: ApiError) -> float:
        if _not_allowed(error):
            self._not_allowed(key.partition("/")[0], error)
            return FORBIDDEN_AGAIN
        if key not in self._waiting:
            log.warning("the status of %s waits: %s", key, clip(str(error)))
        self._waiting.add(key)
        self._count("postponed")
        return AGAIN

    def _not_allowed(self, namespace: str, error: ApiError) -> None:
        self._count("forbidden")
        if namespace not in self._forbidden:
            told = remedy(namespace, error.message)
            log.error("may not write statuses in %s: %s%s", namespace, clip(error.message), told)
        self._forbidden.add(namespace)

    def _allowed(self, namespace: str) -> None:
        if namespace in self._forbidden:
            log.info("may write statuses in %s again", namespace)
        self._forbidden.discard(namespace)

    def _rejected(self, key: str, entry: WriteState, state: str, error: ApiError) -> float:
        before = entry.rejected
        if entry.reject(state, too_large=_too_large(error)):
            return DELAY
        self._count("rejected")
        if not before:
            log.error("the API server rejects the status of %s: %s", key, clip(str(error)))
        return 0.0


def _not_allowed(error: BaseException) -> bool:
    return isinstance(error, ApiError) and error.status in {HTTPStatus.UNAUTHORIZED, HTTPStatus.FORBIDDEN}


def _gone(key: str, error: ApiError) -> bool:
    """Whether the object is not there; else a 404 says that its kind is not served, at present."""
    return error.status == HTTPStatus.NOT_FOUND and f'"{key.partition("/")[2]}" not found' in error.message


def _passing(error: ApiError) -> bool:
    """Whether the refusal is not about the state itself."""
    return transient(error) or _not_allowed(error) or error.status == HTTPStatus.NOT_FOUND


def _too_large(error: ApiError) -> bool:
    """Whether the API server (413) or etcd behind it (500) has no room for the object."""
    return error.status == HTTPStatus.REQUEST_ENTITY_TOO_LARGE or "request is too large" in error.message


def _path(key: str) -> str:
    namespace, _, name = key.partition("/")
    return f"/apis/{API_VERSION}/namespaces/{namespace}/backendhealths/{name}"


def _object(answer: Json) -> tuple[str, str, Json | None]:
    """uid, resourceVersion and status. Raises ApiUnavailable for what is no object: something in between answered."""
    metadata = answer.get("metadata") or {}
    if not metadata.get("uid") or not metadata.get("resourceVersion"):
        raise ApiUnavailable("what answers for the API server is another server: it sent no object")
    return metadata["uid"], metadata["resourceVersion"], answer.get("status")
