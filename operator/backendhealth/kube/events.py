"""Events on a resource for each change of its conditions. Best effort: they never hold anything up.

They are Events of core/v1: of these, `kubectl describe` and `kubectl events` both show how often they came.
"""

from __future__ import annotations

import asyncio
import hashlib
import logging
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from http import HTTPStatus

from backendhealth.core.announcing import Announcement, Budget, Once, announcements
from backendhealth.core.spec.status import BackendHealthStatus
from backendhealth.core.statusof import timestamp
from backendhealth.engine.ports import WallClock
from backendhealth.kube.api import Api, ApiError, ApiUnavailable, Json
from backendhealth.kube.retrying import transient

log = logging.getLogger(__name__)

COMPONENT = "backendhealth"
AGGREGATION = 600.0
"""Seconds within which the same happening is counted in the Event that is there."""
MAX_SERIES = 4096
MAX_QUEUE = 1000
RETRY = 1.0
"""Seconds until the second and last try."""
_MAX_NAME = 253

_Key = tuple[str, str, str, str]


@dataclass(slots=True)
class _Series:
    """One Event and how often it came; times in seconds since the epoch, but `touched` is the loop's."""

    ref: Json
    name: str
    said: Announcement
    first: float
    last: float
    touched: float
    count: int = 0
    written: bool = False
    pending: bool = False


class EventRecorder:
    """Writes Events. All methods are called from within the event loop."""

    def __init__(
        self,
        api: Api,
        *,
        identity: str,
        per_minute: int,
        clock: WallClock,
        count: Callable[[str], None] = lambda _: None,
    ) -> None:
        """`count` is told what became of each: created, repeated, dropped (beyond the budget), failed."""
        self._api = api
        self._identity = identity
        self._budget = Budget(per_minute)
        self._once = Once()
        self._clock = clock
        self._count = count
        self._series: OrderedDict[_Key, _Series] = OrderedDict()
        self._queue: asyncio.Queue[_Series] = asyncio.Queue()

    def changed(self, ref: Json, old: BackendHealthStatus | None, new: BackendHealthStatus) -> None:
        """Tell of a change; returns at once.

        `ref` has the object's apiVersion, kind, namespace, name and uid. `old` is what was told before, by us or by a
        former operator; None for an object that had no status.
        """
        incident = new.incident.id if new.incident else ""
        for said in announcements(old, new):
            if self._once.news(ref["uid"], incident, said):
                self.tell(ref, said)

    async def run(self) -> None:
        """Write until cancelled."""
        while True:
            series = await self._queue.get()
            series.pending = False
            await self._write(series)

    def tell(self, ref: Json, said: Announcement) -> None:
        """Tell of one happening; returns at once."""
        series = self._counted(ref, said)
        if series.pending:  # the write that waits will tell
            return
        if self._queue.qsize() >= MAX_QUEUE or not self._budget.take(ref["uid"], series.touched):
            self._count("dropped")
            return
        series.pending = True
        self._queue.put_nowait(series)

    def _counted(self, ref: Json, said: Announcement) -> _Series:
        now, at = asyncio.get_running_loop().time(), self._clock()
        key = (ref["uid"], said.type, said.about, said.reason)
        series = self._series.get(key)
        if series is None or now - series.touched > AGGREGATION:
            series = self._series[key] = _Series(ref, _name(ref, said, at), said, at, at, now)
        series.said, series.last, series.touched = said, at, now
        series.count += 1
        self._series.move_to_end(key)
        self._prune(now)
        return series

    def _prune(self, now: float) -> None:
        while self._series:
            oldest = next(iter(self._series.values()))
            if len(self._series) <= MAX_SERIES and now - oldest.touched <= AGGREGATION:
                return
            self._series.popitem(last=False)

    async def _write(self, series: _Series) -> None:
        if await self._try(series):
            return
        await asyncio.sleep(RETRY)
        if not await self._try(series):
            self._count("failed")

    async def _try(self, series: _Series) -> bool:
        """One try; answers with whether that was it, for better or worse."""
        path = f"/api/v1/namespaces/{series.ref['namespace']}/events"
        try:
            if series.written:
                patch = {
                    "count": series.count,
                    "lastTimestamp": timestamp(int(series.last)),
                    "message": series.said.note,
                }
                kind = "application/merge-patch+json"
                await self._api.request("PATCH", f"{path}/{series.name}", body=patch, content_type=kind)
                self._count("repeated")
            else:
                await self._api.request("POST", path, body=self._event(series))
                self._count("created")
        except ApiUnavailable as error:
            log.debug("an Event was not written: %s", error)
            return False
        except ApiError as error:
            return self._refused(series, error)
        series.written = True
        return True

    def _refused(self, series: _Series, error: ApiError) -> bool:
        log.debug("an Event was refused: %s", error)
        if series.written and error.status == HTTPStatus.NOT_FOUND:  # Events are deleted after an hour
            series.written = False
            return False
        if not series.written and error.status == HTTPStatus.CONFLICT:  # the try that got no answer made it
            series.written = True
            self._count("created")
            return True
        if transient(error):
            return False
        self._count("failed")
        return True

    def _event(self, series: _Series) -> Json:
        ref, said = series.ref, series.said
        return {
            "apiVersion": "v1",
            "kind": "Event",
            "metadata": {"namespace": ref["namespace"], "name": series.name},
            "involvedObject": ref,
            "type": said.type,
            "reason": said.reason,
            "message": said.note,
            "count": series.count,
            "firstTimestamp": timestamp(int(series.first)),
            "lastTimestamp": timestamp(int(series.last)),
            "source": {"component": COMPONENT},
            "reportingComponent": COMPONENT,
            "reportingInstance": self._identity,
        }


def _name(ref: Json, said: Announcement, at: float) -> str:
    """Unique, and a name that the API server takes, however long the object's own is."""
    told = f"{ref['uid']} {said.type} {said.about} {said.reason} {at!r}"
    ending = f".{hashlib.sha256(told.encode()).hexdigest()[:16]}"
    start: str = ref["name"][: _MAX_NAME - len(ending)]
    return start.rstrip(".-") + ending
