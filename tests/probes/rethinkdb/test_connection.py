"""One connection is kept, and dropped when it must be: nothing is left behind, nothing hangs, nothing leaks."""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import time
from typing import Any

import pytest
import uvloop

from backendhealth.core.reasons import Reason
from backendhealth.probes.dialer import Dialer
from backendhealth.probes.exchange import ProbeError, run_attempt
from backendhealth.probes.rethinkdb_client import Client
from backendhealth.probes.secrets import Credentials
from backendhealth.probes.trace import Trace
from tests.probes.rethinkdb.helpers import AUTH, TLS, attempts_until, login, open_sockets, subject, target
from tests.probes.rethinkdb.rogue import after_handshake
from tests.probes.support import PLANTED, MemorySecrets, attempt_once, exchange_for, planted
from tests.servers import misbehaving
from tests.servers.certs import Authority
from tests.servers.process import wait_until
from tests.servers.rethinkdb import SIMULATED, RethinkDB, driver, three_nodes

r = driver()


def _tasks() -> set[asyncio.Task[Any]]:
    return asyncio.all_tasks() - {asyncio.current_task()}


# kept


async def test_the_connection_is_kept(server: RethinkDB) -> None:
    exchange = exchange_for("rethinkdb", target(server))
    first = await run_attempt(exchange, 5)
    second = await run_attempt(exchange, 5)
    await exchange.close()
    assert "auth" in first.steps
    assert list(second.steps) == ["query"]
    assert (first.reason, first.message, first.subjects, first.facts) == (
        second.reason,
        second.message,
        second.subjects,
        second.facts,
    )


async def test_a_connection_that_died_while_idle_is_replaced_at_once(fresh: RethinkDB) -> None:
    exchange = exchange_for("rethinkdb", target(fresh))
    assert (await run_attempt(exchange, 5)).reason is Reason.PROBE_SUCCEEDED
    await asyncio.to_thread(fresh.kill)
    await asyncio.to_thread(fresh.start)
    fresh.run(r.db("hc").table("jobs").wait(timeout=10))
    finding = await run_attempt(exchange, 5)
    await exchange.close()
    assert finding.reason is Reason.PROBE_SUCCEEDED
    assert "connect" in finding.steps


async def test_a_server_killed_while_idle(fresh: RethinkDB) -> None:
    exchange = exchange_for("rethinkdb", target(fresh))
    assert (await run_attempt(exchange, 5)).reason is Reason.PROBE_SUCCEEDED
    await asyncio.to_thread(fresh.kill)
    finding = await run_attempt(exchange, 5)
    assert finding.reason is Reason.CONNECTION_REFUSED
    assert str(fresh.port) in finding.message


async def test_works_under_uvloop(server: RethinkDB) -> None:
    def probe() -> Any:
        return uvloop.run(attempt_once("rethinkdb", target(server)))

    finding = await asyncio.to_thread(probe)
    assert finding.reason is Reason.PROBE_SUCCEEDED


# broken in the middle


async def test_killed_in_the_middle_of_a_probe(fresh: RethinkDB) -> None:
    exchange = exchange_for("rethinkdb", target(fresh))
    assert (await run_attempt(exchange, 5)).reason is Reason.PROBE_SUCCEEDED
    fresh.freeze()
    attempt = asyncio.create_task(run_attempt(exchange, 5))
    await asyncio.sleep(0.05)  # the queries are on their way
    fresh.kill()
    finding = await attempt
    assert finding.reason is Reason.CONNECTION_RESET
    assert f"127.0.0.1:{fresh.port}, while a query was running" in finding.message
    assert not _tasks()


async def test_frozen_in_the_middle_of_a_probe(fresh: RethinkDB) -> None:
    exchange = exchange_for("rethinkdb", target(fresh))
    assert (await run_attempt(exchange, 5)).reason is Reason.PROBE_SUCCEEDED
    with fresh.frozen():
        before = time.monotonic()
        finding = await run_attempt(exchange, 0.5)
        assert time.monotonic() - before < 1.5
        assert finding.reason is Reason.TIMEOUT
        assert "hung in step query" in finding.message
        assert not finding.contact
        again = await run_attempt(exchange, 0.5)  # the kernel still accepts
        assert again.reason is Reason.TIMEOUT
        assert "hung in step auth" in again.message
        assert again.contact
    finding = await run_attempt(exchange, 5)
    await exchange.close()
    assert finding.reason is Reason.PROBE_SUCCEEDED


async def test_password_rotated_while_running(fresh: RethinkDB) -> None:
    fresh.add_user("ops", "first")
    secrets = login("ops", "first")
    exchange = exchange_for("rethinkdb", target(fresh, **AUTH), secrets)
    assert (await run_attempt(exchange, 5)).reason is Reason.PROBE_SUCCEEDED
    fresh.run(r.db("rethinkdb").table("users").get("ops").update({"password": PLANTED}))
    assert (await run_attempt(exchange, 5)).reason is Reason.PROBE_SUCCEEDED  # the open connection goes on
    await exchange.close()
    finding = await run_attempt(exchange, 5)
    assert finding.reason is Reason.AUTHENTICATION_FAILED
    assert "user ops in: Wrong password" in finding.message
    secrets.data["rethinkdb"]["password"] = PLANTED
    finding = await run_attempt(exchange, 5)
    await exchange.close()
    assert finding.reason is Reason.PROBE_SUCCEEDED
    assert not planted(finding)


# nothing left behind


async def test_200_cancelled_probes_leave_nothing(server: RethinkDB) -> None:
    before = open_sockets()
    exchanges = [exchange_for("rethinkdb", target(server)) for _ in range(200)]
    cancelled = 0
    for number, exchange in enumerate(exchanges):
        attempt = asyncio.create_task(run_attempt(exchange, 30))
        for _ in range(number % 25):  # each at another moment of its life
            await asyncio.sleep(0)
        attempt.cancel()
        cancelled += isinstance((await asyncio.gather(attempt, return_exceptions=True))[0], asyncio.CancelledError)
    for exchange in exchanges:
        await exchange.close()
    assert cancelled > 100
    assert not _tasks()
    await _settled(before)


async def _settled(before: set[str]) -> None:
    """Transports close their sockets in the loop's next turns."""
    async with asyncio.timeout(2):
        while open_sockets() - before:
            await asyncio.sleep(0.01)


@pytest.mark.parametrize("step", ["auth", "query"])
async def test_cancelled_while_the_server_is_silent(step: str) -> None:
    """A cancelled connect of the driver would keep its socket until garbage collection."""
    before = open_sockets()
    rogue = misbehaving.silent() if step == "auth" else after_handshake(lambda server, conn: server.drain(conn))
    with rogue as server:
        exchange = exchange_for("rethinkdb", target(server.port))
        attempt = asyncio.create_task(run_attempt(exchange, 30))
        await asyncio.to_thread(wait_until, lambda: server.received != [], 5, "the client spoke")
        await asyncio.sleep(0.1)
        attempt.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await attempt
        await asyncio.to_thread(wait_until, lambda: server.connections == 0, 5, "the client closed")
        assert not _tasks()
    await _settled(before)


async def test_close_does_not_wait_for_a_frozen_server(fresh: RethinkDB) -> None:
    """The driver's own close() waits for the server."""
    exchange = exchange_for("rethinkdb", target(fresh))
    assert (await run_attempt(exchange, 5)).reason is Reason.PROBE_SUCCEEDED
    with fresh.frozen():
        before = time.monotonic()
        await exchange.close()
        await exchange.close()
        assert time.monotonic() - before < 0.5
    assert not _tasks()


async def test_close_in_the_middle_of_an_attempt(server: RethinkDB) -> None:
    exchange = exchange_for("rethinkdb", target(server))
    assert (await run_attempt(exchange, 5)).reason is Reason.PROBE_SUCCEEDED
    with server.frozen():
        attempt = asyncio.create_task(run_attempt(exchange, 5))
        await asyncio.sleep(0.05)
        await exchange.close()
        finding = await attempt
    assert finding.reason is Reason.INTERNAL_ERROR  # our doing: nothing is known of the server
    assert "closed while it was running" in finding.message
    assert not _tasks()
    assert (await run_attempt(exchange, 5)).reason is Reason.PROBE_SUCCEEDED
    await exchange.close()


# the driver's faults


@pytest.mark.skipif(not SIMULATED, reason="needs the give-up time shortened")
async def test_a_late_reply_to_a_cancelled_query_does_no_harm() -> None:
    """It would make the driver close the connection under a later query."""
    with three_nodes(heartbeat_timeout=2.0) as (a, b, _c):
        exchange = exchange_for("rethinkdb", target(a))
        assert (await run_attempt(exchange, 5)).reason is Reason.PROBE_SUCCEEDED
        b.freeze()
        hung = await run_attempt(exchange, 0.5)
        assert "got no answer" in hung.message
        finding = await attempts_until(exchange, lambda found: "node-b is not reachable" in found.message)
        assert finding.reason in (Reason.REPLICA_LOST, Reason.TABLE_UNAVAILABLE)
        b.resume()
        await exchange.close()


async def test_a_query_has_a_deadline_though_the_driver_has_none() -> None:
    with after_handshake(lambda server, conn: server.drain(conn)) as server:
        before = time.monotonic()
        finding = await attempt_once("rethinkdb", target(server.port), timeout=0.3)
        assert 0.2 < time.monotonic() - before < 1.5
    assert finding.reason is Reason.TIMEOUT
    assert "within 0.3 s" in finding.message


async def test_a_kept_connection_over_tls_is_dropped_at_once(tls_server: RethinkDB, authority: Authority) -> None:
    before = open_sockets()
    secrets = MemorySecrets({"ca": {"ca.crt": authority.pem}})
    exchange = exchange_for("rethinkdb", target(tls_server, **TLS), secrets)
    assert (await run_attempt(exchange, 5)).reason is Reason.PROBE_SUCCEEDED
    with tls_server.frozen():
        started = time.monotonic()
        await exchange.close()
        assert time.monotonic() - started < 0.5
    assert not _tasks()
    await _settled(before)


# secrets


async def test_the_password_shows_nowhere(
    fresh: RethinkDB, caplog: pytest.LogCaptureFixture, capsys: pytest.CaptureFixture[str]
) -> None:
    caplog.set_level(logging.DEBUG)
    fresh.add_user("ops", PLANTED)
    secrets = login("ops", PLANTED)
    exchange = exchange_for("rethinkdb", target(fresh, **AUTH), secrets)
    findings = [await run_attempt(exchange, 5)]
    assert subject(findings[0], "table/hc.jobs").reason is Reason.PROBE_SUCCEEDED
    with fresh.frozen():
        findings.append(await run_attempt(exchange, 0.3))
        findings.append(await run_attempt(exchange, 0.3))
    fresh.run(r.db("rethinkdb").table("users").get("ops").update({"password": "another"}))
    findings.append(await run_attempt(exchange, 5))
    await asyncio.to_thread(fresh.kill)
    findings.append(await run_attempt(exchange, 5))
    for rogue in (b"x\0", json.dumps({"success": False, "error": "no", "error_code": 12}).encode() + b"\0"):
        with misbehaving.garbage(rogue) as server:
            findings.append(await attempt_once("rethinkdb", target(server.port, **AUTH), secrets))
    assert {finding.reason for finding in findings} == {
        Reason.PROBE_SUCCEEDED,
        Reason.TIMEOUT,
        Reason.AUTHENTICATION_FAILED,
        Reason.CONNECTION_REFUSED,
        Reason.PROTOCOL_ERROR,
    }
    assert not any(planted(finding) for finding in findings)
    assert PLANTED not in caplog.text
    assert PLANTED not in "".join(capsys.readouterr())


async def test_the_password_is_in_no_exception(server: RethinkDB) -> None:
    stream = await Dialer().open("127.0.0.1", server.port, Trace())
    client = Client(stream, "rethinkdb:28015", Credentials("ops", PLANTED))
    with pytest.raises(ProbeError) as caught:
        await client.authenticate(Trace())
    await client.close()
    error: BaseException | None = caught.value
    while error is not None:
        assert PLANTED not in f"{error!r} {vars(error)}"
        error = error.__cause__ or (None if error.__suppress_context__ else error.__context__)
    assert PLANTED not in repr(client)
