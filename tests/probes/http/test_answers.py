"""What the answer must be: status, headers, body, JSON."""

from __future__ import annotations

import gzip
import json
import time

import pytest

from backendhealth.core.observation import Finding
from backendhealth.core.reasons import Reason
from backendhealth.core.verdict import Verdict
from tests.probes.support import attempt_once
from tests.servers.http import HttpServer

DOCUMENT = {"status": "up", "count": 3, "ratio": 1.5, "ok": True, "none": None, "parts": [{"s": "up"}, {"s": "down"}]}


async def get(server: HttpServer, path: str = "/", expect: dict[str, object] | None = None, **more: object) -> Finding:
    target: dict[str, object] = {"url": server.url + path, **more}
    return await attempt_once("http", target | ({"expect": expect} if expect else {}), timeout=3)


def assert_found(finding: Finding, reason: Reason, *told: str) -> None:
    assert finding.reason is reason, finding.message
    for text in told:
        assert text in finding.message


async def test_a_good_answer(server: HttpServer) -> None:
    server.on("/health?verbose=1", 204)
    finding = await get(server, "/health?verbose=1")
    assert_found(finding, Reason.PROBE_SUCCEEDED)
    assert finding.message == f"{server.url}/health answers 204", "what follows the path is not shown"
    assert finding.facts["status"] == 204
    assert [subject.subject for subject in finding.subjects] == [f"endpoint/127.0.0.1:{server.port}"]
    assert list(finding.steps) == ["resolve", "connect", "request", "body"]
    assert all(value >= 0 for value in finding.steps.values())


async def test_what_is_sent(server: HttpServer) -> None:
    server.on("/in", 200)
    header = {"name": "X-Asked-By", "value": "a probe"}
    assert_found(await get(server, "/in", method="POST", body='{"a": 1}', headers=[header]), Reason.PROBE_SUCCEEDED)
    [request] = server.requests
    assert (request.method, request.body) == ("POST", b'{"a": 1}')
    assert request.headers["x-asked-by"] == "a probe"
    assert request.headers["accept-encoding"] == "identity"
    assert request.headers["user-agent"] == "backendhealth"


async def test_head_has_no_body_to_wait_for(server: HttpServer) -> None:
    server.on("/", 200, b"long")
    assert_found(await get(server, method="HEAD"), Reason.PROBE_SUCCEEDED)


async def test_another_status(server: HttpServer) -> None:
    server.on("/", 503, b"no database")
    finding = await get(server)
    assert_found(finding, Reason.UNEXPECTED_STATUS, 'status 503, expected 2xx; the body begins "no database"')
    assert finding.facts["status"] == 503
    assert finding.verdict is Verdict.UNHEALTHY


@pytest.mark.parametrize(
    ("accepted", "status", "fits"),
    [
        (["404"], 404, True),
        (["200-204", "401"], 401, True),
        (["200-204", "401"], 203, True),
        (["200-204", "401"], 205, False),
        (["5xx"], 503, True),
        (["3xx"], 302, True),
    ],
)
async def test_statuses_that_are_accepted(server: HttpServer, accepted: list[str], status: int, fits: bool) -> None:
    server.on("/", status)
    finding = await get(server, expect={"status": accepted})
    assert_found(finding, Reason.PROBE_SUCCEEDED if fits else Reason.UNEXPECTED_STATUS)


async def test_too_many_requests(server: HttpServer) -> None:
    server.on("/", 429, b"slow down")
    assert_found(await get(server), Reason.OVERLOADED, "status 429", "refuses requests: too many", "slow down")


async def test_forbidden_is_not_down(server: HttpServer) -> None:
    server.on("/", 403, b"not you")
    finding = await get(server)
    assert_found(finding, Reason.PERMISSION_DENIED, "status 403", "does not allow this request", "not you")
    assert finding.verdict is Verdict.UNKNOWN


async def test_headers(server: HttpServer) -> None:
    server.on("/", 200, headers={"X-Version": "1.2.3"})
    good = await get(server, expect={"headers": [{"name": "x-version", "regex": r"^1\."}, {"name": "X-VERSION"}]})
    assert_found(good, Reason.PROBE_SUCCEEDED)
    other = await get(server, expect={"headers": [{"name": "X-Version", "regex": r"^2\."}]})
    assert_found(other, Reason.UNEXPECTED_HEADER, 'the header X-Version does not match: "1.2.3"')
    missing = await get(server, expect={"headers": [{"name": "X-Nope"}]})
    assert_found(missing, Reason.UNEXPECTED_HEADER, "the answer has no header X-Nope")


async def test_the_body(server: HttpServer) -> None:
    server.on("/", 200, "größer\nall good".encode())
    assert_found(await get(server, expect={"bodyRegex": "größer(?s:.*)good$"}), Reason.PROBE_SUCCEEDED)
    finding = await get(server, expect={"bodyRegex": "all bad"})
    assert_found(finding, Reason.UNEXPECTED_BODY, 'the body does not match: "größer all good"')


@pytest.mark.parametrize(
    "item",
    [
        {"path": "$.status", "equals": "up"},
        {"path": "$.count", "equals": "3"},
        {"path": "$.ratio", "equals": "1.5"},
        {"path": "$.ok", "equals": "true"},
        {"path": "$.none", "equals": "null"},
        {"path": "$.parts[0]", "equals": '{"s":"up"}'},
        {"path": "$.parts[*].s", "regex": "^(up|down)$"},
        {"path": "$.parts[?@.s == 'down']"},
        {"path": "$.parts[?match(@.s, 'd.*')].s", "equals": "down"},
        {"path": "$..s"},
        {"path": "$['parts'][-1]['s']", "equals": "down"},
    ],
    ids=lambda item: item["path"],
)
async def test_json_that_fits(server: HttpServer, item: dict[str, str]) -> None:
    server.on("/", 200, json.dumps(DOCUMENT).encode())
    assert_found(await get(server, expect={"jsonPath": [item]}), Reason.PROBE_SUCCEEDED)


@pytest.mark.parametrize(
    ("item", "told"),
    [
        ({"path": "$.status", "equals": "down"}, 'the JSON has "up" at $[\'status\'], expected "down"'),
        ({"path": "$.parts[*].s", "equals": "up"}, "the JSON has \"down\" at $['parts'][1]['s'], expected \"up\""),
        ({"path": "$.parts[*].s", "regex": "^u"}, "the JSON has \"down\" at $['parts'][1]['s'], which does not match"),
        ({"path": "$.nope"}, "the JSON has nothing at $.nope"),
        ({"path": "$.parts[?@.s == 'gone']"}, "the JSON has nothing at $.parts[?@.s == 'gone']"),
    ],
    ids=lambda value: value["path"] if isinstance(value, dict) else "",
)
async def test_json_that_does_not_fit(server: HttpServer, item: dict[str, str], told: str) -> None:
    server.on("/", 200, json.dumps(DOCUMENT).encode())
    assert_found(await get(server, expect={"jsonPath": [item]}), Reason.UNEXPECTED_BODY, told)


@pytest.mark.parametrize("body", [b"<html>", b"", b"\xff\xfe", b"[" * 100_000], ids=["html", "empty", "bytes", "deep"])
async def test_a_body_that_is_not_json(server: HttpServer, body: bytes) -> None:
    server.on("/", 200, body)
    finding = await get(server, expect={"jsonPath": [{"path": "$.status"}]})
    assert_found(finding, Reason.UNEXPECTED_BODY, "the body is not JSON")


async def test_packed_although_nobody_asked(server: HttpServer) -> None:
    server.on("/", 200, gzip.compress(b'{"a": 1}'), {"Content-Encoding": "gzip"})
    finding = await get(server, expect={"bodyRegex": '"a"', "jsonPath": [{"path": "$.a", "equals": "1"}]})
    assert_found(finding, Reason.PROBE_SUCCEEDED)
    server.on("/", 200, b"not gzip", {"Content-Encoding": "gzip"})
    finding = await get(server, expect={"bodyRegex": "x"})
    assert_found(finding, Reason.PROTOCOL_ERROR, "not compressed as its Content-Encoding says")
    server.on("/", 200, b"\x0b\x00", {"Content-Encoding": "br"})
    finding = await get(server, expect={"bodyRegex": "x"})
    assert_found(finding, Reason.PROTOCOL_ERROR, 'the body is encoded as "br"')


async def test_a_compression_bomb(server: HttpServer) -> None:
    bomb = gzip.compress(b"0" * 300_000_000, compresslevel=1)
    server.on("/", 200, bomb, {"Content-Encoding": "gzip"})
    began = time.process_time()
    finding = await get(server, expect={"jsonPath": [{"path": "$"}]})
    assert time.process_time() - began < 1, "only the first MiB is unpacked"
    assert_found(finding, Reason.UNEXPECTED_BODY, "the body is too long to be read as JSON: over 1 MiB")
    assert_found(await get(server, expect={"bodyRegex": "^0+$"}), Reason.PROBE_SUCCEEDED)


@pytest.mark.parametrize("path", ["$..*", "$[*,*,*][*,*,*]", "$[?@[0] == 1]"])
async def test_a_path_that_asks_for_too_much(server: HttpServer, path: str) -> None:
    server.on("/", 200, json.dumps([[0, 0, 0]] * 60_000).encode())
    began = time.process_time()
    finding = await get(server, expect={"jsonPath": [{"path": path}]})
    assert time.process_time() - began < 2
    assert_found(finding, Reason.UNEXPECTED_BODY, f"the JSON is too large or too deep to find {path} in")


async def test_an_expression_that_would_take_others_for_ever(server: HttpServer) -> None:
    server.on("/", 200, b"a" * 500_000)
    assert_found(await get(server, expect={"bodyRegex": "(a*)*(a*)*b$"}), Reason.UNEXPECTED_BODY)
    server.on("/", 200, json.dumps([{"s": "a" * 100_000}]).encode())
    finding = await get(server, expect={"jsonPath": [{"path": "$[?match(@.s, '(a*)*(a*)*b')]"}]})
    assert_found(finding, Reason.UNEXPECTED_BODY, "nothing at")
