"""What the probe says of databases, tables, replicas, servers and issues, in states made on running servers."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator

import pytest

from backendhealth.core.observation import Finding
from backendhealth.core.reasons import Reason
from backendhealth.core.verdict import Verdict
from backendhealth.probes.exchange import run_attempt
from tests.probes.rethinkdb.helpers import AUTH, attempts_until, login, subject, target
from tests.probes.support import MemorySecrets, attempt_once, exchange_for
from tests.servers.process import LOOPBACK
from tests.servers.rethinkdb import SIMULATED, RethinkDB, driver, three_nodes

r = driver()
SLOW = {"election": 2.0, "startup": 2.0, "handover": 2.0}
stretched = pytest.mark.skipif(not SIMULATED, reason="looks into phases that only the stand-in can stretch")


# names


async def test_healthy(server: RethinkDB) -> None:
    finding = await attempt_once("rethinkdb", target(server, tables=["jobs"]))
    assert finding.reason is Reason.PROBE_SUCCEEDED
    assert finding.message.startswith("1 table ready on 1 server, version 2.")
    assert list(finding.steps) == ["resolve", "connect", "auth", "query"]
    assert finding.facts["servers"] == 1
    assert finding.facts["serverNames"] == "node-a"
    assert subject(finding, "server/node-a").facts == {"version": finding.facts["version"]}
    table = subject(finding, "table/hc.jobs")
    assert table.reason is Reason.PROBE_SUCCEEDED
    assert table.facts == {"primary": "node-a", "raftLeader": "node-a", "shards": 1, "replicas": 1, "replicasReady": 1}


async def test_all_tables_of_all_databases_without_a_database(server: RethinkDB) -> None:
    finding = await attempt_once("rethinkdb", {"host": LOOPBACK, "port": server.port})
    assert finding.reason is Reason.PROBE_SUCCEEDED
    assert subject(finding, "table/hc.jobs").reason is Reason.PROBE_SUCCEEDED


async def test_database_missing(server: RethinkDB) -> None:
    finding = await attempt_once("rethinkdb", target(server, database="nosuch", tables=["jobs"]))
    assert finding.reason is Reason.DATABASE_MISSING
    assert finding.message == "database nosuch does not exist on the server"


async def test_database_missing_is_seen_without_any_grant(server: RethinkDB) -> None:
    finding = await attempt_once("rethinkdb", target(server, database="nosuch", **AUTH), login("hc", "hcpw"))
    assert finding.reason is Reason.DATABASE_MISSING
    assert "nosuch" in finding.message


async def test_table_missing(server: RethinkDB) -> None:
    finding = await attempt_once("rethinkdb", target(server, tables=["jobs", "driver", "mod"]))
    assert finding.reason is Reason.TABLE_MISSING
    assert finding.message == "hc.driver, hc.mod: the table does not exist"
    assert subject(finding, "table/hc.mod").reason is Reason.TABLE_MISSING
    assert subject(finding, "table/hc.jobs").reason is Reason.PROBE_SUCCEEDED


async def test_table_missing_is_seen_without_any_grant(server: RethinkDB) -> None:
    finding = await attempt_once("rethinkdb", target(server, tables=["mod"], **AUTH), login("hc", "hcpw"))
    assert finding.reason is Reason.TABLE_MISSING
    assert "hc.mod" in finding.message


async def test_a_table_dropped_while_running(fresh: RethinkDB) -> None:
    exchange = exchange_for("rethinkdb", target(fresh, tables=["jobs"]))
    assert (await run_attempt(exchange, 5)).reason is Reason.PROBE_SUCCEEDED
    fresh.run(r.db("hc").table_drop("jobs"))
    finding = await run_attempt(exchange, 5)
    assert finding.reason is Reason.TABLE_MISSING
    assert "hc.jobs" in finding.message
    fresh.run(r.db_drop("hc"))
    assert (await run_attempt(exchange, 5)).reason is Reason.DATABASE_MISSING
    await exchange.close()


# grants


async def test_user_without_grants(server: RethinkDB) -> None:
    finding = await attempt_once("rethinkdb", target(server, **AUTH), login("hc", "hcpw"))
    assert finding.reason is Reason.PERMISSION_DENIED
    assert finding.verdict is Verdict.UNKNOWN
    assert "user hc may not read server_status, table_status, current_issues" in finding.message
    assert 'r.db("rethinkdb").grant("hc", {read: true})' in finding.message
    assert finding.contact


async def test_the_grant_that_the_message_names_suffices(fresh: RethinkDB) -> None:
    fresh.add_user("hc", "hcpw", read=())
    exchange = exchange_for("rethinkdb", target(fresh, **AUTH), login("hc", "hcpw"))
    assert (await run_attempt(exchange, 5)).reason is Reason.PERMISSION_DENIED
    fresh.run(r.db("rethinkdb").grant("hc", {"read": True}))
    finding = await run_attempt(exchange, 5)
    await exchange.close()
    assert finding.reason is Reason.PROBE_SUCCEEDED  # although hc.jobs itself may not be read
    assert subject(finding, "table/hc.jobs").reason is Reason.PROBE_SUCCEEDED


async def test_user_deleted_under_an_open_connection(fresh: RethinkDB) -> None:
    """The server keeps the connection and takes the grants only; connecting anew tells what happened."""
    fresh.add_user("ops", "opspw")
    exchange = exchange_for("rethinkdb", target(fresh, **AUTH), login("ops", "opspw"))
    assert (await run_attempt(exchange, 5)).reason is Reason.PROBE_SUCCEEDED
    fresh.run(r.db("rethinkdb").table("users").get("ops").delete())
    first = await run_attempt(exchange, 5)
    assert first.reason is Reason.PERMISSION_DENIED
    assert "user ops may not read" in first.message
    second = await run_attempt(exchange, 5)
    assert second.reason is Reason.AUTHENTICATION_FAILED
    assert "user ops in: Unknown user" in second.message


# replicas


async def test_three_nodes(cluster: tuple[RethinkDB, RethinkDB, RethinkDB]) -> None:
    finding = await attempt_once("rethinkdb", target(cluster[2]))
    assert finding.reason is Reason.PROBE_SUCCEEDED
    assert finding.message.startswith("2 tables ready on 3 servers")
    assert subject(finding, "table/hc.orders").facts["primary"] == "node-b"
    assert [s.subject for s in finding.subjects] == [
        "server/node-a",
        "server/node-b",
        "server/node-c",
        "table/hc.jobs",
        "table/hc.orders",
    ]


@pytest.fixture(scope="module")
def cluster() -> Iterator[tuple[RethinkDB, RethinkDB, RethinkDB]]:
    with three_nodes() as nodes:
        yield nodes


async def test_replica_lost() -> None:
    """One of three nodes down: degraded, both tables served again after the election."""
    with three_nodes() as (a, b, _c):
        b.kill()
        exchange = exchange_for("rethinkdb", target(a))
        finding = await attempts_until(exchange, lambda found: found.reason is Reason.REPLICA_LOST)
        await exchange.close()
    assert finding.verdict is Verdict.DEGRADED
    assert finding.message == (
        "hc.jobs, hc.orders: serves reads and writes, but its replica on node-b is not reachable"
    )
    lost = subject(finding, "server/node-b")
    assert lost.reason is Reason.REPLICA_LOST
    assert "holds replicas of 2 tables" in lost.message
    issue = subject(finding, "issue/table_availability/hc.orders")
    assert issue.reason is Reason.REPLICA_LOST
    assert issue.message.endswith("The following servers are not reachable: node-b")
    assert finding.facts["serverNames"] == "node-a,node-c"
    assert subject(finding, "table/hc.orders").facts["replicasReady"] == 2


async def _after_kill_of_b() -> Finding:
    with three_nodes(**SLOW) as (a, b, _c):
        b.kill()
        exchange = exchange_for("rethinkdb", target(a))
        finding = await attempts_until(exchange, lambda found: found.reason is Reason.TABLE_UNAVAILABLE)
        await exchange.close()
        return finding


@stretched
async def test_right_after_the_kill_the_table_without_primary_is_unavailable() -> None:
    finding = await _after_kill_of_b()
    assert finding.message.startswith("hc.orders: no writes and no up-to-date reads, outdated reads only")
    assert "1 of 3 servers with a replica not reachable: node-b" in finding.message
    assert "no primary now" in finding.message
    assert subject(finding, "table/hc.jobs").reason is Reason.REPLICA_LOST
    issue = subject(finding, "issue/table_availability/hc.orders")
    assert issue.reason is Reason.TABLE_UNAVAILABLE
    assert issue.facts["critical"] is True


async def test_no_majority_and_back() -> None:
    with three_nodes() as (a, b, c):
        exchange = exchange_for("rethinkdb", target(a))
        b.kill()
        await attempts_until(exchange, lambda found: found.reason is Reason.REPLICA_LOST)
        c.kill()
        finding = await attempts_until(exchange, lambda found: "no majority" in found.message)
        assert finding.reason is Reason.TABLE_UNAVAILABLE
        assert "outdated reads only" in finding.message
        assert "2 of 3 servers with a replica not reachable: node-b, node-c" in finding.message
        assert subject(finding, "table/hc.jobs").facts["raftLeader"] == ""
        b.start()
        await attempts_until(exchange, lambda found: found.reason is Reason.REPLICA_LOST)
        c.start()
        await attempts_until(exchange, lambda found: found.reason is Reason.PROBE_SUCCEEDED, within=20)
        await exchange.close()


@stretched
async def test_just_restarted() -> None:
    """The server says ready, the tables are not: no issue tells it, only table_status."""
    with RethinkDB(timings=SLOW) as server:
        server.prepare("jobs")
        exchange = exchange_for("rethinkdb", target(server))
        assert (await run_attempt(exchange, 5)).reason is Reason.PROBE_SUCCEEDED
        await asyncio.to_thread(server.kill)
        assert (await run_attempt(exchange, 5)).reason is Reason.CONNECTION_REFUSED
        server.start()
        finding = await run_attempt(exchange, 5)
        assert finding.reason is Reason.TABLE_UNAVAILABLE
        assert "hc.jobs: no writes and no up-to-date reads, outdated reads only" in finding.message
        assert "node-a waiting_for_quorum" in finding.message
        assert not [s for s in finding.subjects if s.subject.startswith("issue/")]
        await attempts_until(exchange, lambda found: found.reason is Reason.PROBE_SUCCEEDED)
        await exchange.close()


@stretched
async def test_a_returning_primary_first_takes_writes_away() -> None:
    with three_nodes(handover=3.0) as (a, b, _c):
        exchange = exchange_for("rethinkdb", target(a))
        b.kill()
        await attempts_until(exchange, lambda found: found.reason is Reason.REPLICA_LOST)
        b.start()
        await attempts_until(exchange, lambda found: "node-b backfilling" in found.message)
        finding = await attempts_until(exchange, lambda found: found.reason is Reason.TABLE_UNAVAILABLE)
        assert finding.message.startswith("hc.orders: can be read, but not written")
        finding = await attempts_until(exchange, lambda found: "no up-to-date reads" in found.message)
        assert finding.reason is Reason.TABLE_UNAVAILABLE
        await attempts_until(exchange, lambda found: found.reason is Reason.PROBE_SUCCEEDED)
        await exchange.close()


# a frozen server


async def test_a_frozen_node_is_a_finding_not_a_stuck_probe() -> None:
    with three_nodes() as (a, b, _c):
        exchange = exchange_for("rethinkdb", target(a))
        assert (await run_attempt(exchange, 2)).reason is Reason.PROBE_SUCCEEDED
        b.freeze()
        finding = await run_attempt(exchange, 1)
        b.resume()
        await exchange.close()
    assert finding.reason is Reason.TABLE_UNAVAILABLE  # hc.orders has its primary there
    assert "hc.orders: a read got no answer within 0.9 s" in finding.message
    assert "current_issues, table_status got no answer" in finding.message
    assert "a server of the cluster seems frozen" in finding.message
    assert finding.facts["servers"] == 3  # still listed as connected


async def test_a_frozen_node_without_a_primary_of_the_tables_asked_for() -> None:
    with three_nodes() as (a, b, _c):
        b.freeze()
        finding = await attempt_once("rethinkdb", target(a, tables=["jobs"]), timeout=1)
        b.resume()
    assert finding.reason is Reason.TIMEOUT
    assert finding.message.startswith("current_issues, table_status got no answer within 0.9 s, while db_list")
    assert finding.contact


async def test_a_frozen_node_given_up_and_back() -> None:
    with three_nodes(heartbeat_timeout=1.5) as (a, b, _c):
        exchange = exchange_for("rethinkdb", target(a))
        b.freeze()
        finding = await attempts_until(exchange, lambda found: found.reason is Reason.REPLICA_LOST, within=30)
        assert "node-b is not reachable" in finding.message
        b.resume()
        await attempts_until(exchange, lambda found: found.reason is Reason.PROBE_SUCCEEDED, within=30)
        await exchange.close()


@stretched
async def test_the_four_status_fields_alone_are_not_believed() -> None:
    """For a moment after a silent loss all four are true, while the table has no primary."""
    with three_nodes(heartbeat_timeout=0.8, status_lag=3.0) as (a, b, _c):
        exchange = exchange_for("rethinkdb", target(a))
        b.freeze()
        finding = await attempts_until(exchange, lambda found: "node-b" in found.message)
        rows = a.statuses()
        assert all(all(row["status"].values()) for row in rows)  # what the fields say at that moment
        await exchange.close()
    assert finding.reason is Reason.TABLE_UNAVAILABLE
    assert finding.message.startswith("hc.orders: ")
    assert subject(finding, "table/hc.jobs").reason is Reason.REPLICA_LOST
    (issue,) = [s for s in finding.subjects if s.subject.startswith("issue/non_transitive_error/")]
    assert issue.reason is Reason.ISSUE_REPORTED
    assert "cannot see every server" in issue.message


@stretched
async def test_an_issue_that_stops_nothing_is_reported() -> None:
    """Servers disagree about who is connected, though the tables asked for are fine again."""
    with three_nodes(heartbeat_timeout=0.8, non_transitive=30) as (a, b, _c):
        exchange = exchange_for("rethinkdb", target(a))
        b.freeze()
        await attempts_until(exchange, lambda found: found.reason is Reason.REPLICA_LOST)
        b.resume()
        finding = await attempts_until(exchange, lambda found: found.reason is Reason.ISSUE_REPORTED)
        await exchange.close()
    assert finding.verdict is Verdict.DEGRADED
    assert "There are currently servers that cannot see every server in the cluster." in finding.message


async def test_an_unavailable_table_of_another_database_is_only_reported() -> None:
    with three_nodes() as (a, b, c):
        a.run(r.db_create("mine"))
        a.run(r.db("mine").table_create("local"))  # one replica, on node-a
        exchange = exchange_for("rethinkdb", target(a, database="mine"))
        assert (await run_attempt(exchange, 5)).reason is Reason.PROBE_SUCCEEDED
        b.kill()
        c.kill()
        finding = await attempts_until(exchange, lambda found: found.reason is Reason.ISSUE_REPORTED)
        await exchange.close()
    assert "Table `hc." in finding.message
    assert subject(finding, "table/mine.local").reason is Reason.PROBE_SUCCEEDED


async def test_no_login_no_secret_needed_for_admin(server: RethinkDB) -> None:
    finding = await attempt_once("rethinkdb", target(server), MemorySecrets())
    assert finding.reason is Reason.PROBE_SUCCEEDED
