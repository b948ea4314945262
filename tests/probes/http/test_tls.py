"""TLS: whom to trust, which name, until when."""

from __future__ import annotations

from pathlib import Path

from backendhealth.core.observation import Finding
from backendhealth.core.reasons import Reason
from backendhealth.probes.exchange import run_attempt
from tests.probes.support import MemorySecrets, attempt_once, exchange_for
from tests.servers.certs import Authority
from tests.servers.http import HttpServer, server_tls


async def probe(server: HttpServer, authority: Authority, **tls: object) -> Finding:
    secrets = MemorySecrets({"ca": {"ca.crt": authority.pem}})
    target = {"url": server.url, "tls": {"caSecretRef": {"name": "ca"}} | tls}
    return await attempt_once("http", target, secrets, timeout=3)


async def test_trusted(authority: Authority) -> None:
    with HttpServer(tls=server_tls(authority.issue())) as server:
        server.on("/", 200)
        finding = await probe(server, authority)
    assert finding.reason is Reason.PROBE_SUCCEEDED
    assert int(finding.facts["certificateDaysLeft"]) > 14
    assert list(finding.steps) == ["resolve", "connect", "tls", "request", "body"]


async def test_not_trusted(authority: Authority, tmp_path: Path) -> None:
    with HttpServer(tls=server_tls(Authority(tmp_path).issue())) as server:
        finding = await probe(server, authority)
    assert finding.reason is Reason.TLS_FAILURE
    assert "unable to get local issuer certificate" in finding.message


async def test_another_name(authority: Authority) -> None:
    with HttpServer(tls=server_tls(authority.issue("api.test"))) as server:
        server.on("/", 200)
        assert (await probe(server, authority, serverName="api.test")).reason is Reason.PROBE_SUCCEEDED
        finding = await probe(server, authority)
    assert finding.reason is Reason.TLS_FAILURE
    assert "IP address mismatch" in finding.message


async def test_expired(authority: Authority) -> None:
    with HttpServer(tls=server_tls(authority.issue(days=-1))) as server:
        finding = await probe(server, authority)
    assert finding.reason is Reason.CERTIFICATE_EXPIRED
    assert "has expired" in finding.message


async def test_about_to_expire_and_renewed(authority: Authority) -> None:
    tls = server_tls(authority.issue(days=5))
    with HttpServer(tls=tls) as server:
        server.on("/", 200)
        secrets = MemorySecrets({"ca": {"ca.crt": authority.pem}})
        exchange = exchange_for("http", {"url": server.url, "tls": {"caSecretRef": {"name": "ca"}}}, secrets)
        finding = await run_attempt(exchange, 3)
        assert finding.reason is Reason.CERTIFICATE_EXPIRING
        assert "the server's certificate ends on" in finding.message
        assert finding.facts["certificateDaysLeft"] == 4
        renewed = authority.issue(days=90)
        tls.load_cert_chain(renewed.cert_file, renewed.key_file)
        assert (await run_attempt(exchange, 3)).reason is Reason.PROBE_SUCCEEDED
        await exchange.close()


async def test_a_client_certificate_is_asked_for(authority: Authority) -> None:
    with HttpServer(tls=server_tls(authority.issue(), client_ca=authority.file)) as server:
        finding = await probe(server, authority)
    assert finding.reason is Reason.TLS_FAILURE
    assert "asks for a client certificate" in finding.message


async def test_plain_where_tls_is_spoken(authority: Authority) -> None:
    with HttpServer(tls=server_tls(authority.issue())) as server:
        finding = await attempt_once("http", {"url": f"http://127.0.0.1:{server.port}/"}, timeout=3)
    assert finding.reason is Reason.CONNECTION_RESET


async def test_tls_where_none_is_spoken(server: HttpServer) -> None:
    finding = await attempt_once("http", {"url": f"https://127.0.0.1:{server.port}/"}, timeout=3)
    assert finding.reason is Reason.TLS_FAILURE
    assert "the port does not speak TLS" in finding.message
