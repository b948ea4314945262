"""Redis: runtime state of modules, and what a failure of it is called."""

from __future__ import annotations

import json
from typing import Any
from urllib.parse import urlsplit

from redis.asyncio import Redis
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import RedisError
from redis.exceptions import TimeoutError as RedisTimeoutError

from tests.servers.placeos.errors import BackendError, connect_error
from tests.servers.placeos.settings import Settings


def client(settings: Settings) -> Redis:
    """A client that tries once."""
    return Redis.from_url(
        settings.redis_url,
        decode_responses=True,
        protocol=2,
        socket_timeout=settings.backend_timeout,
        socket_connect_timeout=settings.backend_timeout,
        retry=Retry(NoBackoff(), 1),  # a connection that died while it lay idle
    )


def address_of(url: str) -> str:
    """host:port of a Redis URL."""
    parts = urlsplit(url)
    return f"{parts.hostname}:{parts.port or 6379}"


def redis_text(address: str, error: BaseException) -> str:
    """A Redis failure as PlaceOS shows it: a connect error, or the server's own words. [inf]"""
    if isinstance(error, RedisTimeoutError):
        return connect_error(address, TimeoutError())
    if isinstance(error, RedisConnectionError | OSError):
        cause = error.__context__ if isinstance(error.__context__, OSError) else ConnectionRefusedError(111, "")
        return connect_error(address, cause)
    return str(error)


class Runtime:
    """Reads of the cluster's runtime state. Raises BackendError."""

    def __init__(self, settings: Settings, redis: Redis) -> None:
        self._redis = redis
        self._address = address_of(settings.redis_url)

    async def call(self, *command: str | int) -> Any:
        """One command."""
        try:
            return await self._redis.execute_command(*command)
        except (RedisError, OSError) as error:
            raise BackendError("redis", redis_text(self._address, error)) from error

    async def check(self) -> None:
        """PING."""
        await self.call("PING")

    async def module_id(self, system: str, name: str, index: int) -> str | None:
        """The module at Name_index of a system."""
        found: str | None = await self.call("HGET", f"system/{system}", f"{name}/{index}")
        return found

    async def metadata(self, module: str) -> dict[str, Any] | None:
        """What a running module can do."""
        text = await self.call("GET", f"interface/{module}")
        return None if text is None else json.loads(text)

    async def status(self, module: str, name: str) -> str | None:
        """JSON text of one status variable."""
        found: str | None = await self.call("HGET", f"status/{module}", name)
        return found
