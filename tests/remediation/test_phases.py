"""What a Remediation comes to: done, approved, held, dry; and that nothing is forgotten over a restart."""

from __future__ import annotations

import pytest

from tests.kube import remediating
from tests.remediation.stage import DEBUG, RESTART, Stage, held_by, never, phase_of, until


async def test_done_once_and_recorded(stage: Stage) -> None:
    stage.policy()
    async with stage.running() as runner:
        await until(stage.settled, "done")
        assert stage.effects() == {"on": 1}
        [record] = stage.all()
        status = record["status"]
        assert (status["phase"], status["by"]) == ("Succeeded", "runner")
        assert status["actingAs"] == f"system:serviceaccount:{stage.namespace}:remediator"
        assert any(call.startswith("POST ") and "201" in call for call in status["calls"])
        # Announced after the cluster holds it, so a moment after it can be read there.
        await until(lambda: runner.phases[-1:] == [(record["metadata"]["name"], "Succeeded")], "announced")
        assert [phase for _, phase in runner.phases] == ["Pending", "Running", "Verifying", "Succeeded"]
        stage.world.set(unhealthy=1)
        await until(lambda: held_by(runner) == ["AlreadyDone"], "held")
        await never(lambda: stage.effects()["on"] > 1, "twice in one incident")


async def test_not_helpful_when_what_is_ill_stays_so(stage: Stage) -> None:
    stage.policy(rule={"verify": {"within": "1s"}})
    async with stage.running():
        await until(stage.settled, "verified")
    assert stage.phases() == {"NotHelpful": 1}


async def test_dry_run_has_no_effect(stage: Stage) -> None:
    stage.policy(mode="DryRun")
    async with stage.running():
        await until(stage.settled, "rehearsed")
        await never(lambda: bool(stage.effects()), "a dry run has no effect")
    [record] = stage.all()
    assert record["status"]["phase"] == "DryRun"
    assert record["status"]["message"] == "dry run: would turn on pod-a"
    assert record["status"]["calls"][-1] == "not done, dry run: turn on pod-a"


@pytest.mark.parametrize(("decision", "phase", "effects"), [("Approved", "Succeeded", 1), ("Rejected", "Rejected", 0)])
async def test_a_person_decides(stage: Stage, decision: str, phase: str, effects: int) -> None:
    stage.policy(mode="Approve")
    async with stage.running():
        await until(lambda: stage.phases() == {"AwaitingApproval": 1}, "asked for approval")
        await never(lambda: bool(stage.effects()), "not approved")
    async with stage.running(identity="another"):  # leadership moves while it waits
        stage.answer(decision)
        await until(stage.settled, "decided")
    assert stage.phases() == {phase: 1}
    assert stage.effects()["on"] == effects


async def test_expires_without_approval(stage: Stage) -> None:
    stage.policy()
    stage.world.set(components={"redis": "Healthy"}, incident="")
    stage.ask("asked", mode="Approve", seconds=2)
    async with stage.running():
        await until(stage.settled, "expired")
    assert stage.phases() == {"Expired": 1}
    assert not stage.effects()


async def test_approved_too_late(stage: Stage) -> None:
    stage.policy()
    stage.world.set(components={"redis": "Healthy"}, incident="")
    stage.ask("asked", RESTART, mode="Approve", seconds=-5, approval={"decision": "Approved", "by": "grace"})
    async with stage.running():
        await until(stage.settled, "expired")
    assert stage.phases() == {"Expired": 1}
    assert not stage.effects()


async def test_what_can_not_be_read_is_told_to_who_asked_for_it(stage: Stage) -> None:
    """The API server takes an expression that no regular expression is."""
    stage.policy()
    stage.world.set(components={"redis": "Healthy"}, incident="")
    stage.ask("asked", {"debugLogs": {**DEBUG["debugLogs"], "confirm": "(unclosed"}})
    async with stage.running() as runner:
        await until(stage.settled, "told")
        await until(lambda: runner.phases == [("asked", "Failed")], "announced")
    assert stage.phases() == {"Failed": 1}
    assert stage.message().startswith("not done: spec.action.debugLogs.confirm: ")
    assert not stage.effects()


async def test_held_and_let_go(stage: Stage) -> None:
    stage.policy(mode="Approve", rule={"unless": {"unhealthy": ["etcd"]}})
    async with stage.running():
        await until(lambda: stage.phases() == {"AwaitingApproval": 1}, "asked for approval")
        stage.world.set(components={"redis": "Unhealthy", "etcd": "Unknown"})
        stage.answer("Approved")
        await until(lambda: stage.phases() == {"Held": 1}, "held")
        assert stage.all()[0]["status"]["holds"][0]["guard"] == "Unless"
        assert not stage.effects()
        stage.world.set(components={"redis": "Unhealthy", "etcd": "Healthy"})
        await until(stage.settled, "let go")
    assert stage.phases() == {"Succeeded": 1}


async def test_what_was_only_restored_is_not_acted_on(stage: Stage) -> None:
    stage.policy()
    stage.world.set(unobserved=["redis"])
    async with stage.running():
        await never(lambda: bool(stage.all()), "nothing before a new observation")
        stage.world.set(unobserved=[])
        await until(stage.settled, "observed")
    assert stage.effects() == {"on": 1}


async def test_by_hand_under_the_same_limits(stage: Stage) -> None:
    stage.policy(limits={"max": 1, "maxConcurrent": 1})
    stage.world.set(components={"redis": "Healthy"}, incident="")
    stage.ask("first", RESTART)
    async with stage.running():
        await until(stage.settled, "done")
        stage.ask("second", RESTART)
        await until(lambda: stage.phases()["Held"] == 1, "held by the limit")
    assert stage.effects() == {"on": 1}
    [second] = [one for one in stage.all() if one["metadata"]["name"] == "second"]
    assert second["status"]["holds"][0]["guard"] == "LimitReached"


async def test_limits_survive_restarts_and_the_backendhealth(stage: Stage) -> None:
    stage.policy(limits={"max": 1, "maxConcurrent": 1})
    async with stage.running():
        await until(stage.settled, "done")
        stage.world.set(uid="")
    stage.world.set(uid="another-uid", incident="incident-2", targets=["pod-b"])
    async with stage.running(identity="another") as runner:
        await until(lambda: held_by(runner) == ["LimitReached"], "held")
        await never(lambda: len(stage.all()) > 1, "the limit is reached")
    assert stage.effects() == {"on": 1}


async def test_no_more_at_a_time_than_allowed(stage: Stage) -> None:
    stage.policy(limits={"maxConcurrent": 2, "max": 10}, rule={"verify": {"healthy": ["etcd"], "within": "1m"}})
    stage.world.set(targets=["a", "b", "c", "d"], components={"redis": "Unhealthy", "etcd": "Unhealthy"})
    async with stage.running():
        await until(lambda: stage.phases() == {"Verifying": 2}, "two at a time")
        await never(lambda: sum(stage.effects().values()) > 2, "a third")
        stage.world.set(components={"redis": "Unhealthy", "etcd": "Healthy"})
        await until(lambda: stage.phases() == {"Succeeded": 4}, "all")
    assert stage.effects() == {"on": 4}


async def test_verifying_goes_on_after_a_restart(stage: Stage) -> None:
    stage.policy(rule={"verify": {"healthy": ["etcd"], "within": "1m"}})
    stage.world.set(components={"redis": "Unhealthy", "etcd": "Unhealthy"})
    async with stage.running():
        await until(lambda: stage.phases() == {"Verifying": 1}, "verifying")
    stage.world.set(components={"redis": "Healthy", "etcd": "Healthy"}, incident="")
    async with stage.running(identity="another"):
        await until(stage.settled, "verified")
    assert stage.phases() == {"Succeeded": 1}
    assert stage.effects() == {"on": 1}


async def test_unknown_is_never_repeated(stage: Stage) -> None:
    stage.policy(limits={"max": 1, "maxConcurrent": 1})
    stage.world.set(how="silent")
    async with stage.running():
        await until(stage.settled, "over")
    assert stage.phases() == {"Unknown": 1}
    stage.world.set(how="done", incident="incident-2")
    async with stage.running(identity="another") as runner:
        await until(lambda: held_by(runner) == ["LimitReached"], "held")
        await never(lambda: stage.effects()["on"] > 1, "what is unknown counts")


async def test_a_refusal_is_told_with_what_would_grant_it(stage: Stage) -> None:
    stage.policy()
    stage.world.set(how="refused")
    async with stage.running():
        await until(stage.settled, "refused")
    assert stage.phases() == {"Failed": 1}
    assert stage.message() == "not done, refused: not for you; kubectl create role …"


async def test_a_forged_claim_is_not_carried_out(stage: Stage) -> None:
    uid = stage.policy(mode="Approve")["metadata"]["uid"]
    async with stage.running():
        await until(lambda: stage.phases() == {"AwaitingApproval": 1}, "asked for approval")
        [real] = stage.all()
        stage.plane.request("DELETE", remediating.path(stage.namespace, "remediations", real["metadata"]["name"]))
        stage.world.set(components={"redis": "Unhealthy", "etcd": "Unknown"})
        forged = {**real, "metadata": {"name": "forged"}, "status": {}}
        forged["spec"]["approval"] = {"decision": "Approved", "by": "mallory"}
        assert forged["spec"]["policyRef"]["uid"] == uid
        stage.plane.request("POST", remediating.path(stage.namespace, "remediations"), forged)
        await until(lambda: stage.phases()["Failed"] == 1, "refused")
    assert not stage.effects()


async def test_a_forged_revert_is_not_carried_out(stage: Stage) -> None:
    """What is exempt from limits and approval must take back just what was done."""
    stage.policy(action=DEBUG)
    async with stage.running():
        await until(stage.settled, "on")
        [revert] = stage.reverts()
        stage.plane.request("DELETE", remediating.path(stage.namespace, "remediations", revert["metadata"]["name"]))
        spec = {**revert["spec"], "target": {**revert["spec"]["target"], "name": "pod-z", "uid": "uid-pod-z"}}
        spec["revert"] = {**spec["revert"], "notBefore": "2020-01-01T00:00:00Z"}
        forged = {**revert, "metadata": {"name": revert["metadata"]["name"]}, "spec": spec, "status": {}}
        stage.plane.request("POST", remediating.path(stage.namespace, "remediations"), forged)
        await until(lambda: [phase_of(one) for one in stage.reverts()] == ["Failed"], "refused")
    assert stage.effects() == {"on": 1}
