"""What a policy makes of a PlaceOS whose processes are really killed: the engine, its diagnosis, decisions, actions."""

from __future__ import annotations

import asyncio
import concurrent.futures
import time
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from backendhealth.actions.drivers import RestartDriverPerformer
from backendhealth.actions.ports import Effect
from backendhealth.core.remediation.deciding import decide, room
from backendhealth.core.remediation.ruling import Guard, Hold, Ruling
from backendhealth.core.remediation.situation import Past, Situation, World
from backendhealth.core.remediation.situations import situation_of
from backendhealth.core.spec.remediation import RemediationTarget
from backendhealth.core.spec.remediationpolicy import RemediationPolicy
from backendhealth.core.verdict import Verdict
from tests.actions.drivershelp import KEY, Scene, verified
from tests.kube.unguarded import GUARDS
from tests.probes.support import MemorySecrets
from tests.scenarios import loopback
from tests.scenarios.inprocess import PROFILE, TIMING, Observed, observed
from tests.scenarios.loopback import SECRETS, Platform

EXAMPLE = Path(__file__).parents[2] / "examples" / "placeos-policy.yaml"
DELAY = 25.0
"""Seconds for which etcd must have worked again: longer than core is excused by its return (its recoveryGrace)."""
# of this module: a server that a test starts ends with the thread that started it
_INJECTOR = concurrent.futures.ThreadPoolExecutor(1, thread_name_prefix="injector")
_KEY, _UID = "placeos/placeos", "uid-of-the-policy"
_CORE = "Workload/StatefulSet/core/uid-of-core"


@pytest.fixture(scope="module")
def platform() -> Iterator[Platform]:
    with loopback.platform() as found:
        yield found


@pytest.fixture
async def watching(platform: Platform) -> AsyncIterator[Observed]:
    async with observed(platform.probes(), PROFILE, MemorySecrets(SECRETS), TIMING) as found:
        running = asyncio.create_task(found.engine.run())
        try:
            await until(found, healthy, "healthy at the start")
            yield found
        finally:
            running.cancel()


def example(url: str) -> RemediationPolicy:
    """The example, as quick as the platform on loopback."""
    raw: dict[str, Any] = yaml.safe_load(EXAMPLE.read_text())
    raw["metadata"] = {"name": "placeos", "namespace": "placeos"}
    raw["spec"] |= {"backendHealths": ["placeos"], "mode": "Enforce"}
    for rule in raw["spec"]["rules"]:
        rule["when"]["for"] = "0s"
        known = {"rethinkdb": "postgres"}
        names = rule.get("unless", {}).get("unhealthy", [])
        rule["unless"] = {"unhealthy": [known.get(name, name) for name in names], "flapping": False}
        if "after" in rule:
            rule["after"]["delay"] = f"{DELAY:g}s"
        if "restartDriver" in rule["action"]:
            rule["action"]["restartDriver"]["url"] = url
    return RemediationPolicy.model_validate(raw)


def situation(watching: Observed) -> Situation:
    engine = watching.engine
    return situation_of(_KEY, "uid-of-it", engine.status(_KEY), engine.observed(_KEY))


def healthy(now: Situation) -> bool:
    return bool(now.components) and all(
        one.verdict in {Verdict.HEALTHY, Verdict.DEGRADED} for one in now.components.values()
    )


async def until(watching: Observed, true: Callable[[Situation], bool], what: str, timeout: float = 60) -> Situation:
    deadline = time.monotonic() + timeout
    while not true(now := situation(watching)):
        assert time.monotonic() < deadline, f"{what}: {now}"
        await asyncio.sleep(0.05)
    return now


def rulings(policy: RemediationPolicy, now: Situation, past: list[Past]) -> dict[str, Ruling]:
    return {one.rule: one for one in decide(policy, _UID, now, past, World(), time.time())}


async def injected(act: Callable[..., object], *arguments: object) -> None:
    await asyncio.get_running_loop().run_in_executor(_INJECTOR, act, *arguments)


async def test_a_crashed_driver_is_restarted_and_verified(platform: Platform, watching: Observed):
    policy = example(platform.placeos.api_url)
    await injected(platform.begin, "driver-crashes")
    now = await until(watching, lambda one: rulings(policy, one, [])["restart-drivers"].acts, "the rule acts")
    others = [name for name, one in rulings(policy, now, []).items() if one.acts]
    assert others == ["restart-drivers"]
    scene = Scene(platform.placeos.api_url, {"apiKeySecretRef": {"name": "api", "key": "key"}})
    scene.before = lambda: platform.end("driver-crashes")
    performer = RestartDriverPerformer()
    does = scene.spec("restartDriver", RemediationTarget(kind="Driver", name=KEY)).action.does
    (target,) = await performer.targets(scene.acting(), does, now.components["drivers"])
    assert target.name == KEY
    spec = scene.spec("restartDriver", target)
    outcome = await performer.perform(scene.acting(), spec)
    assert outcome.effect is Effect.DONE, outcome
    assert await verified(performer, scene, spec, outcome) == ""
    await until(watching, healthy, "healthy after the restart", 90)


async def test_drivers_that_die_with_redis_are_left_alone(platform: Platform, watching: Observed):
    policy = example(platform.placeos.api_url)
    acted: set[str] = set()

    def died(now: Situation) -> bool:
        acted.update(name for name, one in rulings(policy, now, []).items() if one.acts)
        drivers, redis = now.components.get("drivers"), now.components["redis"]
        return bool(drivers and drivers.verdict is Verdict.UNHEALTHY and redis.root and not drivers.root)

    await injected(platform.begin, "redis-down")
    try:
        now = await until(watching, died, "the drivers die, Redis is blamed")
        # as long as it takes, whatever else comes to be believed
        deadline = time.monotonic() + 5
        while time.monotonic() < deadline:
            died(now := situation(watching))
            await asyncio.sleep(0.05)
        assert now.components["redis"].root
        assert [one.name for one in now.components.values() if one.root] == ["redis"]
        assert acted == set()
        told = rulings(policy, now, [])["restart-drivers"]
        assert "redis" in told.unmatched + " ".join(hold.because for hold in told.holds)
    finally:
        await injected(platform.end, "redis-down")
    await until(watching, lambda one: bool(died(one) is not None and healthy(one)), "healthy again", 90)
    assert "restart-drivers" not in acted


async def test_a_core_that_stays_out_is_restarted_once_etcd_works_again(platform: Platform, watching: Observed):
    policy, rule = example(platform.placeos.api_url), "restart-core-that-stays-out"
    past: list[Past] = []
    acted: list[float] = []

    def look(now: Situation) -> bool:
        ruling = rulings(policy, now, past)[rule]
        # a rule that may act does so where there is room: as the Remediator asks for each target
        if ruling.acts and not acted and not _room(policy, now, ruling, past):
            acted.append(time.time())
        return bool(acted)

    await injected(platform.old_core)
    await injected(platform.placeos.processes["core-0"].wait_ready)
    await until(watching, healthy, "healthy with an older core", 90)
    await injected(platform.begin, "etcd-down")
    await until(watching, lambda one: look(one) or one.components["etcd"].root, "etcd is blamed")
    await until(watching, lambda one: look(one) or _out(one), "nobody sees core", 30)
    lost = time.monotonic() + 3  # long enough for core to lose its registration
    await until(watching, lambda one: look(one) or time.monotonic() > lost, "time passes")
    assert acted == [], "nothing is restarted while etcd is down"
    await injected(platform.end, "etcd-down")
    came_back = time.time()
    held = await until(watching, lambda one: look(one) or _holds(policy, one, rule), "waits for the delay")
    assert acted == [], "it waits"
    now = await until(watching, look, "core is restarted after the recovery")
    assert acted[0] - came_back >= DELAY - 1  # times of a status are whole seconds
    assert held.components["etcd"].verdict is Verdict.HEALTHY
    assert now.components["core"].root
    assert now.components["core"].reason in {"CoreNotRegistered", "NoCoreInstances"}
    began = time.time()
    past.append(_done(now, rule, began, "Running"))
    acted.clear()
    look(situation(watching))  # while it is at it
    await injected(platform.end, "core-stays-out")
    past[:] = [_done(now, rule, began, "Succeeded")]
    await until(watching, lambda one: look(one) or healthy(one), "healthy after the restart", 90)
    assert acted == [], "once"


def _out(now: Situation) -> bool:
    return "core" in now.components and now.components["core"].verdict is not Verdict.HEALTHY


def _holds(policy: RemediationPolicy, now: Situation, rule: str) -> bool:
    return any(hold.guard is Guard.AWAITING_RECOVERY for hold in rulings(policy, now, [])[rule].holds)


def _room(policy: RemediationPolicy, now: Situation, ruling: Ruling, past: list[Past]) -> tuple[Hold, ...]:
    rule = next(one for one in policy.spec.remediation_rules if one.name == ruling.rule)
    return room(policy, _UID, rule, _CORE, past, time.time(), incident=now.incident, step=ruling.step)


def _done(now: Situation, rule: str, began: float, phase: str) -> Past:
    ended = time.time() if phase == "Succeeded" else 0.0
    return Past("one", _UID, rule, 0, now.uid, now.incident, _CORE, phase, created=began, began=began, ended=ended)


@pytest.mark.long
async def test_without_root_causes_drivers_that_die_with_redis_would_be_restarted(
    platform: Platform, watching: Observed, monkeypatch: pytest.MonkeyPatch
):
    for guard in ("cause", "beside"):
        GUARDS[guard].turn(monkeypatch)
    with pytest.raises(AssertionError, match="restart-drivers"):
        await test_drivers_that_die_with_redis_are_left_alone(platform, watching)


@pytest.mark.long
async def test_without_waiting_core_would_be_restarted_as_soon_as_etcd_is_back(
    platform: Platform, watching: Observed, monkeypatch: pytest.MonkeyPatch
):
    for guard in ("cause", "beside", "recovery"):
        GUARDS[guard].turn(monkeypatch)
    try:
        with pytest.raises(AssertionError, match="it waits"):
            await test_a_core_that_stays_out_is_restarted_once_etcd_works_again(platform, watching)
    finally:
        await injected(platform.end, "core-stays-out")
