"""Three members: what is lost, what holds, and who is named."""

from __future__ import annotations

import urllib.error
import urllib.request

import grpc
import pytest

from backendhealth.core.reasons import Reason
from backendhealth.core.verdict import Verdict
from backendhealth.probes import etcd_stubs
from backendhealth.probes.exchange import run_attempt
from tests.probes.etcd.helpers import exchange, followers_of, leader_of, subject
from tests.probes.support import MemorySecrets, attempt_once
from tests.servers.etcd import Cluster, Member, admin, enable_auth, status, wait_leaderless
from tests.servers.process import free_port


async def test_three_healthy(trio: Cluster) -> None:
    finding = await attempt_once("etcd", {"endpoints": trio.urls})
    leader = leader_of(trio)
    assert finding.reason is Reason.PROBE_SUCCEEDED
    assert finding.message == f"the quorum answers: leader {leader.name}, 3 members"
    assert finding.facts["members"] == 3
    assert finding.facts["versionSkew"] is False
    assert finding.facts["learners"] == 0
    roles = {s.subject: s.facts["role"] for s in finding.subjects if s.subject.startswith("endpoint/")}
    assert roles == {f"endpoint/{m.address}": "leader" if m is leader else "follower" for m in trio.members}
    assert [s.subject for s in finding.subjects if s.subject.startswith("member/")] == [
        f"member/{m.name}" for m in trio.members
    ]


async def test_one_of_three_killed(trio: Cluster) -> None:
    dead = followers_of(trio)[0]
    async with exchange(*trio.urls) as kept:
        assert (await run_attempt(kept, 5)).reason is Reason.PROBE_SUCCEEDED
        dead.process.kill()
        finding = await run_attempt(kept, 5)
        assert finding.reason is Reason.MEMBER_DOWN
        assert finding.verdict is Verdict.DEGRADED
        assert finding.message == (
            f"1 of 3 members down, though the quorum holds: {dead.name} (connection refused by {dead.address})"
        )
        assert subject(finding, f"endpoint/{dead.address}").reason is Reason.CONNECTION_REFUSED
        assert subject(finding, f"member/{dead.name}").reason is Reason.MEMBER_DOWN
        others = [s for s in finding.subjects if dead.name not in s.subject and dead.address not in s.subject]
        assert {s.reason for s in others} == {Reason.PROBE_SUCCEEDED}
        assert len(others) == 4
        again = await run_attempt(kept, 5)
        assert (again.message, again.subjects) == (finding.message, finding.subjects)


async def test_one_killed_is_named_by_who_has_never_seen_it(trio: Cluster) -> None:
    dead = trio.members[2]
    dead.process.kill()
    finding = await attempt_once("etcd", {"endpoints": trio.urls})
    assert finding.reason is Reason.MEMBER_DOWN
    assert f"etcd-2 (connection refused by {dead.address})" in finding.message


async def test_one_of_three_frozen(trio: Cluster) -> None:
    frozen = followers_of(trio)[0]
    async with exchange(*trio.urls) as kept:
        assert (await run_attempt(kept, 5)).reason is Reason.PROBE_SUCCEEDED
        with frozen.process.frozen():
            finding = await run_attempt(kept, 1)
        assert finding.reason is Reason.MEMBER_DOWN
        assert f"{frozen.name} ({frozen.address}: no answer within 0.7 s: it hung in step status)" in finding.message
        assert subject(finding, f"endpoint/{frozen.address}").reason is Reason.TIMEOUT
        assert (await run_attempt(kept, 5)).reason is Reason.PROBE_SUCCEEDED


async def test_two_of_three_killed(trio: Cluster) -> None:
    """No quorum: status and reads that may be stale still work, all else hangs."""
    survivor, *dead = trio.members
    async with exchange(*trio.urls) as kept:
        assert (await run_attempt(kept, 5)).reason is Reason.PROBE_SUCCEEDED
        for member in dead:
            member.process.kill()
        wait_leaderless(survivor)
        _assert_no_quorum(survivor)
        finding = await run_attempt(kept, 2)
        assert finding.reason is Reason.QUORUM_LOST
        assert finding.message.startswith("no quorum, so no writes and no up-to-date reads: ")
        assert (
            f"etcd-0 ({survivor.address}: the member has no leader; a read through the quorum is not answered)"
            in finding.message
        )
        for member in dead:
            assert f"{member.name} (connection refused by {member.address})" in finding.message
        assert subject(finding, "member/etcd-0").reason is Reason.QUORUM_LOST
        assert subject(finding, "member/etcd-1").reason is Reason.MEMBER_DOWN
        dead[0].restart()
        assert (await run_attempt(kept, 5)).reason is Reason.MEMBER_DOWN


def _assert_no_quorum(survivor: Member) -> None:
    rpc = etcd_stubs.messages()
    assert status(survivor).leader == 0
    with admin(survivor) as stubs:
        stubs.kv.Range(rpc.RangeRequest(key=b"x", serializable=True), timeout=5)
        for call, request in (
            (stubs.kv.Range, rpc.RangeRequest(key=b"x")),
            (stubs.kv.Put, rpc.PutRequest(key=b"x")),
            (stubs.maintenance.Alarm, rpc.AlarmRequest()),
        ):
            with pytest.raises(grpc.RpcError) as hung:
                call(request, timeout=0.3)
            # whose clock runs out first, ours or the server's, decides
            assert hung.value.code() in (grpc.StatusCode.DEADLINE_EXCEEDED, grpc.StatusCode.UNKNOWN)
    with pytest.raises(urllib.error.HTTPError) as health:
        urllib.request.urlopen(f"{survivor.url}/health", timeout=5)
    with health.value as page:
        assert page.code == 503


async def test_no_quorum_seen_from_the_survivor_alone(trio: Cluster) -> None:
    survivor, *dead = trio.members
    for member in dead:
        member.process.kill()
    finding = await attempt_once("etcd", {"endpoints": [survivor.url]}, timeout=3)
    assert finding.reason is Reason.QUORUM_LOST
    assert "a read through the quorum is not answered" in finding.message
    assert subject(finding, f"endpoint/{survivor.address}").reason is Reason.QUORUM_LOST


async def test_no_quorum_before_the_probe_could_sign_in() -> None:
    with Cluster(3) as cluster:
        survivor, *dead = cluster.members
        with admin(survivor) as stubs:
            enable_auth(stubs, root_password="root-pw", user="probe", password="pw", prefix="a")
        for member in dead:
            member.process.kill()
        secrets = MemorySecrets({"etcd": {"username": "probe", "password": "pw"}})
        target = {"endpoints": [survivor.url], "auth": {"secretRef": {"name": "etcd"}}}
        finding = await attempt_once("etcd", target, secrets, timeout=3)
    assert finding.reason is Reason.QUORUM_LOST
    assert "a read through the quorum is not answered" in finding.message


async def test_a_leaderless_member_is_not_waited_for_until_the_end(trio: Cluster) -> None:
    survivor, *dead = trio.members
    for member in dead:
        member.process.kill()
    wait_leaderless(survivor)
    finding = await attempt_once("etcd", {"endpoints": [survivor.url]}, timeout=60)
    assert finding.reason is Reason.QUORUM_LOST
    assert "the member has no leader" in finding.message
    assert finding.steps["read"] < 5


async def test_all_refuse(trio: Cluster) -> None:
    async with exchange(*trio.urls) as kept:
        assert (await run_attempt(kept, 5)).reason is Reason.PROBE_SUCCEEDED
        for member in trio.members:
            member.process.kill()
        finding = await run_attempt(kept, 5)
    assert finding.reason is Reason.CONNECTION_REFUSED
    for member in trio.members:
        assert f"{member.name} (connection refused by {member.address})" in finding.message


async def test_a_learner_is_a_fact() -> None:
    with Cluster() as cluster:
        learner = cluster.add_learner()
        finding = await attempt_once("etcd", {"endpoints": cluster.urls})
        assert finding.reason is Reason.PROBE_SUCCEEDED
        assert finding.facts["learners"] == 1
        assert finding.facts["members"] == 2
        told = subject(finding, f"endpoint/{learner.address}")
        assert told.facts["role"] == "learner"
        assert told.message == "a learner: no reads through it"
        assert subject(finding, f"member/{learner.name}").facts["learner"] is True
        cluster.members[0].process.kill()
        lost = await attempt_once("etcd", {"endpoints": cluster.urls})
        assert lost.reason is Reason.CONNECTION_REFUSED
        assert f"connection refused by {cluster.members[0].address}" in lost.message


async def test_learners_alone_prove_nothing() -> None:
    with Cluster() as cluster:
        learner = cluster.add_learner()
        finding = await attempt_once("etcd", {"endpoints": [learner.url]})
    assert finding.reason is Reason.PERMISSION_DENIED
    assert finding.verdict is Verdict.UNKNOWN
    assert f"only learners were asked ({learner.address}), which serve no reads" in finding.message


async def test_a_member_that_was_added_and_never_started() -> None:
    with Cluster(3) as cluster:
        rpc = etcd_stubs.messages()
        peer = f"http://127.0.0.1:{free_port()}"
        with admin(cluster.members[0]) as stubs:
            added = stubs.cluster.MemberAdd(rpc.MemberAddRequest(peerURLs=[peer]), timeout=5).member.ID
        finding = await attempt_once("etcd", {"endpoints": cluster.urls[:1]})
    assert finding.reason is Reason.MEMBER_DOWN
    assert f"1 of 4 members down, though the quorum holds: {added:x} ({peer}): added, but it has never started" in (
        finding.message
    )
    assert subject(finding, f"member/{added:x}").reason is Reason.MEMBER_DOWN


async def test_an_endpoint_of_another_cluster(healthy: Member) -> None:
    with Cluster() as other:
        stranger = other.members[0]
        finding = await attempt_once("etcd", {"endpoints": [healthy.url, stranger.url]})
    assert finding.reason is Reason.MEMBER_DOWN
    assert f"{stranger.address}: answers for another cluster than the other endpoints" in finding.message
    assert subject(finding, f"endpoint/{stranger.address}").reason is Reason.PROTOCOL_ERROR


async def test_the_leader_is_frozen_until_another_is_elected(trio: Cluster) -> None:
    leader = leader_of(trio)
    async with exchange(*trio.urls) as kept:
        assert (await run_attempt(kept, 5)).reason is Reason.PROBE_SUCCEEDED
        with leader.process.frozen():
            finding = await run_attempt(kept, 4)
    assert finding.reason is Reason.MEMBER_DOWN
    assert f"1 of 3 members down, though the quorum holds: {leader.name} (" in finding.message
