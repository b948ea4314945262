"""Drivers that crash, don't compile, don't run; cores that are not registered, and registrations of dead cores."""

from __future__ import annotations

import pytest

from backendhealth.core.observation import Finding
from backendhealth.core.reasons import Reason
from backendhealth.core.verdict import Verdict
from tests.placeos.support import World
from tests.probes.placeos.conftest import Make
from tests.probes.placeos.helpers import BY_KEY, BY_PASSWORD, OK, PLANTED, secrets, told
from tests.servers.http import HttpServer
from tests.servers.placeos import PlaceOS
from tests.servers.process import wait_until

PROBE, DISPLAY = "drivers_probe_1a2b3c", "drivers_display_4d5e6f"


def target_for(world: World, **more: object) -> dict[str, object]:
    return {"url": world.platform.api_url, **BY_KEY} | more


def by_discovery(world: World) -> dict[str, object]:
    if world.etcd is not None:
        return {"etcd": {"endpoints": world.etcd.urls}}
    return {"redis": {"url": f"redis://127.0.0.1:{world.redis.port}"}}


def core_urls(world: World) -> list[str]:
    return [world.platform.services[name] for name in world.platform.cores]


def core(finding: Finding) -> Finding:
    return finding.parts["component/core"]


def subjects(finding: Finding) -> dict[str, Reason]:
    """Reasons by the driver's key."""
    return {one.subject.rpartition("/")[2]: one.reason for one in finding.subjects}


async def test_all_is_well(world: World, make: Make) -> None:
    for credentials in ({}, {"apiKeySecretRef": None} | BY_PASSWORD):
        target = {key: one for key, one in target_for(world, **credentials).items() if one is not None}
        finding = await make("drivers", target).attempt()
        assert finding.reason is core(finding).reason is OK, finding
        assert subjects(finding) == {PROBE: OK, DISPLAY: OK}
        place = core_urls(world)[0].removeprefix("http://")
        assert [one.subject for one in finding.subjects] == [f"driver/{place}/{DISPLAY}", f"driver/{place}/{PROBE}"]
        assert {"coreId", "launchCount", "lastExitCode"} <= set(finding.subjects[0].facts)


async def test_a_driver_that_crashes_each_time(world: World, make: Make) -> None:
    probe = make("drivers", target_for(world))
    await probe.attempt()
    world.platform.crash_driver("driver-probe")
    finding = await probe.until(lambda found: found.reason is Reason.DRIVER_CRASH_LOOPING)
    assert subjects(finding) == {PROBE: Reason.DRIVER_CRASH_LOOPING, DISPLAY: OK}
    assert "last exit code is 11" in finding.message
    assert PROBE in finding.message
    assert core(finding).reason is OK


async def test_a_driver_that_does_not_run(world: World, make: Make) -> None:
    world.platform.crash_driver("driver-probe")
    finding = await make("drivers", target_for(world, maximumLaunches=1000)).until(lambda found: found.reason is not OK)
    assert finding.reason is Reason.DRIVER_NOT_RUNNING
    assert subjects(finding)[DISPLAY] is OK


async def test_a_single_relaunch_is_no_loop(world: World, make: Make) -> None:
    probe = make("drivers", target_for(world))
    await probe.attempt()
    before = world.driver()["launch_count"]
    world.core(f"/chaos/terminate?path={PROBE}", method="POST")
    wait_until(
        lambda: world.driver()["running"] and world.driver()["launch_count"] > before, 10, "it is launched again"
    )
    finding = await probe.until(lambda found: found.reason is OK)
    assert subjects(finding)[PROBE] is OK


async def test_all_drivers_relaunch_together_without_redis(by_redis: World, world: World, make: Make) -> None:
    """Each ends after two failed pings: all subjects show it, which is what tells Redis from a driver."""
    probe = make("drivers", target_for(world, coreUrls=core_urls(world), maximumLaunches=1))
    await probe.attempt()
    world.redis.kill()
    finding = await probe.until(
        lambda found: (
            len(found.subjects) == 2 and all(one.reason.verdict is Verdict.UNHEALTHY for one in found.subjects)
        ),
        30,
    )
    assert "all 2 drivers" in finding.message
    del by_redis


async def test_a_driver_that_does_not_compile(world: World, make: Make) -> None:
    output = "In src/probe.cr:3:5\n\n 3 | pong\n     ^---\nError: undefined method 'pong'\nand so on"
    world.platform.break_compile("driver-probe", output=output)
    finding = await make("drivers", target_for(world)).attempt()
    world.platform.break_compile("driver-probe", on=False)
    assert finding.reason is Reason.DRIVER_COMPILE_FAILED
    assert subjects(finding)[PROBE] is Reason.DRIVER_COMPILE_FAILED
    assert "In src/probe.cr:3:5 / 3 | pong / ^---" in finding.message
    assert "and so on" not in finding.message


async def test_a_core_that_is_gone_is_no_compile_failure(two_cores: World, make: Make) -> None:
    probe = make("drivers", target_for(two_cores, required=[PROBE, DISPLAY], discovery=by_discovery(two_cores)))
    assert (await probe.attempt()).reason is OK
    two_cores.platform.kill("core-0")
    two_cores.platform.kill("core-1")
    finding = await probe.attempt()
    assert finding.reason is Reason.API_UNAVAILABLE, "they can't be seen, and are not to blame"
    assert core(finding).reason in (Reason.STALE_PLACEMENT, Reason.NO_CORE_INSTANCES)


async def test_a_required_driver_that_runs_nowhere(world: World, make: Make) -> None:
    finding = await make("drivers", target_for(world, required=["drivers_probe", "drivers_absent"])).attempt()
    assert finding.reason is Reason.DRIVER_MISSING
    assert subjects(finding) == {PROBE: OK, DISPLAY: OK, "drivers_absent": Reason.DRIVER_MISSING}


async def test_a_driver_is_not_missed_while_a_core_is(two_cores: World, make: Make) -> None:
    target = target_for(two_cores, required=["drivers_absent"], discovery=by_discovery(two_cores))
    two_cores.platform.add_stale_core()
    finding = await make("drivers", target).attempt()
    two_cores.platform.remove_stale_core()
    assert core(finding).reason is Reason.STALE_PLACEMENT
    assert finding.reason is OK


@pytest.mark.parametrize("kind", ["world", "by_redis"])
async def test_a_registration_of_a_dead_core(request: pytest.FixtureRequest, make: Make, kind: str) -> None:
    found: World = request.getfixturevalue(kind)
    probe = make("drivers", target_for(found, discovery=by_discovery(found)))
    assert core(await probe.attempt()).reason is OK
    found.platform.stop("core-0")  # a live leader would prune it
    uri = found.platform.add_stale_core()
    finding = await probe.until(lambda one: core(one).reason is Reason.STALE_PLACEMENT)
    found.platform.remove_stale_core()
    assert uri in core(finding).message
    assert {one.reason for one in core(finding).subjects} <= {OK, Reason.STALE_PLACEMENT}


@pytest.mark.parametrize("kind", ["world", "by_redis"])
async def test_a_core_that_died_without_leaving(request: pytest.FixtureRequest, make: Make, kind: str) -> None:
    """Redis's lookup keeps it for good when no leader is left; etcd's lease ends, and then none is registered."""
    found: World = request.getfixturevalue(kind)
    probe = make("drivers", target_for(found, discovery=by_discovery(found)))
    found.platform.kill("core-0")
    assert core(await probe.attempt()).reason is Reason.STALE_PLACEMENT
    last = Reason.STALE_PLACEMENT if kind == "by_redis" else Reason.NO_CORE_INSTANCES
    await probe.until(lambda one: core(one).reason is last)


async def test_a_core_that_runs_and_is_not_registered(two_cores: World, make: Make) -> None:
    urls = core_urls(two_cores)
    probe = make("drivers", target_for(two_cores, coreUrls=urls, discovery=by_discovery(two_cores)))
    assert core(await probe.attempt()).reason is OK
    two_cores.platform.deregister("core-1")
    finding = await probe.until(lambda one: core(one).reason is Reason.CORE_NOT_REGISTERED)
    two_cores.platform.restart("core-1")
    assert urls[1].removeprefix("http://") in core(finding).message


async def test_fewer_cores_than_expected(two_cores: World, make: Make) -> None:
    assert core(await make("drivers", target_for(two_cores, cores={"expected": 2})).attempt()).reason is OK
    finding = await make("drivers", target_for(two_cores, cores={"expected": 3})).attempt()
    assert core(finding).reason is Reason.CORE_NOT_REGISTERED
    assert "3 expected" in core(finding).message


async def test_no_core_at_all(world: World, make: Make) -> None:
    probe = make("drivers", target_for(world))
    world.platform.terminate("core-0")
    finding = await probe.attempt()
    assert core(finding).reason is Reason.NO_CORE_INSTANCES
    assert finding.reason is Reason.API_UNAVAILABLE


async def test_without_the_api_cores_are_asked_themselves(two_cores: World, make: Make) -> None:
    target = target_for(two_cores, coreUrls=core_urls(two_cores))
    probe = make("drivers", target | {"discovery": by_discovery(two_cores)})
    blind = make("drivers", target_for(two_cores))
    await probe.attempt()
    two_cores.platform.kill("api")
    finding = await probe.attempt()
    assert finding.reason is core(finding).reason is OK
    assert subjects(finding) == {PROBE: OK, DISPLAY: OK}
    two_cores.platform.break_compile("driver-display")
    finding = await probe.attempt()
    two_cores.platform.break_compile("driver-display", on=False)
    assert finding.reason is Reason.DRIVER_COMPILE_FAILED
    finding = await blind.attempt()
    assert finding.reason is Reason.API_UNAVAILABLE
    assert core(finding).reason is Reason.STEP_SKIPPED
    finding = await make("drivers", target).attempt()
    assert core(finding).reason is Reason.STEP_SKIPPED, "that they run does not say that they are registered"


@pytest.mark.parametrize("backend", ["database", "etcd"])
async def test_a_backend_of_the_api_is_away(world: World, make: Make, backend: str) -> None:
    probe = make("drivers", target_for(world, discovery=by_discovery(world)))
    await probe.attempt()
    world.backend(backend).kill()
    finding = await probe.attempt()
    assert finding.reason is Reason.API_UNAVAILABLE, "drivers go on running"
    assert core(finding).reason is (Reason.STEP_SKIPPED if backend == "etcd" else OK)


async def test_a_frozen_core(two_cores: World, make: Make) -> None:
    probe = make("drivers", target_for(two_cores, discovery=by_discovery(two_cores)))
    await probe.attempt()
    two_cores.platform.stop("core-0")
    finding = await probe.attempt(3)
    assert core(finding).reason is Reason.STALE_PLACEMENT
    assert finding.reason is OK


async def test_drivers_are_for_administrators(world: World, make: Make) -> None:
    finding = await make("drivers", target_for(world, apiKeySecretRef={"name": "api", "key": "plain"})).attempt()
    assert finding.reason is Reason.PERMISSION_DENIED
    assert "administrators" in finding.message


async def test_a_key_that_is_no_good(world: World, make: Make) -> None:
    known = secrets()
    known.data["api"]["key"] = "key-probe.another"
    finding = await make("drivers", target_for(world), known).attempt()
    assert finding.verdict is Verdict.UNKNOWN
    assert "PlaceOS lets us in with no request" in finding.message
    assert "another" not in told(finding)
    known.data["user"]["password"] = "a-wrong-one"
    target = {"url": world.platform.api_url, **BY_PASSWORD}
    assert (await make("drivers", target, known).attempt()).reason is Reason.AUTHENTICATION_FAILED
    del known.data["user"]
    assert (await make("drivers", target, known).attempt()).reason is Reason.SECRET_NOT_FOUND


async def test_pods_need_a_cluster(world: World, make: Make) -> None:
    target = target_for(world, cores={"selector": {"matchLabels": {"app": "core"}}})
    finding = await make("drivers", target).attempt()
    assert finding.reason is core(finding).reason is OK


async def test_an_etcd_that_asks_for_a_password(server: HttpServer, world: World, make: Make) -> None:
    del world
    target = {
        "url": server.url,
        **BY_KEY,
        "discovery": {"etcd": {"endpoints": [server.url], "auth": BY_PASSWORD["auth"]}},
    }
    probe = make("drivers", target)
    server.on("/v3/auth/authenticate", 400, b'{"error": "authentication failed"}')
    finding = await probe.attempt()
    assert core(finding).reason is Reason.AUTHENTICATION_FAILED
    assert "etcd does not accept the credentials" in core(finding).message
    server.on("/v3/auth/authenticate", body=b'{"token": "eyJ-a-token"}')
    server.on("/v3/kv/range", 401, b'{"error": "invalid auth token eyJ-a-token"}')
    assert core(await probe.attempt()).reason is Reason.STEP_SKIPPED
    for body in (b"<html>", b'{"kvs": 5}', b'{"kvs": [5]}', b'{"kvs": [{"key": "?", "value": "?"}]}'):
        server.on("/v3/kv/range", body=body)
        assert core(await probe.attempt()).reason is Reason.STEP_SKIPPED
    server.on("/v3/kv/range", body=b'{"count": "0"}')
    assert core(await probe.attempt()).reason is Reason.NO_CORE_INSTANCES
    logins = [one for one in server.requests if one.path == "/v3/auth/authenticate"]
    await probe.attempt()
    assert len([one for one in server.requests if one.path == "/v3/auth/authenticate"]) == len(logins), "kept"


def test_what_is_planted_would_be_found() -> None:
    assert PlaceOS.api_key in PLANTED
