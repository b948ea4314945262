"""Sending and comparing the reply."""

from __future__ import annotations

import pytest

from backendhealth.core.observation import Finding
from backendhealth.core.reasons import Reason
from tests.probes.checks import eventually, nothing_left
from tests.probes.support import attempt_once
from tests.servers import misbehaving
from tests.servers.misbehaving import Server


async def talk(server: Server, *, timeout: float = 3, **fields: str) -> Finding:
    target = {"host": "127.0.0.1", "port": server.port, **fields}
    async with nothing_left():
        finding = await attempt_once("tcp", target, timeout=timeout)
        await eventually(lambda: server.connections == 0, "the probe closed its end")
    return finding


async def test_a_reply_that_matches() -> None:
    with misbehaving.garbage(b"+PONG\r\n") as server:
        finding = await talk(server, send="PING\r\n", expect=r"^\+PONG")
    assert finding.reason is Reason.PROBE_SUCCEEDED
    assert finding.message == f"127.0.0.1:{server.port} replies as expected"
    assert server.request == b"PING\r\n"
    assert finding.steps.keys() >= {"send", "expect"}


async def test_a_greeting_that_matches_only_when_all_of_it_is_there() -> None:
    with misbehaving.drip(b"220 ", byte=b"ready", greets=True) as server:
        finding = await talk(server, expect="220 .*readyready")
    assert finding.reason is Reason.PROBE_SUCCEEDED


async def test_bytes_that_are_no_text_can_be_matched_around() -> None:
    with misbehaving.garbage(b"\xff\x00OK\xfe", greets=True) as server:
        finding = await talk(server, expect="OK")
    assert finding.reason is Reason.PROBE_SUCCEEDED


async def test_another_reply() -> None:
    with misbehaving.garbage(b"-ERR no\r\n") as server:
        finding = await talk(server, send="PING\r\n", expect="PONG", timeout=0.4)
    assert finding.reason is Reason.UNEXPECTED_REPLY
    assert 'it sent "-ERR no", and nothing that matches until the time-out' in finding.message
    assert finding.contact


async def test_another_reply_and_then_the_end() -> None:
    with misbehaving.garbage(b"go away", greets=True, closes=True) as server:
        finding = await talk(server, expect="welcome")
    assert finding.reason is Reason.UNEXPECTED_REPLY
    assert 'it sent "go away", then closed the connection' in finding.message


async def test_100_mb_are_not_read() -> None:
    with misbehaving.flood(100_000_000, greets=True) as server:
        finding = await talk(server, expect="needle")
        assert server.sent < 20_000_000
    assert finding.reason is Reason.UNEXPECTED_REPLY
    assert "65536 bytes in all without a match" in finding.message


async def test_a_reply_that_drips_for_ever() -> None:
    with misbehaving.drip(greets=True) as server:
        finding = await talk(server, expect="needle", timeout=0.5)
    assert finding.reason is Reason.UNEXPECTED_REPLY
    assert "nothing that matches until the time-out" in finding.message


async def test_silence() -> None:
    with misbehaving.silent() as server:
        finding = await talk(server, send="hello", expect="hello", timeout=0.3)
    assert finding.reason is Reason.TIMEOUT
    assert finding.message.endswith("no answer within 0.3 s: it hung in step expect")


@pytest.mark.parametrize(
    "server",
    [misbehaving.closes_at_once(), misbehaving.resets(), misbehaving.resets(after_request=True)],
    ids=["closed", "reset", "reset after the request"],
)
async def test_broken_before_any_reply(server: Server) -> None:
    with server:
        finding = await talk(server, send="hello", expect="hello")
    assert finding.reason is Reason.CONNECTION_RESET
    assert finding.message == f"the other side broke the connection: 127.0.0.1:{server.port}"


async def test_an_expression_that_would_take_others_for_ever() -> None:
    with misbehaving.garbage(b"a" * 60_000, greets=True, closes=True) as server:
        finding = await talk(server, expect="(a*)*(a*)*b$")
    assert finding.reason is Reason.UNEXPECTED_REPLY
