"""What all services share: logging, the HTTP server, errors as production shows them, waiting for the backends."""

from __future__ import annotations

import asyncio
import contextlib
import signal
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Sequence
from typing import Any

from aiohttp import web

from tests.servers.placeos.errors import BackendError, HttpError
from tests.servers.placeos.logs import log, set_up, trace, trap_usr1
from tests.servers.placeos.settings import Settings

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]
Check = tuple[str, Callable[[], Awaitable[None]]]  # name in the log, and what raises when it fails


def hidden_error(request: web.Request) -> web.Response:
    """An error as production shows it: nothing, or `{}` where JSON is accepted."""
    if "application/json" in request.headers.get("Accept", ""):
        return web.json_response({}, status=500)
    return web.Response(status=500)


@web.middleware
async def errors(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Turns what a handler raises into an answer."""
    trace("%s %s", request.method, request.path)
    try:
        return await handler(request)
    except HttpError as error:
        return web.json_response(error.body, status=error.status)
    except web.HTTPException:
        raise
    except BackendError as error:
        log.error("%s failed: when calling %s: %s", request.path, error.backend, error)
        if error.timed_out:
            return web.json_response({"error": str(error), "backtrace": []}, status=408)
        return hidden_error(request)
    except Exception:  # noqa: BLE001 - a web framework's last resort; the log says which
        log.exception("%s failed", request.path)
        return hidden_error(request)


async def failing(checks: Sequence[Check], timeout: float) -> list[str]:
    """Names of the backends that do not answer, each logged as PlaceOS logs it."""

    async def fails(check: Callable[[], Awaitable[None]]) -> BaseException | None:
        try:
            async with asyncio.timeout(timeout):
                await check()
        except (BackendError, OSError, TimeoutError) as error:
            return error
        return None

    found = await asyncio.gather(*(fails(check) for _, check in checks))
    for (name, _), error in zip(checks, found, strict=True):
        if error is not None:
            log.error("connection check to %s failed", name)
            trace("%s: %r", name, error)
    return [name for (name, _), error in zip(checks, found, strict=True) if error is not None]


def _health(checks: Sequence[Check], timeout: float) -> Handler:
    """A deep health page; with no checks a shallow one."""

    async def answer(request: web.Request) -> web.StreamResponse:
        if await failing(checks, timeout):
            log.error("not healthy")
            return hidden_error(request)
        return web.Response()

    return answer


def add_health(app: web.Application, base: str, checks: Sequence[Check], settings: Settings) -> None:
    """The health page at `base`, with and without a last slash: PlaceOS's router makes no difference."""
    for path in (base, f"{base}/"):
        app.router.add_get(path, _health(checks, settings.backend_timeout))


async def wait_for(checks: Sequence[Check], settings: Settings) -> None:
    """Until every backend answers; ends the process when one is missing for too long."""
    deadline = time.monotonic() + settings.abort_after
    while await failing(checks, settings.backend_timeout):
        if time.monotonic() >= deadline:
            log.critical("Upstream services are unavailable")
            sys.exit(1)
        await asyncio.sleep(0.2)


def application() -> web.Application:
    """An application with the common middleware."""
    return web.Application(middlewares=[errors])


@contextlib.asynccontextmanager
async def listening(app: web.Application, settings: Settings) -> AsyncIterator[None]:
    """With the HTTP server up."""
    runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.5)
    await runner.setup()
    try:
        await web.TCPSite(runner, settings.host, settings.port).start()
        log.info("Launching %s on http://%s:%d", settings.service, settings.host, settings.port)
        yield
    finally:
        await runner.cleanup()


@contextlib.asynccontextmanager
async def running(work: Coroutine[Any, Any, None]) -> AsyncIterator[None]:
    """With `work` going on beside."""
    task = asyncio.create_task(work)
    try:
        yield
    finally:
        while not task.done():  # a driver that swallows a cancellation is cancelled again
            task.cancel()
            await asyncio.wait([task], timeout=0.5)


def run(settings: Settings, service: Callable[[Settings], contextlib.AbstractAsyncContextManager[None]]) -> None:
    """Run one service until SIGTERM."""
    set_up(settings)
    with contextlib.suppress(asyncio.CancelledError):
        asyncio.run(_until_signalled(settings, service))


async def _until_signalled(
    settings: Settings, service: Callable[[Settings], contextlib.AbstractAsyncContextManager[None]]
) -> None:
    trap_usr1(settings)

    async def inside() -> None:
        async with service(settings):
            await asyncio.Event().wait()

    task = asyncio.create_task(inside())
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, task.cancel)
    await task
