"""What a real node says of its cluster: colours, indices, blocks, searches, load."""

from __future__ import annotations

import asyncio

import pytest

from backendhealth.core.reasons import Reason
from backendhealth.core.verdict import Verdict
from backendhealth.probes.exchange import run_attempt
from tests.probes.elasticsearch.support import create, create_red, fill, probe, subject
from tests.probes.support import exchange_for
from tests.servers.elasticsearch import Elasticsearch
from tests.servers.elasticsearch.install import version
from tests.servers.process import wait_until


async def test_green(node: Elasticsearch) -> None:
    create(node, "mod")
    finding = await probe(node.url, indices=["mod"], minimumStatus="green")
    assert finding.reason is Reason.PROBE_SUCCEEDED, finding
    assert finding.message == "cluster tests is green, 1 node, master node-1"
    assert finding.facts == {
        "version": version(),
        "clusterName": "tests",
        "status": "green",
        "nodes": 1,
        "dataNodes": 1,
        "activeShards": 1,
        "unassignedShards": 0,
        "master": "node-1",
    }
    assert list(finding.steps) == ["resolve", "connect", "info", "health", "state"]
    endpoint = subject(finding, f"endpoint/127.0.0.1:{node.port}")
    assert (endpoint.reason, endpoint.message) == (Reason.PROBE_SUCCEEDED, "answers")
    assert subject(finding, "index/mod").message == "green"


async def test_a_kept_connection_is_reused_and_says_the_same(node: Elasticsearch) -> None:
    create(node, "mod")
    exchange = exchange_for("elasticsearch", {"urls": [node.url], "indices": ["*"]})
    try:
        first, second = await run_attempt(exchange, 10), await run_attempt(exchange, 10)
    finally:
        await exchange.close()
    assert list(second.steps) == ["health", "state"]
    assert (first.reason, first.message, first.subjects, first.facts) == (
        second.reason,
        second.message,
        second.subjects,
        second.facts,
    )


async def test_a_restarted_server_is_found_again_by_the_same_exchange() -> None:
    with Elasticsearch() as own:
        exchange = exchange_for("elasticsearch", {"urls": [own.url]})
        try:
            assert (await run_attempt(exchange, 10)).reason is Reason.PROBE_SUCCEEDED
            own.kill()
            down = await run_attempt(exchange, 10)
            assert down.reason is Reason.CONNECTION_REFUSED, down
            own.start()
            async with asyncio.timeout(30):
                # it answers before it has read its state
                while (found := await run_attempt(exchange, 10)).reason is Reason.LOADING:
                    pass
            assert found.reason is Reason.PROBE_SUCCEEDED
        finally:
            await exchange.close()


async def test_yellow_is_well_unless_green_is_asked_for(node: Elasticsearch) -> None:
    create(node, "mod", replicas=1)
    finding = await probe(node.url, indices=["mod"])
    assert (finding.reason, finding.facts["status"]) == (Reason.PROBE_SUCCEEDED, "yellow")
    finding = await probe(node.url, indices=["mod"], minimumStatus="green")
    assert (finding.reason, finding.verdict) == (Reason.CLUSTER_YELLOW, Verdict.DEGRADED)
    assert finding.message == "cluster tests is yellow: 1 replica shard is unassigned (index mod)"
    assert subject(finding, "index/mod").reason is Reason.CLUSTER_YELLOW
    assert finding.facts["unassignedShards"] == 1


async def test_red(node: Elasticsearch) -> None:
    create(node, "mod")
    create_red(node, "sys")
    finding = await probe(node.url, indices=["*"])
    assert finding.reason is Reason.CLUSTER_RED
    assert finding.message == "cluster tests is red: 1 primary shard is unassigned (index sys)"
    assert subject(finding, "index/sys").message == "index sys is red"
    assert subject(finding, "index/mod").reason is Reason.PROBE_SUCCEEDED


async def test_red_names_the_index_when_the_spec_names_none(node: Elasticsearch) -> None:
    create_red(node, "sys")
    finding = await probe(node.url)
    assert finding.reason is Reason.CLUSTER_RED
    assert finding.message.endswith("(index sys)")
    assert [each.subject for each in finding.subjects] == [f"endpoint/127.0.0.1:{node.port}"]


async def test_an_index_of_others_may_be_red(node: Elasticsearch) -> None:
    create(node, "mod")
    create_red(node, "theirs")
    finding = await probe(node.url, indices=["mod"])
    assert (finding.reason, finding.facts["status"]) == (Reason.PROBE_SUCCEEDED, "green")


async def test_missing_index(node: Elasticsearch) -> None:
    create(node, "mod", replicas=1)
    finding = await probe(node.url, indices=["mod", "driver", "zone", "nothing-like-*"])
    assert finding.reason is Reason.INDEX_MISSING
    assert finding.message == "index driver does not exist; index zone does not exist"
    assert [(each.subject, each.reason) for each in finding.subjects[1:]] == [
        ("index/driver", Reason.INDEX_MISSING),
        ("index/mod", Reason.PROBE_SUCCEEDED),
        ("index/zone", Reason.INDEX_MISSING),
    ]
    assert finding.facts["status"] == "yellow"  # not the red that the server gives when an index is missing


async def test_an_alias_stands_for_its_index(node: Elasticsearch) -> None:
    create(node, "mod-1")
    node.request("POST", "/_aliases", {"actions": [{"add": {"index": "mod-1", "alias": "mod"}}]})
    finding = await probe(node.url, indices=["mod"])
    assert finding.reason is Reason.PROBE_SUCCEEDED, finding
    assert subject(finding, "index/mod-1").message == "green"
    finding = await probe(node.url, indices=["mod", "driver"])
    assert (finding.reason, finding.message) == (Reason.INDEX_MISSING, "index driver does not exist")


async def test_flood_stage(node: Elasticsearch) -> None:
    create(node, "mod")
    marks = dict.fromkeys(("low", "high", "flood_stage"), "900tb")  # more than any disk has free
    settings = {f"cluster.routing.allocation.disk.watermark.{mark}": free for mark, free in marks.items()}
    settings["cluster.routing.allocation.disk.threshold_enabled"] = "true"
    node.request("PUT", "/_cluster/settings", {"persistent": settings})
    wait_until(lambda: node.exchange("PUT", "/mod/_doc/1", {})[0] == 429, 30, "flood stage")
    status, refused = node.exchange("PUT", "/mod/_doc/1", {})
    assert (status, refused["error"]["type"]) == (429, "cluster_block_exception")
    finding = await probe(node.url, indices=["*"])
    assert finding.reason is Reason.INDEX_BLOCKED
    assert finding.message == (
        "index mod is blocked: disk usage exceeded flood-stage watermark, index has read-only-allow-delete block"
    )
    assert subject(finding, "index/mod").reason is Reason.INDEX_BLOCKED


@pytest.mark.parametrize(
    ("block", "told"),
    [
        ("read_only", "index mod is blocked: index read-only (api)"),
        ("read_only_allow_delete", "read-only-allow-delete block"),
        ("write", "index mod is blocked: index write (api)"),
        ("read", "index mod is blocked: index read (api)"),
    ],
)
async def test_blocked_index(node: Elasticsearch, block: str, told: str) -> None:
    create(node, "mod")
    node.request("PUT", "/mod/_settings", {f"index.blocks.{block}": True})
    finding = await probe(node.url, indices=["mod"])
    node.request("PUT", "/mod/_settings", {f"index.blocks.{block}": None})
    assert finding.reason is Reason.INDEX_BLOCKED
    assert told in finding.message


async def test_blocks_of_indices_that_are_not_named_do_not_count(node: Elasticsearch) -> None:
    create(node, "mod")
    create(node, "theirs", **{"index.blocks.read_only_allow_delete": True})
    assert (await probe(node.url, indices=["mod"])).reason is Reason.PROBE_SUCCEEDED
    assert (await probe(node.url)).reason is Reason.PROBE_SUCCEEDED
    assert (await probe(node.url, indices=["mod", "th*"])).reason is Reason.INDEX_BLOCKED


async def test_closed_and_write_protected_indices_count_by_name_not_by_pattern(node: Elasticsearch) -> None:
    create(node, "old-1")
    create(node, "old-2", **{"index.blocks.write": True})
    node.request("POST", "/old-1/_close")
    assert (await probe(node.url, indices=["old-*"])).reason is Reason.PROBE_SUCCEEDED
    finding = await probe(node.url, indices=["old-1", "old-2"])
    assert finding.reason is Reason.INDEX_BLOCKED
    assert "index old-1 is blocked: index closed" in finding.message
    assert "index old-2 is blocked: index write (api)" in finding.message


async def test_a_cluster_that_is_read_only(node: Elasticsearch) -> None:
    node.request("PUT", "/_cluster/settings", {"persistent": {"cluster.blocks.read_only_allow_delete": True}})
    finding = await probe(node.url)
    assert finding.reason is Reason.INDEX_BLOCKED
    assert finding.message == "all indices are blocked for writing: cluster read-only / allow delete (api)"


async def test_search(node: Elasticsearch) -> None:
    create(node, "mod")
    fill(node, "mod", 2)
    finding = await probe(node.url, search={"index": "mod", "queryString": "text:word*", "minHits": 2})
    assert finding.reason is Reason.PROBE_SUCCEEDED, finding
    assert "search" in finding.steps
    finding = await probe(node.url, search={"index": "mod", "queryString": "text:word1", "minHits": 2})
    assert finding.reason is Reason.UNEXPECTED_RESULT
    assert finding.message == "the search in mod found 1 documents, fewer than 2"


async def test_partial_search(node: Elasticsearch) -> None:
    create(node, "mod")
    create_red(node, "sys")
    finding = await probe(node.url, indices=["mod"], search={"index": "*"})
    assert finding.reason is Reason.SHARDS_FAILED
    assert finding.message.startswith("the search in * failed on 1 of 2 shards: index sys, shard 0: ")
    assert "no_shard_available_action_exception" in finding.message


async def test_search_that_fails_on_all_shards(node: Elasticsearch) -> None:
    create(node, "mod")
    create_red(node, "sys")
    assert node.exchange("GET", "/sys/_search")[0] == 503
    finding = await probe(node.url, indices=["mod"], search={"index": "sys"})
    assert finding.reason is Reason.SHARDS_FAILED
    assert finding.message.startswith("the search failed on all shards: index sys, shard 0: ")


async def test_red_comes_before_the_search_that_fails_by_it(node: Elasticsearch) -> None:
    create_red(node, "sys")
    finding = await probe(node.url, search={"index": "sys"})
    assert finding.reason is Reason.CLUSTER_RED
    assert "; the search failed on all shards" in finding.message


@pytest.mark.parametrize(
    ("search", "reason", "told"),
    [
        ({"index": "nope"}, Reason.INDEX_MISSING, "no such index [nope]"),
        ({"index": "mod", "queryString": "x:("}, Reason.QUERY_FAILED, "Failed to parse query [x:(]"),
        ({"index": "shut"}, Reason.INDEX_BLOCKED, "index shut is closed"),
    ],
)
async def test_search_that_is_refused(node: Elasticsearch, search: dict[str, str], reason: Reason, told: str) -> None:
    create(node, "mod")
    create(node, "shut")
    node.request("POST", "/shut/_close")
    finding = await probe(node.url, indices=["mod"], search=search)
    assert finding.reason is reason
    assert told in finding.message
    assert subject(finding, "index/mod").reason is Reason.PROBE_SUCCEEDED


async def test_overloaded_by_its_own_circuit_breaker(node: Elasticsearch) -> None:
    node.request("PUT", "/_cluster/settings", {"transient": {"indices.breaker.total.limit": "1mb"}})
    finding = await probe(node.url)
    assert finding.reason is Reason.OVERLOADED
    assert "turns requests away (HTTP 429): circuit_breaking_exception: [parent] Data too large" in finding.message


async def test_a_cluster_that_waits_for_its_nodes_is_loading() -> None:
    settings = {
        "discovery.type": "single-node",
        "gateway.expected_data_nodes": 2,
        "gateway.recover_after_data_nodes": 2,
    }
    with Elasticsearch(settings=settings) as own:
        finding = await probe(own.url, indices=["mod"], search={"index": "mod"})
    assert finding.reason is Reason.LOADING
    assert "its state is not recovered" in finding.message
