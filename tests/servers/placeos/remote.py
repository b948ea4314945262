"""How the API (and triggers) reach a module: placement by discovery, metadata from Redis, execution by core."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Awaitable, Callable
from typing import Any, TypeVar

import aiohttp

from tests.servers.placeos.discovery import Discovery, Nodes, owner
from tests.servers.placeos.errors import BackendError, HttpError, connect_error
from tests.servers.placeos.logs import log
from tests.servers.placeos.redisclient import Runtime
from tests.servers.placeos.settings import Settings

_PAUSE = 0.1
_ERRORS = {
    "module not found": 404,
    "bad request": 400,
    "access denied": 401,
    "request failed": 500,
    "unexpected failure": 500,
}
_T = TypeVar("_T")


class RemoteError(Exception):
    """Why an execution failed: `kind` is the answer's `error`."""

    def __init__(self, kind: str, message: str, status: int | None = None) -> None:
        super().__init__(message)
        self.kind = kind
        self.status = status or _ERRORS[kind]


class Cores:
    """The core instances, as discovery knows them, and calls to them."""

    def __init__(self, settings: Settings, discovery: Discovery, session: aiohttp.ClientSession) -> None:
        self._settings = settings
        self._discovery = discovery
        self._session = session
        self._cached: Nodes | None = None

    async def nodes(self) -> Nodes:
        """What is registered. BackendError after retries; with the placement cache only before a first success."""
        try:
            self._cached = await self._retrying(self._discovery.nodes, self._settings.etcd_retry)
        except BackendError as error:
            log.error("when calling %s: %s", error.backend, error)
            if not self._settings.placement_cache or self._cached is None:
                raise
        return self._cached

    async def some(self) -> Nodes:
        """As `nodes`, for routes that core answers: HttpError 500 when there is none."""
        nodes = await self.nodes()
        if not nodes:
            raise HttpError(500, {"message": "no core instances registered!", "backtrace": []})
        return nodes

    async def call(
        self, uri: str, method: str, path: str, body: object = None, *, retry: bool = True
    ) -> tuple[int, Any]:
        """(status, JSON) of core's answer; BackendError when it can't be reached, by default after retries."""

        async def once() -> tuple[int, Any]:
            try:
                async with asyncio.timeout(self._settings.backend_timeout):
                    async with self._session.request(method, f"{uri}/api/core/v1{path}", json=body) as got:
                        text = await got.text()
            except (aiohttp.ClientError, OSError, TimeoutError) as error:
                raise BackendError("core", connect_error(uri.partition("//")[2], error)) from error
            return got.status, json.loads(text) if text else None

        return await self._retrying(once, self._settings.core_retry if retry else 0)

    async def _retrying(self, work: Callable[[], Awaitable[_T]], seconds: float) -> _T:
        deadline = time.monotonic() + seconds
        while True:
            try:
                return await work()
            except BackendError:
                if time.monotonic() >= deadline:
                    raise
            await asyncio.sleep(_PAUSE)


class Remote:
    """Executes functions of modules."""

    def __init__(self, cores: Cores, runtime: Runtime) -> None:
        self._cores = cores
        self._runtime = runtime

    async def metadata(self, system: str, name: str, index: int) -> tuple[str, dict[str, Any]] | None:
        """(module id, what it can do), or None when Redis does not know. Raises BackendError."""
        module = await self._runtime.module_id(system, name, index)
        found = await self._runtime.metadata(module) if module else None
        return (module, found) if module and found else None

    async def execute(
        self, system: str, name: str, index: int, method: str, arguments: list[object], *, admin: bool
    ) -> Any:
        """What the function returned. Raises RemoteError, or BackendError of discovery or Redis."""
        nodes = await self._cores.nodes()  # before the module is looked up
        found = await self.metadata(system, name, index)
        if found is None:
            raise RemoteError("module not found", "could not find module")
        module, metadata = found
        if method not in metadata["interface"]:
            raise RemoteError("bad request", f"could not find function {method}")
        if not admin and any(method in names for names in metadata["security"].values()):
            raise RemoteError("access denied", f"attempted to access privileged function {method}")
        if not nodes:
            raise RemoteError("unexpected failure", "No registered core instances")
        return await self._on_core(nodes[owner(nodes, module)], module, method, arguments)

    async def _on_core(self, uri: str, module: str, method: str, arguments: list[object]) -> Any:
        body = {"method": method, "args": arguments}
        try:
            status, answer = await self._cores.call(uri, "POST", f"/command/{module}/execute", body)
        except BackendError as error:
            raise RemoteError("unexpected failure", str(error)) from error
        if status == 203:
            raise RemoteError("request failed", f"module raised: {answer['message']}", answer["code"])
        if status != 200:
            raise RemoteError("unexpected failure", f"unexpected response code {status}")
        return answer


def slug(text: str) -> tuple[str, int]:
    """Module_1 → (Module, 1); without a number the first."""
    name, _, number = text.rpartition("_")
    return (name, int(number)) if name and number.isdecimal() else (text, 1)
