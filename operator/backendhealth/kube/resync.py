"""Compares what is known with a list: kopf's watch never tells what was deleted while it was lost."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Sequence
from time import monotonic

from backendhealth.core.crd import PLURAL
from backendhealth.core.spec.backendhealth import API_VERSION, KIND
from backendhealth.kube.api import Api, ApiError, ApiUnavailable, Json
from backendhealth.kube.controller import Controller
from backendhealth.kube.served import key_of

log = logging.getLogger(__name__)

SOON = 0.5
"""Seconds from when a list is asked for: more than one may ask, as each object of a relist does."""
RETRY = 5.0
"""Seconds to the next list when the API server gave none."""
STUCK_AFTER = 30.0
"""Seconds after which a change that a list has shown must have come through the watch."""

Version = tuple[str, int]
"""UID and generation of an object."""


class Resync:
    """Lists now and then and when asked to; knows whether the watch keeps up with the lists."""

    def __init__(
        self,
        api: Api,
        controller: Controller,
        namespaces: Sequence[str],
        interval: float,
        complete: Callable[[], None],
    ) -> None:
        """`complete` is called when all has been seen that may have been missing."""
        self._api = api
        self._controller = controller
        self._paths = [f"/apis/{API_VERSION}/namespaces/{name}/{PLURAL}" for name in namespaces] or [
            f"/apis/{API_VERSION}/{PLURAL}"
        ]
        self._interval = interval
        self._complete = complete
        self._asked = asyncio.Event()
        self._watched: dict[str, Version] = {}
        self._awaited: dict[str, tuple[Version, float]] = {}
        """What a list has shown and the watch has not, and since when."""
        self._in_step: float | None = None
        self._listed = False
        self._doubts = 0
        self._whole = False

    @property
    def listed(self) -> bool:
        """Whether the API server has answered a list yet."""
        return self._listed

    def delivered(self, kind: str | None, raw: Json) -> None:
        """Take an event of the watch; `kind` is None for an object of a list that the watch began with."""
        key, version = key_of(raw), _version(raw)
        awaited = self._awaited.get(key)
        if awaited and (awaited[0][0] != version[0] or awaited[0][1] <= version[1]):
            del self._awaited[key]
        if kind == "DELETED":
            if self._watched.get(key, version)[0] == version[0]:
                self._watched.pop(key, None)
            self._controller.gone(key, version[0])
            return
        if kind is None and self._listed:
            self.ask()  # the watch was lost: what was deleted meanwhile it will not tell
        self._watched[key] = version
        self._controller.seen(raw, listed=kind is None)

    @property
    def whole(self) -> bool:
        """Whether all that there was when it was last doubted has been seen."""
        return self._whole

    def doubt(self) -> None:
        """There may be what was not seen, since it was not ours: list soon."""
        self._doubts += 1
        self._whole = False
        self.ask()

    def ask(self) -> None:
        """List soon."""
        self._asked.set()

    def watch_age(self) -> float:
        """Seconds since the watch was last seen to have delivered all that a list shows; infinite before that."""
        return float("inf") if self._in_step is None else monotonic() - self._in_step

    def stuck(self) -> str | None:
        """Why the watch is stuck: what a list shows does not come through it. No API server is no reason."""
        late = [key for key, (_, since) in self._awaited.items() if monotonic() - since > STUCK_AFTER]
        return f"the watch has not delivered {late[0]}, which lists have shown for long" if late else None

    async def run(self) -> None:
        """List until cancelled."""
        failing = False
        while True:
            self._asked.clear()
            try:
                await self._compare()
            except (ApiError, ApiUnavailable) as error:
                if not failing:
                    log.warning("%s can't be listed; going on with what is known: %s", PLURAL, error)
                failing = True
            else:
                if failing:
                    log.info("%s are listed again", PLURAL)
                failing = False
            try:
                async with asyncio.timeout(RETRY if failing else self._interval):
                    await self._asked.wait()
                    await asyncio.sleep(SOON)
            except TimeoutError:
                pass

    async def _compare(self) -> None:
        before, watched, doubts = self._controller.served, set(self._watched), self._doubts
        there: dict[str, str] = {}
        for path in self._paths:
            # held one at a time: all at once would be a multiple of what is kept
            async for page, _ in self._api.pages(path):
                there |= self._take(page)
        # only what was there before the list began: what came meanwhile may be missing in it
        for key, uid in before.items():
            if there.get(key) != uid:
                self._controller.gone(key, uid)
        for key in [key for key in self._awaited if key not in there]:
            del self._awaited[key]
        for key in watched - there.keys():
            self._watched.pop(key, None)
        self._listed = True
        if not self._whole and doubts == self._doubts:
            self._whole = True
            self._complete()
        if not self._awaited:
            self._in_step = monotonic()

    def _take(self, page: list[Json]) -> dict[str, str]:
        there = {}
        for raw in page:
            raw.setdefault("apiVersion", API_VERSION)  # the items of a list need not say what they are
            raw.setdefault("kind", KIND)
            there[key_of(raw)] = raw["metadata"]["uid"]
            self._expect(raw)
            self._controller.seen(raw, listed=True)
        return there

    def _expect(self, raw: Json) -> None:
        key, version = key_of(raw), _version(raw)
        watched = self._watched.get(key)
        if watched is not None and watched[0] == version[0] and watched[1] >= version[1]:
            return
        since = self._awaited[key][1] if key in self._awaited else monotonic()
        self._awaited[key] = (version, since)


def _version(raw: Json) -> Version:
    return raw["metadata"]["uid"], raw["metadata"].get("generation", 1)
