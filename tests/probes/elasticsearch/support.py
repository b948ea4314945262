"""What the tests of the Elasticsearch probe share."""

from __future__ import annotations

from typing import Any

from backendhealth.core.observation import Finding, SubjectFinding
from tests.probes.support import MemorySecrets, attempt_once
from tests.servers.elasticsearch import Elasticsearch


async def probe(*urls: str, secrets: MemorySecrets | None = None, timeout: float = 10, **spec: Any) -> Finding:
    """One attempt; `spec` are the other fields of the member `elasticsearch`."""
    return await attempt_once("elasticsearch", {"urls": list(urls), **spec}, secrets, timeout=timeout)


def subject(finding: Finding, name: str) -> SubjectFinding:
    """The one subject of that name."""
    (found,) = [each for each in finding.subjects if each.subject == name]
    return found


def create(node: Elasticsearch, index: str, *, replicas: int = 0, **settings: object) -> None:
    """A green index of one shard; with a replica it is yellow on a cluster of one node."""
    body = {"settings": {"number_of_shards": 1, "number_of_replicas": replicas, **settings}}
    node.request("PUT", f"/{index}", body)


def create_red(node: Elasticsearch, index: str) -> None:
    """An index whose only shard no node may hold."""
    body = {"settings": {"number_of_replicas": 0, "index.routing.allocation.require._name": "nobody"}}
    node.request("PUT", f"/{index}?wait_for_active_shards=0", body)


def fill(node: Elasticsearch, index: str, documents: int) -> None:
    """Documents with the field `text`, found by searches at once."""
    for number in range(documents):
        node.request("PUT", f"/{index}/_doc/{number}?refresh=true", {"text": f"word{number}"})
