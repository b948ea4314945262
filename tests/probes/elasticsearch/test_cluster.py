"""Three nodes: members that die or hang, a master that is gone, shards that went with them."""

from __future__ import annotations

from backendhealth.core.reasons import Reason
from backendhealth.core.verdict import Verdict
from backendhealth.probes.exchange import run_attempt
from tests.probes.elasticsearch.support import probe, subject
from tests.probes.support import exchange_for
from tests.servers.elasticsearch import ThreeNodes


def spread(cluster: ThreeNodes, index: str, *, replicas: int) -> None:
    """An index with a shard on every node."""
    settings = {"number_of_shards": 3, "number_of_replicas": replicas, "routing.allocation.total_shards_per_node": 3}
    if not replicas:
        settings["routing.allocation.total_shards_per_node"] = 1
    cluster.nodes[0].request("PUT", f"/{index}?wait_for_active_shards=all", {"settings": settings})


async def test_three_nodes_by_three_urls(cluster: ThreeNodes) -> None:
    spread(cluster, "mod", replicas=1)
    finding = await probe(*cluster.urls, indices=["mod"], minimumStatus="green")
    assert finding.reason is Reason.PROBE_SUCCEEDED, finding
    assert finding.facts["nodes"] == 3
    assert finding.facts["activeShards"] == 6
    assert finding.facts["master"] == cluster.master().node_name
    assert len([each for each in finding.subjects if each.subject.startswith("endpoint/")]) == 3


async def test_a_killed_node_is_a_member_down(cluster: ThreeNodes) -> None:
    spread(cluster, "mod", replicas=1)
    lost = next(node for node in cluster.nodes if node is not cluster.master())
    with cluster.without(lost):
        finding = await probe(*cluster.urls, indices=["mod"])
        alone = await probe(lost.url)
    assert (finding.reason, finding.verdict) == (Reason.MEMBER_DOWN, Verdict.DEGRADED)
    assert finding.message == f"connection refused by 127.0.0.1:{lost.port}"
    assert subject(finding, f"endpoint/127.0.0.1:{lost.port}").reason is Reason.CONNECTION_REFUSED
    assert alone.reason is Reason.CONNECTION_REFUSED


async def test_a_frozen_node_is_a_member_down_and_its_socket_is_closed(cluster: ThreeNodes) -> None:
    frozen = next(node for node in cluster.nodes if node is not cluster.master())
    exchange = exchange_for("elasticsearch", {"urls": cluster.urls})
    try:
        assert (await run_attempt(exchange, 10)).reason is Reason.PROBE_SUCCEEDED
        with frozen.frozen():
            finding = await run_attempt(exchange, 2)
    finally:
        await exchange.close()
        cluster.wait_for_nodes(3)
    assert finding.reason is Reason.MEMBER_DOWN
    assert finding.message == f"127.0.0.1:{frozen.port}: no answer within 1.4 s: it hung in step info"
    assert subject(finding, f"endpoint/127.0.0.1:{frozen.port}").reason is Reason.TIMEOUT


async def test_two_of_three_masters_killed(cluster: ThreeNodes) -> None:
    spread(cluster, "mod", replicas=1)
    survivor, *lost = cluster.nodes
    with cluster.without(*lost):
        finding = await probe(survivor.url, indices=["mod"])
        by_all = await probe(*cluster.urls)
        search = survivor.exchange("GET", "/mod/_search")
    assert finding.reason is Reason.NO_MASTER
    assert finding.message == (
        f"127.0.0.1:{survivor.port} answers, but knows no elected master (master_not_discovered_exception)"
    )
    assert finding.steps["health"] < 2  # the server was told not to wait longer for a master
    assert search[0] == 200  # so a search alone proves nothing
    assert by_all.reason is Reason.NO_MASTER
    assert by_all.message.startswith("none of 3 endpoints works: ")
    assert f"connection refused by 127.0.0.1:{lost[0].port}" in by_all.message


async def test_a_frozen_master_is_told_from_a_frozen_node(cluster: ThreeNodes) -> None:
    master = cluster.master()
    follower = next(node for node in cluster.nodes if node is not master)
    with master.frozen():
        by_follower = await probe(follower.url, timeout=2)  # sooner than the follower gives its master up
        itself = await probe(master.url, timeout=1)
    cluster.wait_for_nodes(3)
    assert by_follower.reason is Reason.NO_MASTER
    assert "answers, but not to cluster health within" in by_follower.message
    assert by_follower.message.endswith("its master does not answer")
    assert itself.reason is Reason.TIMEOUT
    assert "hung in step info" in itself.message


async def test_shards_that_went_with_their_node(cluster: ThreeNodes) -> None:
    spread(cluster, "mod", replicas=0)
    spread(cluster, "zone", replicas=1)
    lost = next(node for node in cluster.nodes if node is not cluster.master())
    with cluster.without(lost):
        master = cluster.master()
        finding = await probe(master.url, indices=["mod"], search={"index": "mod"})
        partial = await probe(master.url, indices=["zone"], search={"index": "mod"})
    assert finding.reason is Reason.CLUSTER_RED
    assert "1 primary shard is unassigned (index mod)" in finding.message
    assert partial.reason is Reason.SHARDS_FAILED
    assert partial.message.startswith("the search in mod failed on 1 of 3 shards: index mod, shard ")


async def test_a_search_that_hangs_with_the_node_it_needs(cluster: ThreeNodes) -> None:
    spread(cluster, "mod", replicas=0)
    master = cluster.master()
    frozen = next(node for node in cluster.nodes if node is not master)
    with frozen.frozen():
        finding = await probe(master.url, indices=["mod"], search={"index": "mod"}, timeout=2.5)
    cluster.wait_for_nodes(3)
    assert finding.reason is Reason.TIMEOUT
    assert finding.message == "the search in mod was not answered in time: it hung in step search"
    assert subject(finding, "index/mod").reason is Reason.PROBE_SUCCEEDED
