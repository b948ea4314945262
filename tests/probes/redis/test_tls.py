"""Redis over TLS."""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterator
from typing import Any

import pytest

from backendhealth.core.reasons import Reason
from backendhealth.core.verdict import Verdict
from backendhealth.probes.exchange import run_attempt
from tests.probes.redis.helpers import assert_found, assert_healthy, exchange, until
from tests.probes.support import MemorySecrets, attempt_once
from tests.servers.certs import Authority
from tests.servers.redis import RedisServer

CA = {"caSecretRef": {"name": "ca"}}


@pytest.fixture(scope="module")
def secured(authority: Authority) -> Iterator[RedisServer]:
    """A server with a plain port and a TLS port."""
    with RedisServer(tls=authority.issue(), authority=authority) as running:
        yield running


@pytest.fixture
def secrets(authority: Authority) -> MemorySecrets:
    return MemorySecrets({"ca": {"ca.crt": authority.pem}})


def over_tls(server: RedisServer, **tls: Any) -> dict[str, Any]:
    return {"url": f"rediss://127.0.0.1:{server.tls_port}", **({"tls": tls} if tls else {})}


async def test_tls(secured: RedisServer, secrets: MemorySecrets) -> None:
    async with exchange(over_tls(secured, **CA), secrets) as kept:
        finding = await run_attempt(kept, 5)
        assert_healthy(finding)
        assert list(finding.steps) == ["resolve", "connect", "tls", "ping", "info"]
        assert int(finding.facts["certificateDaysLeft"]) > 14
        assert list((await run_attempt(kept, 5)).steps) == ["ping", "info"]


async def test_wrong_authority(secured: RedisServer, tmp_path: Any) -> None:
    other = MemorySecrets({"ca": {"ca.crt": Authority(tmp_path / "other").pem}})
    finding = await attempt_once("redis", over_tls(secured, **CA), other)
    assert_found(
        finding, Reason.TLS_FAILURE, "certificate is not accepted", "self-signed certificate in certificate chain"
    )


async def test_system_authorities_do_not_know_ours(secured: RedisServer) -> None:
    finding = await attempt_once("redis", over_tls(secured))
    assert_found(
        finding, Reason.TLS_FAILURE, "certificate is not accepted", "self-signed certificate in certificate chain"
    )


async def test_unverified_on_request(secured: RedisServer) -> None:
    finding = await attempt_once("redis", over_tls(secured, insecureSkipVerify=True))
    assert_healthy(finding)
    assert "certificateDaysLeft" not in finding.facts


async def test_certificate_of_another_name(secured: RedisServer, secrets: MemorySecrets) -> None:
    finding = await attempt_once("redis", over_tls(secured, **CA, serverName="redis.example"), secrets)
    assert_found(finding, Reason.TLS_FAILURE, "certificate is not accepted", "redis.example")


async def test_expired_certificate(authority: Authority, secrets: MemorySecrets) -> None:
    with RedisServer(tls=authority.issue(days=-1), authority=authority) as server:
        finding = await attempt_once("redis", over_tls(server, **CA), secrets)
    assert_found(finding, Reason.CERTIFICATE_EXPIRED, "certificate has expired")


async def test_certificate_about_to_expire_and_its_renewal(authority: Authority, secrets: MemorySecrets) -> None:
    with RedisServer(tls=authority.issue(days=5), authority=authority) as server:
        async with exchange(over_tls(server, **CA), secrets) as kept:
            finding = await run_attempt(kept, 5)
            ends = dt.datetime.now(dt.UTC) + dt.timedelta(days=5)
            assert_found(finding, Reason.CERTIFICATE_EXPIRING, f"ends on {ends:%Y-%m-%d}")
            assert finding.verdict is Verdict.DEGRADED
            assert finding.facts["certificateDaysLeft"] == 4
            renewed = authority.issue(days=60)
            server.execute(
                "CONFIG", "SET", "tls-cert-file", str(renewed.cert_file), "tls-key-file", str(renewed.key_file)
            )
            assert_healthy(await run_attempt(kept, 5))


async def test_warning_time_is_a_setting(authority: Authority, secrets: MemorySecrets) -> None:
    with RedisServer(tls=authority.issue(days=5), authority=authority) as server:
        assert_healthy(await attempt_once("redis", over_tls(server, **CA, expiryWarning="24h"), secrets))


async def test_tls_to_a_plain_port_hangs_in_tls(secured: RedisServer, secrets: MemorySecrets) -> None:
    spec = {"url": f"rediss://127.0.0.1:{secured.port}", "tls": CA}
    finding = await attempt_once("redis", spec, secrets, timeout=0.5)
    assert_found(finding, Reason.TIMEOUT, "0.5 s", "step tls")


async def test_plain_to_a_tls_port_is_reset(secured: RedisServer) -> None:
    finding = await attempt_once("redis", {"url": f"redis://127.0.0.1:{secured.tls_port}"})
    assert_found(finding, Reason.CONNECTION_RESET, "broke the connection at the first request", "TLS (rediss://)")


async def test_client_certificate(authority: Authority, secrets: MemorySecrets) -> None:
    options = {"tls-auth-clients": "yes"}
    mine = authority.issue("client")
    secrets.data["mine"] = {"tls.crt": mine.cert, "tls.key": mine.key}
    with RedisServer(tls=authority.issue(), authority=authority, options=options) as server:
        finding = await attempt_once("redis", over_tls(server, **CA), secrets)
        # the server's alert can be lost in its reset; what to do is told in both cases
        assert finding.reason in {Reason.TLS_FAILURE, Reason.CONNECTION_RESET}
        assert "a client certificate" in finding.message
        assert "tls.certSecretRef" in finding.message
        with_mine = over_tls(server, **CA, certSecretRef={"name": "mine"})
        assert_healthy(await attempt_once("redis", with_mine, secrets))


async def test_frozen_tls_server_does_not_hold_the_socket(authority: Authority, secrets: MemorySecrets) -> None:
    with RedisServer(tls=authority.issue(), authority=authority) as server:
        async with exchange(over_tls(server, **CA), secrets) as kept:
            assert_healthy(await run_attempt(kept, 5))
            with server.frozen():
                assert_found(await run_attempt(kept, 0.4), Reason.TIMEOUT, "step ping")
            assert_healthy(await run_attempt(kept, 5))
            await until(lambda: server.info("clients")["connected_clients"] == 2, "one kept, one to ask")
