"""The states of one etcd, each made by real means."""

from __future__ import annotations

import urllib.error
import urllib.request

import grpc
import pytest

from backendhealth.core.reasons import Reason
from backendhealth.core.verdict import Verdict
from backendhealth.probes import etcd_stubs
from backendhealth.probes.exchange import run_attempt
from tests.probes.etcd.helpers import exchange, subject
from tests.probes.support import attempt_once
from tests.servers.etcd import (
    Cluster,
    Member,
    Options,
    admin,
    fill,
    knows_flag,
    put,
    raise_corrupt_alarm,
    status,
    tamper,
)
from tests.servers.process import free_port, wait_until

QUOTA = 16 << 20


async def test_healthy(healthy: Member) -> None:
    finding = await attempt_once("etcd", {"endpoints": [healthy.url]})
    assert finding.reason is Reason.PROBE_SUCCEEDED
    assert finding.message == "the quorum answers: leader etcd-0"
    assert finding.facts["version"] == status(healthy).version
    assert finding.facts["leader"] == "etcd-0"
    assert finding.facts["members"] == 1
    assert finding.facts["dbSizeBytes"] == status(healthy).dbSize
    identity = f"{status(healthy).header.member_id:x}"
    assert finding.facts["memberIds"] == f"etcd-0={identity}"
    told = subject(finding, f"endpoint/{healthy.address}")
    assert told.reason is Reason.PROBE_SUCCEEDED
    version = status(healthy).version
    assert told.facts == {"member": "etcd-0", "memberId": identity, "role": "leader", "version": version}
    assert subject(finding, "member/etcd-0").reason is Reason.PROBE_SUCCEEDED
    assert list(finding.steps) == ["resolve", "connect", "http2", "status", "read", "alarms", "members"]
    assert finding.contact


async def test_a_kept_connection_is_used_again(healthy: Member) -> None:
    async with exchange(healthy.url) as kept:
        first = await run_attempt(kept, 5)
        second = await run_attempt(kept, 5)
    assert second.reason is Reason.PROBE_SUCCEEDED
    assert list(second.steps) == ["status", "read", "alarms", "members"]
    assert second.subjects == first.subjects
    assert second.message == first.message


async def test_trailing_slash_and_a_repeated_endpoint_count_once(healthy: Member) -> None:
    finding = await attempt_once("etcd", {"endpoints": [healthy.url, f"{healthy.url}/"]})
    assert finding.reason is Reason.PROBE_SUCCEEDED
    assert [s.subject for s in finding.subjects if s.subject.startswith("endpoint/")] == [f"endpoint/{healthy.address}"]


async def test_refused() -> None:
    port = free_port()
    finding = await attempt_once("etcd", {"endpoints": [f"http://127.0.0.1:{port}"]})
    assert finding.reason is Reason.CONNECTION_REFUSED
    assert finding.message == f"connection refused by 127.0.0.1:{port}"
    assert finding.contact


async def test_stopped(member: Member) -> None:
    member.process.freeze()
    finding = await attempt_once("etcd", {"endpoints": [member.url]}, timeout=0.5)
    assert finding.reason is Reason.TIMEOUT
    assert finding.message == f"{member.address}: no answer within 0.35 s: it hung in step http2"


async def test_stopped_on_a_kept_connection(member: Member) -> None:
    async with exchange(member.url) as kept:
        assert (await run_attempt(kept, 5)).reason is Reason.PROBE_SUCCEEDED
        with member.process.frozen():
            finding = await run_attempt(kept, 0.5)
        assert finding.reason is Reason.TIMEOUT
        assert finding.message == f"etcd-0 ({member.address}: no answer within 0.35 s: it hung in step status)"
        assert (await run_attempt(kept, 5)).reason is Reason.PROBE_SUCCEEDED


async def test_no_space() -> None:
    with Cluster(1, Options(quota_bytes=QUOTA)) as cluster:
        member = cluster.members[0]
        fill(member, 4 * QUOTA)
        with admin(member) as stubs:  # reads and status say nothing of it: only the alarm list does
            rpc = etcd_stubs.messages()
            stubs.kv.Range(rpc.RangeRequest(key=b"x"), timeout=5)
            stubs.maintenance.Status(rpc.StatusRequest(), timeout=5)
            with pytest.raises(grpc.RpcError) as full:
                stubs.kv.Put(rpc.PutRequest(key=b"x", value=b"y"), timeout=5)
        assert full.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
        with pytest.raises(urllib.error.HTTPError) as health:
            urllib.request.urlopen(f"{member.url}/health", timeout=5)
        with health.value as page:
            assert page.code == 503
        finding = await attempt_once("etcd", {"endpoints": [member.url], "quotaBytes": QUOTA})
    assert finding.reason is Reason.ALARM_NO_SPACE
    assert "etcd refuses writes: etcd-0 raised the alarm NOSPACE" in finding.message
    assert "compact, defragment, then disarm the alarm" in finding.message
    assert subject(finding, "member/etcd-0").reason is Reason.ALARM_NO_SPACE
    assert subject(finding, f"endpoint/{member.address}").reason is Reason.PROBE_SUCCEEDED


async def test_an_alarm_that_was_disarmed_is_over() -> None:
    with Cluster(1, Options(quota_bytes=QUOTA)) as cluster:
        member = cluster.members[0]
        fill(member, 4 * QUOTA)
        rpc = etcd_stubs.messages()
        async with exchange(member.url, quotaBytes=QUOTA) as kept:
            assert (await run_attempt(kept, 5)).reason is Reason.ALARM_NO_SPACE
            with admin(member) as stubs:
                off = rpc.AlarmRequest(action=rpc.AlarmRequest.DEACTIVATE, alarm=rpc.NOSPACE)
                off.memberID = status(member).header.member_id
                stubs.maintenance.Alarm(off, timeout=5)
            after = await run_attempt(kept, 5)
    assert after.reason is Reason.QUOTA_NEARLY_FULL
    assert "the database of etcd-0 uses " in after.message


async def test_quota_nearly_full() -> None:
    with Cluster(1, Options(quota_bytes=QUOTA)) as cluster:
        member = cluster.members[0]
        target = {"endpoints": [member.url], "quotaBytes": QUOTA}
        assert (await attempt_once("etcd", target)).reason is Reason.PROBE_SUCCEEDED
        fill(member, QUOTA * 13 // 16)
        wait_until(lambda: status(member).dbSize > QUOTA * 81 // 100, 10, "the writes in the database file")
        finding = await attempt_once("etcd", target)
        assert finding.reason is Reason.QUOTA_NEARLY_FULL
        assert finding.verdict is Verdict.DEGRADED
        used = finding.facts["quotaUsedPercent"]
        assert isinstance(used, int)
        assert 81 <= used <= 100
        assert f"the database of etcd-0 uses {used} % of its quota" in finding.message
        assert "of 16 MiB" in finding.message
        easy = await attempt_once("etcd", {**target, "quotaWarningPercent": 100, "quotaBytes": 2 * QUOTA})
        assert easy.reason is Reason.PROBE_SUCCEEDED


async def test_corrupt_data_found_by_etcd_itself() -> None:
    prefix = "--" if knows_flag("--corrupt-check-time") else "--experimental-"
    with Cluster(3, Options(extra=(f"{prefix}corrupt-check-time=1s",))) as cluster:
        put(cluster.members[0], "key", b"ORIGINAL VALUE")
        victim = next(m for m in cluster.members if (told := status(m)).leader != told.header.member_id)
        victim.process.stop()
        tamper(victim, b"ORIGINAL VALUE", b"TAMPERED VALUE")
        victim.restart()
        rpc = etcd_stubs.messages()
        with admin(cluster.members[0]) as stubs:
            wait_until(
                lambda: len(stubs.maintenance.Alarm(rpc.AlarmRequest(), timeout=5).alarms) > 0, 30, "etcd's own check"
            )
        finding = await attempt_once("etcd", {"endpoints": cluster.urls})
    assert finding.reason is Reason.ALARM_CORRUPT
    assert "the alarm CORRUPT is on: the data of" in finding.message
    assert "differs from its peers'" in finding.message


async def test_corrupt_alarm_names_the_member(member: Member) -> None:
    raise_corrupt_alarm(member)
    finding = await attempt_once("etcd", {"endpoints": [member.url]})
    assert finding.reason is Reason.ALARM_CORRUPT
    assert finding.message == "the alarm CORRUPT is on: the data of etcd-0 differs from its peers'"
    assert subject(finding, "member/etcd-0").reason is Reason.ALARM_CORRUPT


async def test_ipv6() -> None:
    with Cluster(1, Options(host="::1")) as cluster:
        member = cluster.members[0]
        finding = await attempt_once("etcd", {"endpoints": [member.url]})
        assert finding.reason is Reason.PROBE_SUCCEEDED
        assert subject(finding, f"endpoint/[::1]:{member.port}").reason is Reason.PROBE_SUCCEEDED
    finding = await attempt_once("etcd", {"endpoints": [member.url]})
    assert finding.reason is Reason.CONNECTION_REFUSED
    assert f"[::1]:{member.port}" in finding.message
