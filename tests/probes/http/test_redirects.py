"""Redirects: how far, where to, and what goes along."""

from __future__ import annotations

import socket
from typing import Any

import pytest

from backendhealth.core.observation import Finding
from backendhealth.core.reasons import Reason
from backendhealth.probes.dialer import Dialer
from tests.probes.checks import fails_with, resolves_to
from tests.probes.support import PLANTED, MemorySecrets, attempt_once, planted
from tests.servers.certs import Authority
from tests.servers.http import Answer, HttpServer, Request, server_tls
from tests.servers.process import free_port

AUTH = {"secretRef": {"name": "api"}}
ECHOES = [f"/{PLANTED}", f"gopher://{PLANTED}/", f"http://{PLANTED}.test/", f"/{'long' * 30}/{PLANTED}"]
LOCATIONS = ["file:///etc/passwd", "http://[::1", "http://xn--a/", "http://a:99999/", "javascript:alert(1)", "ftp://a/"]
SECRETS = MemorySecrets({"api": {"token": PLANTED}})


no_such_name = fails_with(socket.EAI_NONAME)


async def follow(server: HttpServer, path: str = "/", *, dialer: Dialer | None = None, **more: object) -> Finding:
    target = {"url": server.url + path, "maxRedirects": 3, **more}
    return await attempt_once("http", target, SECRETS, timeout=3, dialer=dialer)


async def test_followed_to_the_end(server: HttpServer) -> None:
    server.on("/", 301, headers={"Location": "/second"})
    server.on("/second", 307, headers={"Location": f"{server.url}/third?secret=1#part"})
    server.on("/third?secret=1", 200)
    finding = await follow(server)
    assert finding.reason is Reason.PROBE_SUCCEEDED
    assert finding.facts["redirects"] == 2
    assert finding.facts["finalUrl"] == f"{server.url}/third"
    assert "secret" not in repr(finding)


async def test_without_leave_a_redirect_is_the_answer(server: HttpServer) -> None:
    server.on("/", 302, headers={"Location": "/second"})
    finding = await follow(server, maxRedirects=0)
    assert finding.reason is Reason.UNEXPECTED_STATUS
    assert "status 302, expected 2xx" in finding.message
    assert (await follow(server, maxRedirects=0, expect={"status": ["302"]})).reason is Reason.PROBE_SUCCEEDED


async def test_in_a_circle(server: HttpServer) -> None:
    server.on("/", 302, headers={"Location": "/b"})
    server.on("/b", 302, headers={"Location": "/"})
    finding = await follow(server)
    assert finding.reason is Reason.TOO_MANY_REDIRECTS
    assert finding.message == f"it redirects in a circle: {server.url}/ again"


async def test_to_itself_with_another_method_is_no_circle(server: HttpServer) -> None:
    def answer(request: Request) -> Answer:
        return Answer(303, headers={"Location": "/"}) if request.method == "POST" else Answer(200)

    server.on_call("/", answer)
    assert (await follow(server, method="POST")).reason is Reason.PROBE_SUCCEEDED


async def test_further_than_allowed(server: HttpServer) -> None:
    for number in range(6):
        server.on(f"/{number}", 302, headers={"Location": f"/{number + 1}?token={PLANTED}"})
        server.on(f"/{number}?token={PLANTED}", 302, headers={"Location": f"/{number + 1}?token={PLANTED}"})
    finding = await follow(server, "/0")
    assert finding.reason is Reason.TOO_MANY_REDIRECTS
    assert finding.message == f"it redirects more than 3 times, at last to {server.url}/4"
    assert len(server.requests) == 4
    assert not planted(finding)


@pytest.mark.parametrize("location", LOCATIONS)
async def test_to_no_place_for_http(server: HttpServer, location: str) -> None:
    server.on("/", 302, headers={"Location": location})
    finding = await follow(server)
    assert finding.reason is Reason.PROTOCOL_ERROR
    assert f'it redirects to "{location}", which is no place that HTTP can go to' in finding.message


async def test_to_an_address_that_is_refused(server: HttpServer) -> None:
    server.on("/", 302, headers={"Location": "http://127.0.0.66:1/latest/meta-data/"})
    guarded = Dialer(guard=lambda _, address: "metadata" if str(address) == "127.0.0.66" else None)
    finding = await follow(server, dialer=guarded)
    assert finding.reason is Reason.ADDRESS_REFUSED
    assert "not connected to 127.0.0.66 (127.0.0.66): metadata" in finding.message


async def test_to_a_name_with_an_address_that_is_refused(server: HttpServer) -> None:
    server.on("/", 302, headers={"Location": "http://innocent.test/"})
    guarded = Dialer(
        resolver=resolves_to(("127.0.0.66", 1)),
        guard=lambda _, address: "metadata" if str(address) == "127.0.0.66" else None,
    )
    finding = await follow(server, dialer=guarded)
    assert finding.reason is Reason.ADDRESS_REFUSED
    assert "not connected to 127.0.0.66 (innocent.test): metadata" in finding.message


async def test_to_a_dead_port(server: HttpServer) -> None:
    port = free_port()
    server.on("/", 302, headers={"Location": f"http://127.0.0.1:{port}/"})
    finding = await follow(server)
    assert finding.reason is Reason.CONNECTION_REFUSED
    assert finding.message.endswith(f"connection refused by 127.0.0.1:{port}")


async def test_credentials_stay_with_the_origin(server: HttpServer) -> None:
    with HttpServer() as other:
        server.on("/", 302, headers={"Location": "/again"})
        server.on("/again", 302, headers={"Location": f"http://somebody:else@127.0.0.1:{other.port}/"})
        other.on("/", 200)
        finding = await follow(server, auth=AUTH)
    assert finding.reason is Reason.PROBE_SUCCEEDED
    assert [request.headers.get("authorization") for request in server.requests] == [f"Bearer {PLANTED}"] * 2
    assert "authorization" not in other.requests[0].headers
    assert not planted(finding)


@pytest.mark.parametrize("echo", ECHOES)
async def test_credentials_that_a_redirect_echoes_are_not_shown(server: HttpServer, echo: str) -> None:
    server.on("/", 302, headers={"Location": echo})
    for answer in (200, 302):
        server.on(echo, answer, headers={"Location": echo})
        finding = await follow(server, auth=AUTH, dialer=Dialer(resolver=no_such_name))
        assert server.requests[-1].headers["authorization"] == f"Bearer {PLANTED}"
        assert not planted(finding)
        assert PLANTED[:6] not in repr(finding)


@pytest.mark.parametrize(
    ("status", "method", "expected"),
    [(303, "POST", "GET"), (302, "POST", "GET"), (307, "POST", "POST"), (308, "HEAD", "HEAD"), (303, "HEAD", "HEAD")],
)
async def test_the_method_after_a_redirect(server: HttpServer, status: int, method: str, expected: str) -> None:
    server.on("/", status, headers={"Location": "/next"})
    server.on("/next", 200)
    body: dict[str, Any] = {"body": "data"} if method == "POST" else {}
    assert (await follow(server, method=method, **body)).reason is Reason.PROBE_SUCCEEDED
    last = server.requests[-1]
    assert last.method == expected
    assert last.body == (b"data" if expected == "POST" else b"")


async def test_a_client_certificate_is_shown_to_the_first_host_only(authority: Authority) -> None:
    pair = authority.issue("a-client.test")
    secrets = MemorySecrets({"ca": {"ca.crt": authority.pem}, "client": {"tls.crt": pair.cert, "tls.key": pair.key}})
    tls = server_tls(authority.issue(), client_ca=authority.file)
    with HttpServer(tls=tls) as first, HttpServer(tls=tls) as second:
        first.on("/", 302, headers={"Location": second.url + "/"})
        second.on("/", 200)
        target = {
            "url": first.url,
            "maxRedirects": 1,
            "tls": {"caSecretRef": {"name": "ca"}, "certSecretRef": {"name": "client"}},
        }
        finding = await attempt_once("http", target, secrets, timeout=3)
    assert finding.reason is Reason.TLS_FAILURE
    assert "asks for a client certificate" in finding.message
    assert len(first.requests) == 1
    assert not second.requests
