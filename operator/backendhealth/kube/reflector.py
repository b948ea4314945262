"""Keeps somebody up to date about the objects below one path: list, watch, and again when the watch breaks."""

from __future__ import annotations

import asyncio
from http import HTTPStatus
from typing import Protocol, TypeVar

from backendhealth.kube.api import Api, ApiError, ApiUnavailable, Json

SILENCE = 60.0
"""Seconds without a sign of life after which a watch is given up; the server is told to end it sooner."""
WATCH_SECONDS = 50
FIRST_PAUSE, LONGEST_PAUSE = 0.2, 5.0
"""Seconds between tries to get a broken watch back."""
PAGE = 100
"""Objects in one answer to a list: whole, they may take up fifty times what is kept of them."""

T = TypeVar("T")


class Follower(Protocol[T]):
    """Who is kept up to date. Called in the event loop, one at a time."""

    def read(self, raw: Json) -> T:
        """What is kept of an object, as soon as it comes."""
        ...

    def listed(self, objects: list[T]) -> None:
        """These are all that there are."""
        ...

    def changed(self, one: T, *, gone: bool) -> None:
        """An object is new, has changed, or is gone."""
        ...

    def in_step(self) -> None:
        """The server has taken the watch: from now on what is known is what is."""
        ...

    def failed(self, error: ApiError | ApiUnavailable) -> None:
        """It is not known any more what is there; tried again soon."""
        ...


class Reflector:
    """Follows the objects below `path` that `query` selects, for one follower."""

    def __init__(self, api: Api, path: str, query: dict[str, str]) -> None:
        self._api = api
        self._path = path
        self._query = query
        self._version = ""
        self._pause = FIRST_PAUSE

    async def run(self, follower: Follower[T]) -> None:
        """Until cancelled; raises what the follower raises."""
        while True:
            try:
                if not self._version:
                    await self._list(follower)
                await self._follow(follower)
            except ApiUnavailable as error:
                follower.failed(error)
            except ApiError as error:
                self._version = ""
                if error.status != HTTPStatus.GONE:
                    follower.failed(error)
            await asyncio.sleep(self._pause)  # a server that ends watches at once is not asked in a tight circle
            self._pause = min(2 * self._pause, LONGEST_PAUSE)

    async def _list(self, follower: Follower[T]) -> None:
        found: list[T] = []
        query = {**self._query, "limit": str(PAGE)}
        while True:
            page = await self._api.request("GET", self._path, query=query)
            found += map(follower.read, page.get("items") or ())
            query["continue"] = page["metadata"].get("continue") or ""
            if not query["continue"]:
                break
        follower.listed(found)
        self._version = page["metadata"]["resourceVersion"]

    async def _follow(self, follower: Follower[T]) -> None:
        def opened() -> None:
            self._pause = FIRST_PAUSE
            follower.in_step()

        query = {**self._query, "resourceVersion": self._version, "timeoutSeconds": str(WATCH_SECONDS)}
        async for event in self._api.watch(self._path, query, idle=SILENCE, opened=opened):
            self._version = event["object"]["metadata"]["resourceVersion"]
            if event["type"] != "BOOKMARK":
                follower.changed(follower.read(event["object"]), gone=event["type"] == "DELETED")
