"""Credentials: how they are sent, that they are shown nowhere, and what comes of bad ones."""

from __future__ import annotations

import base64
import json
import logging

import pytest

from backendhealth.core.reasons import Reason
from backendhealth.core.verdict import Verdict
from backendhealth.probes.exchange import run_attempt
from tests.probes.support import PLANTED, MemorySecrets, attempt_once, exchange_for, planted
from tests.servers.http import Answer, HttpServer, Request

AUTH = {"secretRef": {"name": "api"}}
BASIC = base64.b64encode(f"probe:{PLANTED}".encode()).decode()


@pytest.mark.parametrize(
    ("secret", "more", "sent"),
    [
        ({"token": PLANTED}, {}, ("authorization", f"Bearer {PLANTED}")),
        ({"username": "probe", "password": PLANTED}, {}, ("authorization", f"Basic {BASIC}")),
        ({"token": PLANTED}, {"apiKeyHeader": "X-API-Key"}, ("x-api-key", PLANTED)),
    ],
    ids=["bearer", "basic", "api key"],
)
async def test_sent_and_shown_nowhere(
    server: HttpServer,
    secret: dict[str, str],
    more: dict[str, str],
    sent: tuple[str, str],
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.DEBUG)
    header, value = sent
    echo = json.dumps({"you": "sent"}).encode() + value.encode()
    server.on("/", 401, echo, {"Server": f"echo {value}"})
    target = {"url": server.url, "auth": AUTH, **more}
    secrets = MemorySecrets({"api": secret})
    refused = await attempt_once("http", target, secrets)
    assert server.requests[0].headers[header] == value
    assert refused.reason is Reason.AUTHENTICATION_FAILED
    assert "status 401, the server does not accept the credentials" in refused.message
    assert refused.verdict is Verdict.UNKNOWN
    server.on("/", 200, b'{"echo": "' + value.encode() + b'"}', {"X-Echo": value})
    expectations: list[dict[str, object]] = [
        {"bodyRegex": "nope"},
        {"headers": [{"name": "X-Echo", "regex": "^nope$"}]},
        {"jsonPath": [{"path": "$.echo", "equals": "nope"}]},
    ]
    echoed = [await attempt_once("http", target | {"expect": expect}, secrets) for expect in expectations]
    assert [finding.reason for finding in echoed] == [
        Reason.UNEXPECTED_BODY,
        Reason.UNEXPECTED_HEADER,
        Reason.UNEXPECTED_BODY,
    ]
    for finding in (refused, *echoed):
        assert not planted(finding)
        assert not planted(finding, BASIC)
    assert PLANTED not in caplog.text


async def test_asked_for_but_not_given(server: HttpServer) -> None:
    server.on("/", 401)
    finding = await attempt_once("http", {"url": server.url})
    assert finding.reason is Reason.AUTHENTICATION_FAILED
    assert "the server asks for credentials, and the probe has none: set auth" in finding.message


async def test_rotated_while_running(server: HttpServer) -> None:
    accepted = ["old"]

    def answer(request: Request) -> Answer:
        return Answer(200 if request.headers["authorization"] == f"Bearer {accepted[0]}" else 401)

    server.on_call("/", answer)
    secrets = MemorySecrets({"api": {"token": "old"}})
    exchange = exchange_for("http", {"url": server.url, "auth": AUTH}, secrets)
    assert (await run_attempt(exchange, 3)).reason is Reason.PROBE_SUCCEEDED
    accepted[0] = "new"
    assert (await run_attempt(exchange, 3)).reason is Reason.AUTHENTICATION_FAILED
    secrets.data["api"]["token"] = "new"
    assert (await run_attempt(exchange, 3)).reason is Reason.PROBE_SUCCEEDED
    await exchange.close()


@pytest.mark.parametrize(
    ("data", "more", "reason", "told"),
    [
        ({}, {}, Reason.SECRET_NOT_FOUND, "Secret api does not exist"),
        ({"api": {"username": "x"}}, {}, Reason.SECRET_KEY_MISSING, "Secret api has no key password"),
        ({"api": {"password": "x"}}, {}, Reason.SECRET_KEY_MISSING, "Secret api has no key username"),
        (
            {"api": {"username": "x", "password": "y"}},
            {"apiKeyHeader": "X-Key"},
            Reason.SECRET_KEY_MISSING,
            "Secret api has no key token",
        ),
        ({"api": {"token": f"{PLANTED}\r\nX: y"}}, {}, Reason.SECRET_INVALID, "key token: not fit for a header"),
        ({"api": {"token": b"\xff"}}, {}, Reason.SECRET_INVALID, "Secret api, key token: not UTF-8"),
    ],
    ids=["no secret", "no password", "no username", "no token", "line break", "not UTF-8"],
)
async def test_secrets_that_are_missing_or_of_no_use(
    server: HttpServer,
    data: dict[str, dict[str, str | bytes]],
    more: dict[str, str],
    reason: Reason,
    told: str,
) -> None:
    finding = await attempt_once("http", {"url": server.url, "auth": AUTH, **more}, MemorySecrets(data))
    assert finding.reason is reason
    assert told in finding.message
    assert finding.verdict is Verdict.UNKNOWN
    assert not planted(finding)
    assert not server.requests
