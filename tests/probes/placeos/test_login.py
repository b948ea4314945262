"""Who may log in, and whose fault it is when nobody can."""

from __future__ import annotations

import json
import logging

import pytest

from backendhealth.core.observation import Finding
from backendhealth.core.reasons import Reason
from backendhealth.core.spec.placeos import PlaceosProbe
from backendhealth.probes.dialer import Dialer
from backendhealth.probes.exchange import ProbeError, run_attempt
from backendhealth.probes.placeos_client import Client
from backendhealth.probes.placeos_login import Login
from backendhealth.probes.prober import Prober
from backendhealth.probes.registry import Context
from tests.placeos.support import World
from tests.probes.placeos.conftest import Make
from tests.probes.placeos.helpers import BY_PASSWORD, PLANTED, SKIPPED, part, secrets, symptoms_of, told
from tests.probes.support import MemorySecrets, exchange_for
from tests.servers.http import Answer, HttpServer, Request
from tests.servers.placeos import PlaceOS

BASE = "/api/engine/v2"
USER, AUTHORITY, TOKEN = f"{BASE}/users/current", "/auth/authority?health=true", "/auth/oauth/token"
REFUSED = b'{"error": "unknown X-API-Key"}'


def short(world: World, **more: object) -> dict[str, object]:
    return {"url": world.platform.api_url, "apiKeySecretRef": {"name": "api", "key": "key"}} | more


def by_password(world: World, **more: object) -> dict[str, object]:
    return {"url": world.platform.api_url, **BY_PASSWORD} | more


def login(finding: Finding) -> Finding:
    return part(finding, "login")


async def test_both_ways_in(world: World, make: Make) -> None:
    for target in (short(world), by_password(world), by_password(world, authUrl=world.platform.api_url)):
        assert symptoms_of(await make("placeos", target).attempt()) == {}


async def test_a_key_that_was_never_good_is_ours(world: World, make: Make) -> None:
    known = MemorySecrets({"api": {"key": "key-probe.a-wrong-secret"}})
    finding = await make("placeos", short(world), known).attempt()
    assert login(finding).reason is Reason.AUTHENTICATION_FAILED
    assert "unknown X-API-Key" in login(finding).message
    assert part(finding, "systems").reason is SKIPPED
    assert finding.reason is Reason.PROBE_SUCCEEDED
    assert "a-wrong-secret" not in told(finding)


async def test_a_key_that_is_revoked_is_ours(world: World, make: Make) -> None:
    known = secrets()
    probe = make("placeos", short(world), known)
    assert symptoms_of(await probe.attempt()) == {}
    known.data["api"]["key"] = "key-probe.rotated"
    await probe.exchange.close()  # as whoever watches Secrets does
    assert login(await probe.attempt()).reason is Reason.AUTHENTICATION_FAILED


async def test_the_trap_a_good_key_reads_as_unknown_without_the_database(world: World, make: Make) -> None:
    world.database.kill()
    finding = await make("placeos", short(world)).attempt()
    assert login(finding).reason is Reason.LOGIN_FAILED, "though it was never seen to be good"
    assert "unknown X-API-Key" in login(finding).message
    assert "not by the credentials" in login(finding).message


@pytest.mark.parametrize(
    ("before", "witness", "health", "reason"),
    [
        (False, 500, 500, Reason.LOGIN_FAILED),
        (False, 200, 200, Reason.AUTHENTICATION_FAILED),
        (False, 200, 500, Reason.AUTHENTICATION_FAILED),  # another backend may be what fails
        (True, 200, 500, Reason.LOGIN_FAILED),
        (True, 200, 200, Reason.AUTHENTICATION_FAILED),  # revoked
        (False, 404, 500, Reason.LOGIN_FAILED),  # no auth service there to ask
        (False, 404, 200, Reason.AUTHENTICATION_FAILED),
        (True, 404, 200, Reason.AUTHENTICATION_FAILED),
    ],
)
async def test_who_is_believed_about_a_refused_key(
    server: HttpServer, make: Make, *, before: bool, witness: int, health: int, reason: Reason
) -> None:
    server.on(f"{BASE}/version", body=b'{"version": "1"}')
    server.on(f"{BASE}/", health)
    server.on(AUTHORITY, witness)
    probe = make("placeos", {"url": server.url, "apiKeySecretRef": {"name": "api", "key": "key"}})
    if before:
        server.on(USER, body=b"{}")
        assert login(await probe.attempt()).reason is Reason.PROBE_SUCCEEDED
    server.on(USER, 401, REFUSED)
    assert login(await probe.attempt()).reason is reason


async def test_known_good_and_no_witness_at_all(server: HttpServer, make: Make) -> None:
    server.on(f"{BASE}/version", body=b'{"version": "1"}')
    server.on(USER, body=b"{}")
    probe = make("placeos", {"url": server.url, "apiKeySecretRef": {"name": "api", "key": "key"}})
    await probe.attempt()
    server.on(USER, 401, REFUSED)
    server.on(f"{BASE}/", hangs=True)
    found = login(await probe.attempt(1))
    assert found.reason in (Reason.TIMEOUT, Reason.LOGIN_FAILED), "not ours"


async def test_a_domain_that_placeos_does_not_know(world: World, make: Make) -> None:
    finding = await make("placeos", short(world, host="elsewhere.example")).attempt()
    assert login(finding).reason is Reason.AUTHENTICATION_FAILED
    assert "elsewhere.example" in login(finding).message
    assert "authority not found" in login(finding).message
    assert symptoms_of(await make("placeos", short(world, host="localhost")).attempt()) == {}


async def test_a_wrong_password_is_ours(world: World, make: Make) -> None:
    known = MemorySecrets({"user": {"username": PlaceOS.username, "password": "a-wrong-password"}})
    finding = await make("placeos", by_password(world), known).attempt()
    assert login(finding).reason is Reason.AUTHENTICATION_FAILED
    assert "invalid_grant" in login(finding).message
    assert "a-wrong-password" not in told(finding)


async def test_no_token_without_the_database(world: World, make: Make) -> None:
    world.database.kill()
    finding = await make("placeos", by_password(world)).attempt()
    assert login(finding).reason is Reason.LOGIN_FAILED
    assert part(finding, "systems").reason is SKIPPED


async def test_an_auth_service_that_is_down(world: World, make: Make, server: HttpServer) -> None:
    server.close()
    finding = await make("placeos", by_password(world, authUrl=server.url)).attempt()
    assert login(finding).reason is Reason.CONNECTION_REFUSED
    assert finding.reason is Reason.PROBE_SUCCEEDED


async def test_an_auth_service_that_hangs(world: World, make: Make, server: HttpServer) -> None:
    server.on(TOKEN, hangs=True)
    finding = await make("placeos", by_password(world, authUrl=server.url)).attempt(1)
    assert login(finding).reason is Reason.TIMEOUT


async def test_what_is_no_auth_service(world: World, make: Make, server: HttpServer) -> None:
    probe = make("placeos", by_password(world, authUrl=server.url))
    assert "is authUrl right?" in login(await probe.attempt()).message
    for body in (b"<html>", b"[]", b'{"access_token": 5}', b'{"access_token": "a\\nb"}'):
        server.on(TOKEN, body=body)
        assert login(await probe.attempt()).reason is Reason.PROTOCOL_ERROR


async def test_a_token_is_kept_and_renewed_before_it_ends(server: HttpServer, make: Make) -> None:
    granted = []

    def grant(request: Request) -> Answer:
        granted.append(request.body)
        life = {"access_token": f"t{len(granted)}", "expires_in": 3600 if len(granted) > 1 else 0.001}
        return Answer(body=json.dumps(life).encode())

    server.on(f"{BASE}/version", body=b'{"version": "1"}')
    server.on_call(TOKEN, grant)
    server.on(USER, body=b"{}")
    probe = make("placeos", {"url": server.url, **BY_PASSWORD, "clientId": "a client"})
    for _ in range(3):
        assert login(await probe.attempt()).reason is Reason.PROBE_SUCCEEDED
    assert len(granted) == 2, "one that had ended, one that was kept"
    assert b"client_id=a+client" in granted[0]
    assert b"grant_type=password" in granted[0]


async def test_a_token_that_is_refused_is_renewed_within_the_attempt(server: HttpServer, make: Make) -> None:
    accepted = ["Bearer t1"]

    def grant(_: Request) -> Answer:
        return Answer(body=json.dumps({"access_token": accepted[0][7:], "expires_in": 3600}).encode())

    def user(request: Request) -> Answer:
        return Answer(body=b"{}") if request.headers["authorization"] == accepted[0] else Answer(401, b"{}")

    server.on(f"{BASE}/version", body=b'{"version": "1"}')
    server.on_call(TOKEN, grant)
    server.on_call(USER, user)
    probe = make("placeos", {"url": server.url, **BY_PASSWORD})
    assert login(await probe.attempt()).reason is Reason.PROBE_SUCCEEDED
    accepted[0] = "Bearer t2"
    assert login(await probe.attempt()).reason is Reason.PROBE_SUCCEEDED


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        ({}, Reason.SECRET_NOT_FOUND),
        ({"api": {"other": "x"}}, Reason.SECRET_KEY_MISSING),
        ({"api": {"key": ""}}, Reason.SECRET_KEY_MISSING),
        ({"api": {"key": "two\nlines"}}, Reason.SECRET_INVALID),
        ({"api": {"key": b"\xff\xfe"}}, Reason.SECRET_INVALID),
    ],
)
async def test_secrets_that_are_of_no_use(
    world: World, make: Make, data: dict[str, dict[str, str | bytes]], reason: Reason
) -> None:
    finding = await make("placeos", short(world), MemorySecrets(data)).attempt()
    assert login(finding).reason is reason
    assert part(finding, "systems").reason is SKIPPED
    assert part(finding, "reach").reason is Reason.PROBE_SUCCEEDED, "that needs none"


async def test_a_user_without_a_password(world: World, make: Make) -> None:
    finding = await make("placeos", by_password(world), MemorySecrets({"user": {"username": "x"}})).attempt()
    assert login(finding).reason is Reason.SECRET_KEY_MISSING


async def test_who_has_no_credentials_is_nobody() -> None:
    target, context = PlaceosProbe.model_validate({"url": "http://127.0.0.1:9"}), Context(Dialer(), MemorySecrets())
    with pytest.raises(ProbeError) as refused:
        await Login(target, context, Client(target.url, context, None)).identity()
    assert refused.value.reason is SKIPPED


class HungSecrets(MemorySecrets):
    async def read(self, name: str) -> dict[str, bytes]:
        import asyncio

        await asyncio.Event().wait()
        raise ProbeError(Reason.SECRET_NOT_FOUND, name)


async def test_secrets_that_take_too_long_are_not_placeos_fault(world: World, make: Make) -> None:
    finding = await make("placeos", short(world), HungSecrets()).attempt()
    assert login(finding).reason is Reason.SECRET_UNAVAILABLE


async def test_a_refusal_makes_the_secret_be_read_anew(world: World) -> None:
    class Watched(MemorySecrets):
        distrusted = 0

        async def changed(self) -> bool:
            return False

        def distrust(self) -> None:
            self.distrusted += 1

        def release(self) -> None:
            pass

    known = Watched({"api": {"key": "key-probe.wrong"}})
    prober = Prober(exchange_for("placeos", short(world), known), known)
    assert login(await prober.attempt(5)).reason is Reason.AUTHENTICATION_FAILED
    await prober.close()
    assert known.distrusted == 1


@pytest.mark.parametrize("spelt_out", [True, False])
async def test_what_echoes_our_secrets_does_not_make_us_tell_them(
    server: HttpServer, caplog: pytest.LogCaptureFixture, *, spelt_out: bool
) -> None:
    def echo(request: Request) -> Answer:
        said = " ".join([str(request.headers), request.body.decode(), *PLANTED[:4]])
        spelt = "".join(f"\\u{ord(letter):04x}" for letter in said)  # as no plain search would find it
        return Answer(
            500, f'{{"error": "{spelt}", "message": "{spelt}"}}'.encode() if spelt_out else json.dumps([said]).encode()
        )

    server.on(f"{BASE}/version", body=b'{"version": "1"}')
    paths = [USER, f"{BASE}/systems?limit=1", f"{BASE}/modules?control_system_id=s", f"{BASE}/systems/s/functions/M_1"]
    for path in [*paths, f"{BASE}/systems/s/M_1/f"]:
        server.on_call(path, echo)
    server.on(TOKEN, body=json.dumps({"access_token": PlaceOS.api_key, "expires_in": 3600}).encode())
    where = {"url": server.url, "system": "s", "module": "M_1", "function": "f"}
    caplog.set_level(logging.DEBUG)
    key = exchange_for("placeos", {**where, "apiKeySecretRef": {"name": "api", "key": "key"}}, secrets())
    password = exchange_for("placeos", {**where, **BY_PASSWORD}, secrets())
    for exchange, planted in ((key, PLANTED[:2]), (password, (PlaceOS.password, PlaceOS.api_key))):
        finding = await run_attempt(exchange, 5)
        await exchange.close()
        for secret in planted:
            assert secret not in repr(finding)
            assert secret not in caplog.text
