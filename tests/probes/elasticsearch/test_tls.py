"""TLS, which ends at a proxy as it does in front of many clusters."""

from __future__ import annotations

from typing import Any

import pytest

from backendhealth.core.reasons import Reason
from backendhealth.core.verdict import Verdict
from backendhealth.probes.exchange import run_attempt
from tests.probes.elasticsearch.support import probe, subject
from tests.probes.support import MemorySecrets, exchange_for
from tests.servers.certs import Authority
from tests.servers.elasticsearch import Elasticsearch, Proxy


@pytest.fixture
def ca(authority: Authority) -> MemorySecrets:
    return MemorySecrets({"ca": {"ca.crt": authority.pem}})


def trusting(**more: object) -> dict[str, Any]:
    return {"tls": {"caSecretRef": {"name": "ca"}, **more}}


async def test_trusted(node: Elasticsearch, authority: Authority, ca: MemorySecrets) -> None:
    with Proxy(node.port, pair=authority.issue()) as proxy:
        finding = await probe(proxy.url, secrets=ca, **trusting())
    assert finding.reason is Reason.PROBE_SUCCEEDED, finding
    assert "tls" in finding.steps
    assert int(finding.facts["certificateDaysLeft"]) > 14


async def test_wrong_authority(
    node: Elasticsearch, authority: Authority, tmp_path_factory: pytest.TempPathFactory
) -> None:
    other = MemorySecrets({"ca": {"ca.crt": Authority(tmp_path_factory.mktemp("other")).pem}})
    with Proxy(node.port, pair=authority.issue()) as proxy:
        finding = await probe(proxy.url, secrets=other, **trusting())
        skipped = await probe(proxy.url, tls={"insecureSkipVerify": True})
    assert finding.reason is Reason.TLS_FAILURE
    assert "the server's certificate is not accepted: " in finding.message
    assert "unable to get local issuer certificate" in finding.message
    assert subject(finding, f"endpoint/127.0.0.1:{proxy.port}").reason is Reason.TLS_FAILURE
    assert skipped.reason is Reason.PROBE_SUCCEEDED


async def test_wrong_name(node: Elasticsearch, authority: Authority, ca: MemorySecrets) -> None:
    with Proxy(node.port, pair=authority.issue("elastic.example")) as proxy:
        finding = await probe(proxy.url, secrets=ca, **trusting())
        named = await probe(proxy.url, secrets=ca, **trusting(serverName="elastic.example"))
    assert finding.reason is Reason.TLS_FAILURE
    assert "certificate is not valid for '127.0.0.1'" in finding.message
    assert named.reason is Reason.PROBE_SUCCEEDED


async def test_expired(node: Elasticsearch, authority: Authority, ca: MemorySecrets) -> None:
    with Proxy(node.port, pair=authority.issue(days=-1)) as proxy:
        finding = await probe(proxy.url, secrets=ca, **trusting())
    assert finding.reason is Reason.CERTIFICATE_EXPIRED
    assert "the server's certificate has expired" in finding.message


async def test_about_to_expire(node: Elasticsearch, authority: Authority, ca: MemorySecrets) -> None:
    with Proxy(node.port, pair=authority.issue(days=5)) as proxy:
        finding = await probe(proxy.url, secrets=ca, **trusting())
        calm = await probe(proxy.url, secrets=ca, **trusting(expiryWarning="24h"))
    assert (finding.reason, finding.verdict) == (Reason.CERTIFICATE_EXPIRING, Verdict.DEGRADED)
    assert "the server's certificate ends on" in finding.message
    assert finding.facts["certificateDaysLeft"] == 4
    assert calm.reason is Reason.PROBE_SUCCEEDED


async def test_tls_to_a_plain_port(node: Elasticsearch, ca: MemorySecrets) -> None:
    finding = await probe(f"https://127.0.0.1:{node.port}", secrets=ca, **trusting())
    assert finding.reason is Reason.TLS_FAILURE
    assert "the port does not speak TLS" in finding.message


async def test_plain_to_a_tls_port(node: Elasticsearch, authority: Authority) -> None:
    with Proxy(node.port, pair=authority.issue()) as proxy:
        finding = await probe(f"http://127.0.0.1:{proxy.port}")
    assert finding.reason is Reason.CONNECTION_RESET
    assert f"the other side broke the connection: 127.0.0.1:{proxy.port}" in finding.message


async def test_a_kept_connection_over_tls_closes_at_once(
    node: Elasticsearch, authority: Authority, ca: MemorySecrets
) -> None:
    with Proxy(node.port, pair=authority.issue()) as proxy:
        exchange = exchange_for("elasticsearch", {"urls": [proxy.url], **trusting()}, ca)
        assert (await run_attempt(exchange, 10)).reason is Reason.PROBE_SUCCEEDED
        with proxy.frozen():  # it will never answer the end of the TLS session
            await exchange.close()
            await exchange.close()
