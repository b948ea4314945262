"""Servers that are not etcd, or keep to no protocol."""

from __future__ import annotations

import asyncio
import socket
import ssl
from collections.abc import Callable

import grpc
import pytest

from backendhealth.core.reasons import Reason
from backendhealth.probes import etcd_stubs
from tests.probes.etcd.impostor import ALARM, AUTHENTICATE, RANGE, STATUS, fails, good_status, impostor, says
from tests.probes.support import PLANTED, MemorySecrets, attempt_once, planted
from tests.servers import misbehaving
from tests.servers.certs import Authority
from tests.servers.redis import RedisServer

SAYS_NOTHING_OF_HTTP2 = "what answers there does not speak HTTP/2, so it is not etcd"
BROKEN = "the other side broke the connection"


async def test_accepts_and_never_answers() -> None:
    with misbehaving.silent() as server:
        finding = await attempt_once("etcd", {"endpoints": [f"http://127.0.0.1:{server.port}"]}, timeout=0.5)
    assert finding.reason is Reason.TIMEOUT
    assert "no answer within 0.35 s: it hung in step http2" in finding.message
    assert finding.contact


async def test_shakes_hands_and_never_answers(authority: Authority) -> None:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    pair = authority.issue()
    context.load_cert_chain(pair.cert_file, pair.key_file)
    secrets = MemorySecrets({"ca": {"ca.crt": authority.pem}})
    with misbehaving.silent(tls=context) as server:
        target = {"endpoints": [f"https://127.0.0.1:{server.port}"], "tls": {"caSecretRef": {"name": "ca"}}}
        finding = await attempt_once("etcd", target, secrets, timeout=0.5)
    assert finding.reason is Reason.TIMEOUT
    assert "it hung in step http2" in finding.message


@pytest.mark.parametrize(
    ("make", "reason", "message"),
    [
        (misbehaving.garbage, Reason.PROTOCOL_ERROR, SAYS_NOTHING_OF_HTTP2),
        (lambda: misbehaving.garbage(greets=True, closes=True), Reason.PROTOCOL_ERROR, SAYS_NOTHING_OF_HTTP2),
        (lambda: misbehaving.garbage(b"no\n", closes=True), Reason.PROTOCOL_ERROR, SAYS_NOTHING_OF_HTTP2),
        (misbehaving.http_like, Reason.PROTOCOL_ERROR, "an HTTP/1 server answers there, not etcd"),
        (lambda: misbehaving.http_like(503, body=b"x" * 9999), Reason.PROTOCOL_ERROR, "an HTTP/1 server answers"),
        (misbehaving.closes_at_once, Reason.CONNECTION_RESET, BROKEN),
        (lambda: misbehaving.closes_at_once(after_request=True), Reason.CONNECTION_RESET, BROKEN),
        (misbehaving.resets, Reason.CONNECTION_RESET, BROKEN),
        (lambda: misbehaving.resets(after_request=True), Reason.CONNECTION_RESET, BROKEN),
    ],
)
async def test_not_etcd(make: Callable[[], misbehaving.Server], reason: Reason, message: str) -> None:
    with make() as server:
        finding = await attempt_once("etcd", {"endpoints": [f"http://127.0.0.1:{server.port}"]})
    assert finding.reason is reason
    assert message in finding.message
    assert f"127.0.0.1:{server.port}" in finding.message


async def test_a_hundred_megabytes_of_noise() -> None:
    with misbehaving.flood(100 << 20, greets=True) as server:
        finding = await attempt_once("etcd", {"endpoints": [f"http://127.0.0.1:{server.port}"]})
        assert finding.reason is Reason.PROTOCOL_ERROR
        assert SAYS_NOTHING_OF_HTTP2 in finding.message
        assert server.sent < 32 << 20


async def test_an_answer_of_a_hundred_megabytes() -> None:
    async with impostor({STATUS: says(b"\x12" + b"x" * (100 << 20))}) as url:
        finding = await attempt_once("etcd", {"endpoints": [url]}, timeout=20)
    assert finding.reason is Reason.PROTOCOL_ERROR
    assert "the answer is far too large for etcd's" in finding.message


async def test_redis_on_the_port() -> None:
    with RedisServer() as server:
        finding = await attempt_once("etcd", {"endpoints": [f"http://127.0.0.1:{server.port}"]})
    assert finding.reason is Reason.PROTOCOL_ERROR
    assert f"127.0.0.1:{server.port}: {SAYS_NOTHING_OF_HTTP2}" in finding.message


async def test_another_grpc_server() -> None:
    async with impostor({}) as url:
        finding = await attempt_once("etcd", {"endpoints": [url]})
    assert finding.reason is Reason.PROTOCOL_ERROR
    assert "what answers there is not etcd: gRPC status UNIMPLEMENTED" in finding.message


@pytest.mark.parametrize(
    ("answer", "message"),
    [
        (b"", "answers gRPC, but not as etcd does"),
        (b"\x12\x05hello", "answers gRPC, but not as etcd does"),
        (b"\xff\xff\xff", "its answer can't be decoded"),
    ],
)
async def test_grpc_without_an_etcd_behind_it(answer: bytes, message: str) -> None:
    async with impostor({STATUS: says(answer), RANGE: says(b""), ALARM: says(b"")}) as url:
        finding = await attempt_once("etcd", {"endpoints": [url]})
    assert finding.reason is Reason.PROTOCOL_ERROR
    assert message in finding.message


@pytest.mark.parametrize(
    ("code", "details", "reason", "message"),
    [
        (grpc.StatusCode.UNAVAILABLE, "etcdserver: request timed out", Reason.QUORUM_LOST, "no answer from the others"),
        (grpc.StatusCode.UNAVAILABLE, "etcdserver: leader changed", Reason.QUORUM_LOST, "the leader changes again"),
        (grpc.StatusCode.UNAVAILABLE, "etcdserver: server stopped", Reason.CONNECTION_RESET, "is shutting down"),
        (grpc.StatusCode.DATA_LOSS, "etcdserver: corrupt cluster", Reason.ALARM_CORRUPT, "its data is corrupt"),
        (grpc.StatusCode.RESOURCE_EXHAUSTED, "etcdserver: too many requests", Reason.OVERLOADED, "refuses requests"),
        (grpc.StatusCode.INTERNAL, "etcdserver: news", Reason.PROTOCOL_ERROR, "with the gRPC status INTERNAL"),
        (grpc.StatusCode.PERMISSION_DENIED, "a proxy's word", Reason.PROTOCOL_ERROR, "gRPC status PERMISSION_DENIED"),
    ],
)
async def test_a_read_that_fails(code: grpc.StatusCode, details: str, reason: Reason, message: str) -> None:
    async with impostor({STATUS: good_status(), RANGE: fails(code, details)}) as url:
        finding = await attempt_once("etcd", {"endpoints": [url]})
    assert finding.reason is reason
    assert message in finding.message


async def test_a_token_that_is_refused_at_once() -> None:
    secrets = MemorySecrets({"etcd": {"username": "probe", "password": "x"}})
    answers = {
        STATUS: good_status(),
        AUTHENTICATE: says(etcd_stubs.messages().AuthenticateResponse(token="t")),
        RANGE: fails(grpc.StatusCode.UNAUTHENTICATED, "etcdserver: invalid auth token"),
    }
    async with impostor(answers) as url:
        finding = await attempt_once("etcd", {"endpoints": [url], "auth": {"secretRef": {"name": "etcd"}}}, secrets)
    assert finding.reason is Reason.AUTHENTICATION_FAILED
    assert "etcd does not accept its own fresh token" in finding.message


async def test_greets_and_hangs_up_on_the_first_call() -> None:
    def handle(server: misbehaving.Server, conn: socket.socket) -> None:
        server.send(conn, bytes((0, 0, 0, 4, 0, 0, 0, 0, 0)))
        while b"etcdserverpb" not in server.request:
            if not server.read_some(conn):
                return

    with misbehaving.Server(handle) as server:
        finding = await attempt_once("etcd", {"endpoints": [f"http://127.0.0.1:{server.port}"]})
    assert finding.reason is Reason.CONNECTION_RESET
    assert f"127.0.0.1:{server.port}: {BROKEN}" in finding.message


async def test_an_alarm_list_that_is_denied() -> None:
    rpc = etcd_stubs.messages()
    denied = fails(grpc.StatusCode.PERMISSION_DENIED, "etcdserver: permission denied")
    async with impostor({STATUS: good_status(), RANGE: says(rpc.RangeResponse()), ALARM: denied}) as url:
        finding = await attempt_once("etcd", {"endpoints": [url]})
    assert finding.reason is Reason.PERMISSION_DENIED
    assert "the probe's user may not do this" in finding.message


async def test_reads_work_but_nothing_is_committed() -> None:
    async def hangs(_request: bytes, _context: grpc.aio.ServicerContext) -> bytes:
        await asyncio.get_running_loop().create_future()
        return b""

    rpc = etcd_stubs.messages()
    async with impostor({STATUS: good_status(), RANGE: says(rpc.RangeResponse()), ALARM: hangs}) as url:
        finding = await attempt_once("etcd", {"endpoints": [url]}, timeout=0.5)
    assert finding.reason is Reason.TIMEOUT
    assert "reads work, but nothing is committed within 0.35 s" in finding.message


async def test_a_server_that_repeats_the_password(capfd: pytest.CaptureFixture[str]) -> None:
    """What the probe has sent must not come back in what it says."""
    secrets = MemorySecrets({"etcd": {"username": f"user-{PLANTED}", "password": PLANTED}})
    rpc = etcd_stubs.messages()
    token = f"token-{PLANTED}"
    refused = f"etcdserver: authentication failed, invalid user ID or password {PLANTED}"
    for answers in (
        {AUTHENTICATE: fails(grpc.StatusCode.INVALID_ARGUMENT, refused)},
        {AUTHENTICATE: fails(grpc.StatusCode.INTERNAL, f"no such password: {PLANTED}")},
        {AUTHENTICATE: fails(grpc.StatusCode.UNAVAILABLE, f"etcdserver: {PLANTED}")},
        {
            AUTHENTICATE: says(rpc.AuthenticateResponse(token=token)),
            RANGE: fails(grpc.StatusCode.UNAUTHENTICATED, f"etcdserver: invalid auth token {token}"),
        },
    ):
        async with impostor({STATUS: good_status(), **answers}) as url:
            target = {"endpoints": [url], "auth": {"secretRef": {"name": "etcd"}}}
            finding = await attempt_once("etcd", target, secrets)
        assert finding.reason is not Reason.PROBE_SUCCEEDED
        assert not planted(finding)
    told = capfd.readouterr()
    assert PLANTED not in told.out + told.err
