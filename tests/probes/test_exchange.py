"""One attempt under its deadline: what becomes of failures, of our own faults, and of what is kept."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import logging
import socket
import ssl
from collections.abc import Awaitable, Callable, Mapping

import pytest

from backendhealth.core.observation import Finding, SubjectFinding
from backendhealth.core.reasons import Reason
from backendhealth.probes import prober as prober_module
from backendhealth.probes.exchange import ProbeError, classify, run_attempt
from backendhealth.probes.prober import Prober
from backendhealth.probes.trace import Trace
from tests.probes.support import PLANTED, planted
from tests.servers.process import free_port

GOOD = Finding(Reason.PROBE_SUCCEEDED, "fine")
Act = Callable[[Trace], Awaitable[Finding]]


class Acting:
    """An exchange that does what it is told and counts how often it is closed."""

    def __init__(self, act: Act) -> None:
        self.act = act
        self.closed = 0
        self.close_error: Exception | None = None

    async def attempt(self, trace: Trace, timeout: float) -> Finding:
        return await self.act(trace)

    async def close(self) -> None:
        self.closed += 1
        if self.close_error is not None:
            raise self.close_error


def raising(error: BaseException) -> Acting:
    async def act(trace: Trace) -> Finding:
        raise error

    return Acting(act)


async def fine(trace: Trace) -> Finding:
    with trace.step("ask"):
        return GOOD


# Deadline and steps


async def test_a_good_attempt_keeps_the_connection_and_tells_its_steps():
    exchange = Acting(fine)
    finding = await run_attempt(exchange, 1)
    assert finding.reason is Reason.PROBE_SUCCEEDED
    assert list(finding.steps) == ["ask"]
    assert exchange.closed == 0


async def test_a_time_out_names_the_innermost_step_it_hung_in():
    async def act(trace: Trace) -> Finding:
        with trace.step("connect"):
            trace.contact = True
        with trace.step("status"), trace.step("read"):
            await asyncio.sleep(30)
        return GOOD

    exchange = Acting(act)
    finding = await run_attempt(exchange, 0.2)
    assert finding.reason is Reason.TIMEOUT
    assert finding.message == "no answer within 0.2 s: it hung in step read"
    assert finding.contact
    assert list(finding.steps) == ["connect", "read", "status"]
    assert 0.19 < finding.steps["read"] < 3
    assert exchange.closed == 1


async def test_a_step_that_failed_and_was_dealt_with_is_not_the_one_it_hung_in():
    async def act(trace: Trace) -> Finding:
        with contextlib.suppress(ConnectionRefusedError), trace.step("resolve"):
            socket.create_connection(("127.0.0.1", free_port()))
        with trace.step("auth"):
            await asyncio.sleep(30)
        return GOOD

    finding = await run_attempt(Acting(act), 0.1)
    assert finding.reason is Reason.TIMEOUT
    assert "in step auth" in finding.message


async def test_a_time_out_between_the_steps_names_the_last():
    async def act(trace: Trace) -> Finding:
        with trace.step("connect"):
            pass
        await asyncio.sleep(30)
        return GOOD

    finding = await run_attempt(Acting(act), 0.1)
    assert finding.reason is Reason.TIMEOUT
    assert "it hung after step connect" in finding.message


async def test_a_time_out_before_the_first_step_is_about_secrets():
    async def act(trace: Trace) -> Finding:
        await asyncio.sleep(30)
        return GOOD

    finding = await run_attempt(Acting(act), 0.1)
    assert finding.reason is Reason.SECRET_UNAVAILABLE
    assert "reading its Secrets took longer than 0.1 s" in finding.message
    assert not finding.contact


async def test_a_time_out_in_the_look_up_is_the_resolvers():
    async def act(trace: Trace) -> Finding:
        with trace.step("resolve"):
            await asyncio.sleep(30)
        return GOOD

    finding = await run_attempt(Acting(act), 0.1)
    assert finding.reason is Reason.RESOLVER_UNAVAILABLE
    assert finding.message == "the resolver did not answer within 0.1 s"


async def test_a_step_taken_twice_adds_up():
    trace = Trace()
    for _ in range(2):
        with trace.step("read"):
            await asyncio.sleep(0.05)
    assert trace.steps["read"] > 0.09
    assert trace.failed_in == ""


# What becomes of an exception


def with_number(number: int) -> OSError:
    return OSError(number, "text")


@pytest.mark.parametrize(
    ("error", "reason", "told", "contact"),
    [
        (ConnectionRefusedError(), Reason.CONNECTION_REFUSED, "connection refused", True),
        (ConnectionResetError(), Reason.CONNECTION_RESET, "the other side broke the connection", True),
        (BrokenPipeError(), Reason.CONNECTION_RESET, "the other side broke the connection", True),
        (with_number(errno.ENOTCONN), Reason.CONNECTION_RESET, "the other side broke the connection", True),
        (with_number(errno.ETIMEDOUT), Reason.TIMEOUT, "the connection timed out", False),
        (with_number(errno.ENETUNREACH), Reason.NETWORK_UNREACHABLE, "no route from here", False),
        (with_number(errno.EADDRNOTAVAIL), Reason.NETWORK_UNREACHABLE, "no route from here", False),
        (with_number(errno.EHOSTUNREACH), Reason.HOST_UNREACHABLE, "no route to the host", False),
        (with_number(errno.EMFILE), Reason.INTERNAL_ERROR, "by its own fault", False),
        (socket.gaierror(socket.EAI_NONAME, "x"), Reason.DNS_NAME_NOT_FOUND, "does not exist", True),
        (socket.gaierror(socket.EAI_AGAIN, "x"), Reason.RESOLVER_UNAVAILABLE, "the resolver does not answer", False),
        (ssl.SSLError(1, "x"), Reason.TLS_FAILURE, "TLS failed", False),
        (ProbeError(Reason.LOADING, "loading\nits data"), Reason.LOADING, "loading its data", False),
    ],
)
async def test_failures(error: Exception, reason: Reason, told: str, contact: bool):
    finding = await run_attempt(raising(error), 1)
    assert finding.reason is reason
    assert told in finding.message
    assert finding.contact is contact


async def test_a_probes_own_error_keeps_its_subjects():
    subjects = (SubjectFinding("member/m1", Reason.MEMBER_DOWN, "down"),)
    finding = await run_attempt(raising(ProbeError(Reason.MEMBER_DOWN, "one is down", subjects)), 1)
    assert finding.subjects == subjects


@pytest.mark.parametrize(
    ("reason", "closes"),
    [
        (Reason.CONNECTION_RESET, 1),
        (Reason.AUTHENTICATION_FAILED, 1),
        (Reason.CERTIFICATE_EXPIRING, 1),
        (Reason.LOADING, 0),
        (Reason.QUORUM_LOST, 0),
    ],
)
async def test_what_breaks_a_connection_drops_it(reason: Reason, closes: int):
    exchange = raising(ProbeError(reason, "x"))
    await run_attempt(exchange, 1)
    assert exchange.closed == closes


def test_what_is_no_failure_of_the_network_is_not_classified():
    with pytest.raises(TypeError, match="ValueError"):
        classify(ValueError("x"))


# Our own faults


async def test_our_own_fault_is_ours_and_its_text_is_told_to_nobody(caplog: pytest.LogCaptureFixture):
    exchange = raising(ValueError(f"password {PLANTED} is odd"))
    with caplog.at_level(logging.DEBUG):
        finding = await run_attempt(exchange, 1)
    assert finding.reason is Reason.INTERNAL_ERROR
    assert finding.message == "the probe failed by its own fault: ValueError"
    assert not planted(finding)
    assert "ValueError at" in caplog.text
    assert "test_exchange.py" in caplog.text
    assert PLANTED not in caplog.text
    assert not any(record.exc_info for record in caplog.records)
    assert exchange.closed == 1


async def test_a_fault_in_closing_changes_no_finding(caplog: pytest.LogCaptureFixture):
    exchange = raising(ConnectionResetError())
    exchange.close_error = RuntimeError(PLANTED)
    finding = await run_attempt(exchange, 1)
    assert finding.reason is Reason.CONNECTION_RESET
    assert "closing a connection failed" in caplog.text
    assert PLANTED not in caplog.text


async def test_cancellation_is_raised_and_drops_the_connection():
    async def act(trace: Trace) -> Finding:
        await asyncio.Event().wait()
        return GOOD

    exchange = Acting(act)
    task = asyncio.create_task(run_attempt(exchange, 30))
    await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert exchange.closed == 1


async def test_a_client_that_cancels_itself_is_a_fault_of_ours_and_no_end():
    finding = await run_attempt(raising(asyncio.CancelledError()), 1)
    assert finding.reason is Reason.INTERNAL_ERROR
    assert "CancelledError" in finding.message


# The prober


async def test_a_kept_connection_is_renewed_when_it_is_old(monkeypatch: pytest.MonkeyPatch):
    now = 1000.0
    monkeypatch.setattr(prober_module, "monotonic", lambda: now)
    exchange = Acting(fine)
    prober = Prober(exchange)
    now += prober_module.MAX_CONNECTION_AGE - 1
    await prober.attempt(1)
    assert exchange.closed == 0
    now += 2
    await prober.attempt(1)
    assert exchange.closed == 1
    now += 2
    await prober.attempt(1)
    assert exchange.closed == 1


class Keeping(Acting):
    """An exchange that keeps something whatever its age."""

    renewed = 0

    async def renew(self) -> None:
        self.renewed += 1


@pytest.mark.parametrize("secrets", [False, True])
async def test_what_must_not_end_by_its_age_is_kept(monkeypatch: pytest.MonkeyPatch, secrets: bool):
    now = 1000.0
    monkeypatch.setattr(prober_module, "monotonic", lambda: now)
    exchange = Keeping(fine)
    prober = Prober(exchange, Rotating() if secrets else None)
    now += prober_module.MAX_CONNECTION_AGE + 1
    await prober.attempt(1)
    assert (exchange.renewed, exchange.closed) == (1, 0)
    await prober.close()
    assert exchange.closed == 1


class Rotating:
    """Secrets that change when a test says so."""

    def __init__(self) -> None:
        self.new = False
        self.asked_for = 0.0
        self.distrusted = self.released = 0

    async def read(self, name: str) -> Mapping[str, bytes]:
        return {}

    async def changed(self) -> bool:
        await asyncio.sleep(self.asked_for)
        return self.new

    def distrust(self) -> None:
        self.distrusted += 1

    def release(self) -> None:
        self.released += 1
        self.new = False


async def test_a_connection_is_renewed_when_a_secret_has_changed():
    exchange, secrets = Acting(fine), Rotating()
    prober = Prober(exchange, secrets)
    await prober.attempt(1)
    assert (exchange.closed, secrets.released) == (0, 0)
    secrets.new = True
    assert (await prober.attempt(1)).reason is Reason.PROBE_SUCCEEDED
    assert (exchange.closed, secrets.released) == (1, 1)
    await prober.attempt(1)
    assert (exchange.closed, secrets.distrusted) == (1, 0)


async def test_the_exchange_gets_the_time_that_asking_for_secrets_has_left():
    given = []

    class Timed(Acting):
        async def attempt(self, trace: Trace, timeout: float) -> Finding:
            given.append(timeout)
            return await super().attempt(trace, timeout)

    secrets = Rotating()
    secrets.asked_for = 0.2
    await Prober(Timed(fine), secrets).attempt(1)
    assert 0.1 < given[0] < 0.81
    secrets.asked_for = 30
    finding = await Prober(Timed(fine), secrets).attempt(0.2)
    assert finding.reason is Reason.SECRET_UNAVAILABLE
    assert len(given) == 1


@pytest.mark.parametrize("subjects", [(), (SubjectFinding("node/a", Reason.AUTHENTICATION_FAILED, "no"),)])
async def test_secrets_that_the_backend_refuses_are_distrusted(subjects: tuple[SubjectFinding, ...]):
    reason = Reason.MEMBER_DOWN if subjects else Reason.AUTHENTICATION_FAILED
    secrets = Rotating()
    await Prober(raising(ProbeError(reason, "no", subjects)), secrets).attempt(1)
    assert secrets.distrusted == 1


async def test_closing_a_prober_never_raises():
    exchange = Acting(fine)
    exchange.close_error = RuntimeError("ours")
    await Prober(exchange).close()
    assert exchange.closed == 1
