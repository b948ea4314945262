"""Everything is asked again between `Running` and the effect; and a process killed at any step does nothing twice."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable

import pytest

from backendhealth.core.spec.remediation import RemediationStatus
from backendhealth.engine.remediation.fencing import STEPS
from backendhealth.engine.remediation.ports import Stored, Unavailable
from backendhealth.engine.remediation.steady import SteadyClock
from backendhealth.kube.remediations import Remediations
from tests.kube import remediating
from tests.kube.replicas import FAST
from tests.remediation.stage import DEBUG, RESTART, Stage, held_by, never, phase_of, until
from tests.servers.process import wait_until

CHANGES: dict[str, tuple[Callable[[Stage], None], str]] = {
    "policy changed": (lambda stage: stage.change_policy(mode="Approve"), "PolicyChanged"),
    "a word changed": (lambda stage: stage.change_policy(approvalTimeout="45m"), "PolicyChanged"),
    "policy deleted": (lambda stage: stage.delete_policy(), "PolicyChanged"),
    "switch off": (lambda stage: remediating.switch(stage.plane, stage.namespace, "false"), "SwitchedOff"),
    "healthy again": (
        lambda stage: stage.world.set(components={"redis": "Healthy", "etcd": "Healthy"}),
        "NotObserved",
    ),
    "incident over": (lambda stage: stage.world.set(incident=""), ""),
    "storm": (lambda stage: stage.world.set(unhealthy=9, total=10), "Storm"),
    "not observed": (lambda stage: stage.world.set(unobserved=["redis"]), "NotObserved"),
}


def acted(stage: Stage) -> bool:
    return bool(stage.effects())


@pytest.mark.parametrize("change", CHANGES)
async def test_what_changes_between_claim_and_effect(stage: Stage, change: str) -> None:
    stage.policy()
    happens, guard = CHANGES[change]
    happened = False

    async def at(step: str) -> None:
        nonlocal happened
        if step == "running" and not happened:
            happened = True
            await asyncio.to_thread(happens, stage)

    async with stage.running(at=at):
        await until(lambda: acted(stage) or (happened and set(stage.phases()) <= {"Held", "Expired"}), "stopped")
        await never(lambda: acted(stage), "no effect")
        [record] = stage.all()
        if guard:
            assert guard in [hold["guard"] for hold in record["status"]["holds"]]
        else:
            await until(lambda: stage.phases() == {"Expired": 1}, "an incident never comes again")
            [record] = stage.all()
        assert "startedAt" not in record["status"]


async def test_the_lease_is_asked_for_last(stage: Stage) -> None:
    stage.policy()
    ours = True

    async def at(step: str) -> None:
        nonlocal ours
        ours = ours and step != "fencing"

    async with stage.running(at=at, serves=lambda _: ours):
        await until(lambda: not ours, "at the fence")
        await never(lambda: bool(stage.effects()), "no effect")


BEFORE = STEPS[: STEPS.index("running")]
AFTER = STEPS[STEPS.index("recorded") :]


@pytest.mark.parametrize("step", [*STEPS, "effect"])
async def test_killed_at_any_step(stage: Stage, step: str) -> None:
    stage.policy(action=DEBUG)
    child = stage.child(kill_at=step, wait=False)
    wait_until(lambda: not child.running, 30, f"killed at {step}")
    had = stage.effects()["on"]
    async with stage.running(identity="next"):
        await until(stage.settled, "at its end")
        await never(lambda: stage.effects()["on"] > 1, "twice", 0.5)
        [phase] = stage.phases()
        if step in (*BEFORE, *AFTER):
            assert (phase, stage.effects()["on"]) == ("Succeeded", 1)
            await until(lambda: [phase_of(one) for one in stage.reverts()] == ["Pending"], "to be taken back")
        else:
            assert (phase, stage.effects()["on"]) == ("Unknown", had)
            await until(lambda: [phase_of(one) for one in stage.reverts()] == ["Unknown"], "nothing is taken back")
    assert stage.effects()["off"] == 0


@pytest.mark.parametrize("step", ["claimed", "running", "fencing"])
async def test_two_leaders_at_once(stage: Stage, step: str) -> None:
    """One is stopped, another takes over, the first wakes and believes that it goes on."""
    stage.policy()
    first = stage.child(timing=FAST, stop_at=step, identity="first")
    wait_until(lambda: f"{step}\n" in first.log(), 30, f"stopped at {step}")
    stage.child(timing=FAST, identity="second")
    await until(stage.settled, "taken over", 30)
    before = stage.phases()
    first.resume()
    await never(lambda: sum(stage.effects().values()) > (step == "claimed"), "one effect at most", 2)
    assert stage.phases() == before == {"Succeeded" if step == "claimed" else "Unknown": 1}


class Deaf(Remediations):
    """The answer to the first write of Running is lost."""

    lost = False

    async def write(self, stored: Stored, status: RemediationStatus) -> Stored:
        written = await super().write(stored, status)
        if status.phase == "Running" and not self.lost:
            self.lost = True
            raise Unavailable("no answer")
        return written


async def test_no_answer_to_the_write_of_running(stage: Stage) -> None:
    stage.policy()
    async with stage.running(store=Deaf):
        await until(stage.settled, "done")
    assert stage.phases() == {"Succeeded": 1}
    assert stage.effects() == {"on": 1}


async def test_nothing_is_begun_after_the_clock_jumped(stage: Stage) -> None:
    stage.policy()
    stage.world.set(components={"redis": "Healthy", "etcd": "Healthy"})
    offset = 0.0
    async with stage.running(clock=lambda: time.time() + offset) as runner:
        await until(lambda: bool(runner.views), "looked at")
        offset = 7200.0
        stage.world.set(components={"redis": "Unhealthy", "etcd": "Healthy"})
        await until(lambda: held_by(runner) == ["SwitchedOff"], "held")
        await never(lambda: bool(stage.all()), "nothing is begun")
        assert runner.views[-1] is not None
        assert "clock" in runner.views[-1].holds[0].message


async def test_a_steady_clock_is_believed_again() -> None:
    offset = 0.0
    clock = SteadyClock(lambda: time.time() + offset, settles=0.2)
    assert not clock.trouble()
    offset = 3600.0
    assert "forward" in clock.trouble()
    assert abs(clock.now() - time.time()) < 1
    await until(lambda: True, "time passes")
    end = asyncio.get_running_loop().time() + 5
    while clock.trouble():
        assert asyncio.get_running_loop().time() < end
        await asyncio.sleep(0.05)
    assert abs(clock.now() - time.time() - 3600) < 1


async def test_switched_off_begins_nothing_and_takes_back(stage: Stage) -> None:
    stage.policy(action=DEBUG)
    async with stage.running():
        await until(stage.settled, "on")
    remediating.switch(stage.plane, stage.namespace, "false")
    stage.ask("another", RESTART)
    stage.take_back("off")
    async with stage.running():
        await until(lambda: stage.effects()["off"] == 1, "taken back")
        await until(lambda: stage.phases()["Held"] == 1, "held")
    assert stage.effects() == {"on": 1, "off": 1}
