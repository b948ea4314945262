"""Watches pods: one list and watch for each namespace and selector, shared by all who look."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from http import HTTPStatus
from typing import Self

from backendhealth.core.grants import remedy
from backendhealth.core.observation import clip
from backendhealth.core.pods import Pod, pod_of
from backendhealth.core.reasons import Reason
from backendhealth.kube.api import Api, ApiError, ApiUnavailable, Json
from backendhealth.kube.reflector import Reflector
from backendhealth.probes.exchange import ProbeError
from backendhealth.probes.podsource import Signal

LOST_AFTER = 10.0
"""Seconds without a working watch, after which what it told last is not believed any more."""
DEBOUNCE = 0.05
"""Seconds over which changes are told as one."""


class PodWatches:
    """All watches of one API client. Is a PodSource; close it before the client, or use it as a context."""

    def __init__(self, api: Api) -> None:
        self._api = api
        self._watches: dict[tuple[str, str], _Watch] = {}
        self._ending: set[asyncio.Task[None]] = set()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    def __len__(self) -> int:
        return len(self._watches)

    def watch(self, namespace: str, selector: str, changed: Signal) -> View:
        """See PodSource."""
        key = (namespace, selector)
        watch = self._watches.get(key)
        if watch is None or watch.task.done():
            watch = self._watches[key] = _Watch(self._api, namespace, selector)
        view = View(self, key, watch, changed)
        watch.views.append(view)
        return view

    def leave(self, view: View) -> None:
        """Forget a view; the last one ends its watch."""
        watch = view.source
        watch.views.remove(view)
        if not watch.views:
            if self._watches.get(view.key) is watch:
                del self._watches[view.key]
            self._ending.add(watch.task)
            watch.task.add_done_callback(self._ending.discard)
            watch.end()

    async def close(self) -> None:
        """End all watches."""
        for watch in self._watches.values():
            watch.end()
        tasks = [*(watch.task for watch in self._watches.values()), *self._ending]
        self._watches.clear()
        await asyncio.gather(*tasks, return_exceptions=True)


class View:
    """The look of one probe at a watch. Is a PodView."""

    def __init__(self, watches: PodWatches, key: tuple[str, str], source: _Watch, changed: Signal) -> None:
        self.key = key
        self.source = source
        self.changed = changed
        self._watches = watches
        self._open = True

    async def pods(self) -> Sequence[Pod]:
        """See PodView. Raises what broke the watch when that is our own fault."""
        return await self.source.seen()

    def close(self) -> None:
        """Look no longer."""
        if self._open:
            self._open = False
            self._watches.leave(self)


class _Watch:
    """The pods of one namespace that one selector finds."""

    def __init__(self, api: Api, namespace: str, selector: str) -> None:
        self._namespace = namespace
        self._pods: dict[str, Pod] = {}
        self._listed = False
        self._tried = asyncio.Event()
        self._failure: tuple[Reason, str] | None = None
        self._lost_since: float | None = None
        self._telling: asyncio.TimerHandle | None = None
        self._doubt: asyncio.TimerHandle | None = None
        self.views: list[View] = []
        reflector = Reflector(api, f"/api/v1/namespaces/{namespace}/pods", {"labelSelector": selector})
        self.task = asyncio.get_running_loop().create_task(reflector.run(self))
        self.task.add_done_callback(self._over)

    async def seen(self) -> Sequence[Pod]:
        """The pods, once they have been listed or could not be."""
        await self._tried.wait()
        if self.task.done():
            self.task.result()
        if self._failure is not None and not self._still_believed():
            raise ProbeError(*self._failure)
        return list(self._pods.values())

    def _over(self, task: asyncio.Task[None]) -> None:
        self._tried.set()
        if not task.cancelled():
            self._tell()

    def _still_believed(self) -> bool:
        if not self._listed or self._lost_since is None:
            return False
        return asyncio.get_running_loop().time() - self._lost_since < LOST_AFTER

    def end(self) -> None:
        """End the watch."""
        self.task.cancel()
        for timer in (self._telling, self._doubt):
            if timer is not None:
                timer.cancel()

    def read(self, raw: Json) -> Pod:
        """What is judged of a pod."""
        return pod_of(raw)

    def listed(self, objects: list[Pod]) -> None:
        """All pods that there are."""
        pods = {pod.name: pod for pod in objects}
        if pods != self._pods:
            self._tell()
        self._pods, self._listed = pods, True

    def in_step(self) -> None:
        """From now on what is known is what is."""
        if self._failure is not None:
            self._failure = self._lost_since = None
            self._tell()
        self._tried.set()

    def changed(self, one: Pod, *, gone: bool) -> None:
        """A pod is new, has changed, or is gone."""
        if gone:
            self._pods.pop(one.name, None)
        elif self._pods.get(one.name) == one:
            return  # nothing that is judged has changed
        else:
            self._pods[one.name] = one
        self._tell()

    def failed(self, error: ApiError | ApiUnavailable) -> None:
        """How the pods are is not known any more."""
        loop = asyncio.get_running_loop()
        before, self._failure = self._failure, _failure(error, self._namespace)
        if self._failure[0] is Reason.PODS_FORBIDDEN:
            self._lost_since = None  # a refusal is no gap to be bridged
        elif before is None:
            self._lost_since = loop.time()
            self._doubt = loop.call_later(LOST_AFTER, self._tell)
        if before is None or before[0] is not self._failure[0]:
            self._tell()
        self._tried.set()

    def _tell(self) -> None:
        if self._telling is None and self._tried.is_set():  # until then everybody waits anyway
            self._telling = asyncio.get_running_loop().call_later(DEBOUNCE, self._told)

    def _told(self) -> None:
        self._telling = None
        for view in list(self.views):
            view.changed()


def _failure(error: ApiError | ApiUnavailable, namespace: str) -> tuple[Reason, str]:
    if isinstance(error, ApiUnavailable):
        return Reason.CLUSTER_UNAVAILABLE, clip(f"how the pods are is not known: {error}")
    if error.status in (HTTPStatus.UNAUTHORIZED, HTTPStatus.FORBIDDEN):
        return Reason.PODS_FORBIDDEN, clip(_refused(error, namespace))
    told = f"how the pods are is not known: the API server answers {error.status} {error.reason}: {error.message}"
    return Reason.CLUSTER_UNAVAILABLE, clip(told)


def _refused(error: ApiError, namespace: str) -> str:
    told = f"may not watch pods in namespace {namespace}: {error.message}"
    return f"{told}{remedy(namespace, error.message, 'list,watch')}"
