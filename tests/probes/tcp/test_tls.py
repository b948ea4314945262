"""TLS: whom to trust, which name, until when, and what the Secrets lack."""

from __future__ import annotations

from pathlib import Path

from backendhealth.core.observation import Finding
from backendhealth.core.reasons import Reason
from backendhealth.core.verdict import Verdict
from tests.probes.support import PLANTED, MemorySecrets, attempt_once, planted
from tests.servers import misbehaving
from tests.servers.certs import Authority
from tests.servers.http import server_tls
from tests.servers.misbehaving import Server

CA = {"caSecretRef": {"name": "ca"}}


async def probe(server: Server, authority: Authority, *, timeout: float = 3, **tls: object) -> Finding:
    secrets = MemorySecrets({"ca": {"ca.crt": authority.pem}})
    target = {"host": "127.0.0.1", "port": server.port, "tls": CA | tls}
    return await attempt_once("tcp", target, secrets, timeout=timeout)


async def test_a_certificate_that_is_trusted(authority: Authority) -> None:
    with misbehaving.silent(tls=server_tls(authority.issue())) as server:
        finding = await probe(server, authority)
    assert finding.reason is Reason.PROBE_SUCCEEDED
    assert finding.message == f"127.0.0.1:{server.port} accepts connections over TLS"
    assert "tls" in finding.steps
    assert int(finding.facts["certificateDaysLeft"]) > 14


async def test_an_authority_that_is_not_trusted(authority: Authority, tmp_path: Path) -> None:
    with misbehaving.silent(tls=server_tls(Authority(tmp_path).issue())) as server:
        finding = await probe(server, authority)
    assert finding.reason is Reason.TLS_FAILURE
    assert "certificate is not accepted: unable to get local issuer certificate" in finding.message
    assert finding.contact


async def test_another_name(authority: Authority) -> None:
    with misbehaving.silent(tls=server_tls(authority.issue("elsewhere.test"))) as server:
        finding = await probe(server, authority)
        named = await probe(server, authority, serverName="elsewhere.test")
    assert finding.reason is Reason.TLS_FAILURE
    assert "IP address mismatch" in finding.message
    assert named.reason is Reason.PROBE_SUCCEEDED


async def test_whatever_certificate(authority: Authority, tmp_path: Path) -> None:
    with misbehaving.silent(tls=server_tls(Authority(tmp_path).issue("elsewhere.test", days=-1))) as server:
        finding = await attempt_once(
            "tcp", {"host": "127.0.0.1", "port": server.port, "tls": {"insecureSkipVerify": True}}
        )
    assert finding.reason is Reason.PROBE_SUCCEEDED


async def test_expired(authority: Authority) -> None:
    with misbehaving.silent(tls=server_tls(authority.issue(days=-1))) as server:
        finding = await probe(server, authority)
    assert finding.reason is Reason.CERTIFICATE_EXPIRED
    assert "the server's certificate has expired" in finding.message


async def test_about_to_expire(authority: Authority) -> None:
    with misbehaving.silent(tls=server_tls(authority.issue(days=3))) as server:
        finding = await probe(server, authority)
        patient = await probe(server, authority, expiryWarning="24h")
    assert finding.reason is Reason.CERTIFICATE_EXPIRING
    assert finding.verdict is Verdict.DEGRADED
    assert "the server's certificate ends on" in finding.message
    assert finding.facts["certificateDaysLeft"] == 2
    assert finding.subjects[0].reason is Reason.CERTIFICATE_EXPIRING
    assert patient.reason is Reason.PROBE_SUCCEEDED


async def test_a_client_certificate_that_is_asked_for(authority: Authority) -> None:
    pair = authority.issue("a-client.test")
    tls = server_tls(authority.issue(), client_ca=authority.file)
    with misbehaving.garbage(b"hello", greets=True, tls=tls) as server:
        secrets = MemorySecrets(
            {"ca": {"ca.crt": authority.pem}, "client": {"tls.crt": pair.cert, "tls.key": pair.key}}
        )
        target = {"host": "127.0.0.1", "port": server.port, "expect": "hello", "tls": CA}
        without = await attempt_once("tcp", target, secrets)
        shown = await attempt_once("tcp", target | {"tls": CA | {"certSecretRef": {"name": "client"}}}, secrets)
    assert without.reason is Reason.TLS_FAILURE
    assert "asks for a client certificate: set tls.certSecretRef" in without.message
    assert shown.reason is Reason.PROBE_SUCCEEDED


async def test_a_port_that_speaks_no_tls(authority: Authority) -> None:
    with misbehaving.http_like(400) as server, misbehaving.garbage(greets=True) as greeter:
        answers = [await probe(server, authority, timeout=1), await probe(greeter, authority)]
    assert [answer.reason for answer in answers] == [Reason.TIMEOUT, Reason.TLS_FAILURE]
    assert "it hung in step tls" in answers[0].message
    assert "the port does not speak TLS" in answers[1].message


async def test_broken_in_the_handshake(authority: Authority) -> None:
    with misbehaving.closes_at_once(after_request=True) as server:
        finding = await probe(server, authority)
    assert finding.reason is Reason.CONNECTION_RESET
    assert finding.message == f"the other side broke the connection: 127.0.0.1:{server.port} in the TLS handshake"


async def test_a_handshake_that_hangs(authority: Authority) -> None:
    with misbehaving.silent() as server:
        finding = await probe(server, authority, timeout=0.3)
    assert finding.reason is Reason.TIMEOUT
    assert "it hung in step tls" in finding.message


async def test_secrets_that_are_missing_or_of_no_use(authority: Authority) -> None:
    async def with_secrets(data: dict[str, dict[str, str | bytes]], **tls: object) -> Finding:
        with misbehaving.silent(tls=server_tls(authority.issue())) as server:
            target = {"host": "127.0.0.1", "port": server.port, "tls": CA | tls}
            finding = await attempt_once("tcp", target, MemorySecrets(data))
            assert server.accepted == 0, "nothing is connected to before the Secrets are there"
        assert finding.verdict is Verdict.UNKNOWN
        return finding

    missing = await with_secrets({})
    assert missing.reason is Reason.SECRET_NOT_FOUND
    assert "Secret ca does not exist" in missing.message
    keyless = await with_secrets({"ca": {"other": "x"}})
    assert keyless.reason is Reason.SECRET_KEY_MISSING
    assert "Secret ca has no key ca.crt" in keyless.message
    invalid = await with_secrets({"ca": {"ca.crt": PLANTED}})
    assert invalid.reason is Reason.SECRET_INVALID
    assert "Secret ca, key ca.crt: not a PEM certificate" in invalid.message
    pair = authority.issue("a-client.test")
    mixed = await with_secrets(
        {"ca": {"ca.crt": authority.pem}, "client": {"tls.crt": pair.cert, "tls.key": PLANTED}},
        certSecretRef={"name": "client"},
    )
    assert mixed.reason is Reason.SECRET_INVALID
    assert "Secret client: tls.crt and tls.key are not a certificate with its key" in mixed.message
    assert not planted(invalid)
    assert not planted(mixed)
