"""The query: its value, its errors, and what it must not do."""

from __future__ import annotations

import pytest

from backendhealth.core.reasons import Reason
from backendhealth.core.verdict import Verdict
from backendhealth.probes.exchange import run_attempt
from tests.probes.checks import eventually
from tests.probes.postgres.helpers import APP, TIMEOUT, assert_found, kept, probe, secrets
from tests.probes.support import PLANTED, planted
from tests.servers.postgres import PASSWORD, SUPERUSER, Postgres


@pytest.mark.parametrize(
    ("query", "value"),
    [
        ("SELECT 40 + 2", "42"),
        ("SELECT 'text', 'more'", "text"),
        ("SELECT true", "true"),
        ("SELECT NULL", "null"),
        ("SELECT 1.50::numeric", "1.50"),
        ("SHOW max_connections", "50"),
        ("VALUES ('a'), ('b')", "a"),
        ("SELECT '{\"a\": 1}'::json", '{"a": 1}'),
    ],
)
async def test_a_value(primary: Postgres, query: str, value: str) -> None:
    good = await probe(primary, query=query, expect=value)
    assert_found(good, Reason.PROBE_SUCCEEDED)
    assert "query" in good.steps
    other = await probe(primary, query=query, expect="another")
    assert_found(other, Reason.UNEXPECTED_RESULT, f'the query gave "{value}", expected "another"')
    assert other.facts["role"] == "primary"


async def test_no_row(primary: Postgres) -> None:
    assert_found(await probe(primary, query="SELECT 1 WHERE false"), Reason.PROBE_SUCCEEDED)
    finding = await probe(primary, query="SELECT 1 WHERE false", expect="1")
    assert_found(finding, Reason.UNEXPECTED_RESULT, 'the query gave no row, expected "1"')


@pytest.mark.parametrize(
    ("query", "told"),
    [
        ("SELECT x FROM missing", '42P01: relation "missing" does not exist'),
        ("SELEC", "42601: syntax error"),
        ("EXECUTE missing", "does not know a prepared statement that the query needs"),
        ("SELECT 1/0", "22012: division by zero"),
        ("SELECT 1; SELECT 2", "42601: cannot insert multiple commands"),
        ("CREATE TABLE made_by_a_probe (x int)", "25006: cannot execute CREATE TABLE in a read-only transaction"),
    ],
)
async def test_errors(primary: Postgres, query: str, told: str) -> None:
    finding = await probe(primary, using=secrets(SUPERUSER, PASSWORD), query=query)
    assert_found(finding, Reason.QUERY_FAILED, told)
    assert finding.verdict is Verdict.UNHEALTHY


async def test_no_right_to_read(primary: Postgres) -> None:
    finding = await probe(primary, query="SELECT * FROM pg_authid")
    assert_found(
        finding, Reason.PERMISSION_DENIED, "may not do what the probe asks: permission denied for table pg_auth"
    )


async def test_no_room_for_the_query(own: Postgres) -> None:
    own.sql(f"ALTER ROLE {APP} SET temp_file_limit = '64kB'", f"ALTER ROLE {APP} SET work_mem = '64kB'")
    finding = await probe(own, query="SELECT x FROM generate_series(1, 200000) x ORDER BY -x")
    assert_found(finding, Reason.OVERLOADED, "lacks the resources to answer: temporary file size exceeds")


async def test_a_value_that_is_too_large(primary: Postgres) -> None:
    finding = await probe(primary, query="SELECT repeat('x', 100000000)", timeout=20)
    assert_found(
        finding, Reason.QUERY_FAILED, "the answer to the query is too large: it sent a value of more than 1 MiB"
    )


async def test_a_table_of_any_size(primary: Postgres) -> None:
    primary.sql("CREATE TABLE IF NOT EXISTS large AS SELECT repeat('x', 1000) AS x FROM generate_series(1, 20000)")
    primary.sql("GRANT SELECT ON large TO PUBLIC")
    finding = await probe(primary, query="SELECT x FROM large")
    assert_found(finding, Reason.PROBE_SUCCEEDED)


async def test_a_query_that_takes_too_long_ends_at_the_server_too(own: Postgres) -> None:
    finding = await probe(own, query="SELECT pg_sleep(100)", timeout=0.4)
    assert_found(finding, Reason.TIMEOUT, "no answer within 0.4 s: it hung in step query")
    assert finding.contact
    await eventually(lambda: not own.client_backends(), "the server gave the query up", timeout=10)


async def test_the_connection_is_fit_for_use_after_any_query(primary: Postgres) -> None:
    """Statements that the server has forgotten are what a pooler that changes servers looks like."""
    async with kept(primary, query="DEALLOCATE ALL") as exchange:
        for _ in range(3):
            assert_found(await run_attempt(exchange, TIMEOUT), Reason.PROBE_SUCCEEDED)
    async with kept(primary, query="COMMIT") as exchange:
        assert_found(await run_attempt(exchange, TIMEOUT), Reason.PROBE_SUCCEEDED)


async def test_a_table_that_changes_its_shape(own: Postgres) -> None:
    own.sql("CREATE TABLE shape AS SELECT 1 AS x", "GRANT SELECT ON shape TO PUBLIC")
    async with kept(own, query="SELECT * FROM shape", expect="1") as exchange:
        assert_found(await run_attempt(exchange, TIMEOUT), Reason.PROBE_SUCCEEDED)
        own.sql("ALTER TABLE shape ADD y text", "ALTER TABLE shape ALTER x TYPE text")
        assert_found(await run_attempt(exchange, TIMEOUT), Reason.PROBE_SUCCEEDED)


async def test_a_password_in_the_result_is_not_shown(own: Postgres) -> None:
    own.sql(f"ALTER ROLE {APP} PASSWORD '{PLANTED}'")
    using = secrets(password=PLANTED)
    finding = await probe(own, using=using, query=f"SELECT 'it is {PLANTED}'", expect="nothing")
    assert_found(finding, Reason.UNEXPECTED_RESULT, 'the query gave "it is •••"')
    assert not planted(finding)
    failed = await probe(own, using=using, query=f"SELECT '{PLANTED}'::int")
    assert_found(failed, Reason.QUERY_FAILED, "invalid input syntax for type integer")
    assert not planted(failed)
