"""staff-api: only its shallow health page. `python -m tests.servers.placeos.staff`."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator

from tests.servers.placeos.settings import Settings, read
from tests.servers.placeos.web import add_health, application, listening, run


@contextlib.asynccontextmanager
async def service(settings: Settings) -> AsyncIterator[None]:
    """staff-api from start to end."""
    app = application()
    add_health(app, "/api/staff/v1", [], settings)
    async with listening(app, settings):
        yield


if __name__ == "__main__":
    run(read("staff", 8080), service)
