"""Blind: whose silence is it?"""

from __future__ import annotations

import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from backendhealth.core.observation import Finding
from backendhealth.core.reasons import Reason
from backendhealth.engine.hearing import MOST_ASKED
from tests.unit.support import GOOD, NO_SECRET, REFUSED, RISKY, SILENT, probe, resource
from tests.unit.world import QUICK, World, three

NO_ROUTE = Finding(Reason.NETWORK_UNREACHABLE, "no route", contact=False)
NO_RESOLVER = Finding(Reason.RESOLVER_UNAVAILABLE, "no resolver", contact=False)
HALF_HEARD = Finding(Reason.TIMEOUT, "it hung in step auth", contact=True)


# Blind


def test_a_lone_silent_target_is_unhealthy():
    world = World(resource(probe("a"), **QUICK))
    world.see("a", SILENT, 0, 5)
    assert (world.verdict("a"), world.reason("a")) == ("Unhealthy", "Timeout")


def test_all_on_one_silent_host_are_unhealthy():
    world = World(resource(probe("a", host="h"), probe("b", host="H", port=81), **QUICK))
    world.see("a", SILENT, 0, 5)
    world.see("b", SILENT, 0, 5)
    assert [world.verdict(name) for name in "ab"] == ["Unhealthy", "Unhealthy"]


@pytest.mark.parametrize("finding", [SILENT, Finding(Reason.HOST_UNREACHABLE, "no route to the host", contact=False)])
@pytest.mark.parametrize("before", [GOOD, REFUSED])
def test_all_silent_is_blind_whatever_was_before(finding: Finding, before: Finding):
    world = World(three())
    for name in "abc":
        world.see(name, before, 0)
    world.told.clear()
    for start in (10, 20, 30, 40):
        for name in "abc":
            world.see(name, finding, start, start + 5)
    assert {(world.verdict(name), world.reason(name)) for name in "abc"} == {("Unknown", "Blind")}
    assert world.cycle.status("default/demo").summary.state == "Unknown"  # type: ignore[union-attr]
    if before is GOOD:
        assert all("Unhealthy" not in world.ever(name) for name in "abc")


def test_without_route_or_resolver_it_is_unknown_and_vouches_for_nobody():
    world = World(three())
    for start in (10, 20, 30, 40):
        world.see("a", SILENT, start, start + 5)
        world.see("b", NO_ROUTE, start)
        world.see("c", NO_RESOLVER, start, start + 5)
    assert [world.reason(name) for name in "abc"] == ["Blind", "NetworkUnreachable", "ResolverUnavailable"]
    assert {world.verdict(name) for name in "abc"} == {"Unknown"}


def test_one_silent_among_answering_ones_is_unhealthy_soon_and_the_others_are_asked_at_once():
    world = World(three())
    for name in "abc":
        world.see(name, GOOD, 0)
    assert world.see("a", SILENT, 30, 35) == ["b", "c"]
    assert world.reason("a") == "Blind"
    world.see("b", GOOD, 35.01)
    world.see("c", GOOD, 35.01)
    assert world.see("a", SILENT, 35.02, 40) == ["b", "c"]
    assert world.reason("a") == "Blind"
    world.see("b", GOOD, 40.01)
    assert world.see("a", SILENT, 40.02, 45) == []
    assert (world.verdict("a"), world.reason("a")) == ("Unhealthy", "Timeout")
    assert [world.verdict(name) for name in "bc"] == ["Healthy", "Healthy"]


def test_another_port_of_the_same_host_vouches_for_the_network():
    world = World(resource(probe("a", host="h"), probe("b", host="h", port=81), probe("c"), **QUICK))
    for start in (10, 20, 30, 40):
        world.see("a", SILENT, start, start + 5)
        world.see("b", GOOD, start + 5.1)
        world.see("c", SILENT, start, start + 5)
    assert [world.verdict(name) for name in "abc"] == ["Unhealthy", "Healthy", "Unhealthy"]


def test_a_refusal_is_a_sign_of_life():
    world = World(three())
    for start in (10, 20, 30):
        world.see("a", SILENT, start, start + 5)
        world.see("b", REFUSED, start + 5.1)
    assert world.verdict("a") == "Unhealthy"


def test_those_that_never_send_anything_neither_vouch_nor_make_doubt():
    world = World(resource(probe("a"), probe("b"), probe("c", suspend=True), **QUICK))
    world.see("b", NO_SECRET, 0)
    world.see("a", SILENT, 1, 6)
    assert world.verdict("a") == "Unhealthy"
    assert world.reason("b") == "SecretNotFound"


def test_nobody_is_accused_before_the_others_were_asked():
    world = World(three())
    world.see("a", SILENT, 0, 1)  # b and c have longer time-outs: not heard of yet
    assert world.verdict("a") == "Unknown"


def test_when_the_network_returns_nobody_is_shown_unhealthy_and_the_blind_are_asked_at_once():
    world = World(three())
    for name in "abc":
        world.see(name, GOOD, 0)
    for name in "abc":  # lost from 5 to 21
        world.see(name, SILENT, 10, 15)
    for name in "bc":
        world.see(name, SILENT, 15, 20)
    # a's and c's attempts began while it was lost, and end after it has come back
    assert world.see("b", GOOD, 21) == ["a", "c"]
    world.see("a", SILENT, 20, 25)
    assert world.verdict("a") == "Unknown"
    assert world.see("b", GOOD, 25.1) == ["a"]  # c is still to come
    world.see("c", SILENT, 20.5, 25.5)
    world.see("a", GOOD, 25.2)
    world.see("c", GOOD, 25.6)
    assert [world.verdict(name) for name in "abc"] == ["Healthy"] * 3
    assert all("Unhealthy" not in world.ever(name) for name in "abc")


def test_the_last_words_before_the_network_was_lost_vouch_for_nobody_after():
    world = World(three())
    # b answers a millisecond after a's attempt begins; then all is lost
    world.see("b", GOOD, 10.001)
    for start in (10.0, 15.0, 20.0, 25.0):
        world.see("a", SILENT, start, start + 5)
        world.see("c", SILENT, start, start + 5)
    assert [world.reason(name) for name in "ac"] == ["Blind", "Blind"]


def test_a_connection_long_before_the_end_of_an_attempt_does_not_vouch_for_that_end():
    world = World(three())
    world.see("c", GOOD, 0)
    world.see("b", HALF_HEARD, 10, 40)  # connected at 10, then lost
    for start in (11, 16, 21, 26, 31, 36, 41, 46):
        world.see("a", SILENT, start, start + 5)
    assert world.reason("a") == "Blind"


def test_two_short_returns_of_the_network_accuse_nobody_that_was_not_asked_meanwhile():
    world = World(three())
    for name in "abc":
        world.see(name, SILENT, 10, 15)
    world.see("b", GOOD, 16)  # back for a moment
    world.see("a", SILENT, 15, 20)
    world.see("b", SILENT, 20, 25)
    world.see("a", SILENT, 20, 25)
    world.see("a", SILENT, 25, 30)
    assert world.reason("a") == "Blind"


def test_one_that_died_alone_is_blind_too_once_all_others_are():
    world = World(resource(probe("a"), probe("b"), **QUICK))
    for start in (10, 20, 30):
        world.see("a", SILENT, start, start + 5)
        world.see("b", GOOD, start + 6)
    assert world.verdict("a") == "Unhealthy"
    world.see("b", SILENT, 40, 45)
    world.see("a", SILENT, 45, 50)
    assert [world.reason(name) for name in "ab"] == ["Blind", "Blind"]
    assert world.cycle.status("default/demo").incident is not None  # out of sight is not over


def test_one_lost_reply_of_the_other_does_not_make_a_known_failure_blind():
    world = World(resource(probe("a", **QUICK), probe("b")))
    for start in (0, 10, 20, 30):
        world.see("b", GOOD, start)
        world.see("a", SILENT, start + 1, start + 6)
    world.see("b", SILENT, 40, 45)
    world.see("a", SILENT, 45, 50)
    assert world.verdict("a") == "Unhealthy"


def test_another_resource_vouches_as_well():
    world = World(resource(probe("a"), **QUICK), resource(probe("b"), name="other", **QUICK))
    for start in (10, 20, 30):
        world.see("a", SILENT, start, start + 5)
        world.see("b", GOOD, start + 6, key="default/other")
    assert world.verdict("a") == "Unhealthy"


def test_pods_say_nothing_of_the_network_to_the_backends():
    """What is told of them comes from memory: it may be old, and came from the API server."""
    pods = {"name": "pods", "pods": {"selector": {"matchLabels": {"app": "core"}}}}
    world = World(resource(probe("a"), probe("b"), pods, **QUICK))
    for start in (10, 20, 30):
        for name in "ab":
            assert "pods" not in world.see(name, SILENT, start, start + 5)
        assert world.see("pods", GOOD, start + 6) == []
    assert [world.reason(name) for name in ("a", "b", "pods")] == ["Blind", "Blind", "ProbeSucceeded"]
    alone = World(resource(probe("a"), pods, **QUICK))
    alone.see("pods", GOOD, 5)
    alone.see("a", SILENT, 10, 15)
    assert (alone.verdict("a"), alone.reason("a")) == ("Unhealthy", "Timeout")


def test_one_known_to_be_dead_is_not_blind_because_others_have_come_that_were_not_heard_yet():
    world = World(resource(probe("a"), **QUICK))
    world.see("a", SILENT, 0, 5)
    world.cycle.apply(resource(probe("b"), name="other", **QUICK), 6.0)
    world.see("a", SILENT, 10, 15)
    assert (world.verdict("a"), world.reason("a")) == ("Unhealthy", "Timeout")
    world.see("b", SILENT, 10, 15, key="default/other")
    world.see("a", SILENT, 20, 25)
    assert world.reason("a") == "Blind"


def test_when_the_others_are_removed_the_silent_one_is_alone():
    world = World(resource(probe("a"), **QUICK), resource(probe("b"), name="other", **QUICK))
    world.see("b", SILENT, 0, 5, key="default/other")
    world.see("a", SILENT, 0, 5)
    assert world.reason("a") == "Blind"
    world.cycle.remove("default/other")
    assert world.see("a", SILENT, 5, 10) == []
    assert world.verdict("a") == "Unhealthy"


def test_a_blind_one_whose_spec_changes_starts_afresh():
    world = World(three())
    world.see("a", SILENT, 10, 15)
    world.cycle.apply(resource(probe("a", port=81), probe("b"), probe("c"), **QUICK), 16.0)
    assert world.reason("a") == "Pending"
    assert world.see("b", GOOD, 17) == []


def test_one_silent_attempt_asks_a_bounded_number_and_the_next_asks_others():
    names = [f"p{number:02}" for number in range(50)]
    world = World(resource(*(probe(name) for name in names), **QUICK))
    for name in names:
        world.see(name, GOOD, 0)
    first = world.see(names[0], SILENT, 10, 15)
    second = world.see(names[0], SILENT, 15, 20)
    assert len(first) == len(second) == MOST_ASKED
    assert not {*first} & {*second}


def test_who_is_asked_already_is_not_asked_again():
    world = World(three())
    world.see("a", SILENT, 10, 15)
    assert world.see("b", GOOD, 16) == ["a"]
    assert world.see("c", GOOD, 16.1) == []


def test_whoever_tries_the_network_is_asked_and_nobody_else():
    world = World(resource(probe("a", host="h"), probe("b", host="h", port=81), probe("c"), probe("d"), **QUICK))
    world.see("b", GOOD, 0)
    world.see("c", NO_SECRET, 0)
    world.see("d", GOOD, 0)
    assert world.see("a", SILENT, 10, 15) == ["b", "d"]


def test_those_without_a_route_are_asked_too_when_the_network_returns_but_not_for_ever():
    world = World(three())
    world.see("b", NO_ROUTE, 10)
    asked = []
    for at in range(20, 60, 10):
        asked += world.see("a", GOOD, at)
        world.see("b", NO_ROUTE, at + 1)
    assert asked == ["b", "b"]  # then it is known that only its own route is missing


def test_what_was_held_for_flapping_is_let_go_by_an_observation_that_changes_nothing_else():
    world = World(resource(probe("a"), **QUICK, flapDetection={"changes": 2, "window": "60s"}))
    for at in range(4):
        world.see("a", REFUSED if at % 2 else GOOD, at)
    assert condition_reason(world) == "Flapping"
    world.see("a", GOOD, 4)
    world.told.clear()
    for at in range(10, 60, 10):
        world.see("a", GOOD, at)
    assert condition_reason(world) == "Flapping"
    assert world.told == []
    world.see("a", GOOD, 64)
    assert condition_reason(world) == "ProbeSucceeded"
    assert len(world.told) == 1


def condition_reason(world: World) -> str:
    return next(one.reason for one in world.cycle.status("default/demo").conditions if one.type == "Healthy")


# Once


@pytest.mark.parametrize("order", ["abc", "cba", "bac", "cab"])
def test_once_the_order_makes_no_difference(order: str):
    findings = {"a": SILENT, "b": GOOD, "c": REFUSED}
    world = World(resource(probe("a"), probe("b"), probe("c")), once=True)
    for offset, name in enumerate(order):
        world.see(name, findings[name], offset / 1000, 5)
    world.cycle.settle(6.0)
    assert [world.reason(name) for name in "abc"] == ["Timeout", "ProbeSucceeded", "ConnectionRefused"]
    history = {change.component: change.reason for change in world.cycle.status("default/demo").history}
    assert history == {"a": "Timeout", "b": "ProbeSucceeded", "c": "ConnectionRefused"}
    assert len(world.cycle.status("default/demo").history) == 3  # nothing in between was told
    assert world.cycle.status("default/demo").summary.state == "Unhealthy"  # type: ignore[union-attr]


def test_once_all_silent_is_blind():
    world = World(three(), once=True)
    for name in "abc":
        world.see(name, SILENT, 0, 5)
    world.cycle.settle(6.0)
    assert {world.reason(name) for name in "abc"} == {"Blind"}


def test_once_a_lone_target_is_unhealthy():
    world = World(resource(probe("a")), once=True)
    world.see("a", SILENT, 0, 5)
    world.cycle.settle(6.0)
    assert world.verdict("a") == "Unhealthy"


# Laws


@settings(deadline=None, max_examples=40)
@given(
    st.dictionaries(st.sampled_from("abc"), st.lists(st.sampled_from([GOOD, RISKY, REFUSED, NO_SECRET]), max_size=8)),
    st.randoms(use_true_random=False),
)
def test_where_nobody_is_silent_the_order_between_probes_makes_no_difference(
    rows: dict[str, list[Finding]], rng: random.Random
):
    def run(*, shuffled: bool) -> list[tuple[str, str]]:
        world = World(resource(probe("a"), probe("b"), probe("c"), flapDetection={"changes": 20}))
        left = {name: list(findings) for name, findings in rows.items()}
        at = 0.0
        while any(left.values()):
            names = [name for name, findings in sorted(left.items()) if findings]
            name = rng.choice(names) if shuffled else names[0]
            at += 1
            world.see(name, left[name].pop(0), at)
        return [(world.verdict(name), world.reason(name)) for name in "abc"]

    assert run(shuffled=True) == run(shuffled=False)


letters = st.tuples(st.sampled_from("abc"), st.sampled_from([GOOD, REFUSED, SILENT, NO_ROUTE]))


@settings(deadline=None, max_examples=40)
@given(st.lists(letters, max_size=30))
def test_nobody_is_accused_of_silence_unless_others_were_heard_twice_meanwhile(steps: list[tuple[str, Finding]]):
    world = World(three(flapDetection={"changes": 20}))
    silent_from: dict[str, float] = {}
    heard: list[float] = []
    for index, (name, finding) in enumerate(steps):
        start = index * 10.0
        world.see(name, finding, start, start + 5)
        if finding.contact:
            heard.append(start)
            silent_from.pop(name, None)
        else:
            silent_from.setdefault(name, start)
        for one, since in silent_from.items():
            if world.verdict(one) == "Unhealthy":
                assert sum(at >= since for at in heard) >= 2
