"""Getting to the server: name, connection, TLS, handshake, credentials."""

from __future__ import annotations

import json
import socket

import pytest
from aiohttp import web

from backendhealth.core.reasons import Reason
from backendhealth.core.spec.targets import RethinkdbProbe
from backendhealth.probes.dialer import Dialer
from tests.probes.rethinkdb.helpers import AUTH, TLS, login, target
from tests.probes.rethinkdb.rogue import after_handshake
from tests.probes.support import PLANTED, MemorySecrets, attempt_once, planted
from tests.servers import misbehaving
from tests.servers.certs import Authority
from tests.servers.process import LOOPBACK, free_port
from tests.servers.rethinkdb import RethinkDB


async def test_connection_refused() -> None:
    port = free_port()
    finding = await attempt_once("rethinkdb", target(port))
    assert finding.reason is Reason.CONNECTION_REFUSED
    assert f"refused by {LOOPBACK}:{port}" in finding.message


async def test_name_that_does_not_exist() -> None:
    def unknown(host: str, port: int) -> list[object]:
        raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")

    finding = await attempt_once(
        "rethinkdb",
        {"host": "nosuch.invalid", "database": "hc"},
        dialer=Dialer(resolver=unknown),  # type: ignore[arg-type]
    )
    assert finding.reason is Reason.DNS_NAME_NOT_FOUND
    assert "nosuch.invalid does not exist" in finding.message


async def test_resolver_that_does_not_answer_is_our_failure() -> None:
    def away(host: str, port: int) -> list[object]:
        raise socket.gaierror(socket.EAI_AGAIN, "Temporary failure in name resolution")

    finding = await attempt_once("rethinkdb", {"host": "rethinkdb"}, dialer=Dialer(resolver=away))  # type: ignore[arg-type]
    assert finding.reason is Reason.RESOLVER_UNAVAILABLE
    assert not finding.contact


async def test_connect_that_gets_no_answer() -> None:
    with misbehaving.unreachable() as port:
        finding = await attempt_once("rethinkdb", target(port), timeout=0.5)
    assert finding.reason is Reason.TIMEOUT
    assert "hung in step connect" in finding.message


async def test_of_two_addresses_one_is_dead(server: RethinkDB) -> None:
    def two(host: str, port: int) -> list[object]:
        kind = (socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP, "")
        return [(*kind, ("127.0.0.9", port)), (*kind, (LOOPBACK, port))]

    dialer = Dialer(resolver=two)  # type: ignore[arg-type]
    finding = await attempt_once("rethinkdb", target(server, host="rethinkdb"), dialer=dialer)
    assert finding.reason is Reason.PROBE_SUCCEEDED


# TLS


def _ca(authority: Authority) -> MemorySecrets:
    return MemorySecrets({"ca": {"ca.crt": authority.pem}})


async def test_tls(tls_server: RethinkDB, authority: Authority) -> None:
    finding = await attempt_once("rethinkdb", target(tls_server, **TLS), _ca(authority))
    assert finding.reason is Reason.PROBE_SUCCEEDED
    assert "tls" in finding.steps
    assert finding.facts["certificateDaysLeft"]


async def test_tls_wrong_ca(tls_server: RethinkDB, other_authority: Authority) -> None:
    finding = await attempt_once("rethinkdb", target(tls_server, **TLS), _ca(other_authority))
    assert finding.reason is Reason.TLS_FAILURE
    assert "certificate is not accepted" in finding.message


async def test_tls_wrong_name(tls_server: RethinkDB, authority: Authority) -> None:
    tls = {"tls": {**TLS["tls"], "serverName": "rethinkdb.example"}}
    finding = await attempt_once("rethinkdb", target(tls_server, **tls), _ca(authority))
    assert finding.reason is Reason.TLS_FAILURE
    assert "rethinkdb.example" in finding.message


async def test_tls_insecure_skip_verify(tls_server: RethinkDB) -> None:
    finding = await attempt_once("rethinkdb", target(tls_server, tls={"insecureSkipVerify": True}))
    assert finding.reason is Reason.PROBE_SUCCEEDED


async def test_certificate_expired(authority: Authority) -> None:
    with RethinkDB(tls=authority.issue(days=-1), ca_file=authority.file) as server:
        finding = await attempt_once("rethinkdb", target(server, **TLS), _ca(authority))
    assert finding.reason is Reason.CERTIFICATE_EXPIRED
    assert "has expired" in finding.message


async def test_certificate_about_to_expire(authority: Authority) -> None:
    with RethinkDB(tls=authority.issue(days=3), ca_file=authority.file) as server:
        server.prepare("jobs")
        finding = await attempt_once("rethinkdb", target(server, **TLS), _ca(authority))
    assert finding.reason is Reason.CERTIFICATE_EXPIRING
    assert "certificate ends on" in finding.message
    assert finding.facts["certificateDaysLeft"] == 2


async def test_tls_to_a_plain_port(server: RethinkDB, authority: Authority) -> None:
    finding = await attempt_once("rethinkdb", target(server, **TLS), _ca(authority))
    assert finding.reason is Reason.TLS_FAILURE
    assert "does not speak TLS" in finding.message


async def test_plain_to_a_tls_port(tls_server: RethinkDB) -> None:
    finding = await attempt_once("rethinkdb", target(tls_server))
    assert finding.reason is Reason.CONNECTION_RESET
    assert "the other side broke the connection" in finding.message
    assert "in the handshake (is it a TLS port? then set tls)" in finding.message


async def test_plain_to_a_tls_port_that_answers_with_an_alert() -> None:
    with misbehaving.garbage(bytes.fromhex("15030300020246"), closes=True) as server:
        finding = await attempt_once("rethinkdb", target(server.port))
    assert finding.reason is Reason.PROTOCOL_ERROR
    assert "it is a TLS port: set tls" in finding.message


async def test_tls_handshake_that_gets_no_answer(authority: Authority) -> None:
    """The driver's own time-out does not cover it."""
    with misbehaving.silent() as server:
        finding = await attempt_once("rethinkdb", target(server.port, **TLS), _ca(authority), timeout=0.5)
    assert finding.reason is Reason.TIMEOUT
    assert "hung in step tls" in finding.message


def test_client_certificates_are_refused_in_the_spec() -> None:
    """The driver has none to show."""
    (rule,) = [rule for rule in RethinkdbProbe.rules if rule.id == "rethinkdb-no-client-certificate"]
    assert not rule.holds({"host": "rethinkdb", "tls": {"certSecretRef": {"name": "pair"}}})
    assert "client certificate" in rule.message


# handshake


async def test_hang_in_the_handshake() -> None:
    with misbehaving.silent() as server:
        finding = await attempt_once("rethinkdb", target(server.port), timeout=0.5)
        assert finding.reason is Reason.TIMEOUT
        assert "hung in step auth" in finding.message
        assert finding.contact


async def test_hang_after_half_of_the_handshake() -> None:
    hello = json.dumps({"max_protocol_version": 0, "min_protocol_version": 0, "success": True}).encode() + b"\0"
    with misbehaving.garbage(hello, closes=False) as server:
        finding = await attempt_once("rethinkdb", target(server.port), timeout=0.5)
    assert finding.reason is Reason.TIMEOUT
    assert "hung in step auth" in finding.message


async def test_http_server() -> None:
    runner = web.AppRunner(web.Application())
    await runner.setup()
    site = web.TCPSite(runner, LOOPBACK, 0)
    await site.start()
    port = runner.addresses[0][1]
    try:
        finding = await attempt_once("rethinkdb", target(port))
    finally:
        await runner.cleanup()
    assert finding.reason is Reason.PROTOCOL_ERROR
    assert "does not speak RethinkDB's protocol" in finding.message
    assert "HTTP/1.0 400" in finding.message


@pytest.mark.parametrize("after_request", [False, True])
async def test_server_closes_at_once(after_request: bool) -> None:
    with misbehaving.closes_at_once(after_request=after_request) as server:
        finding = await attempt_once("rethinkdb", target(server.port))
    assert finding.reason is Reason.CONNECTION_RESET
    assert str(server.port) in finding.message


@pytest.mark.parametrize("after_request", [False, True])
async def test_server_resets(after_request: bool) -> None:
    with misbehaving.resets(after_request=after_request) as server:
        finding = await attempt_once("rethinkdb", target(server.port))
    assert finding.reason is Reason.CONNECTION_RESET
    assert str(server.port) in finding.message


@pytest.mark.parametrize(
    "answer",
    [
        b"+PONG\r\n\0",
        b"\xff\xfe\xfd\0",
        b"[]\0",
        b"null\0",
        b"{}\0",
        b'"success"\0',
        b'{"success":true}\0',
        b'{"success":true,"min_protocol_version":"a","max_protocol_version":[]}\0',
        b'{"success":true,"min_protocol_version":7,"max_protocol_version":9}\0',
        b'{"success":false,"error":7}\0',
        b"[" * 100_000 + b"\0",
    ],
)
async def test_garbage_in_the_handshake(answer: bytes) -> None:
    with misbehaving.garbage(answer) as server:
        finding = await attempt_once("rethinkdb", target(server.port), timeout=2)
    assert finding.reason is Reason.PROTOCOL_ERROR
    assert "RethinkDB" in finding.message or "refused the handshake" in finding.message


@pytest.mark.parametrize(
    "challenge", ["", "r=", "r=nonce", "r=nonce,s=!,i=1", "i=1", "r=nonce,s=AAAA,i=many", "=,=,=", "nonsense"]
)
async def test_garbage_instead_of_a_challenge(challenge: str) -> None:
    hello = {"max_protocol_version": 0, "min_protocol_version": 0, "success": True}
    answer = b"".join(
        json.dumps(message).encode() + b"\0" for message in (hello, {"authentication": challenge, "success": True})
    )
    with misbehaving.garbage(answer) as server:
        finding = await attempt_once("rethinkdb", target(server.port), timeout=2)
    assert finding.reason is Reason.PROTOCOL_ERROR
    assert "RethinkDB's protocol" in finding.message


async def test_100_mb_in_the_handshake() -> None:
    with misbehaving.flood(100 << 20) as server:
        finding = await attempt_once("rethinkdb", target(server.port))
        assert server.sent < 16 << 20
    assert finding.reason is Reason.PROTOCOL_ERROR
    assert "without an end" in finding.message


async def test_old_protocol_of_the_server() -> None:
    text = b"ERROR: Received an unsupported protocol version. This port is for RethinkDB queries.\n\0"
    with misbehaving.garbage(text) as server:
        finding = await attempt_once("rethinkdb", target(server.port))
    assert finding.reason is Reason.PROTOCOL_ERROR
    assert "unsupported protocol version" in finding.message


async def test_endless_password_hashing_is_not_done() -> None:
    """It would block the event loop for minutes."""
    with after_handshake(lambda _server, _conn: None, iterations=2_000_000_000) as server:
        finding = await attempt_once("rethinkdb", target(server.port), timeout=2)
    assert finding.reason is Reason.PROTOCOL_ERROR
    assert "password hashing" in finding.message


async def test_server_that_does_not_know_the_password() -> None:
    with after_handshake(lambda _server, _conn: None, honest=False) as server:
        finding = await attempt_once("rethinkdb", target(server.port))
    assert finding.reason is Reason.PROTOCOL_ERROR
    assert "could not prove" in finding.message


# credentials


async def test_bad_password(server: RethinkDB) -> None:
    finding = await attempt_once("rethinkdb", target(server, **AUTH), login("ops", PLANTED))
    assert finding.reason is Reason.AUTHENTICATION_FAILED
    assert "user ops in: Wrong password" in finding.message
    assert not planted(finding)


async def test_unknown_user(server: RethinkDB) -> None:
    finding = await attempt_once("rethinkdb", target(server, **AUTH), login("nosuch", PLANTED))
    assert finding.reason is Reason.AUTHENTICATION_FAILED
    assert "user nosuch in: Unknown user" in finding.message
    assert not planted(finding)


async def test_password_where_there_is_none(server: RethinkDB) -> None:
    finding = await attempt_once("rethinkdb", target(server, **AUTH), login("admin", PLANTED))
    assert finding.reason is Reason.AUTHENTICATION_FAILED
    assert "Wrong password" in finding.message


async def test_admin_without_a_secret_where_a_password_is_set() -> None:
    with RethinkDB(initial_password=PLANTED) as server:
        finding = await attempt_once("rethinkdb", {"host": LOOPBACK, "port": server.port})
        allowed = await attempt_once(
            "rethinkdb", {"host": LOOPBACK, "port": server.port, **AUTH}, login("admin", PLANTED)
        )
    assert finding.reason is Reason.AUTHENTICATION_FAILED
    assert "user admin in: Wrong password" in finding.message
    assert allowed.reason is Reason.PROBE_SUCCEEDED


@pytest.mark.parametrize("password", ["päßwörd €", "with,comma=equals", "x" * 500])
async def test_passwords_of_all_kinds(fresh: RethinkDB, password: str) -> None:
    """The driver encodes them as Latin-1; the server expects UTF-8."""
    fresh.add_user("ops", password)
    finding = await attempt_once("rethinkdb", target(fresh, **AUTH), login("ops", password))
    assert finding.reason is Reason.PROBE_SUCCEEDED


async def test_user_names_with_commas_and_equals_signs(fresh: RethinkDB) -> None:
    fresh.add_user("a,b=c", "secret")
    finding = await attempt_once("rethinkdb", target(fresh, **AUTH), login("a,b=c", "secret"))
    assert finding.reason is Reason.PROBE_SUCCEEDED


async def test_user_name_that_the_driver_cannot_send(server: RethinkDB) -> None:
    finding = await attempt_once("rethinkdb", target(server, **AUTH), login("jürgen", PLANTED))
    assert finding.reason is Reason.SECRET_INVALID
    assert "ASCII user names only" in finding.message
    assert not planted(finding)


async def test_secret_that_does_not_exist(server: RethinkDB) -> None:
    finding = await attempt_once("rethinkdb", target(server, **AUTH), MemorySecrets())
    assert finding.reason is Reason.SECRET_NOT_FOUND
    assert "rethinkdb" in finding.message


async def test_secret_without_a_password(server: RethinkDB) -> None:
    secrets = MemorySecrets({"rethinkdb": {"username": "ops"}})
    finding = await attempt_once("rethinkdb", target(server, **AUTH), secrets)
    assert finding.reason is Reason.SECRET_KEY_MISSING
    assert "has no key password" in finding.message
