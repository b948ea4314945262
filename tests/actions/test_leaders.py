"""Real operators on the real cluster, one of which is stopped or killed: what it was at happens once, or not at all."""

from __future__ import annotations

import json
from collections.abc import Iterator

import pytest

from tests.actions.place import Person, Place, Stepped, phase_of, placed
from tests.actions.services import pod, service
from tests.actions.stage import ACCOUNT, debug_logs
from tests.actions.test_restarts import restart, rollout, workload
from tests.cluster import images
from tests.cluster.cluster import Cluster
from tests.kube.test_remediation import stays
from tests.servers.process import wait_until

PODS = ("claimed", "fencing", "approved", "reverted")
WORKLOADS = ("rolled-performed", "rolled-recorded", "evicted-performed", "evicted-recorded")
ENDS = [("performed", "Unknown"), ("recorded", "Succeeded")]
QUIET = 2.0
LONG = {"revertAfter": "1h", "confirmWithin": "5s"}


@pytest.fixture(scope="module")
def stand(own_cluster: Cluster, product_image: str) -> Iterator[Place]:
    pods = [pod(name, service(images.BUSYBOX)) for name in PODS]
    workloads = [workload("Deployment", name) for name in WORKLOADS]
    with placed(own_cluster, product_image, *pods, *workloads) as place:
        yield place


def killed(first: Stepped) -> None:
    wait_until(lambda: not first.running, 30, f"killed: {first.log()}")


@pytest.mark.parametrize(("step", "phase", "effects"), [("claimed", "Succeeded", 1), ("fencing", "Unknown", 0)])
def test_two_leaders_at_once(place: Place, step: str, phase: str, effects: int):
    """One is stopped between claim and effect, another takes over, the first wakes and believes that it goes on."""
    since = place.mark()
    with place.operator("first", stop_at=step) as first:
        place.declare()
        place.allow("policy", debug_logs(step, **LONG))
        first.until_at(step)
        with place.operator("second"):
            place.until_final()
            done = place.only()
            assert phase_of(done) == phase, done
            first.resume()
            assert stays(lambda: place.counted(step).total() == effects, QUIET)
            wait_until(first.is_ready, 10, "it goes on")
    assert place.only()["status"] == done["status"]
    assert done["status"]["by"].startswith("second" if phase == "Succeeded" else "first")
    assert place.effects(since) == [f"exec {step}"] * effects


def test_the_leader_ends_while_it_waits_for_approval(place: Place):
    since, ada = place.mark(), Person(place, "ada")
    with place.operator("first") as first:
        place.declare()
        place.allow("policy", debug_logs("approved", **LONG), mode="Approve")
        place.until(lambda: [phase_of(one) for one in place.done()] == ["AwaitingApproval"], "waits")
        with place.operator("second"):
            first.kill()
            ada.does("approve", place.only()["metadata"]["name"])
            place.until_final()
            assert stays(lambda: place.counted("approved").total() == 1, QUIET)
    done = place.only()
    assert phase_of(done) == "Succeeded"
    assert done["status"]["by"].startswith("second")
    assert done["spec"]["approval"]["by"] == ada.user
    assert place.effects(since) == ["exec approved"]


def test_the_leader_ends_before_a_revert_is_due(place: Place):
    since = place.mark()
    with place.operator("first") as first:
        place.declare()
        place.allow("policy", debug_logs("reverted", revertAfter="10s", confirmWithin="5s"))
        place.until_final()
        with place.operator("second"):
            first.kill()
            place.until_reverted()
            assert stays(lambda: place.counted("reverted").total() == 2, QUIET)
    (revert,) = place.reverts()
    assert revert["status"]["by"].startswith("second")
    assert place.only()["status"]["by"].startswith("first")
    assert place.effects(since) == ["exec reverted"] * 2


@pytest.mark.parametrize(("step", "phase"), ENDS)
def test_the_leader_ends_in_a_rollout(place: Place, step: str, phase: str):
    name, since = f"rolled-{step}", place.mark()
    with place.operator("first", kill_at=step) as first, place.operator("second"):
        leads(first)
        place.declare()
        place.allow("policy", rollout("Deployment", name))
        killed(first)
        with place.mended():
            place.until_final()
        assert stays(lambda: revisions(place, name) == ["1", "2"], QUIET)
    truthful(place.only(), phase)
    assert place.effects(since) == [f"patch {name}"]


@pytest.mark.parametrize(("step", "phase"), ENDS)
def test_the_leader_ends_in_a_restart_of_pods(place: Place, step: str, phase: str):
    name, since = f"evicted-{step}", place.mark()
    before = place.pods(name)[0]["metadata"]
    with place.operator("first", kill_at=step) as first, place.operator("second"):
        leads(first)
        place.declare()
        place.allow("policy", restart(name, pods="All"))
        killed(first)
        if phase == "Unknown":  # core stays down, and yet nothing more is done in this incident
            place.until_final()
            assert stays(lambda: len(place.effects(since)) == 1, QUIET), place.effects(since)
        else:
            with place.mended():
                place.until_final()
        place.steady(name)
        (after,) = place.ready(name)
    assert after != before["uid"]
    truthful(place.only(), phase)
    assert place.effects(since) == [f"eviction {before['name']}"]


def leads(first: Stepped) -> None:
    wait_until(lambda: first.metric("backendhealth_leader") == 1, 10, f"leads: {first.log()}")


def truthful(done: dict[str, dict[str, str]], phase: str) -> None:
    assert phase_of(done) == phase, done
    assert done["status"]["by"].startswith("first")
    assert done["status"]["actingAs"].endswith(f":{ACCOUNT}")
    if phase == "Unknown":
        assert "it is not known what was done, and it is not repeated" in done["status"]["message"]
        assert "effectAt" not in done["status"]


def revisions(place: Place, name: str) -> list[str]:
    """Of all ReplicaSets of a Deployment."""
    found = json.loads(place.kubectl("get", "replicasets", "-l", f"app={name}", "-o", "json"))["items"]
    return sorted(one["metadata"]["annotations"]["deployment.kubernetes.io/revision"] for one in found)
