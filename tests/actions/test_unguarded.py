"""Guards taken out on the real cluster are missed: the proof fails, and a process gets what it should not have got."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest

from backendhealth.actions import script
from backendhealth.kube.api import Api
from tests.actions import test_crashes, test_identity, test_leaders, test_signals, test_wishes
from tests.actions.place import Person, Place, placed
from tests.actions.services import pod, service
from tests.actions.stage import Stage, debug_logs
from tests.actions.test_restarts import restart, workload
from tests.cluster import images
from tests.cluster.cluster import Cluster
from tests.kube.unguarded import without
from tests.remediation.removing import OffText

pytestmark = pytest.mark.long

PODS = ("fencing", "performed", "wished")


def _script(*edits: tuple[str, str]) -> tuple[OffText, ...]:
    return tuple(OffText(script, "_SCRIPT", *edit) for edit in edits)


ANOTHER_MEANING = _script(("for program in $forbidden; do", "for program in ''; do"))
TOO_LATE = _script(('no "it is too late', ': "it is too late'))
ANOTHER_POD = _script(
    ('[ -n "$ours" ] || no', '[ -n "$ours" ] || :'),
    ('no "the container has been restarted', ': "the container has been restarted'),
    ('no "the container has only just', ': "the container has only just'),
)


async def test_a_signal_that_means_something_else(stage: Stage, kube: Api, monkeypatch: pytest.MonkeyPatch):
    before = stage.counted("puma").total()
    for one in ANOTHER_MEANING:
        one.turn(monkeypatch)
    with pytest.raises(AssertionError):
        await test_signals.test_what_must_not_be_signalled_is_not(stage, kube, "puma", {}, "is puma")
    assert stage.counted("puma").total() == before + 1


async def test_a_signal_that_comes_too_late(stage: Stage, kube: Api, monkeypatch: pytest.MonkeyPatch):
    before = stage.counted("shell").total()
    for one in TOO_LATE:
        one.turn(monkeypatch)
    with pytest.raises(AssertionError):
        await test_signals.test_what_comes_too_late_does_nothing(stage, kube, "shell")
    assert stage.counted("shell").total() == before + 1


async def test_a_signal_to_another_pod_of_the_name(stage: Stage, kube: Api, monkeypatch: pytest.MonkeyPatch):
    for one in ANOTHER_POD:
        one.turn(monkeypatch)
    with pytest.raises(AssertionError):
        await test_signals.test_another_pod_of_the_name_is_left_alone(stage, kube, "remade")
    assert stage.counted("remade").total() == 1


@pytest.fixture(scope="module")
def stand(own_cluster: Cluster, product_image: str) -> Iterator[Place]:
    pods = [pod(name, service(images.BUSYBOX)) for name in PODS]
    owned = [workload("StatefulSet", "remade"), workload("Deployment", "posed")]
    with placed(own_cluster, product_image, *pods, *owned) as place:
        yield place


def two_leaders(place: Place) -> None:
    test_leaders.test_two_leaders_at_once(place, "fencing", "Unknown", 0)


def killed_after_the_effect(place: Place) -> None:
    test_crashes.test_killed_at(place, "performed")


def many_wishes(place: Place) -> None:
    place.allow("by-hand", debug_logs("nothing"), limits={"max": 20, "maxConcurrent": 10})
    with place.operator():
        test_wishes.test_two_policies_and_two_people_toggle_once(place, (Person(place, "ada"), Person(place, "grace")))


def another_pod(place: Place) -> None:
    action = restart("remade", pods="All")
    test_identity.test_another_pod_of_the_name_is_left_alone(place, "remade-0", "fencing", action, "UID")


ROWS: dict[str, tuple[tuple[str, ...], Callable[[Place], None], Callable[[Place, list[str]], bool]]] = {
    "who wakes is fenced": (("fence",), two_leaders, lambda place, _: place.counted("fencing").total() == 1),
    "what was left is not gone on with": (
        ("left", "fence"),
        killed_after_the_effect,
        lambda place, _: place.counted("performed").total() == 2,
    ),
    "a toggle is claimed": (("toggle",), many_wishes, lambda place, _: place.counted("wished").total() > 1),
    "an eviction is of that very pod": (
        ("uid",),
        another_pod,
        lambda _, effects: effects == ["eviction remade-0"],
    ),
    "a pod that nothing would replace": (
        ("owner",),
        test_identity.test_a_pod_that_poses_as_another_is_not_restarted,
        lambda place, _: place.only()["spec"]["target"]["name"] == "a-poser",  # another guard keeps it from the effect
    ),
}


@pytest.mark.parametrize("name", ROWS)
def test_a_guard_that_is_taken_out_is_missed(place: Place, name: str) -> None:
    off, proof, harm = ROWS[name]
    since = place.mark()
    with without(*off), pytest.raises((AssertionError, TimeoutError)):
        proof(place)
    assert harm(place, place.effects(since))
