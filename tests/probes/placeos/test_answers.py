"""Whatever answers instead of PlaceOS: a reason, no crash, in bounded time."""

from __future__ import annotations

import contextlib
import gzip
import json
import time
from collections.abc import Callable

import pytest

from backendhealth.core.reasons import Reason
from backendhealth.core.spec.placeos import SERVICES
from backendhealth.core.verdict import Verdict
from tests.probes.placeos.conftest import Make
from tests.probes.placeos.helpers import SKIPPED, part
from tests.servers import misbehaving
from tests.servers.certs import Authority
from tests.servers.http import HttpServer, server_tls

BASE = "/api/engine/v2"
KEY = {"apiKeySecretRef": {"name": "api", "key": "key"}}
WHERE = {"system": "s", "module": "M_1", "function": "f"}
STEPS = {
    "login": (f"{BASE}/users/current", b"{}"),
    "systems": (f"{BASE}/systems?limit=1", b"[]"),
    "modules": (f"{BASE}/modules?control_system_id=s", b"[{}]"),
    "functions": (f"{BASE}/systems/s/functions/M_1", b'{"f": {}}'),
    "execute": (f"{BASE}/systems/s/M_1/f", b"null"),
}
NONSENSE = {
    "html": b"<html><body>Welcome to nginx</body></html>",
    "text": b"hello",
    "empty": b"",
    "number": b"5",
    "string": b'"no"',
    "deep": b"[" * 200_000,
    "huge": b"[" + b'"x",' * 500_000 + b'"x"]',
    "nul": b"\x00\x01\xff",
    "truncated": b'{"f": ',
}


def api(server: HttpServer) -> dict[str, object]:
    """The target of a server that answers as PlaceOS does."""
    server.on(f"{BASE}/version", body=b'{"version": "1"}')
    server.on(f"{BASE}/")
    for path, body in STEPS.values():
        server.on(path, body=body)
    return {"url": server.url, **KEY, **WHERE, "websocket": False}


async def test_the_server_of_these_tests_is_good_enough(server: HttpServer, make: Make) -> None:
    finding = await make("placeos", api(server)).attempt()
    assert {one.reason for one in (finding, *finding.parts.values())} == {Reason.PROBE_SUCCEEDED}


@pytest.mark.parametrize("step", ["login", "systems", "modules", "functions"])
@pytest.mark.parametrize("nonsense", NONSENSE)
async def test_nonsense_where_json_is_expected(server: HttpServer, make: Make, step: str, nonsense: str) -> None:
    target = api(server)
    server.on(STEPS[step][0], body=NONSENSE[nonsense])
    finding = await make("placeos", target).attempt()
    name = "modules" if step == "functions" else step
    assert part(finding, name).reason is Reason.PROTOCOL_ERROR
    others = {other: one.reason for other, one in finding.parts.items() if other != f"symptom/{name}"}
    assert set(others.values()) == {Reason.PROBE_SUCCEEDED}
    assert len(part(finding, name).message) < 600


@pytest.mark.parametrize("nonsense", NONSENSE)
async def test_nonsense_for_a_version(server: HttpServer, make: Make, nonsense: str) -> None:
    target = api(server)
    server.on(f"{BASE}/version", body=NONSENSE[nonsense])
    finding = await make("placeos", target).attempt()
    assert finding.reason is part(finding, "reach").reason is Reason.PROTOCOL_ERROR
    assert part(finding, "login").reason is SKIPPED


@pytest.mark.parametrize(
    ("status", "reason"),
    [
        (200, Reason.PROBE_SUCCEEDED),
        (301, Reason.UNEXPECTED_STATUS),
        (401, Reason.PROBE_SUCCEEDED),
        (404, Reason.UNEXPECTED_STATUS),
        (500, Reason.REQUEST_FAILED),
        (502, Reason.REQUEST_FAILED),
        (503, Reason.REQUEST_FAILED),
    ],
)
async def test_statuses_of_the_first_request(server: HttpServer, make: Make, status: int, reason: Reason) -> None:
    target = api(server)
    server.on(f"{BASE}/version", status, b'{"version": "1"}')
    finding = await make("placeos", target).attempt()
    assert finding.reason is part(finding, "reach").reason is reason
    assert ("has no API behind it" in finding.message) is (status in (502, 503))


@pytest.mark.parametrize(
    ("status", "reason"), [(403, Reason.PERMISSION_DENIED), (401, SKIPPED), (500, Reason.REQUEST_FAILED)]
)
@pytest.mark.parametrize("step", ["systems", "modules", "functions", "execute"])
async def test_refused_steps(server: HttpServer, make: Make, step: str, status: int, reason: Reason) -> None:
    target = api(server)
    server.on(STEPS[step][0], status, b"{}")
    finding = await make("placeos", target).attempt()
    assert part(finding, "modules" if step == "functions" else step).reason is reason


async def test_both_lists_of_a_system_fail(server: HttpServer, make: Make) -> None:
    target = api(server)
    server.on(STEPS["modules"][0], 403, b"{}")
    server.on(STEPS["functions"][0], 500, b"{}")
    found = part(await make("placeos", target).attempt(), "modules")
    assert found.reason is Reason.REQUEST_FAILED, "the worse of the two"
    assert "listing the modules of s" in found.message
    assert "listing the functions of M_1" in found.message
    server.on(STEPS["modules"][0], body=b"[]")
    server.on(STEPS["functions"][0], body=b'{"f": {}}')
    assert part(await make("placeos", target).attempt(), "modules").reason is Reason.MODULE_NOT_FOUND


async def test_each_step_that_hangs_hangs_alone(server: HttpServer, make: Make) -> None:
    for step, (path, _) in STEPS.items():
        target = api(server)
        server.on(path, hangs=True)
        began = time.monotonic()
        finding = await make("placeos", target).attempt(0.6)
        assert time.monotonic() - began < 0.6
        name = "modules" if step == "functions" else step
        assert part(finding, name).reason is Reason.TIMEOUT
        assert sum(one.reason is not Reason.PROBE_SUCCEEDED for one in finding.parts.values()) == 1


async def test_a_health_page_that_hangs_hides_nothing(server: HttpServer, make: Make) -> None:
    target = api(server)
    server.on(f"{BASE}/", hangs=True)
    finding = await make("placeos", target).attempt(2.0)
    assert {one.reason for one in (finding, *finding.parts.values())} == {Reason.PROBE_SUCCEEDED}


async def test_packed_although_nobody_asked(server: HttpServer, make: Make) -> None:
    target = api(server)
    server.on(STEPS["systems"][0], body=gzip.compress(b"[]"), headers={"Content-Encoding": "gzip"})
    assert part(await make("placeos", target).attempt(), "systems").reason is Reason.PROBE_SUCCEEDED
    server.on(STEPS["systems"][0], body=b"[]", headers={"Content-Encoding": "br"})
    assert part(await make("placeos", target).attempt(), "systems").reason is Reason.PROTOCOL_ERROR
    bomb = gzip.compress(b"[" + b" " * (64 << 20) + b"]")
    server.on(STEPS["systems"][0], body=bomb, headers={"Content-Encoding": "gzip"})
    assert part(await make("placeos", target).attempt(), "systems").reason is Reason.PROTOCOL_ERROR


BROKEN: dict[str, tuple[Callable[[], misbehaving.Server], Reason]] = {
    "silent": (misbehaving.silent, Reason.TIMEOUT),
    "garbage": (misbehaving.garbage, Reason.PROTOCOL_ERROR),
    "closes": (misbehaving.closes_at_once, Reason.CONNECTION_RESET),
    "resets": (lambda: misbehaving.resets(after_request=True), Reason.CONNECTION_RESET),
    "endless": (lambda: misbehaving.drip(b"HTTP/1.1 200 OK\r\n\r\n"), Reason.TIMEOUT),
    "cut": (
        lambda: misbehaving.garbage(b"HTTP/1.1 200 OK\r\nContent-Length: 99\r\n\r\n{", closes=True),
        Reason.CONNECTION_RESET,
    ),
    "flood": (lambda: misbehaving.flood(1 << 26, b"HTTP/1.1 200 OK\r\n\r\n"), Reason.PROTOCOL_ERROR),
}


@pytest.mark.parametrize("kind", BROKEN)
async def test_what_is_no_web_server(make: Make, kind: str) -> None:
    begin, reason = BROKEN[kind]
    with begin() as broken:
        url = f"http://127.0.0.1:{broken.port}"
        finding = await make("placeos", {"url": url, **KEY, **WHERE, "services": {"core": url}}).attempt(1)
        assert finding.reason is part(finding, "reach").reason is reason, finding.message
        assert finding.parts["component/core"].reason is (Reason.PROBE_SUCCEEDED if kind == "flood" else reason)
        assert part(finding, "websocket-open").reason is SKIPPED
        drivers = await make("drivers", {"url": url, **KEY}).attempt(1)
        assert drivers.reason is Reason.API_UNAVAILABLE, "that is not the drivers' fault"
        assert drivers.verdict is Verdict.UNKNOWN


async def test_a_name_that_does_not_exist(make: Make) -> None:
    finding = await make("placeos", {"url": "http://absent.invalid:3000", **KEY}).attempt()
    assert finding.reason in (Reason.DNS_NAME_NOT_FOUND, Reason.RESOLVER_UNAVAILABLE)


async def test_a_certificate(make: Make, tmp_path_factory: pytest.TempPathFactory) -> None:
    authority = Authority(tmp_path_factory.mktemp("ca"))
    from tests.probes.placeos.helpers import secrets

    known = secrets()
    known.data["ca"] = {"ca.crt": authority.pem}
    with contextlib.ExitStack() as stack:
        running = stack.enter_context(HttpServer(tls=server_tls(authority.issue(days=30))))
        target = api(running)
        assert (await make("placeos", target, known).attempt()).reason is Reason.TLS_FAILURE
        trusted = target | {"tls": {"caSecretRef": {"name": "ca"}}}
        assert (await make("placeos", trusted, known).attempt()).reason is Reason.PROBE_SUCCEEDED
        soon = target | {"tls": {"caSecretRef": {"name": "ca"}, "expiryWarning": "8760h"}}
        assert (await make("placeos", soon, known).attempt()).reason is Reason.CERTIFICATE_EXPIRING


@pytest.mark.parametrize(
    "body", [*NONSENSE.values(), json.dumps([5, None, {"id": 5}, {"id": "x", "status": 3}]).encode()]
)
async def test_nonsense_about_the_cluster(server: HttpServer, make: Make, body: bytes) -> None:
    server.on(f"{BASE}/cluster?include_status=true", body=body)
    finding = await make("drivers", {"url": server.url, **KEY}).attempt()
    assert finding.reason is Reason.API_UNAVAILABLE


@pytest.mark.parametrize(
    "body",
    [
        *NONSENSE.values(),
        json.dumps([5, {"driver": 3}, {"driver": "a"}, {"driver": "b", "local": 5}]).encode(),
        json.dumps(
            [{"driver": "c", "local": {"modules": "x", "status": {"launch_count": True, "running": "no"}}}]
        ).encode(),
    ],
)
async def test_nonsense_about_drivers(server: HttpServer, make: Make, body: bytes) -> None:
    server.on(
        f"{BASE}/cluster?include_status=true",
        body=b'[{"id": "x", "uri": "http://[", "status": {"unavailable_drivers": [1, {}]}}]',
    )
    server.on(f"{BASE}/cluster/x?include_status=true", body=body)
    finding = await make("drivers", {"url": server.url, **KEY}).attempt()
    assert finding.reason in (Reason.API_UNAVAILABLE, Reason.PROBE_SUCCEEDED)


async def test_a_user_that_may_see_nothing(server: HttpServer, make: Make) -> None:
    target = api(server)
    server.on(STEPS["login"][0], 403, b"{}")
    assert part(await make("placeos", target).attempt(), "login").reason is Reason.PERMISSION_DENIED


@pytest.mark.parametrize(
    ("name", "status", "reason"),
    [
        ("core", 200, Reason.PROBE_SUCCEEDED),
        ("core", 500, Reason.BACKEND_FAILING),
        ("core", 503, Reason.UNEXPECTED_STATUS),
        ("staff", 500, Reason.UNEXPECTED_STATUS),
        ("staff", 404, Reason.UNEXPECTED_STATUS),
        ("source", 500, Reason.BACKEND_FAILING),
    ],
)
async def test_a_service_that_is_not_healthy(
    server: HttpServer, make: Make, name: str, status: int, reason: Reason
) -> None:
    target = api(server) | {"services": {name: server.url}}
    server.on(SERVICES[name], status)
    finding = await make("placeos", target).attempt()
    assert finding.parts[f"component/{name}"].reason is reason
    assert finding.reason is Reason.PROBE_SUCCEEDED
