"""A writer of statuses with a real watch that shows it the objects of a namespace, and what it wrote."""

from __future__ import annotations

import asyncio
import contextlib
import secrets
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable
from typing import Any, Self

from backendhealth.core.spec.status import BackendHealthStatus, Summary
from backendhealth.kube.api import Api, ApiError, ApiUnavailable
from backendhealth.kube.writer import StatusWriter
from tests.servers.kubernetes import ControlPlane

HOUR = 3600.0


async def eventually(condition: Callable[[], Any], within: float, what: str) -> None:
    """Wait in the loop until `condition` holds."""
    deadline = time.monotonic() + within
    while not condition():
        if time.monotonic() >= deadline:
            raise TimeoutError(f"{what}: not within {within:g} s")
        await asyncio.sleep(0.01)


def status(message: str, state: str = "Healthy", generation: int = 1) -> BackendHealthStatus:
    """A state that is told from others by its message."""
    return BackendHealthStatus(observed_generation=generation, summary=Summary(state=state, message=message))


def bare(name: str, namespace: str) -> dict[str, Any]:
    """A BackendHealth as it is applied."""
    return {
        "apiVersion": "backendhealth.dev/v1alpha1",
        "kind": "BackendHealth",
        "metadata": {"name": name, "namespace": namespace, "labels": {"team": "a"}},
        "spec": {"probes": [{"name": "a", "tcp": {"host": "a", "port": 80}}]},
    }


class Rig:
    """`with` it runs; `make` creates an object and waits until the watch has shown it."""

    def __init__(self, plane: ControlPlane, api: Api, namespace: str, heartbeat: float = HOUR) -> None:
        self.plane, self.api, self.namespace = plane, api, namespace
        self.path = f"/apis/backendhealth.dev/v1alpha1/namespaces/{namespace}/backendhealths"
        self.counted: Counter[str] = Counter()
        self.may_write = True
        self.seen: dict[str, dict[str, Any]] = {}
        self.follows = True
        self.writer = StatusWriter(
            api,
            may_write=lambda _: self.may_write,
            heartbeat=heartbeat,
            clock=time.time,
            count=lambda word: self.counted.update([word]),
        )
        self._audited = plane.audit_log.stat().st_size
        self._tasks: list[asyncio.Task[None]] = []

    async def __aenter__(self) -> Self:
        loop = asyncio.get_running_loop()
        self._tasks = [loop.create_task(self.writer.run()), loop.create_task(self._watch())]
        return self

    async def __aexit__(self, *_: object) -> None:
        for task in self._tasks:
            failed = task.done() and task.exception()
            task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await task
            assert not failed

    async def make(self, name: str = "a") -> str:
        self.plane.request("POST", self.path, bare(name, self.namespace))
        await eventually(lambda: self.key(name) in self.seen, 10, f"{name} seen")
        return self.key(name)

    async def delete(self, name: str = "a") -> None:
        self.plane.request("DELETE", f"{self.path}/{name}")

    def key(self, name: str) -> str:
        return f"{self.namespace}/{name}"

    def object(self, name: str = "a") -> dict[str, Any]:
        """As the API server has it now."""
        got: dict[str, Any] = self.plane.request("GET", f"{self.path}/{name}")
        return got

    def message(self, name: str = "a") -> str:
        """What the object says."""
        summary = self.object(name)["status"].get("summary") or {}
        return str(summary.get("message", ""))

    async def shows(self, message: str, name: str = "a", within: float = 5) -> None:
        """Wait until the object says so."""
        await eventually(lambda: self.message(name) == message, within, f"{name} shows {message!r}")

    async def idle(self, within: float = 10) -> None:
        """Wait until nothing is left to write, and the audit log has told of all that was."""
        await eventually(lambda: not self.writer.queue, within, "queue empty")
        marker = f"/api/v1/namespaces/{self.namespace}?marker={secrets.token_hex(8)}"
        self.plane.request("GET", marker)
        await eventually(
            lambda: any(event["requestURI"] == marker for event in self.plane.audited(self._audited)),
            within,
            "the audit log is up to date",
        )

    def overwrite(self, message: str, name: str = "a") -> None:
        """Somebody else writes the status."""
        found = self.object(name)
        found["status"]["summary"] = {"state": "Healthy", "message": message}
        self.plane.request("PUT", f"{self.path}/{name}/status", found)

    def writes(self, code: int | None = 200) -> int:
        """Requests that were meant to write a status, ours only, that were answered with `code`."""
        return sum(
            event["verb"] in {"update", "patch"}
            and event["objectRef"].get("subresource") == "status"
            and event["objectRef"]["namespace"] == self.namespace
            and "urllib" not in event.get("userAgent", "")
            and code in {None, event["responseStatus"]["code"]}
            for event in self.plane.audited(self._audited)
            if event["stage"] == "ResponseComplete" and "namespace" in event.get("objectRef", {})
        )

    async def _watch(self) -> None:
        while True:
            with contextlib.suppress(ApiError, ApiUnavailable):
                await self._follow()
            await asyncio.sleep(0.1)

    async def _follow(self) -> None:
        items, version = await self.api.list(self.path)
        for item in items:
            self._take(item)
        async for event in self.api.watch(self.path, {"resourceVersion": version}, idle=60):
            if event["type"] == "DELETED" and self.follows:
                self.writer.forget(self.key(event["object"]["metadata"]["name"]))
            elif event["type"] in {"ADDED", "MODIFIED"}:
                self._take(event["object"])

    def _take(self, item: dict[str, Any]) -> None:
        if self.follows:
            meta = item["metadata"]
            key = self.key(meta["name"])
            self.seen[key] = item
            self.writer.seen(key, meta["uid"], meta["resourceVersion"], item.get("status"))


@contextlib.asynccontextmanager
async def outage(plane: ControlPlane) -> AsyncIterator[None]:
    """The API server is killed, and started again afterwards; meanwhile the loop goes on."""
    plane.stop_api()
    try:
        yield
    finally:
        # from this thread: a server dies with the thread that started it
        plane._server.start(wait=False)
        await asyncio.to_thread(plane._server.wait_ready)
        await asyncio.to_thread(plane.wait_for_kinds)
