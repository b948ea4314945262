"""Drivers on edge nodes, which their core speaks for: it tells of them beside its own, and ends only its own."""

from __future__ import annotations

import json
import urllib.parse
from collections.abc import Iterator

import pytest

from backendhealth.actions.drivercluster import Gone, all_placed, placed
from backendhealth.core.observation import SubjectFinding
from backendhealth.core.placeoscluster import Core, Driver, drivers_of, loaded_of, with_status_of
from backendhealth.core.reasons import Reason
from backendhealth.core.remediation.situation import Component, Subject
from backendhealth.core.remediation.trial import targets
from backendhealth.core.spec.actions import Action
from backendhealth.core.spec.placeos import DriversProbe
from backendhealth.core.verdict import Verdict
from backendhealth.probes.drivers_judge import Launches, judged, remembered
from tests.actions.drivershelp import Scene
from tests.placeos.support import World, Worlds
from tests.probes.placeos.conftest import Make, calm
from tests.probes.placeos.helpers import BY_KEY, OK

PROBE, DISPLAY = "drivers_probe_1a2b3c", "drivers_display_4d5e6f"
EDGE = "edge-1"
TARGET = DriversProbe.model_validate({"url": "http://api:3000", "apiKeySecretRef": {"name": "a", "key": "k"}})
UP = {"running": True, "module_instances": 1, "last_exit_code": 0, "launch_count": 1}


@pytest.fixture(scope="module")
def edge_world(worlds: Worlds) -> Iterator[World]:
    """The display's module is on an edge node, the probe's on core."""
    with worlds.fresh("postgres-etcd", env={"DOUBLE_EDGES": json.dumps({EDGE: ["mod-display"]})}) as found:
        yield found


@pytest.fixture
def world(edge_world: World) -> Iterator[World]:
    yield edge_world
    calm(edge_world)


def target_for(world: World, **more: object) -> dict[str, object]:
    return {"url": world.platform.api_url, **BY_KEY} | more


def places(world: World) -> tuple[str, str]:
    """The subjects of the driver on core, and of the one on the edge node."""
    core = world.platform.services["core-0"].removeprefix("http://")
    return f"driver/{core}/{PROBE}", f"driver/{core}/{EDGE}/{DISPLAY}"


def reasons(subjects: tuple[SubjectFinding, ...]) -> dict[str, Reason]:
    return {one.subject: one.reason for one in subjects}


def crash_on_edge(world: World) -> None:
    world.platform.crash_driver("driver-display")  # core itself has none to end
    path = urllib.parse.urlencode({"path": DISPLAY, "edge_id": EDGE})
    assert world.platform.ask("core-0", "POST", f"/api/core/v1/chaos/terminate?{path}")[0] == 200


async def test_they_are_told_apart_and_are_not_missed(world: World, make: Make) -> None:
    here, there = places(world)
    finding = await make("drivers", target_for(world, required=[PROBE, DISPLAY])).attempt()
    assert finding.reason is OK
    assert reasons(finding.subjects) == {here: OK, there: OK}
    (on_edge,) = [one for one in finding.subjects if one.subject == there]
    assert on_edge.facts["edge"] == EDGE
    assert on_edge.facts["launchCount"] == 1


@pytest.mark.parametrize("api", [True, False])
async def test_one_that_crashes(world: World, make: Make, *, api: bool) -> None:
    """Through the API, or from core directly while that is down."""
    here, there = places(world)
    probe = make("drivers", target_for(world, coreUrls=[world.platform.services["core-0"]], required=[DISPLAY]))
    if not api:
        world.platform.kill("api")
    assert reasons((await probe.attempt()).subjects) == {here: OK, there: OK}
    crash_on_edge(world)
    finding = await probe.until(lambda found: found.reason is Reason.DRIVER_CRASH_LOOPING)
    assert reasons(finding.subjects) == {here: OK, there: Reason.DRIVER_CRASH_LOOPING}
    assert f"{DISPLAY} on edge {EDGE} was launched" in finding.message
    assert finding.parts["component/core"].reason is (OK if api else Reason.STEP_SKIPPED)


async def test_no_process_is_ended_for_one(world: World) -> None:
    """The API passes no edge node on: core would look for a driver of that key of its own."""
    here, _ = places(world)
    http = Scene(world.platform.api_url).http()
    assert [one.subject for one in await all_placed(http)] == [here]
    with pytest.raises(Gone, match="no core has it"):
        await placed(http, DISPLAY)
    await http.close()


def test_a_simulation_ends_no_process_for_one() -> None:
    looping = tuple(Subject(f"driver/core-0/{name}", "DriverCrashLooping") for name in (PROBE, f"{EDGE}/{DISPLAY}"))
    action = Action.model_validate({"restartDriver": {"url": "http://api:3000", **BY_KEY}})
    for subjects, keys in ((looping, [PROBE]), (looping[1:], [])):
        component = Component("drivers", Verdict.UNHEALTHY, "DriverCrashLooping", "", 0.0, subjects=subjects)
        assert [one.name for one in targets(action, component)] == keys


# What is told, as data


NOWHERE: dict[str, object] = {"modules": [], "status": None}
RUNS: dict[str, object] = {"modules": ["m"], "status": UP}


@pytest.mark.parametrize(
    ("local", "edge", "expected"),
    [
        (RUNS, {}, [""]),
        (RUNS, {"e": NOWHERE}, [""]),
        (NOWHERE, {"e": RUNS}, ["e"]),
        (RUNS, {"e": RUNS, "f": RUNS}, ["", "e", "f"]),
        (NOWHERE, {"e": {"modules": [], "status": UP}}, ["e"]),
        (NOWHERE, {"e": {"modules": ["m"]}}, ["e"]),
        (NOWHERE, {"e": NOWHERE}, [""]),
        (RUNS, None, [""]),
        (RUNS, [RUNS], [""]),
        (RUNS, {"": RUNS, "e": 5}, [""]),
        ("nonsense", {"e": RUNS}, []),
    ],
)
def test_where_a_driver_is(local: object, edge: object, expected: list[str]) -> None:
    found = drivers_of([{"driver": "d", "local": local, "edge": edge}])
    assert [one.edge for one in found] == expected


def test_what_core_itself_tells() -> None:
    found = loaded_of({"local": {"d": ["m"]}, "edge": {"e": {"d": ["query failed: timeout"]}, "f": 5}})
    assert found == [Driver("d", modules=1), Driver("d", trouble="query failed: timeout", edge="e")]
    status = {"local": {**UP, "launch_count": 7}, "edge": {"e": {**UP, "launch_count": 9}, "f": None}}
    assert [with_status_of(one, status).launches for one in found] == [7, 9]
    assert with_status_of(Driver("d", edge="f"), status) == Driver("d", edge="f")
    assert with_status_of(found[1], []) == found[1]
    assert loaded_of({"local": 5}) is None
    assert loaded_of([]) is None


def test_launches_are_counted_for_each_place() -> None:
    """One key on core and on an edge node: what one of them does is not the other's."""
    history: Launches = {}
    finding = None
    for now, launches in ((0.0, 1), (2.0, 4)):
        drivers = (Driver("d", launches=1, running=True), Driver("d", launches=launches, running=True, edge="e"))
        cores = [Core("01J", "http://core-0.core:3000", {}, drivers)]
        history = remembered(history, cores, now, 600)
        finding = judged(TARGET, cores, history, now, all_seen=True)
    assert finding is not None
    assert reasons(finding.subjects) == {"driver/core-0/d": OK, "driver/core-0/e/d": Reason.DRIVER_CRASH_LOOPING}
