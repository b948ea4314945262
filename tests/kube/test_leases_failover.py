"""Replicas that are killed, stopped, frozen and cut off: another takes over, and never are there two."""

from __future__ import annotations

import contextlib
import random
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

import pytest

from backendhealth.core.leasing import Timing
from backendhealth.kube.hold import boottime
from tests.kube.replicas import FAST, Cable, Replica, let_pass, overlaps
from tests.servers.kubernetes import ControlPlane
from tests.servers.process import wait_until

SLACK = 1.0
"""Seconds that two busy cores may add."""
KILLED = FAST.duration + FAST.retry_interval + FAST.sharing + SLACK
STOPPED = FAST.retry_interval + FAST.handover + SLACK

Start = Callable[..., Replica]


@pytest.fixture
def start(control_plane: ControlPlane, namespace: str) -> Iterator[Start]:
    with contextlib.ExitStack() as stack:

        def start(*, wait: bool = True, **options: Any) -> Replica:
            replica = Replica(**{"kubeconfig": control_plane.kubeconfig, "namespace": namespace, **options})
            stack.callback(replica.close)
            return replica.start(wait=wait)

        yield start


def pair(start: Start, **options: Any) -> tuple[Replica, Replica]:
    """A replica that holds the one shard, and another that waits for it."""
    leader = start(**options)
    leader.wait_for("acquired", 10)
    return leader, start(**{name: value for name, value in options.items() if name != "kubeconfig"})


def test_after_a_kill_another_takes_over(start: Start):
    leader, other = pair(start)
    leader.kill()
    killed = leader.killed_at or 0.0
    taken = other.wait_for("acquired", KILLED + 5)
    assert FAST.renew_deadline < taken - killed < KILLED
    assert overlaps([leader, other], 0) == []


def test_after_a_clean_stop_another_takes_over_at_once(start: Start):
    leader, other = pair(start)
    began = boottime()
    leader.stop()
    assert other.wait_for("acquired", 10) - began < STOPPED
    assert other.told("acquired") > leader.told("lost")
    assert overlaps([leader, other], 0) == []


def test_who_stops_cleanly_has_stopped_before_the_lease_is_free(
    start: Start, control_plane: ControlPlane, namespace: str
):
    leader = start()
    leader.wait_for("acquired", 10)
    leader.stop()
    assert leader.told("lost", 0) < leader.told("stopped")
    spec = control_plane.request("GET", f"/apis/coordination.k8s.io/v1/namespaces/{namespace}/leases/test-shard-0")[
        "spec"
    ]
    assert (spec["holderIdentity"], spec["leaseDurationSeconds"], spec["leaseTransitions"]) == ("", 1, 0)
    other = start()
    ready = boottime()
    assert other.wait_for("acquired", 10) - ready < SLACK


def test_a_frozen_leader_wakes_up_as_none(start: Start):
    leader, other = pair(start)
    with leader.frozen():
        taken = other.wait_for("acquired", KILLED + 5)
    lost = leader.wait_for("lost", 5)
    assert lost > taken  # it was told when it could be: but the clock had said so at the first moment
    wait_until(lambda: leader.woke_holding() == [0], 5, "its first look after it woke up found nothing held")
    assert overlaps([leader, other], 0) == []
    assert "not renewed in time" in leader.log()
    assert leader.holding() == set()


def test_a_frozen_leader_without_another_loses_it_and_takes_it_again(start: Start):
    leader = start()
    leader.wait_for("acquired", 10)
    with leader.frozen():
        let_pass(FAST.renew_deadline + 0.2)
    assert leader.wait_for("acquired", 5, count=2) > leader.wait_for("lost", 5)
    wait_until(lambda: leader.woke_holding() == [0], 5, "its first look after it woke up found nothing held")


def test_a_short_freeze_changes_nothing(start: Start):
    leader, other = pair(start)
    with leader.frozen():
        let_pass(0.7)
    let_pass(FAST.duration + 0.5)
    assert (leader.told("lost"), other.told("acquired")) == ([], [])


def test_who_is_cut_off_stops_before_another_begins(start: Start, control_plane: ControlPlane):
    with Cable(control_plane).plugged() as cable:
        leader, other = pair(start, kubeconfig=cable.kubeconfig)
        began = boottime()
        cable.cut()
        lost = leader.wait_for("lost", 10)
        assert lost - began <= FAST.renew_deadline + 0.3
        taken = other.wait_for("acquired", KILLED + 5)
        assert lost < taken
        cable.mend()
        leader.wait_for_log("the election goes on")
        assert leader.log().count("no election") == 1
        assert overlaps([leader, other], 0) == []
        other.stop()
        assert leader.wait_for("acquired", 10, count=2) > taken
    assert overlaps([leader, other], 0) == []


@pytest.mark.parametrize("how", ["killed", "paused"])
def test_without_an_api_server_nobody_holds_it(start: Start, control_plane: ControlPlane, how: str):
    replicas = pair(start)
    leader = replicas[0]
    began = boottime()
    stop, resume = {
        "killed": (control_plane.stop_api, control_plane.start_api),
        "paused": (control_plane.pause, control_plane.resume),
    }[how]
    stop()
    try:
        # by its own timer: when the API server is paused, a request hangs at that moment
        assert leader.wait_for("lost", 10) - began <= FAST.renew_deadline + 0.3
        let_pass(FAST.duration)
        assert [replica.holding() for replica in replicas] == [set(), set()]
    finally:
        resume()
    wait_until(lambda: any(replica.holding() for replica in replicas), KILLED + 10, "one holds it again")
    for replica in replicas:
        replica.wait_for_log("the election goes on")
        assert replica.log().count("no election") == 1
    assert overlaps(replicas, 0) == []


def test_two_replicas_of_one_name_are_two(start: Start):
    leader, other = pair(start, identity="same")
    let_pass(FAST.duration + 0.5)
    assert other.told("acquired") == []
    assert leader.told("lost") == []


def test_shards_are_shared_and_none_is_left_alone(start: Start):
    slow = replace(FAST, sharing=6.0)  # so that it matters little which of the two was started first
    first, second = replicas = [start(shards=4, timing=slow, wait=False) for _ in range(2)]
    wait_until(lambda: sum(len(replica.holding()) for replica in replicas) == 4, 20, "all shards held")
    assert [len(replica.holding()) for replica in replicas] == [2, 2]
    assert first.holding() | second.holding() == {0, 1, 2, 3}
    first.kill()
    wait_until(lambda: second.holding() == {0, 1, 2, 3}, KILLED + slow.sharing, "one holds them all")
    assert [overlaps(replicas, shard) for shard in range(4)] == [[]] * 4


def test_a_single_replica_holds_all_shards(start: Start):
    replica = start(shards=4)
    wait_until(lambda: replica.holding() == {0, 1, 2, 3}, FAST.sharing + 2 * SLACK, "all shards held")


def test_leases_of_other_shards_are_left_alone(start: Start):
    four = start(shards=4)
    wait_until(lambda: four.holding() == {0, 1, 2, 3}, 10, "all shards held")
    four.stop()
    two = start(shards=2)
    wait_until(lambda: two.holding() == {0, 1}, 10, "its shards held")
    three = start(shards=3)
    assert three.wait_for("acquired", 10, shard=2)
    assert (two.holding(), three.holding()) == ({0, 1}, {2})


def chaos(start: Start, rounds: int, seed: int) -> None:
    """Kills, freezes and stops in turn, each replaced; some of the freezes last longer than a Lease."""
    chance = random.Random(seed)
    all_of_them = [start(shards=2) for _ in range(3)]
    alive = list(all_of_them)
    for _ in range(rounds):
        victim = chance.choice(alive)
        lasts = chance.uniform(0.1, 2 * FAST.duration)
        match chance.choice(("kill", "stop", "freeze", "freeze")):
            case "freeze":
                with victim.frozen():
                    let_pass(lasts)
            case fate:
                victim.kill() if fate == "kill" else victim.stop()
                all_of_them.append(start(shards=2))
                alive[alive.index(victim)] = all_of_them[-1]
        wait_until(lambda: set().union(*(one.holding() for one in alive)) == {0, 1}, KILLED + 10, "all shards held")
    for replica in alive:
        replica.stop()
    for shard in range(2):
        assert overlaps(all_of_them, shard) == []
        assert sum(len(replica.spans(shard)) for replica in all_of_them) > 0


def test_there_are_never_two(start: Start):
    chaos(start, rounds=5, seed=4)


@pytest.mark.long
@pytest.mark.timeout(900)
def test_there_are_never_two_for_long(start: Start):
    chaos(start, rounds=80, seed=5)


@pytest.mark.long
def test_the_default_durations_keep_their_promises(start: Start, record_property: Callable[[str, object], None]):
    leader, other = pair(start, timing=Timing())
    leader.kill()
    killed = leader.killed_at or 0.0
    after_kill = other.wait_for("acquired", 30) - killed
    third = start(timing=Timing())
    began = boottime()
    other.stop()
    after_stop = third.wait_for("acquired", 10) - began
    record_property("takeover after kill -9", after_kill)
    record_property("takeover after a clean stop", after_stop)
    print(f"takeover after kill -9: {after_kill:.2f} s, after a clean stop: {after_stop:.2f} s")
    assert after_kill <= 20
    assert after_stop <= 2
    assert overlaps([leader, other, third], 0) == []
