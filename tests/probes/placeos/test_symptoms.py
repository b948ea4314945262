"""Backends and services of a PlaceOS die for real: which symptoms users then have, and for what reason."""

from __future__ import annotations

import time

import pytest

from backendhealth.core.reasons import Reason
from backendhealth.core.spec.backendhealth import Probe
from tests.placeos.support import World
from tests.probes.placeos.conftest import Make
from tests.probes.placeos.helpers import (
    BY_PASSWORD,
    SKIPPED,
    SYMPTOMS,
    components_of,
    part,
    symptoms_of,
    target_for,
)
from tests.servers.http import HttpServer

FAILING = Reason.BACKEND_FAILING
LET_IN = ("systems", "modules", "execute", "websocket-new")
OF_BACKENDS = {
    "etcd": (
        {"execute": Reason.CONNECT_FAILED, "websocket-new": Reason.REQUEST_FAILED},
        {"core": FAILING},
        FAILING,
    ),
    "redis": (
        {
            "modules": Reason.REQUEST_FAILED,
            "execute": Reason.CONNECT_FAILED,
            "websocket-new": Reason.BIND_FAILED,
        },
        {"core": FAILING},
        FAILING,
    ),
    "elasticsearch": ({"systems": Reason.REQUEST_FAILED}, {"search-ingest": FAILING}, Reason.PROBE_SUCCEEDED),
    "database": (
        {"login": Reason.LOGIN_FAILED, **dict.fromkeys(LET_IN, SKIPPED)},
        {"core": FAILING, "search-ingest": FAILING, "auth": FAILING},
        FAILING,
    ),
}


async def test_all_is_well(world: World, make: Make) -> None:
    probe = make("placeos", target_for(world))
    first, second = await probe.healthy(), await probe.attempt()
    assert symptoms_of(second) == components_of(second) == {}
    assert [name for name in second.parts if name.startswith("symptom/")] == [f"symptom/{name}" for name in SYMPTOMS]
    assert "opened before" not in part(first, "websocket-open").message
    assert "opened before" in part(second, "websocket-open").message
    assert second.facts == {"version": "v2.0.0", "healthStatus": 200}
    assert {"reach", "login", "systems", "modules", "functions", "execute", "websocket-new"} <= set(second.steps)


@pytest.mark.parametrize("backend", OF_BACKENDS)
async def test_a_backend_dies(world: World, make: Make, backend: str) -> None:
    probe = make("placeos", target_for(world))
    await probe.healthy()
    world.backend(backend).kill()
    symptoms, components, own = OF_BACKENDS[backend]
    finding = await probe.attempt()
    assert symptoms_of(finding) == symptoms, finding
    assert components_of(finding) == components
    assert finding.reason is own
    assert finding.contact
    assert "still open" in part(finding, "websocket-open").message, "users' WebSockets go on"
    world.heal()
    await probe.healthy()


async def test_redis_dies_on_a_platform_that_discovers_by_it(by_redis: World, make: Make) -> None:
    probe = make("placeos", target_for(by_redis))
    await probe.healthy()
    by_redis.redis.kill()
    finding = await probe.attempt()
    assert {"modules", "execute", "websocket-new"} == set(symptoms_of(finding))


async def test_a_backend_dies_with_a_token_at_hand(world: World, make: Make) -> None:
    """A token needs no database to be accepted, so that the API's own error shows."""
    target = target_for(world) | BY_PASSWORD
    del target["apiKeySecretRef"]
    probe = make("placeos", target)
    await probe.healthy()
    world.database.kill()
    finding = await probe.attempt()
    assert part(finding, "login").reason is Reason.LOGIN_FAILED
    assert part(finding, "systems").reason is Reason.REQUEST_FAILED


async def test_core_dies(world: World, make: Make) -> None:
    probe = make("placeos", target_for(world))
    await probe.healthy()
    world.platform.kill("core-0")
    finding = await probe.attempt()
    assert symptoms_of(finding) == {"execute": Reason.CONNECT_FAILED}
    assert components_of(finding)["core"] in (Reason.CONNECTION_REFUSED, Reason.CONNECTION_RESET)


async def test_triggers_dies(world: World, make: Make) -> None:
    probe = make("placeos", target_for(world))
    await probe.healthy()
    world.platform.kill("triggers")
    finding = await probe.attempt()
    assert set(symptoms_of(finding)) == set(components_of(finding)) == {"triggers"}
    again = await probe.attempt()
    assert part(again, "triggers").reason is Reason.CONNECTION_REFUSED
    assert (
        f"triggers: connection refused by {world.platform.services['triggers'][7:]}" in part(again, "triggers").message
    )


async def test_a_frozen_search_hides_no_other_verdict(world: World, make: Make) -> None:
    probe = make("placeos", target_for(world))
    await probe.healthy()
    world.elasticsearch.freeze()
    began = time.monotonic()
    finding = await probe.attempt(1)
    assert time.monotonic() - began < 1
    assert part(finding, "systems").reason in (Reason.TIMEOUT, Reason.REQUEST_FAILED)
    assert set(symptoms_of(finding)) == {"systems"}


async def test_the_api_dies_and_comes_back(world: World, make: Make) -> None:
    probe = make("placeos", target_for(world))
    await probe.healthy()
    world.platform.kill("api")
    first, second = await probe.attempt(), await probe.attempt()
    assert second.reason is Reason.CONNECTION_REFUSED
    assert second.contact
    for finding in (first, second):
        assert part(finding, "websocket-open").reason is Reason.WEBSOCKET_LOST
        assert all(part(finding, name).reason is SKIPPED for name in ("login", *LET_IN))
        assert "component/triggers" in finding.parts
    world.platform.start("api")
    assert symptoms_of(await probe.until(lambda found: found.reason is Reason.PROBE_SUCCEEDED)) == {}
    assert "still open" in part(await probe.attempt(), "websocket-open").message


async def test_the_api_freezes_and_wakes_up(world: World, make: Make) -> None:
    target = target_for(world)
    target["services"] = {}
    probe = make("placeos", target)
    await probe.healthy()
    world.platform.stop("api")
    finding = await probe.attempt(1)
    assert finding.reason is Reason.TIMEOUT
    assert part(finding, "websocket-open").reason is Reason.TIMEOUT
    assert part(finding, "login").reason is SKIPPED
    world.platform.resume("api")
    finding = await probe.attempt()
    assert symptoms_of(finding) == {}
    assert "still open" in part(finding, "websocket-open").message, "it slept and is the same"


async def test_a_websocket_that_stays_silent_is_given_up(world: World, make: Make) -> None:
    probe = make("placeos", target_for(world) | {"services": {}})
    await probe.healthy()
    world.platform.stop("api")
    reasons = [part(await probe.attempt(0.3), "websocket-open").reason for _ in range(3)]
    assert reasons == [Reason.TIMEOUT, Reason.TIMEOUT, Reason.WEBSOCKET_LOST]


async def test_an_api_that_restarts_between_attempts_loses_the_websocket(world: World, make: Make) -> None:
    probe = make("placeos", target_for(world))
    await probe.healthy()
    world.platform.restart("api")
    finding = await probe.attempt()
    assert symptoms_of(finding) == {"websocket-open": Reason.WEBSOCKET_LOST}
    assert symptoms_of(await probe.attempt()) == {}


async def test_none_open_yet_is_no_loss(world: World, make: Make) -> None:
    world.etcd.members[0].process.kill()  # type: ignore[union-attr]
    finding = await make("placeos", target_for(world)).attempt()
    assert part(finding, "websocket-new").reason is Reason.REQUEST_FAILED
    assert part(finding, "websocket-open").reason is SKIPPED


async def test_a_stranger_is_told_what_a_stranger_can_see(world: World, make: Make) -> None:
    finding = await make("placeos", {"url": world.platform.api_url}).attempt()
    assert finding.reason is Reason.PROBE_SUCCEEDED
    assert list(finding.parts) == ["symptom/reach"]


@pytest.mark.parametrize(
    ("more", "without"),
    [
        ({"websocket": False}, {"websocket-open", "websocket-new"}),
        ({"function": None}, {"execute"}),
        ({"function": None, "module": None}, {"execute", "websocket-open", "websocket-new"}),
        ({"services": {}}, {"triggers"}),
    ],
)
async def test_the_parts_are_those_that_the_spec_enables(
    world: World, make: Make, more: dict[str, object], without: set[str]
) -> None:
    target = {key: value for key, value in (target_for(world) | more).items() if value is not None}
    declared = Probe.model_validate({"name": "api", "placeos": target}).parts
    finding = await make("placeos", target).attempt()
    assert tuple(finding.parts) == declared
    assert set(SYMPTOMS) - {name.partition("/")[2] for name in declared if name.startswith("symptom/")} == without
    world.platform.stop("api")
    assert tuple((await make("placeos", target).attempt(0.3)).parts) == declared, "all of them, whatever happens"


async def test_one_request_for_each_step(server: HttpServer, make: Make) -> None:
    base = "/api/engine/v2"
    server.on(f"{base}/version", body=b'{"version": "1"}')
    target = {
        "url": server.url,
        "apiKeySecretRef": {"name": "api", "key": "key"},
        "system": "s",
        "module": "M_1",
        "function": "f",
        "arguments": '["x"]',
        "websocket": False,
    }
    await make("placeos", target).attempt()
    asked = sorted((request.method, request.path) for request in server.requests)
    assert asked == sorted(
        [
            ("GET", f"{base}/"),
            ("GET", f"{base}/modules?control_system_id=s"),
            ("GET", f"{base}/systems/s/functions/M_1"),
            ("GET", f"{base}/systems?limit=1"),
            ("GET", f"{base}/users/current"),
            ("GET", f"{base}/version"),
            ("POST", f"{base}/systems/s/M_1/f"),
        ]
    )
    (executed,) = (request for request in server.requests if request.method == "POST")
    assert executed.body == b'["x"]'
    assert not any("x-api-key" in request.headers for request in server.requests if request.path.endswith("/version"))
