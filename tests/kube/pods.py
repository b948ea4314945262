"""Pods on an API server without a kubelet: the tests write the statuses that one would."""

from __future__ import annotations

import asyncio
from typing import Any

from backendhealth.kube.api import Api
from tests.unit.podmaking import Json, good

MERGE = "application/merge-patch+json"


class Pods:
    """Pods of one namespace, labelled `app: core`."""

    def __init__(self, api: Api, namespace: str) -> None:
        self._api = api
        self._path = f"/api/v1/namespaces/{namespace}/pods"

    async def create(self, name: str, status: Json | None = None, **labels: str) -> None:
        """Create a pod; without a status it is as the scheduler found it."""
        body = {
            "metadata": {"name": name, "labels": {"app": "core", **labels}},
            "spec": {"containers": [{"name": "main", "image": "registry.example/team/main:1"}]},
        }
        await self._api.request("POST", self._path, body=body)
        if status is not None:
            await self.patch(name, status)

    async def patch(self, name: str, status: Json) -> None:
        """Write a pod's status, given as a whole pod."""
        path = f"{self._path}/{name}/status"
        await self._api.request("PATCH", path, body={"status": status["status"]}, content_type=MERGE)

    async def annotate(self, name: str, value: str) -> None:
        """Change what nobody judges."""
        body = {"metadata": {"annotations": {"note": value}}}
        await self._api.request("PATCH", f"{self._path}/{name}", body=body, content_type=MERGE)

    async def delete(self, name: str) -> None:
        """Delete a pod at once."""
        await self._api.request("DELETE", f"{self._path}/{name}", body={"gracePeriodSeconds": 0})

    async def create_many(self, count: int, **more: Any) -> None:
        """Create as many ready pods."""
        limit = asyncio.Semaphore(16)

        async def one(number: int) -> None:
            async with limit:
                await self.create(f"many-{number}", good(**more))

        await asyncio.gather(*map(one, range(count)))
