"""Verbose logs are turned on once and off once, whoever wants them."""

from __future__ import annotations

from tests.remediation.stage import DEBUG, Stage, never, phase_of, until


async def test_two_policies_and_two_people(stage: Stage) -> None:
    stage.policy(action=DEBUG)
    stage.policy("other", action=DEBUG)
    stage.ask("ada")
    stage.ask("grace")
    async with stage.running():
        await until(lambda: stage.phases() == {"Succeeded": 4}, "all have what they want")
        needless = [
            stage.message(one["metadata"]["name"]).startswith("not needed: verbose until") for one in stage.all()
        ]
        assert needless.count(True) == 3
        assert len(stage.reverts()) == 1
        assert stage.effects() == {"on": 1}
        stage.take_back("off-1")
        stage.take_back("off-2")
        await until(lambda: stage.effects()["off"] == 1, "off")
        await until(lambda: {phase_of(one) for one in stage.reverts()} == {"Succeeded"}, "recorded")
        await never(lambda: sum(stage.effects().values()) > 2, "once on, once off")
        stage.ask("once-more")
        await until(lambda: stage.effects()["on"] == 2, "on again, in the next epoch")


async def test_taken_back_by_itself_by_the_next_leader(stage: Stage) -> None:
    stage.policy(action={"debugLogs": {**DEBUG["debugLogs"], "revertAfter": "10s", "confirmWithin": "2s"}})
    async with stage.running():
        await until(stage.settled, "on")
        assert stage.effects() == {"on": 1}
    async with stage.running(identity="another"):
        await until(lambda: [phase_of(one) for one in stage.reverts()] == ["Succeeded"], "off", 30)
    assert stage.effects() == {"on": 1, "off": 1}


async def test_done_as_soon_as_the_log_confirms_it(stage: Stage) -> None:
    """Verbose logs help nobody recover: nothing waits for that, and nothing is kept waiting by it."""
    stage.policy(action=DEBUG, rule={"verify": None}, limits={"maxConcurrent": 1})
    stage.world.set(targets=["a", "b"])
    async with stage.running():
        await until(lambda: stage.phases() == {"Succeeded": 2}, "both, one after the other")
    assert stage.effects() == {"on": 2}
    assert stage.world.now["components"]["redis"] == "Unhealthy"


async def test_what_was_not_needed_takes_no_place(stage: Stage) -> None:
    stage.policy(action=DEBUG, limits={"max": 2, "maxConcurrent": 1})
    stage.world.set(components={"redis": "Healthy"}, incident="")
    for name in ("ada", "grace", "cleo", "dan"):
        stage.ask(name)
    async with stage.running():
        await until(lambda: stage.phases() == {"Succeeded": 4}, "one is done, and all have it")
    assert stage.effects() == {"on": 1}


async def test_a_restart_takes_it_back(stage: Stage) -> None:
    stage.policy(action=DEBUG)
    async with stage.running():
        await until(stage.settled, "on")
        stage.world.set(restarts=1, incident="", components={"redis": "Healthy", "etcd": "Healthy"})
        stage.take_back("off")
        await until(lambda: {phase_of(one) for one in stage.reverts()} == {"Succeeded"}, "over")
    assert any(stage.message(one["metadata"]["name"]).startswith("not needed") for one in stage.reverts())
    assert stage.effects() == {"on": 1}


async def test_what_was_not_done_is_not_taken_back(stage: Stage) -> None:
    stage.policy(action=DEBUG)
    stage.world.set(how="refused")
    async with stage.running():
        await until(lambda: [phase_of(one) for one in stage.reverts()] == ["Expired"], "nothing to take back")
    assert not stage.effects()


async def test_what_is_unknown_is_not_taken_back(stage: Stage) -> None:
    stage.policy(action=DEBUG)
    stage.world.set(how="silent")
    async with stage.running():
        await until(lambda: [phase_of(one) for one in stage.reverts()] == ["Unknown"], "unknown")
        assert "only a restart" in stage.message(stage.reverts()[0]["metadata"]["name"])
        stage.world.set(how="done")
        stage.ask("later")
        await until(lambda: stage.phases()["Failed"] == 1, "nobody knows what a toggle would do")
    assert stage.effects() == {"on": 1}


async def test_killed_in_a_revert(stage: Stage) -> None:
    stage.policy(action=DEBUG)
    async with stage.running():
        await until(stage.settled, "on")
    stage.take_back("off")
    child = stage.child(kill_at="effect", wait=False)
    await until(lambda: not child.running, "killed", 30)
    async with stage.running(identity="next"):
        await until(lambda: {phase_of(one) for one in stage.reverts()} == {"Unknown"}, "unknown")
        await never(lambda: stage.effects()["off"] > 1, "never repeated")
    assert stage.effects() == {"on": 1, "off": 1}
