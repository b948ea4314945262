"""What a server that answers can say: role, replication, limits, start-up and shutdown."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator

import pytest

from backendhealth.core.reasons import Reason
from backendhealth.core.verdict import Verdict
from backendhealth.probes.exchange import run_attempt
from tests.probes.checks import eventually
from tests.probes.postgres.helpers import (
    APP,
    APP_PASSWORD,
    TIMEOUT,
    assert_found,
    attempts_until,
    clients,
    kept,
    probe,
    secrets,
)
from tests.servers.postgres import Postgres, wait_streaming
from tests.servers.process import port_answers


@pytest.fixture
def standby(own: Postgres) -> Iterator[Postgres]:
    """A standby that streams from `own`."""
    with Postgres(standby_of=own) as server:
        wait_streaming(own)
        yield server


async def test_a_primary(primary: Postgres) -> None:
    finding = await probe(primary)
    version = primary.sql("SHOW server_version").split()[0]
    assert_found(finding, Reason.PROBE_SUCCEEDED)
    assert finding.message == f"127.0.0.1:{primary.port}: primary, PostgreSQL {version}"
    assert finding.facts == {"version": version, "role": "primary", "readOnly": False}
    assert finding.subjects[0].subject == f"endpoint/127.0.0.1:{primary.port}"
    assert list(finding.steps) == ["resolve", "connect", "auth", "status"]


async def test_the_connection_says_who_it_is(primary: Postgres) -> None:
    async with kept(primary):
        seen = primary.sql("SELECT application_name, usename FROM pg_stat_activity WHERE usename = 'app'")
    assert seen == "backendhealth|app"


async def test_a_standby(standby: Postgres) -> None:
    as_replica = await probe(standby, role="replica", maxReplicationLag="10s")
    assert_found(as_replica, Reason.PROBE_SUCCEEDED, "standby, PostgreSQL", "receiving")
    assert as_replica.facts["role"] == "standby"
    assert as_replica.facts["lagSeconds"] == 0
    assert as_replica.facts["receiving"] is True
    assert_found(await probe(standby, role="any"), Reason.PROBE_SUCCEEDED, "standby")
    as_primary = await probe(standby)
    assert_found(as_primary, Reason.READ_ONLY, "a writable server is expected, but this is a standby")
    assert as_primary.verdict is Verdict.UNHEALTHY


async def test_a_standby_that_was_promoted(standby: Postgres) -> None:
    async with kept(standby, role="replica") as exchange:
        standby.sql("SELECT pg_promote()")
        finding = await run_attempt(exchange, TIMEOUT)
    assert_found(finding, Reason.UNEXPECTED_ROLE, "a standby is expected, but this is a primary")


async def test_a_primary_that_became_read_only(own: Postgres) -> None:
    async with kept(own) as exchange:
        own.sql("ALTER SYSTEM SET default_transaction_read_only = on", "SELECT pg_reload_conf()")
        finding = await attempts_until(exchange, Reason.READ_ONLY)
        assert_found(finding, Reason.READ_ONLY, "the primary is read-only: default_transaction_read_only is on")
        assert finding.facts["readOnly"] is True
    assert_found(await probe(own, role="any"), Reason.PROBE_SUCCEEDED, "primary", "read-only")


async def test_a_standby_that_falls_behind_and_catches_up(own: Postgres, standby: Postgres) -> None:
    async with kept(standby, role="replica", maxReplicationLag="1s") as exchange:
        standby.sql("SELECT pg_wal_replay_pause()")
        own.sql("CREATE TABLE written_meanwhile (x int)")
        finding = await attempts_until(exchange, Reason.REPLICATION_LAG)
        assert_found(finding, Reason.REPLICATION_LAG, "the standby is more than 1s behind its primary (allowed: 1s)")
        assert "receives nothing" not in finding.message
        assert finding.verdict is Verdict.DEGRADED
        assert int(finding.facts["lagSeconds"]) >= 1
        standby.sql("SELECT pg_wal_replay_resume()")
        assert (await attempts_until(exchange, Reason.PROBE_SUCCEEDED)).facts["lagSeconds"] == 0


async def test_a_standby_that_lost_its_primary(own: Postgres, standby: Postgres) -> None:
    own.sql("CREATE TABLE last_thing_seen (x int)")
    async with kept(standby, role="replica", maxReplicationLag="1s") as exchange:
        own.kill()
        finding = await attempts_until(exchange, Reason.REPLICATION_LAG)
    assert_found(finding, Reason.REPLICATION_LAG, "it receives nothing: its connection to the primary is broken")
    assert finding.facts["receiving"] is False
    assert_found(await probe(standby, role="replica"), Reason.PROBE_SUCCEEDED, "not connected to a primary")


async def test_no_connection_left() -> None:
    with Postgres(settings={"max_connections": "5", "superuser_reserved_connections": "3"}) as server:
        server.add_role(APP, APP_PASSWORD)
        async with clients(server, 2):
            finding = await probe(server)
        assert_found(finding, Reason.TOO_MANY_CLIENTS, "the server turns new clients away: remaining connection slots")
        assert finding.verdict is Verdict.UNHEALTHY


async def test_no_connection_left_for_this_role(own: Postgres) -> None:
    own.sql(f"ALTER ROLE {APP} CONNECTION LIMIT 1")
    async with clients(own, 1, APP, APP_PASSWORD):
        finding = await probe(own)
    assert_found(finding, Reason.TOO_MANY_CLIENTS, "too many connections for role")


async def test_starting_up(own: Postgres) -> None:
    own.stop()
    (own.data / "recovery.signal").touch(mode=0o666)
    with (own.data / "postgresql.auto.conf").open("a") as config:
        config.write("restore_command = 'sleep 60; false'\n")
    own.start(wait=False)
    await eventually(lambda: own.status() == "starting" and port_answers(own.port), "start-up has begun", timeout=10)
    finding = await probe(own)
    assert_found(finding, Reason.LOADING, "refuses clients for now: the database system is starting up")
    assert finding.verdict is Verdict.UNHEALTHY
    own.kill()


async def test_a_standby_that_serves_nobody(own: Postgres) -> None:
    with Postgres(standby_of=own, settings={"hot_standby": "off"}) as server:
        finding = await probe(server, role="replica")
    assert_found(finding, Reason.LOADING, "the database system is not accepting connections")


async def test_shutting_down(own: Postgres) -> None:
    async with clients(own, 1):
        own.begin_smart_shutdown()
        finding = await probe(own)
    assert_found(finding, Reason.LOADING, "refuses clients for now: the database system is shutting down")


async def test_recovering_from_a_crash(own: Postgres) -> None:
    async with clients(own, 2):
        victim, lingering = own.client_backends()
        os.kill(lingering, signal.SIGSTOP)  # the postmaster waits for it, for five seconds
        os.kill(victim, signal.SIGKILL)
        await eventually(lambda: "terminating any other active server processes" in own.log(), "the crash was seen")
        finding = await probe(own)
        own.kill()
    assert_found(finding, Reason.LOADING, "refuses clients for now: the database system is in recovery mode")


async def test_the_database_is_missing(primary: Postgres) -> None:
    finding = await probe(primary, database="place_production")
    assert_found(finding, Reason.DATABASE_MISSING, 'the server works, but: database "place_production" does not exist')


async def test_a_wrong_password_is_not_down(primary: Postgres) -> None:
    for using in (secrets(password="wrong"), secrets(username="nobody")):
        finding = await probe(primary, using=using)
        assert_found(finding, Reason.AUTHENTICATION_FAILED, "the server refuses the user or the password")
        assert finding.verdict is Verdict.UNKNOWN
        assert finding.contact


async def test_without_credentials(primary: Postgres) -> None:
    finding = await probe(primary, auth=None)
    assert_found(finding, Reason.AUTHENTICATION_FAILED)


async def test_a_role_that_may_not_log_in(own: Postgres) -> None:
    own.sql(f"ALTER ROLE {APP} NOLOGIN")
    finding = await probe(own)
    assert_found(finding, Reason.AUTHENTICATION_FAILED, "does not let this user in", "is not permitted to log in")


async def test_a_client_that_no_rule_lets_in(own: Postgres) -> None:
    (own.data / "pg_hba.conf").write_text("host all postgres 127.0.0.0/8 scram-sha-256\n")
    own.sql("SELECT pg_reload_conf()")
    await eventually(lambda: "received SIGHUP" in own.log(), "reloaded")
    finding = await probe(own)
    assert_found(finding, Reason.AUTHENTICATION_FAILED, "no pg_hba.conf entry for host", "no encryption")


async def test_no_right_to_connect(own: Postgres) -> None:
    own.sql("REVOKE CONNECT ON DATABASE postgres FROM PUBLIC")
    finding = await probe(own)
    assert_found(finding, Reason.PERMISSION_DENIED, "permission denied for database")
    assert finding.verdict is Verdict.UNKNOWN
