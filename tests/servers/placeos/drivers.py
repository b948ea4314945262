"""core's driver processes: launched, asked, relaunched for ever."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import json
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from tests.servers.placeos.errors import HttpError
from tests.servers.placeos.faults import Faults
from tests.servers.placeos.logs import log
from tests.servers.placeos.settings import Settings

_PROGRAM = Path(__file__).with_name("driver.py")
_LAUNCH_SECONDS = 10.0
_SILENT = "query failed: timeout"


class NotRunningError(Exception):
    """The process is not there, or ended before it answered."""


@dataclass
class DriverProcess:
    """One driver binary and its process; `modules` are those that it should have loaded."""

    key: str
    settings: Settings
    faults: Faults
    modules: set[str] = field(default_factory=set)
    launch_count: int = 0
    launch_time: int = 0
    last_exit_code: int = 0
    _process: asyncio.subprocess.Process | None = None
    _started: asyncio.Event = field(default_factory=asyncio.Event)
    _waiting: dict[int, asyncio.Future[dict[str, Any]]] = field(default_factory=dict)
    _numbers: itertools.count[int] = field(default_factory=itertools.count)
    _task: asyncio.Task[None] | None = None

    @property
    def running(self) -> bool:
        return self._process is not None and self._process.returncode is None and self._started.is_set()

    @property
    def pid(self) -> int | None:
        return self._process.pid if self._process is not None and self._process.returncode is None else None

    async def start(self) -> None:
        """Begin to launch it; returns when it has started once, or has failed to."""
        self._task = asyncio.create_task(self._for_ever())
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(1):
                while not self.running and not self.last_exit_code:
                    await asyncio.sleep(0.005)

    async def stop(self) -> None:
        """End it for good."""
        if self._task is not None:
            while not self._task.done():
                self._task.cancel()
                await asyncio.wait([self._task], timeout=0.5)
        self.terminate()

    def terminate(self) -> None:
        """SIGKILL; the loop launches it again."""
        if self.pid is not None and self._process is not None:
            self._process.kill()

    async def _for_ever(self) -> None:
        while True:
            await self._once()
            await asyncio.sleep(self.settings.relaunch_delay)

    async def _once(self) -> None:
        redis = urlsplit(self.settings.redis_url)
        arguments = [redis.hostname or "localhost", str(redis.port or 6379), redis.password or ""]
        arguments.append(str(self.settings.redis_ping_interval))
        self.launch_count += 1
        self.launch_time = int(time.time())
        if self.faults.take_crash(self.key):
            arguments.append("crash")
        pipe = asyncio.subprocess.PIPE
        self._process = process = await asyncio.create_subprocess_exec(
            sys.executable, "-S", str(_PROGRAM), *arguments, stdin=pipe, stdout=pipe, stderr=pipe
        )
        beside = [asyncio.create_task(work) for work in (self._copy_log(process), self._watch(process))]
        try:
            await self._read(process)
            launched = self._started.is_set()
            self._started.clear()  # whoever asked from here on would wait for ever
            code = await process.wait()
            await beside[0]
        finally:
            for task in beside:
                task.cancel()
            if process.returncode is None:
                process.kill()
        self.last_exit_code = code
        if not launched:
            log.error("error launching driver: %s", self.key)
        log.error("driver process exited with %d", code)

    async def _read(self, process: asyncio.subprocess.Process) -> None:
        assert process.stdout is not None
        try:
            while line := await process.stdout.readline():
                answer = json.loads(line)
                if "started" in answer:
                    self._started.set()
                    log.info("driver process started: %s", self.key)
                    for module in sorted(self.modules):
                        self._send({"cmd": "load", "module": module, "id": next(self._numbers)})
                elif (future := self._waiting.pop(answer["id"], None)) is not None and not future.done():
                    future.set_result(answer)
        finally:
            waiting, self._waiting = self._waiting, {}
            for future in waiting.values():
                if not future.done():
                    future.set_exception(NotRunningError(self.key))

    async def _watch(self, process: asyncio.subprocess.Process) -> None:
        """Kill it when it does not start, or does not answer."""
        try:
            async with asyncio.timeout(_LAUNCH_SECONDS):
                await self._started.wait()
        except TimeoutError:
            log.error("driver launch timeout")
            process.kill()
        while True:
            await asyncio.sleep(self.settings.liveness_interval)
            if (await self.loaded())[:1] == [_SILENT]:
                log.error("[liveness] restarting unresponsive driver %s", self.key)
                process.kill()

    async def _copy_log(self, process: asyncio.subprocess.Process) -> None:
        assert process.stderr is not None
        while line := await process.stderr.readline():
            log.info("[%s] %s", self.key, line.decode(errors="replace").rstrip())

    def _send(self, message: dict[str, Any]) -> None:
        if self._process is None or self._process.stdin is None or not self.running:
            raise NotRunningError(self.key)
        self._process.stdin.write(json.dumps(message).encode() + b"\n")

    async def ask(self, command: str, **fields: object) -> dict[str, Any]:
        """The process's answer to one request. Raises NotRunningError."""
        number = next(self._numbers)
        future: asyncio.Future[dict[str, Any]] = asyncio.get_running_loop().create_future()
        self._send({"cmd": command, "id": number, **fields})
        self._waiting[number] = future
        return await future

    async def load(self, module: str) -> None:
        """Load a module, now or when the process is back."""
        self.modules.add(module)
        with contextlib.suppress(NotRunningError):
            await self.ask("load", module=module)

    async def unload(self, module: str) -> None:
        """Unload a module."""
        self.modules.discard(module)
        with contextlib.suppress(NotRunningError):
            await self.ask("unload", module=module)

    async def loaded(self) -> list[str]:
        """What it says it has loaded, or why it can't be asked."""
        try:
            async with asyncio.timeout(self.settings.query_timeout):
                return list((await self.ask("loaded"))["result"])
        except TimeoutError:
            return [_SILENT]
        except NotRunningError:
            return ["query failed: driver not running"]

    def status(self) -> dict[str, Any]:
        """As `/status/driver` shows it."""
        load = (0.1, 16_000_000, 20_000) if self.running else (None, None, None)
        return {
            "running": self.running,
            "module_instances": len(self.modules),
            "last_exit_code": self.last_exit_code,
            "launch_count": self.launch_count,
            "launch_time": self.launch_time,
            **dict(zip(("percentage_cpu", "memory_total", "memory_usage"), load, strict=True)),
        }

    async def execute(self, module: str, method: str, arguments: list[object]) -> dict[str, Any]:
        """{"result"} or {"error", "code"}. HttpError 500 when the process can't answer."""
        try:
            return await self.ask("execute", module=module, method=method, args=arguments)
        except NotRunningError as error:
            log.error("executing %s on %s failed: driver not running", method, module)
            raise HttpError(500, {"message": "driver not running"}) from error
