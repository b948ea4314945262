"""Scenarios on a real platform on loopback: a dozen always, each failure and pair of components in the long run."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from backendhealth import profiles
from backendhealth.core.durations import seconds
from tests.scenarios import loopback
from tests.scenarios.catalogue import FAULTS, PROFILES, STAYS_OUT, faults_of
from tests.scenarios.generator import Overlap, Scenario, Step, generate, pair, single
from tests.scenarios.inprocess import PROFILE, TIMING, play
from tests.scenarios.loopback import Platform
from tests.scenarios.running import shortened
from tests.servers.placeos.platform import Generation

SEED, COUNT = 1, 45


def one(name: str) -> Scenario:
    return single(FAULTS[name], TIMING)


def two(first: str, second: str, overlap: Overlap, *, first_ends_first: bool) -> Scenario:
    return pair(FAULTS[first], FAULTS[second], overlap, first_ends_first=first_ends_first, timing=TIMING, part=0.5)


ALWAYS = (
    one("etcd-down"),
    one("database-down"),
    one("redis-hangs"),
    one("elasticsearch-hangs"),
    one("driver-does-not-compile"),
    one("core-down"),
    one("core-not-registered"),
    one("api-hangs"),
    one("load-balancer-down"),
    two("etcd-hangs", "elasticsearch-down", "at once", first_ends_first=True),
    two("etcd-down", "core-down", "before the first is told", first_ends_first=False),
    two("driver-crashes", "redis-down", "after the first is told", first_ends_first=False),
)


@pytest.fixture(scope="module")
def platform() -> Iterator[Platform]:
    with loopback.platform() as found:
        yield found


@pytest.mark.timeout(180)  # the first one starts them all; drivers are believed 20 s after their last launch
@pytest.mark.parametrize("scenario", ALWAYS, ids=lambda scenario: scenario.name)
async def test_the_cause_is_named_in_time_and_nobody_else_is_blamed(platform: Platform, scenario: Scenario):
    outcome = await play(scenario, platform)
    assert outcome.verdict.right, outcome.told


@pytest.mark.timeout(120)
async def test_a_core_that_does_not_register_again_is_named_when_its_grace_is_over(platform: Platform):
    """It fell with etcd, so it is excused at first; then it is told what to restart."""
    grace = seconds(next(one.recovery_grace for one in PROFILE.components if one.name == "core"))
    told = TIMING.bound() + 0.5
    steps = (
        Step(0, True, FAULTS["etcd-down"]),
        Step(told, True, STAYS_OUT),
        Step(0, False, FAULTS["etcd-down"]),
        Step(TIMING.back() + grace + TIMING.bound(hangs=True) + 1, False, STAYS_OUT),
    )
    platform.old_core()
    outcome = await play(Scenario("core-stays-out", steps), platform)
    assert outcome.verdict.right, outcome.told
    cores = [cause for write in outcome.writes for cause in write.status["diagnosis"]["rootCauses"]]
    assert any("did not recover since etcd came back" in one["message"] for one in cores if one["component"] == "core")


@pytest.mark.timeout(60)
async def test_a_profile_that_lacks_knowledge_is_found_out(platform: Platform):
    """The judge sees it: without the confounder the load balancer is blamed for the API's failure."""
    ignorant = PROFILE.model_copy(update={"confounders": []})
    outcome = await play(one("api-down"), platform, believed=ignorant)
    assert any("load-balancer" in told for told in outcome.verdict.false_blame), outcome.told


@pytest.fixture(scope="module", params=["rethinkdb", "postgres"])
def other(request: pytest.FixtureRequest) -> Iterator[tuple[Platform, Generation]]:
    """The platform of another generation."""
    generation: Generation = request.param
    with loopback.platform(generation) as found:
        yield found, generation


@pytest.mark.long
@pytest.mark.timeout(900)
async def test_other_generations(other: tuple[Platform, Generation]):
    platform, generation = other
    faults = faults_of(generation)
    profile = shortened(profiles.built_in(PROFILES[generation]).spec)
    scenarios = [single(fault, TIMING) for fault in faults.values() if not fault.hangs]
    scenarios += generate(list(faults.values()), TIMING, SEED, 100)[len(faults) :][:6]
    outcomes = [await play(scenario, platform, profile) for scenario in scenarios]
    assert all(outcome.verdict.right for outcome in outcomes), "\n".join(
        outcome.told for outcome in outcomes if not outcome.verdict.right
    )


@pytest.mark.long
@pytest.mark.timeout(300)
@pytest.mark.parametrize("scenario", generate(list(FAULTS.values()), TIMING, SEED, COUNT), ids=lambda one: one.name)
async def test_each_failure_and_each_pair(platform: Platform, scenario: Scenario):
    outcome = await play(scenario, platform)
    assert outcome.verdict.right, outcome.told
