"""Names, sockets and servers that are something else or nothing at all."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from pathlib import Path

import pytest

from backendhealth.core.reasons import Reason
from backendhealth.probes.dialer import AddrInfo, Dialer
from backendhealth.probes.elasticsearch_client import MAX_ANSWER
from backendhealth.probes.exchange import run_attempt
from tests.probes.elasticsearch.support import probe, subject
from tests.probes.support import attempt_once, exchange_for
from tests.servers import misbehaving
from tests.servers.elasticsearch import Elasticsearch
from tests.servers.process import free_port, wait_until

OURS = {"X-elastic-product": "Elasticsearch", "Content-Type": "application/json"}


def sockets() -> int:
    """Sockets that this process holds open."""
    links = []
    for descriptor in Path("/proc/self/fd").iterdir():
        with contextlib.suppress(FileNotFoundError):  # the listing's own
            links.append(str(descriptor.readlink()))
    return sum(link.startswith("socket:") for link in links)


async def test_refused() -> None:
    port = free_port()
    finding = await probe(f"http://127.0.0.1:{port}")
    assert finding.reason is Reason.CONNECTION_REFUSED
    assert finding.message == f"connection refused by 127.0.0.1:{port}"
    assert subject(finding, f"endpoint/127.0.0.1:{port}").reason is Reason.CONNECTION_REFUSED
    assert finding.contact


async def test_frozen_before_the_probe(node: Elasticsearch) -> None:
    with node.frozen():
        finding = await probe(node.url, timeout=0.5)
    assert finding.reason is Reason.TIMEOUT
    assert finding.message == f"127.0.0.1:{node.port}: no answer within 0.5 s: it hung in step info"


async def test_frozen_in_mid_probe(node: Elasticsearch) -> None:
    exchange = exchange_for("elasticsearch", {"urls": [node.url]})
    try:
        assert (await run_attempt(exchange, 10)).reason is Reason.PROBE_SUCCEEDED
        with node.frozen():  # the kept connection is used: health hangs, then info on a new one
            finding = await run_attempt(exchange, 0.5)
        assert finding.reason is Reason.TIMEOUT
        assert "no answer within 0.5 s: it hung in step info" in finding.message
        assert (await run_attempt(exchange, 10)).reason is Reason.PROBE_SUCCEEDED
    finally:
        await exchange.close()


async def test_accepts_and_never_answers() -> None:
    with misbehaving.silent() as server:
        finding = await probe(f"http://127.0.0.1:{server.port}", timeout=0.5)
        wait_until(lambda: server.connections == 0, 5, "our end closed")
    assert finding.reason is Reason.TIMEOUT
    assert "it hung in step info" in finding.message
    assert finding.contact


async def test_hangs_in_the_tls_handshake() -> None:
    with misbehaving.silent() as server:
        finding = await probe(f"https://127.0.0.1:{server.port}", timeout=0.5)
    assert finding.reason is Reason.TIMEOUT
    assert "it hung in step tls" in finding.message


async def test_dribbles_for_ever() -> None:
    with misbehaving.drip(
        b"HTTP/1.1 200 OK\r\nX-elastic-product: Elasticsearch\r\nContent-Length: 9999\r\n\r\n"
    ) as server:
        finding = await probe(f"http://127.0.0.1:{server.port}", timeout=0.5)
        wait_until(lambda: server.connections == 0, 5, "our end closed")
    assert finding.reason is Reason.TIMEOUT
    assert "it hung in step info" in finding.message


async def test_no_way_to_connect() -> None:
    with misbehaving.unreachable() as port:
        finding = await probe(f"http://127.0.0.1:{port}", timeout=0.5)
    assert finding.reason is Reason.TIMEOUT
    assert "it hung in step connect" in finding.message
    assert not finding.contact


async def test_name_that_does_not_exist() -> None:
    def resolver(_host: str, _port: int) -> list[AddrInfo]:
        raise socket.gaierror(socket.EAI_NONAME, "unknown")

    finding = await attempt_once(
        "elasticsearch", {"urls": ["http://nowhere.example:9200"]}, dialer=Dialer(resolver=resolver)
    )
    assert finding.reason is Reason.DNS_NAME_NOT_FOUND
    assert "the name nowhere.example does not exist" in finding.message


async def test_name_with_a_dead_address(node: Elasticsearch) -> None:
    def resolver(_host: str, port: int) -> list[AddrInfo]:
        hosts = ("127.0.0.9", "127.0.0.1")
        return [(socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP, "", (host, port)) for host in hosts]

    target = {"urls": [f"http://two.example:{node.port}"]}
    finding = await attempt_once("elasticsearch", target, dialer=Dialer(resolver=resolver))
    assert finding.reason is Reason.PROBE_SUCCEEDED, finding


@pytest.mark.parametrize("greets", [False, True])
async def test_garbage(greets: bool) -> None:
    with misbehaving.garbage(greets=greets) as server:
        finding = await probe(f"http://127.0.0.1:{server.port}", timeout=5)
    assert finding.reason is Reason.PROTOCOL_ERROR
    assert finding.message == f"what answers at 127.0.0.1:{server.port} does not speak HTTP"


async def test_closes_instead_of_answering() -> None:
    for server in (misbehaving.closes_at_once(after_request=True), misbehaving.resets(after_request=True)):
        with server:
            finding = await probe(f"http://127.0.0.1:{server.port}")
        assert finding.reason is Reason.CONNECTION_RESET
        assert finding.message == f"the other side broke the connection: 127.0.0.1:{server.port}"


async def test_closes_in_the_middle_of_an_answer() -> None:
    half = b"HTTP/1.1 200 OK\r\nX-elastic-product: Elasticsearch\r\nContent-Length: 100\r\n\r\n{"
    with misbehaving.garbage(half, closes=True) as server:
        finding = await probe(f"http://127.0.0.1:{server.port}")
    assert finding.reason is Reason.CONNECTION_RESET
    assert "the other side broke the connection" in finding.message


@pytest.mark.parametrize("known", [True, False], ids=["length", "no-length"])
async def test_a_hundred_megabytes_are_not_swallowed(known: bool) -> None:
    length = "Content-Length: 100000000\r\n" if known else ""
    head = f"HTTP/1.1 200 OK\r\nX-elastic-product: Elasticsearch\r\nContent-Type: application/json\r\n{length}\r\n"
    with misbehaving.flood(100_000_000, head.encode(), fill=b" ") as server:
        finding = await probe(f"http://127.0.0.1:{server.port}")
        wait_until(lambda: server.connections == 0, 5, "our end closed")
        sent = server.sent
    assert finding.reason is Reason.PROTOCOL_ERROR
    assert finding.message == f"127.0.0.1:{server.port} answers with more than 8 MiB: not read further"
    assert sent < 3 * MAX_ANSWER


@pytest.mark.parametrize(
    ("status", "headers", "body"),
    [
        (200, {"Content-Type": "text/html"}, b"<html></html>"),
        (200, {"Content-Type": "application/json"}, b'{"version": {"number": "2.11.0", "distribution": "opensearch"}}'),
        (200, {}, b""),
        (404, {"Content-Type": "application/json"}, b'{"message": "no route"}'),
    ],
    ids=["html", "json", "empty", "404"],
)
async def test_something_that_is_not_elasticsearch(status: int, headers: dict[str, str], body: bytes) -> None:
    with misbehaving.http_like(status, headers, body) as server:
        finding = await probe(f"http://127.0.0.1:{server.port}")
    assert finding.reason is Reason.NOT_ELASTICSEARCH
    assert finding.message.startswith(f"127.0.0.1:{server.port} answers HTTP {status}")
    assert finding.message.endswith("but does not say that it is Elasticsearch")


@pytest.mark.parametrize(
    ("body", "where"),
    [
        (b"[]", "the whole answer"),
        (b"{}", "version"),
        (b'{"version": "8"}', "version"),
        (b'"text"', "the whole answer"),
    ],
)
async def test_says_it_is_elasticsearch_but_answers_otherwise(body: bytes, where: str) -> None:
    with misbehaving.http_like(200, OURS, body) as server:
        finding = await probe(f"http://127.0.0.1:{server.port}")
    assert finding.reason is Reason.PROTOCOL_ERROR
    assert finding.message == f"127.0.0.1:{server.port} gives no valid answer to the request for info: {where}"


async def test_says_it_is_elasticsearch_but_speaks_no_json() -> None:
    with misbehaving.http_like(200, OURS, b"<html>") as server:
        finding = await probe(f"http://127.0.0.1:{server.port}")
    assert finding.reason is Reason.PROTOCOL_ERROR
    assert finding.message == f"127.0.0.1:{server.port} answers HTTP 200, application/json, that is no JSON"


async def test_an_error_of_the_server_itself() -> None:
    body = b'{"error": {"type": "null_pointer_exception", "reason": "oops"}, "status": 500}'
    with misbehaving.http_like(500, OURS, body) as server:
        finding = await probe(f"http://127.0.0.1:{server.port}")
    assert finding.reason is Reason.PROTOCOL_ERROR
    assert (
        finding.message
        == f"127.0.0.1:{server.port} answers HTTP 500, application/json, an error: null_pointer_exception: oops"
    )


@pytest.mark.parametrize("error", [b'"text"', b'{"type": 5}', b'{"type": "x", "failed_shards": "many"}', b"null"])
async def test_an_error_in_a_shape_of_its_own(error: bytes) -> None:
    with misbehaving.http_like(500, OURS, b'{"error": ' + error + b"}") as server:
        finding = await probe(f"http://127.0.0.1:{server.port}")
    assert finding.reason is Reason.PROTOCOL_ERROR
    assert finding.message == f"127.0.0.1:{server.port} answers HTTP 500, application/json, an error: not told which"


async def test_unknown_endpoints_keep_the_verdict_unknown() -> None:
    """One endpoint is down, the other won't tell us: the cluster may be well."""
    with misbehaving.http_like(401, {}, b"") as server:
        finding = await probe(f"http://127.0.0.1:{free_port()}", f"http://127.0.0.1:{server.port}")
    assert finding.reason is Reason.AUTHENTICATION_FAILED
    assert finding.message.startswith("none of 2 endpoints works: connection refused by 127.0.0.1:")


async def test_ipv6() -> None:
    with misbehaving.http_like(200, {}, b"", host="::1") as server:
        finding = await probe(f"http://[::1]:{server.port}")
    assert finding.reason is Reason.NOT_ELASTICSEARCH
    assert subject(finding, f"endpoint/[::1]:{server.port}").reason is Reason.NOT_ELASTICSEARCH


async def test_nothing_is_left_of_cancelled_attempts(node: Elasticsearch) -> None:
    before, tasks = sockets(), len(asyncio.all_tasks())
    with misbehaving.silent() as server:
        listening = sockets()
        exchanges = [
            exchange_for("elasticsearch", {"urls": [f"http://127.0.0.1:{server.port}", node.url]}) for _ in range(100)
        ]
        attempts = [asyncio.create_task(run_attempt(exchange, 30)) for exchange in exchanges]
        async with asyncio.timeout(20):
            while server.accepted < len(attempts):
                await asyncio.sleep(0.01)
        for attempt in attempts:
            attempt.cancel()
        results = await asyncio.gather(*attempts, return_exceptions=True)
        assert all(isinstance(result, asyncio.CancelledError) for result in results)
        wait_until(lambda: server.connections == 0, 5, "our ends closed")
        assert sockets() <= listening
        assert len(asyncio.all_tasks()) == tasks
    assert sockets() == before


async def test_nothing_is_left_after_close(node: Elasticsearch) -> None:
    before = sockets()
    exchange = exchange_for("elasticsearch", {"urls": [node.url]})
    assert (await run_attempt(exchange, 10)).reason is Reason.PROBE_SUCCEEDED
    assert sockets() == before + 1
    await exchange.close()
    await asyncio.sleep(0)
    assert sockets() == before
