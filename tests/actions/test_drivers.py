"""Drivers restarted and reloaded on PlaceOS's double: real processes, real faults."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Iterator

import pytest

from backendhealth.actions.drivers import ReloadDriverPerformer, RestartDriverPerformer
from backendhealth.actions.ports import Effect, Refused
from backendhealth.core.remediation.situation import Component, Subject
from backendhealth.core.spec.actions import Action
from backendhealth.core.spec.remediation import RemediationTarget
from backendhealth.core.verdict import Verdict
from backendhealth.probes.exchange import Exchange
from tests.actions.drivershelp import (
    BY_KEY,
    BY_PASSWORD,
    BY_PLAIN_KEY,
    KEY,
    KnownSecrets,
    Scene,
    component,
    freeze_driver,
    home,
    other,
    verified,
)
from tests.placeos.support import World, Worlds
from tests.probes.support import exchange_for
from tests.servers.http import HttpServer
from tests.servers.process import wait_until

RESTART, RELOAD = RestartDriverPerformer(), ReloadDriverPerformer()


@pytest.fixture(scope="module")
def platform_world() -> Iterator[World]:
    quick = {"DOUBLE_QUERY_TIMEOUT": "0.4"}
    with contextlib.ExitStack() as stack, Worlds(stack).fresh("postgres-etcd", cores=2, env=quick) as found:
        yield found


@pytest.fixture
def world(platform_world: World) -> Iterator[World]:
    yield platform_world
    platform = platform_world.platform
    for process in platform.processes.values():
        if process.running:
            process.resume()
    for driver in ("driver-probe", "driver-display"):
        platform.crash_driver(driver, on=False)
    platform._fault("compile", "driver-probe", None)
    for process in [one for one in platform.processes.values() if not one.running]:
        process.start()
    if not any(platform_world.driver(core) for core in platform.cores):
        platform.break_compile(on=False)  # loads it again
    platform_world.heal()


@pytest.fixture
def scene(world: World) -> Scene:
    return Scene(world.platform.api_url)


@pytest.fixture
async def probe(world: World) -> AsyncIterator[Exchange]:
    target = {"url": world.platform.api_url, **BY_KEY, "maximumLaunches": 1}
    exchange = exchange_for("drivers", target, KnownSecrets())
    yield exchange
    await exchange.close()


async def seen(probe: Exchange, reason: str) -> Component:
    """The component once a driver is in that trouble."""
    deadline = time.monotonic() + 15
    while True:
        found = await component(probe)
        if any(one.reason == reason for one in found.subjects):
            return found
        assert time.monotonic() < deadline, found
        await asyncio.sleep(0.1)  # from one attempt to the next


def action(scene: Scene, kind: str, **more: object) -> object:
    return Action.model_validate(scene.action(kind, **more)).does


async def target_of(world: World, scene: Scene) -> RemediationTarget:
    """driver-probe as it runs now."""
    name = f"driver/{(world.platform.services[home(world)]).partition('//')[2]}/{KEY}"
    healthy = Component("drivers", Verdict.UNHEALTHY, "", "", 0, subjects=(Subject(name, "DriverNotRunning"),))
    (found,) = await RESTART.targets(scene.acting(), action(scene, "restartDriver"), healthy)  # type: ignore[arg-type]
    return found


async def test_a_driver_that_hangs_is_restarted_and_verified(world: World, scene: Scene, probe: Exchange):
    await component(probe)
    freeze_driver(world, home(world))
    found = await seen(probe, "DriverNotRunning")
    targets = await RESTART.targets(scene.acting(), action(scene, "restartDriver"), found)  # type: ignore[arg-type]
    assert [f"driver/{world.platform.services[home(world)][7:]}/{one.name}" for one in targets] == [
        one.name for one in found.subjects
    ]
    assert targets[0].restart_count == 1
    spec = scene.spec("restartDriver", targets[0])
    outcome = await RESTART.perform(scene.acting(), spec)
    assert outcome.effect is Effect.DONE, outcome
    assert len(scene.fenced) == 1
    assert scene.notes[-1].startswith("DELETE ")
    assert scene.notes[-1].endswith(f"/api/engine/v2/cluster/{targets[0].core}?driver={targets[0].name} → 202")
    assert await verified(RESTART, scene, spec, outcome) == ""
    assert (await component(probe)).verdict is Verdict.HEALTHY
    scene.leaks_nothing(outcome, targets)


async def test_a_driver_that_crashes_is_restarted_and_verified(world: World, scene: Scene, probe: Exchange):
    await component(probe)
    world.platform.crash_driver()
    found = await seen(probe, "DriverCrashLooping")
    (target,) = await RESTART.targets(scene.acting(), action(scene, "restartDriver"), found)  # type: ignore[arg-type]
    assert (target.name, target.restart_count) == (KEY, None)  # the next launch is no other target
    spec = scene.spec("restartDriver", target)
    scene.before = lambda: world.platform.crash_driver(on=False)
    outcome = await RESTART.perform(scene.acting(), spec)
    assert outcome.effect is Effect.DONE, outcome
    assert int(outcome.facts["launchCount"]) > 1
    assert await verified(RESTART, scene, spec, outcome) == ""


async def test_one_that_crashes_again_at_once_is_told(world: World, scene: Scene):
    target = await target_of(world, scene)
    scene.before = world.platform.crash_driver
    spec = scene.spec("restartDriver", target)
    outcome = await RESTART.perform(scene.acting(), spec)
    assert outcome.effect is Effect.DONE, outcome
    told = await verified(RESTART, scene, spec, outcome)
    assert told, "it can't be verified"
    assert "crashes again at once" in told
    assert "last exit code is 11" in told


async def test_one_that_was_launched_again_meanwhile_is_left_alone(world: World, scene: Scene):
    target = await target_of(world, scene)
    world.call("DELETE", f"/api/engine/v2/cluster/{target.core}?driver={KEY}")
    wait_until(lambda: world.driver(home(world))["launch_count"] > (target.restart_count or 0), 10, "launched again")
    outcome = await RESTART.perform(scene.acting(), scene.spec("restartDriver", target))
    assert outcome.effect is Effect.NOT_DONE
    assert "launched again meanwhile" in outcome.message
    assert scene.fenced == []


async def test_one_that_does_not_compile_is_no_target_and_not_restarted(world: World, scene: Scene, probe: Exchange):
    target = await target_of(world, scene)
    world.platform.break_compile(output="Error: undefined method 'pong'")
    found = await seen(probe, "DriverCompileFailed")
    assert await RESTART.targets(scene.acting(), action(scene, "restartDriver"), found) == []  # type: ignore[arg-type]
    outcome = await RESTART.perform(scene.acting(), scene.spec("restartDriver", target))
    assert outcome.effect is Effect.NOT_DONE
    assert "does not compile" in outcome.message
    assert "undefined method 'pong'" in outcome.message


async def test_a_core_that_is_gone(world: World, scene: Scene):
    target = await target_of(world, scene)
    world.platform.kill(home(world))
    outcome = await RESTART.perform(scene.acting(), scene.spec("restartDriver", target))
    assert outcome.effect is Effect.NOT_DONE
    assert f"core {target.core} is gone" in outcome.message
    assert scene.fenced == []


async def test_only_the_drivers_that_the_action_names(world: World, scene: Scene):
    where = world.platform.services[home(world)].partition("//")[2]
    names = (Subject(f"driver/{where}/{KEY}", "DriverNotRunning"), Subject("driver/*/other_1", "DriverMissing"))
    found = Component("drivers", Verdict.UNHEALTHY, "", "", 0, subjects=names)
    for prefix, count in ((KEY, 1), (KEY[:9], 1), ("drivers_display", 0), ("other", 0)):
        wanted = action(scene, "restartDriver", drivers=[prefix])
        assert len(await RESTART.targets(scene.acting(), wanted, found)) == count, prefix  # type: ignore[arg-type]


async def test_the_api_refuses(world: World, scene: Scene):
    target = await target_of(world, scene)
    scene.log_in = dict(BY_PLAIN_KEY)
    with pytest.raises(Refused) as refused:
        await RESTART.perform(scene.acting(), scene.spec("restartDriver", target))
    assert refused.value.status == 403
    assert "admin required" in refused.value.message
    assert scene.fenced == []
    scene.leaks_nothing(refused.value)


async def test_an_api_that_hangs_at_the_effect_leaves_it_unknown(world: World, scene: Scene):
    target = await target_of(world, scene)
    scene.before = lambda: world.platform.stop("api")
    outcome = await RESTART.perform(scene.acting(), scene.spec("restartDriver", target))
    assert outcome.effect is Effect.UNKNOWN
    assert "no answer within 10 s" in outcome.message
    assert scene.notes[-1].endswith("→ no answer")
    again = Scene(scene.url)  # and before it, nothing is begun
    outcome = await RESTART.perform(again.acting(), scene.spec("restartDriver", target))
    assert outcome.effect is Effect.NOT_DONE
    assert again.fenced == []


async def test_a_core_that_dies_at_the_effect_leaves_it_unknown(world: World, scene: Scene):
    target = await target_of(world, scene)
    scene.before = lambda: world.platform.kill(home(world))
    outcome = await RESTART.perform(scene.acting(), scene.spec("restartDriver", target))
    assert outcome.effect is Effect.UNKNOWN
    assert "PlaceOS answers status 500" in outcome.message


async def test_by_a_password(world: World, scene: Scene):
    scene.log_in = dict(BY_PASSWORD)
    target = await target_of(world, scene)
    spec = scene.spec("restartDriver", target)
    outcome = await RESTART.perform(scene.acting(), spec)
    assert outcome.effect is Effect.DONE, outcome
    assert f"POST {scene.url}/auth/oauth/token → a token" in scene.notes
    assert await verified(RESTART, scene, spec, outcome) == ""
    scene.leaks_nothing(outcome)


async def test_a_driver_is_reloaded_on_all_cores(world: World, scene: Scene):
    spec = scene.spec("reloadDriver", RemediationTarget(kind="Driver", name=KEY))
    outcome = await RELOAD.perform(scene.acting(), spec)
    assert outcome.effect is Effect.DONE, outcome
    assert "on all cores" in outcome.message
    assert scene.notes[-1] == f"POST {scene.url}/api/engine/v2/drivers/driver-probe/reload → 200"
    assert await verified(RELOAD, scene, spec, outcome) == ""


async def test_reloading_fails_on_one_of_two_cores(world: World, scene: Scene):
    world.platform._fault("compile", "driver-probe", "Error: boom")
    spec = scene.spec("reloadDriver", RemediationTarget(kind="Driver", name=KEY))
    outcome = await RELOAD.perform(scene.acting(), spec)
    assert outcome.effect is Effect.DONE, outcome
    assert "others failed: status 417" in outcome.message
    told = await verified(RELOAD, scene, spec, outcome)
    assert told
    assert "does not compile" in told
    assert "boom" in told


async def test_reloading_fails_on_all_cores(world: World, scene: Scene):
    world.platform._fault("compile", "driver-probe", "Error: boom")
    scene.before = lambda: world.platform.stop(other(world))
    spec = scene.spec("reloadDriver", RemediationTarget(kind="Driver", name=KEY))
    outcome = await RELOAD.perform(scene.acting(), spec)
    assert outcome.effect is Effect.UNKNOWN
    assert "no core has loaded" in outcome.message
    assert "status 422" in outcome.message
    assert "does not run as before" in outcome.message


async def test_what_no_database_row_fits_is_not_reloaded(world: World, scene: Scene):
    outcome = await RELOAD.perform(
        scene.acting(), scene.spec("reloadDriver", RemediationTarget(kind="Driver", name="drivers_none"))
    )
    assert outcome.effect is Effect.NOT_DONE
    assert "no core has it" in outcome.message


# A server that is no PlaceOS

CORE = b'[{"id": "01J", "uri": "http://core-0:3000", "status": {}}]'
DRIVER = b'[{"driver": "%s", "local": {"modules": [], "status": {"running": true, "launch_count": 3}}}]' % KEY.encode()


@pytest.fixture
def server() -> Iterator[HttpServer]:
    with HttpServer() as found:
        found.on("/api/engine/v2/cluster?include_status=true", body=CORE)
        found.on("/api/engine/v2/cluster/01J?include_status=true", body=DRIVER)
        yield found


@pytest.mark.parametrize("at_the_effect", [False, True])
async def test_a_redirect_to_another_host_is_not_followed(server: HttpServer, at_the_effect: bool):
    with HttpServer() as elsewhere:
        path = (
            f"/api/engine/v2/cluster/01J?driver={KEY}"
            if at_the_effect
            else "/api/engine/v2/cluster?include_status=true"
        )
        server.on(path, status=307, headers={"Location": f"http://127.0.0.1:{elsewhere.port}{path}"})
        scene = Scene(f"http://127.0.0.1:{server.port}")
        spec = scene.spec("restartDriver", RemediationTarget(kind="Driver", name=KEY, core="01J", restart_count=3))
        if at_the_effect:
            outcome = await RESTART.perform(scene.acting(), spec)
            assert outcome.effect is Effect.NOT_DONE
        else:
            with pytest.raises(Refused, match="leads elsewhere"):
                await RESTART.perform(scene.acting(), spec)
        assert elsewhere.requests == []


@pytest.mark.parametrize("escaped", [False, True])
async def test_what_the_server_tells_back_of_a_secret_is_not_repeated(server: HttpServer, escaped: bool):
    key = "key-probe.planted-secret-of-a-test"
    spelt = "".join(f"\\u{ord(one):04x}" for one in key) if escaped else key
    body = b'{"error": "no such key: %s"}' % spelt.encode()
    server.on(f"/api/engine/v2/cluster/01J?driver={KEY}", status=403, body=body)
    scene = Scene(f"http://127.0.0.1:{server.port}")
    spec = scene.spec("restartDriver", RemediationTarget(kind="Driver", name=KEY, core="01J"))
    outcome = await RESTART.perform(scene.acting(), spec)
    assert outcome.effect is Effect.NOT_DONE
    assert "no such key: •••" in outcome.message
    scene.leaks_nothing(outcome)


@pytest.mark.parametrize("core", ["../users", "%2e%2e", "", "a/b", "."])
async def test_an_id_that_would_lead_elsewhere_is_none(server: HttpServer, core: str):
    listed = b'[{"id": "%s", "uri": "http://core-0:3000", "status": {}}]' % core.encode()
    server.on("/api/engine/v2/cluster?include_status=true", body=listed)
    scene = Scene(f"http://127.0.0.1:{server.port}")
    spec = scene.spec("restartDriver", RemediationTarget(kind="Driver", name=KEY))
    outcome = await RESTART.perform(scene.acting(), spec)
    assert outcome.effect is Effect.NOT_DONE
    assert [one.path for one in server.requests] == ["/api/engine/v2/cluster?include_status=true"]


async def test_a_core_that_is_registered_twice_is_one(server: HttpServer):
    listed = b'[{"id": "01K", "uri": "http://core-0:3000"}, {"id": "01J", "uri": "http://core-0:3000"}]'
    server.on("/api/engine/v2/cluster?include_status=true", body=listed)
    server.on("/api/engine/v2/cluster/01K?include_status=true", body=DRIVER)
    server.on(f"/api/engine/v2/cluster/01K?driver={KEY}", status=202)
    scene = Scene(f"http://127.0.0.1:{server.port}")
    former = scene.spec("restartDriver", RemediationTarget(kind="Driver", name=KEY, core="01J"))
    assert (await RESTART.perform(scene.acting(), former)).effect is Effect.NOT_DONE
    outcome = await RESTART.perform(
        scene.acting(), scene.spec("restartDriver", RemediationTarget(kind="Driver", name=KEY))
    )
    assert (outcome.effect, outcome.facts["core"]) == (Effect.DONE, "01K")


async def test_a_body_without_end_is_bounded(server: HttpServer):
    server.on(f"/api/engine/v2/cluster/01J?driver={KEY}", status=400, body=b"x" * 3_000_000)
    scene = Scene(f"http://127.0.0.1:{server.port}")
    spec = scene.spec("restartDriver", RemediationTarget(kind="Driver", name=KEY, core="01J"))
    outcome = await RESTART.perform(scene.acting(), spec)
    assert outcome.effect is Effect.NOT_DONE
    assert len(outcome.message) < 1024
