"""Credentials and what a proxy does: by a real node behind a real proxy."""

from __future__ import annotations

import base64
import json
import logging
from collections.abc import Iterator
from typing import Any

import pytest

from backendhealth.core.reasons import Reason
from backendhealth.core.verdict import Verdict
from backendhealth.probes.exchange import run_attempt
from tests.probes.elasticsearch.support import create, probe
from tests.probes.support import PLANTED, MemorySecrets, exchange_for, planted
from tests.servers.elasticsearch import Answer, Elasticsearch, Proxy, Rules

AUTH = {"secretRef": {"name": "elastic"}}
KEY = base64.b64encode(b"VuaCfGcBCdbkQm:ui2lp2axTNmsyakw9tvNnw").decode()
HTML = "<html><h1>no</h1></html>"


@pytest.fixture
def proxy(node: Elasticsearch) -> Iterator[Proxy]:
    rules = Rules(users={"probe": PLANTED, "reader": PLANTED}, api_keys=(KEY,), tokens=("t0ken",))
    with Proxy(node.port, rules) as proxy:
        yield proxy


def secret(**values: str) -> MemorySecrets:
    return MemorySecrets({"elastic": values})


@pytest.mark.parametrize(
    "values",
    [
        {"username": "probe", "password": PLANTED},
        {"token": KEY},
        {"token": "VuaCfGcBCdbkQm:ui2lp2axTNmsyakw9tvNnw"},
        {"token": "t0ken"},
    ],
    ids=["basic", "api-key", "plain-api-key", "bearer"],
)
async def test_credentials_that_are_accepted(proxy: Proxy, values: dict[str, str]) -> None:
    finding = await probe(proxy.url, secrets=secret(**values), auth=AUTH)
    assert finding.reason is Reason.PROBE_SUCCEEDED, finding


@pytest.mark.parametrize("values", [{"username": "probe", "password": "wrong"}, {"token": "wrong"}, None])
async def test_credentials_that_are_not(proxy: Proxy, values: dict[str, str] | None) -> None:
    auth: dict[str, Any] = {"auth": AUTH} if values else {}
    finding = await probe(proxy.url, secrets=secret(**(values or {})), **auth)
    assert (finding.reason, finding.verdict) == (Reason.AUTHENTICATION_FAILED, Verdict.UNKNOWN)
    assert finding.message == f"127.0.0.1:{proxy.port} does not accept the credentials (HTTP 401)"


async def test_a_user_that_may_not_see_health(proxy: Proxy) -> None:
    proxy.rule(Rules(users={"reader": PLANTED}, denied={"reader": ("/_cluster",)}))
    finding = await probe(proxy.url, secrets=secret(username="reader", password=PLANTED), auth=AUTH)
    assert (finding.reason, finding.verdict) == (Reason.PERMISSION_DENIED, Verdict.UNKNOWN)
    assert "does not allow what the probe asks (HTTP 403): security_exception: action" in finding.message
    assert "is unauthorized for user [reader]" in finding.message


async def test_a_user_that_may_not_search(node: Elasticsearch, proxy: Proxy) -> None:
    create(node, "mod")
    proxy.rule(Rules(users={"reader": PLANTED}, denied={"reader": ("/mod/_search",)}))
    secrets = secret(username="reader", password=PLANTED)
    finding = await probe(proxy.url, secrets=secrets, auth=AUTH, search={"index": "mod"})
    assert finding.reason is Reason.PERMISSION_DENIED
    assert "is unauthorized for user [reader]" in finding.message


@pytest.mark.parametrize(
    ("values", "missing"), [({"username": "probe"}, "password"), ({"password": PLANTED}, "username")]
)
async def test_half_of_the_credentials(proxy: Proxy, values: dict[str, str], missing: str) -> None:
    finding = await probe(proxy.url, secrets=secret(**values), auth=AUTH)
    assert finding.reason is Reason.SECRET_KEY_MISSING
    assert finding.message == f"127.0.0.1:{proxy.port}: Secret elastic has no key {missing}"


async def test_no_secret(proxy: Proxy) -> None:
    finding = await probe(proxy.url, secrets=MemorySecrets(), auth=AUTH)
    assert finding.reason is Reason.SECRET_NOT_FOUND
    assert "Secret elastic does not exist" in finding.message


async def test_a_password_rotated_while_running(proxy: Proxy) -> None:
    secrets = secret(username="probe", password=PLANTED)
    exchange = exchange_for("elasticsearch", {"urls": [proxy.url], "auth": AUTH}, secrets)
    try:
        assert (await run_attempt(exchange, 10)).reason is Reason.PROBE_SUCCEEDED
        proxy.rule(Rules(users={"probe": "another"}))
        assert (await run_attempt(exchange, 10)).reason is Reason.AUTHENTICATION_FAILED
        secrets.data["elastic"]["password"] = "another"
        assert (await run_attempt(exchange, 10)).reason is Reason.PROBE_SUCCEEDED
    finally:
        await exchange.close()


@pytest.mark.parametrize(
    ("status", "reason", "told"),
    [
        (401, Reason.AUTHENTICATION_FAILED, "does not accept the credentials (HTTP 401)"),
        (403, Reason.PERMISSION_DENIED, "does not allow what the probe asks (HTTP 403)"),
        (429, Reason.OVERLOADED, "turns requests away (HTTP 429)"),
        (
            502,
            Reason.PROTOCOL_ERROR,
            "answers HTTP 502, text/html, not from Elasticsearch: a proxy without its server?",
        ),
        (503, Reason.PROTOCOL_ERROR, "answers HTTP 503, text/html, not from Elasticsearch"),
        (302, Reason.NOT_ELASTICSEARCH, "answers HTTP 302, text/html, but does not say that it is Elasticsearch"),
        (200, Reason.NOT_ELASTICSEARCH, "answers HTTP 200, text/html, but does not say that it is Elasticsearch"),
    ],
)
@pytest.mark.parametrize("path", ["/", "/_cluster/health"])
async def test_what_a_gateway_answers(proxy: Proxy, status: int, reason: Reason, told: str, path: str) -> None:
    proxy.rule(Rules(answers={path: Answer(status, HTML)}))
    finding = await probe(proxy.url)
    assert finding.reason is reason
    assert finding.message.startswith(f"127.0.0.1:{proxy.port} {told}")


async def test_a_gateway_whose_server_is_gone(node: Elasticsearch) -> None:
    with Proxy(upstream=1) as proxy:
        finding = await probe(proxy.url)
    assert finding.reason is Reason.PROTOCOL_ERROR
    assert "answers HTTP 502, text/html, not from Elasticsearch: a proxy without its server?" in finding.message


async def test_a_url_with_a_path(node: Elasticsearch) -> None:
    with Proxy(node.port, Rules(answers={"/es/_cluster": Answer(429), "/": Answer(404)})) as proxy:
        finding = await probe(f"{proxy.url}/es/")
    assert finding.reason is Reason.NOT_ELASTICSEARCH  # the server at /es/ has no such path: the prefix was sent
    assert "answers HTTP 404" in finding.message


async def test_the_planted_password_shows_up_nowhere(
    proxy: Proxy, caplog: pytest.LogCaptureFixture, capfd: pytest.CaptureFixture[str]
) -> None:
    caplog.set_level(logging.DEBUG)
    secrets = secret(username="probe", password=PLANTED)
    sent = base64.b64encode(f"probe:{PLANTED}".encode()).decode()
    error = {"type": "security_exception", "reason": f"no {PLANTED}, sent as Basic {sent}"}
    own = {"X-elastic-product": "Elasticsearch", "Content-Type": "application/json"}
    echo = json.dumps({"error": {"root_cause": [error], **error}, "status": 400})
    for status in (400, 401, 403, 404, 429, 500, 503):
        for headers in (own, {"Content-Type": "text/html"}, {"Content-Type": "application/json"}):
            for path in ("/", "/_cluster/state"):
                proxy.rule(Rules(answers={path: Answer(status, echo, headers)}))
                finding = await probe(proxy.url, secrets=secrets, auth=AUTH)
                assert finding.verdict is not Verdict.HEALTHY
                assert finding.reason is not Reason.INTERNAL_ERROR
                for hidden in (PLANTED, sent):
                    assert not planted(finding, hidden), (status, headers, path)
    with proxy.frozen():
        exchange = exchange_for("elasticsearch", {"urls": [proxy.url], "auth": AUTH}, secrets)
        finding = await run_attempt(exchange, 0.3)
        assert finding.reason is Reason.TIMEOUT
        assert not planted(finding)
        assert PLANTED not in repr(vars(exchange))
        await exchange.close()
    shown = caplog.text + "".join(capfd.readouterr())
    assert PLANTED not in shown
    assert sent not in shown
