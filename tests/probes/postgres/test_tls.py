"""TLS, which PostgreSQL starts in the middle of a connection."""

from __future__ import annotations

from pathlib import Path

from backendhealth.core.observation import Finding
from backendhealth.core.reasons import Reason
from backendhealth.core.verdict import Verdict
from backendhealth.probes.dialer import Dialer
from backendhealth.probes.exchange import run_attempt
from tests.probes.checks import resolves_to
from tests.probes.postgres.helpers import TIMEOUT, assert_found, probe, secrets, target
from tests.probes.support import MemorySecrets, exchange_for
from tests.servers.certs import Authority, Pair
from tests.servers.postgres import PASSWORD, SUPERUSER, Postgres

CA = {"caSecretRef": {"name": "ca"}}


def with_ca(authority: Authority, client: Pair | None = None) -> MemorySecrets:
    using = secrets(SUPERUSER, PASSWORD)
    using.data["ca"] = {"ca.crt": authority.pem}
    if client is not None:
        using.data["client"] = {"tls.crt": client.cert, "tls.key": client.key}
    return using


async def over_tls(server: Postgres, authority: Authority, **tls: object) -> Finding:
    return await probe(server, using=with_ca(authority), tls=CA | tls)


async def test_trusted(authority: Authority) -> None:
    with Postgres(tls=authority.issue(), require_tls=True) as server:
        finding = await over_tls(server, authority)
        assert_found(finding, Reason.PROBE_SUCCEEDED)
        assert list(finding.steps) == ["resolve", "connect", "tls", "auth", "status"]
        assert int(finding.facts["certificateDaysLeft"]) > 14
        plain = await probe(server, using=with_ca(authority))
        assert_found(plain, Reason.AUTHENTICATION_FAILED, "no pg_hba.conf entry", "no encryption")


async def test_names(authority: Authority) -> None:
    with Postgres(tls=authority.issue("db.test")) as server:
        by_address = await over_tls(server, authority)
        assert_found(by_address, Reason.TLS_FAILURE, "IP address mismatch")
        assert_found(await over_tls(server, authority, serverName="db.test"), Reason.PROBE_SUCCEEDED)
        dialer = Dialer(resolver=resolves_to(("127.0.0.1", server.port)))
        by_name = await probe(server, using=with_ca(authority), tls=CA, host="db.test", dialer=dialer)
        assert_found(by_name, Reason.PROBE_SUCCEEDED)
        other = await probe(server, using=with_ca(authority), tls=CA, host="other.test", dialer=dialer)
        assert_found(other, Reason.TLS_FAILURE, "Hostname mismatch")


async def test_not_trusted(authority: Authority, tmp_path: Path) -> None:
    with Postgres(tls=Authority(tmp_path).issue()) as server:
        finding = await over_tls(server, authority)
        assert_found(finding, Reason.TLS_FAILURE, "unable to get local issuer certificate")
        careless = await probe(server, using=with_ca(authority), tls={"insecureSkipVerify": True})
        assert_found(careless, Reason.PROBE_SUCCEEDED)


async def test_expired(authority: Authority) -> None:
    with Postgres(tls=authority.issue(days=-1)) as server:
        assert_found(await over_tls(server, authority), Reason.CERTIFICATE_EXPIRED, "has expired")


async def test_about_to_expire_and_renewed(authority: Authority) -> None:
    with Postgres(tls=authority.issue(days=5)) as server:
        exchange = exchange_for("postgres", target(server, tls=CA), with_ca(authority))
        finding = await run_attempt(exchange, TIMEOUT)
        assert_found(finding, Reason.CERTIFICATE_EXPIRING, "the server's certificate ends on")
        assert finding.verdict is Verdict.DEGRADED
        assert finding.facts["certificateDaysLeft"] == 4
        server.renew(authority.issue(days=90))
        assert_found(await run_attempt(exchange, TIMEOUT), Reason.PROBE_SUCCEEDED)
        await exchange.close()


async def test_a_client_certificate(authority: Authority, tmp_path: Path) -> None:
    with Postgres(tls=authority.issue(), require_tls=True, client_ca=authority.file) as server:
        without = await over_tls(server, authority)
        assert_found(without, Reason.TLS_FAILURE, "asks for a client certificate: set tls.certSecretRef")
        tls = CA | {"certSecretRef": {"name": "client"}}
        good = with_ca(authority, authority.issue("a-client.test"))
        assert_found(await probe(server, using=good, tls=tls), Reason.PROBE_SUCCEEDED)
        stranger = with_ca(authority, Authority(tmp_path).issue("a-client.test"))
        finding = await probe(server, using=stranger, tls=tls)
        # The server's alert says why, unless the reset that follows overtakes it.
        told = {Reason.TLS_FAILURE: "unknown ca", Reason.CONNECTION_RESET: "broke the connection"}
        assert told[finding.reason] in finding.message


async def test_a_server_without_tls(primary: Postgres, authority: Authority) -> None:
    finding = await probe(primary, using=with_ca(authority), tls=CA)
    assert_found(finding, Reason.TLS_FAILURE, "the server does not speak TLS: remove tls, or set ssl = on there")
