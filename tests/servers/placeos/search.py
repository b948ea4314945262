"""Elasticsearch: an index a table, by the table's name."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import aiohttp

from tests.servers.placeos.database import Row
from tests.servers.placeos.errors import BackendError, connect_error
from tests.servers.placeos.settings import Settings

INDICES = ("mod", "driver", "sys")


class Search:
    """Every method raises BackendError."""

    name = "elastic"

    def __init__(self, settings: Settings, session: aiohttp.ClientSession) -> None:
        self._url = (settings.elasticsearch_url or "http://localhost:9200").rstrip("/")
        self._session = session
        self._timeout = settings.backend_timeout
        self._reindex_timeout = max(30.0, settings.backend_timeout)

    async def _call(self, method: str, path: str, body: str | None = None, timeout: float | None = None) -> Any:
        kind = "application/x-ndjson" if path.startswith("/_bulk") else "application/json"
        headers = {"Content-Type": kind}
        try:
            async with (
                asyncio.timeout(timeout or self._timeout),
                self._session.request(method, self._url + path, data=body, headers=headers) as got,
            ):
                answer = await got.json(content_type=None)
        except (aiohttp.ClientError, OSError, TimeoutError) as error:
            raise BackendError(self.name, connect_error(self._url.partition("//")[2], error)) from error
        if got.status >= 300 and (method, got.status) != ("DELETE", 404):
            raise BackendError(self.name, f"{got.status} {answer}")
        return answer

    async def check(self) -> None:
        """The cluster answers."""
        await self._call("GET", "/_cluster/health")

    async def search(self, index: str, text: str, limit: int, offset: int) -> tuple[list[Row], int]:
        """(rows, how many there are); with no text all."""
        query = {"match": {"name": text}} if text else {"match_all": {}}
        body = {"query": query, "size": limit, "from": offset, "sort": [{"id.keyword": "asc"}]}
        hits = (await self._call("GET", f"/{index}/_search", json.dumps(body)))["hits"]
        return [hit["_source"] for hit in hits["hits"]], int(hits["total"]["value"])

    async def reindex(self, index: str, rows: list[Row]) -> None:
        """Make the index anew from the table's rows."""
        await self._call("DELETE", f"/{index}", timeout=self._reindex_timeout)
        await self._call("PUT", f"/{index}", json.dumps({"settings": {"number_of_replicas": 0}}), self._reindex_timeout)
        lines = [json.dumps(part) for row in rows for part in ({"index": {"_index": index, "_id": row["id"]}}, row)]
        if lines:
            await self._call("POST", "/_bulk?refresh=true", "\n".join(lines) + "\n", self._reindex_timeout)
