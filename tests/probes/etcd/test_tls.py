"""TLS between the probe and etcd."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator

import pytest

from backendhealth.core.reasons import Reason
from backendhealth.core.verdict import Verdict
from backendhealth.probes.exchange import run_attempt
from backendhealth.probes.secrets import system_context
from tests.probes.etcd.helpers import exchange, subject
from tests.probes.support import MemorySecrets, attempt_once
from tests.servers.certs import Authority
from tests.servers.etcd import Cluster, Member, Options, Tls

CA = {"caSecretRef": {"name": "ca"}}
BOTH = {**CA, "certSecretRef": {"name": "client"}}


@pytest.fixture
def secrets(authority: Authority, stranger: Authority) -> MemorySecrets:
    """Good and bad certificates: ca, client; other-ca, other-client, old-client."""
    held: dict[str, dict[str, str | bytes]] = {
        "ca": {"ca.crt": authority.pem},
        "other-ca": {"ca.crt": stranger.pem},
        "empty": {"unrelated": "x"},
    }
    for name, pair in (
        ("client", authority.issue("probe")),
        ("other-client", stranger.issue("probe")),
        ("old-client", authority.issue("probe", days=-1)),
    ):
        held[name] = {"tls.crt": pair.cert, "tls.key": pair.key}
    return MemorySecrets(held)


@pytest.fixture
def open_to_all(authority: Authority) -> Iterator[Member]:
    """A member that serves TLS and wants no client certificate."""
    with Cluster(1, Options(tls=Tls(authority.issue()))) as cluster:
        yield cluster.members[0]


async def test_with_a_client_certificate(encrypted: Member, secrets: MemorySecrets) -> None:
    async with exchange(encrypted.url, tls=BOTH, secrets=secrets) as kept:
        first = await run_attempt(kept, 5)
        second = await run_attempt(kept, 5)
    assert first.reason is Reason.PROBE_SUCCEEDED
    assert {"tls", "http2"} <= set(first.steps)
    assert list(second.steps) == ["status", "read", "alarms", "members"]
    days = first.facts["certificateDaysLeft"]
    assert isinstance(days, int)
    assert days > 14


async def test_no_client_certificate(encrypted: Member, secrets: MemorySecrets) -> None:
    finding = await attempt_once("etcd", {"endpoints": [encrypted.url], "tls": CA}, secrets)
    assert finding.reason is Reason.TLS_FAILURE
    assert "the server asks for a client certificate" in finding.message
    assert "tls.certSecretRef" in finding.message


@pytest.mark.parametrize("name", ["other-client", "old-client"])
async def test_client_certificate_that_etcd_does_not_accept(
    encrypted: Member, secrets: MemorySecrets, name: str
) -> None:
    tls = {**CA, "certSecretRef": {"name": name}}
    finding = await attempt_once("etcd", {"endpoints": [encrypted.url], "tls": tls}, secrets)
    assert finding.reason is Reason.TLS_FAILURE
    assert "the server asks for a client certificate that it accepts (it says: " in finding.message


async def test_wrong_ca(encrypted: Member, secrets: MemorySecrets) -> None:
    tls = {**BOTH, "caSecretRef": {"name": "other-ca"}}
    finding = await attempt_once("etcd", {"endpoints": [encrypted.url], "tls": tls}, secrets)
    assert finding.reason is Reason.TLS_FAILURE
    assert "the server's certificate is not accepted: " in finding.message
    assert subject(finding, f"endpoint/{encrypted.address}").reason is Reason.TLS_FAILURE


async def test_wrong_name(encrypted: Member, secrets: MemorySecrets) -> None:
    tls = {**BOTH, "serverName": "etcd.example"}
    finding = await attempt_once("etcd", {"endpoints": [encrypted.url], "tls": tls}, secrets)
    assert finding.reason is Reason.TLS_FAILURE
    assert "etcd.example" in finding.message


async def test_server_name_other_than_the_address(authority: Authority, secrets: MemorySecrets) -> None:
    pair = authority.issue("etcd.example")
    with Cluster(1, Options(tls=Tls(pair))) as cluster:
        url = cluster.urls[0]
        named = await attempt_once("etcd", {"endpoints": [url], "tls": {**CA, "serverName": "etcd.example"}}, secrets)
        unnamed = await attempt_once("etcd", {"endpoints": [url], "tls": CA}, secrets)
    assert named.reason is Reason.PROBE_SUCCEEDED
    assert unnamed.reason is Reason.TLS_FAILURE
    assert "127.0.0.1" in unnamed.message


@pytest.fixture
def fresh_system_context() -> Iterator[Callable[[], None]]:
    """Forgets the system's authorities, which are loaded once, when called and at the end."""
    yield system_context.cache_clear
    system_context.cache_clear()


async def test_the_systems_authorities(
    open_to_all: Member,
    authority: Authority,
    stranger: Authority,
    monkeypatch: pytest.MonkeyPatch,
    fresh_system_context: Callable[[], None],
) -> None:
    fresh_system_context()
    monkeypatch.setenv("SSL_CERT_FILE", str(authority.file))
    finding = await attempt_once("etcd", {"endpoints": [open_to_all.url]})
    assert finding.reason is Reason.PROBE_SUCCEEDED
    fresh_system_context()
    monkeypatch.setenv("SSL_CERT_FILE", str(stranger.file))
    finding = await attempt_once("etcd", {"endpoints": [open_to_all.url]})
    assert finding.reason is Reason.TLS_FAILURE
    assert "the server's certificate is not accepted: " in finding.message


async def test_plain_to_tls(encrypted: Member, open_to_all: Member) -> None:
    for member in (encrypted, open_to_all):
        finding = await attempt_once("etcd", {"endpoints": [f"http://{member.address}"]})
        assert finding.reason is Reason.TLS_FAILURE
        assert finding.message == (
            f"{member.address}: the port speaks TLS, but the endpoint says http://: write https://"
        )


async def test_tls_to_plain(healthy: Member, secrets: MemorySecrets) -> None:
    finding = await attempt_once("etcd", {"endpoints": [f"https://{healthy.address}"], "tls": CA}, secrets)
    assert finding.reason is Reason.TLS_FAILURE
    assert finding.message == f"{healthy.address}: the port does not speak TLS: etcd answers there to http://"


async def test_expired(authority: Authority, secrets: MemorySecrets) -> None:
    with Cluster(1, Options(tls=Tls(authority.issue(days=-1)))) as cluster:
        finding = await attempt_once("etcd", {"endpoints": cluster.urls, "tls": CA}, secrets)
    assert finding.reason is Reason.CERTIFICATE_EXPIRED
    assert "the server's certificate has expired" in finding.message


async def test_about_to_expire_and_renewed(authority: Authority, secrets: MemorySecrets) -> None:
    soon, later = authority.issue(days=5.5), authority.issue(days=80)
    with Cluster(1, Options(tls=Tls(soon))) as cluster:
        member = cluster.members[0]
        async with exchange(member.url, tls=CA, secrets=secrets) as kept:
            for _ in range(2):
                finding = await run_attempt(kept, 5)
                assert finding.reason is Reason.CERTIFICATE_EXPIRING
                assert finding.verdict is Verdict.DEGRADED
                assert f"{member.address}: the server's certificate ends on " in finding.message
                assert finding.facts["certificateDaysLeft"] == 5
            assert subject(finding, f"endpoint/{member.address}").reason is Reason.PROBE_SUCCEEDED
            soon.cert_file.write_bytes(later.cert)  # etcd reads its certificate anew for each connection
            soon.key_file.write_bytes(later.key)
            assert (await run_attempt(kept, 5)).reason is Reason.PROBE_SUCCEEDED
        patient = {"endpoints": [member.url], "tls": {**CA, "expiryWarning": "7200h"}}
        assert (await attempt_once("etcd", patient, secrets)).reason is Reason.CERTIFICATE_EXPIRING


async def test_client_certificate_rotated_while_running(authority: Authority, secrets: MemorySecrets) -> None:
    with Cluster(1, Options(tls=Tls(authority.issue(), authority.file))) as cluster:
        member = cluster.members[0]
        good, old = secrets.data["client"], secrets.data["old-client"]
        async with exchange(member.url, tls=BOTH, secrets=secrets) as kept:
            assert (await run_attempt(kept, 5)).reason is Reason.PROBE_SUCCEEDED
            member.process.kill()
            member.restart()
            secrets.data["client"] = old
            refused = await run_attempt(kept, 5)
            assert refused.reason is Reason.TLS_FAILURE
            assert "the server asks for a client certificate that it accepts" in refused.message
            secrets.data["client"] = good
            assert (await run_attempt(kept, 5)).reason is Reason.PROBE_SUCCEEDED


@pytest.mark.parametrize(
    ("tls", "reason", "message"),
    [
        ({"caSecretRef": {"name": "gone"}}, Reason.SECRET_NOT_FOUND, "Secret gone does not exist"),
        ({"caSecretRef": {"name": "empty"}}, Reason.SECRET_KEY_MISSING, "Secret empty has no key ca.crt"),
        ({**CA, "certSecretRef": {"name": "gone"}}, Reason.SECRET_NOT_FOUND, "Secret gone does not exist"),
        ({**CA, "certSecretRef": {"name": "empty"}}, Reason.SECRET_KEY_MISSING, "Secret empty has no key tls.crt"),
    ],
)
async def test_secrets_of_tls(
    encrypted: Member, secrets: MemorySecrets, tls: dict[str, object], reason: Reason, message: str
) -> None:
    finding = await attempt_once("etcd", {"endpoints": [encrypted.url], "tls": tls}, secrets)
    assert finding.reason is reason
    assert message in finding.message
    assert finding.verdict is Verdict.UNKNOWN


async def test_several_endpoints_one_with_a_bad_certificate(
    authority: Authority, stranger: Authority, secrets: MemorySecrets
) -> None:
    """One member serves a certificate that nobody can verify: for clients it is down, though the quorum holds."""
    with Cluster(3, Options(tls=Tls(authority.issue()))) as cluster:
        odd = cluster.members[2]
        odd.process.kill()
        odd.options = dataclasses.replace(odd.options, tls=Tls(stranger.issue()))
        odd.start(",".join(f"{m.name}={m.peer_url}" for m in cluster.members))
        finding = await attempt_once("etcd", {"endpoints": cluster.urls, "tls": CA}, secrets)
    assert finding.reason is Reason.MEMBER_DOWN
    assert f"etcd-2 ({odd.address}: the server's certificate is not accepted: " in finding.message
