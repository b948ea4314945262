"""What cores tell of their drivers, weighed: pure."""

from __future__ import annotations

import itertools

import pytest

from backendhealth.core.observation import MAX_SUBJECTS
from backendhealth.core.placeoscluster import Core, Driver, name_of
from backendhealth.core.reasons import Reason
from backendhealth.core.spec.placeos import DriversProbe
from backendhealth.probes import drivers_cluster, drivers_cores
from backendhealth.probes.drivers_judge import Launches, judged, looping, remembered
from backendhealth.probes.drivers_nodes import Node
from backendhealth.probes.exchange import ProbeError
from backendhealth.probes.placeos_client import Reply

TARGET = DriversProbe.model_validate({"url": "http://api:3000", "apiKeySecretRef": {"name": "a", "key": "k"}})
OK = Reason.PROBE_SUCCEEDED


def driver(key: str = "d", **more: object) -> Driver:
    told: dict[str, object] = {"modules": 1, "running": True, "instances": 1, "exit_code": 0, "launches": 1, **more}
    return Driver(key, **told)  # type: ignore[arg-type]


def core(*drivers: Driver, name: str = "core-0") -> Core:
    return Core("01J", f"http://{name}.core:3000", {}, drivers)


def after(*seen: tuple[float, int]) -> Launches:
    """The history after attempts at these times that saw these launch counts."""
    history: Launches = {}
    for now, launches in seen:
        history = remembered(history, [core(driver(launches=launches))], now, 600)
    return history


@pytest.mark.parametrize(
    ("seen", "now", "expected"),
    [
        ([(0, 1)], 0, 0),
        ([(0, 50)], 0, 0),  # what was before we looked
        ([(0, 1), (2, 3)], 2, 0),
        ([(0, 1), (2, 4)], 2, 3),
        ([(0, 1), (2, 4)], 21, 3),
        ([(0, 1), (2, 4)], 22, 0),  # steady again
        ([(0, 1), (110, 2), (220, 3), (330, 4)], 330, 3),
        ([(0, 1), (110, 2), (220, 3), (330, 4)], 490, 3),  # the next is due at 440
        ([(0, 1), (110, 2), (220, 3), (330, 4)], 496, 0),
        ([(0, 1), (300, 2), (650, 3), (950, 4)], 950, 0),  # never more than two within the window
        ([(0, 9), (2, 1)], 2, 0),  # core itself was started anew
        ([(0, 9), (2, 1), (4, 4)], 4, 3),
    ],
)
def test_loops(seen: list[tuple[float, int]], now: float, expected: int) -> None:
    assert looping(TARGET, after(*seen)["core-0", "d"], now) == expected


def test_a_core_that_is_silent_for_once_keeps_its_history() -> None:
    history = after((0, 1), (2, 3))
    history = remembered(history, [Core("01J", "http://core-0.core:3000")], 4, 600)
    history = remembered(history, [core(driver(launches=4))], 6, 600)
    assert looping(TARGET, history["core-0", "d"], 6) == 3
    assert remembered(history, [], 8, 600) == {}, "a core that is gone is forgotten"
    assert remembered(history, [core(driver(launches=None))], 8, 600) == history


@pytest.mark.parametrize(
    ("one", "reason"),
    [
        (driver(), OK),
        (Driver("d"), OK),
        (driver(running=False, exit_code=3), Reason.DRIVER_NOT_RUNNING),
        (driver(trouble="query failed: timeout", modules=None), Reason.DRIVER_NOT_RUNNING),
        (driver(modules=1, instances=2), Reason.MODULES_NOT_LOADED),
        (driver(modules=2, instances=1), OK),
        (driver(modules=None, instances=2), OK),
    ],
)
def test_one_driver(one: Driver, reason: Reason) -> None:
    finding = judged(TARGET, [core(one)], {}, 0, all_seen=True)
    assert finding.reason is reason
    assert finding.subjects[0].reason is reason
    assert finding.facts == {"cores": 1, "drivers": 1, "failing": int(reason is not OK)}


def test_a_core_whose_drivers_are_not_told() -> None:
    finding = judged(TARGET, [core(driver()), Core("01K", "http://core-1.core:3000")], {}, 0, all_seen=True)
    assert finding.reason is Reason.API_UNAVAILABLE
    assert "core-1" in finding.message


def test_the_commonest_reason_is_told() -> None:
    down = [driver(f"d{number}", running=False) for number in range(3)]
    failing = Core("01J", "http://core-0.core:3000", {"x": "no"}, tuple(down))
    finding = judged(TARGET, [failing], {}, 0, all_seen=True)
    assert finding.reason is Reason.DRIVER_NOT_RUNNING
    assert finding.message.startswith("all 4 drivers are in trouble")


@pytest.mark.parametrize("failing", [0, 1, 63, 64, 999, 1000])
def test_a_thousand_drivers(failing: int) -> None:
    drivers = [driver(f"d{number:04}", running=number >= failing) for number in range(1000)]
    finding = judged(TARGET, [core(*drivers)], {}, 0, all_seen=True)
    assert len(finding.subjects) == MAX_SUBJECTS
    bad = [one for one in finding.subjects if one.reason is not OK]
    assert len(bad) == min(failing, MAX_SUBJECTS - (failing < 1000))
    assert any(one.reason is OK for one in finding.subjects) is (failing < 1000), "whether all fail stays to be seen"
    assert finding.facts["failing"] == failing


def test_names_of_cores() -> None:
    uris = {"http://core-0.core.ns:3000": "core-0", "http://10.0.0.1:3000": "10.0.0.1:3000", "http://[": "", "": ""}
    assert {uri: name_of(uri) for uri in uris} == uris
    assert name_of("http://[fd00::1]:3000") == "[fd00::1]:3000"


A, B = Node("a", "http://core-0.core:3000", True), Node("b", "http://core-1.core:3000", True)
LISTED = [Core("a", A.uri), Core("b", B.uri)]


@pytest.mark.parametrize(
    ("seen", "reason"),
    [
        (drivers_cores.Seen(), Reason.STEP_SKIPPED),
        (drivers_cores.Seen(listed=[]), Reason.NO_CORE_INSTANCES),
        (drivers_cores.Seen(listed=LISTED), OK),
        (drivers_cores.Seen(listed=LISTED, nodes=[A, B]), OK),
        (drivers_cores.Seen(listed=LISTED[:1], nodes=[A, B]), Reason.STALE_PLACEMENT),
        (drivers_cores.Seen(nodes=[A, Node("b", B.uri, False)]), Reason.STALE_PLACEMENT),
        (drivers_cores.Seen(nodes=[]), Reason.NO_CORE_INSTANCES),
        (drivers_cores.Seen(nodes=[A], pods={"core-0": ""}), OK),
        (drivers_cores.Seen(nodes=[A], pods={"core-0": "", "core-1": ""}), Reason.CORE_NOT_REGISTERED),
        (drivers_cores.Seen(nodes=[], pods={"core-0": ""}), Reason.CORE_NOT_REGISTERED),
        (drivers_cores.Seen(nodes=[Node("a", "http://10.0.0.1:3000", True)], pods={"core-0": ""}), OK),
        (
            drivers_cores.Seen(nodes=[Node("a", "http://10.0.0.1:3000", True)], pods={"core-0": "", "core-1": ""}),
            Reason.CORE_NOT_REGISTERED,
        ),
        (drivers_cores.Seen(nodes=[A], expected=2), Reason.CORE_NOT_REGISTERED),
        (drivers_cores.Seen(nodes=[], answering=[A.uri]), Reason.CORE_NOT_REGISTERED),
        (drivers_cores.Seen(nodes=[A], answering=["http://elsewhere:1"]), OK),
        (
            drivers_cores.Seen(nodes=[A, Node("b", B.uri, False)], pods={"core-0": "", "core-1": ""}),
            Reason.CORE_NOT_REGISTERED,
        ),
    ],
)
def test_registrations(seen: drivers_cores.Seen, reason: Reason) -> None:
    finding = drivers_cores.judged(seen)
    assert finding.reason is reason, finding.message
    if reason in (Reason.CORE_NOT_REGISTERED, Reason.STALE_PLACEMENT) and seen.expected is None:
        assert reason in {one.reason for one in finding.subjects}


BY_ADDRESS = [Node("a", "http://10.0.0.2:3000", True), Node("b", "http://[fd00::3]:3000", True)]


@pytest.mark.parametrize(
    ("nodes", "pods", "absent"),
    [
        (BY_ADDRESS, {"core-0": "10.0.0.2", "core-1": "fd00::3"}, []),
        (BY_ADDRESS[:1], {"core-0": "10.0.0.2", "core-1": "fd00::3"}, ["core-1"]),
        (BY_ADDRESS[1:], {"core-0": "10.0.0.2", "core-1": "fd00::3"}, ["core-0"]),  # by number it would be core-1
        ([A, BY_ADDRESS[1]], {"core-0": "", "core-1": "fd00::3", "core-2": "10.0.0.4"}, ["core-2"]),
        (BY_ADDRESS[:1], {"core-0": "10.0.0.2", "core-1": "10.0.0.2"}, ["core-1"]),  # both on the node's own network
        ([Node("a", "http://elsewhere:3000", True)], {"core-0": "10.0.0.2", "core-1": "10.0.0.3"}, ["core-1"]),
        ([Node("a", "http://[", True)], {"core-0": ""}, []),
    ],
)
def test_which_pod_is_not_registered(nodes: list[Node], pods: dict[str, str], absent: list[str]) -> None:
    finding = drivers_cores.judged(drivers_cores.Seen(nodes=nodes, pods=pods))
    missing = [one.subject for one in finding.subjects if one.reason is Reason.CORE_NOT_REGISTERED]
    assert missing == [f"core/{name}" for name in absent]


def test_many_cores_stay_bounded() -> None:
    nodes = [Node(f"n{number}", f"http://core-{number}.core:3000", number % 2 == 0) for number in range(300)]
    finding = drivers_cores.judged(drivers_cores.Seen(nodes=nodes))
    assert len(finding.subjects) == 64
    assert len(finding.message) <= 1024
    assert len(set(itertools.chain.from_iterable([[one.subject] for one in finding.subjects]))) == 64


@pytest.mark.parametrize(
    ("status", "reason"),
    [(403, Reason.PERMISSION_DENIED), (401, Reason.API_UNAVAILABLE), (500, Reason.API_UNAVAILABLE)],
)
def test_what_the_cluster_api_refuses(status: int, reason: Reason) -> None:
    with pytest.raises(ProbeError) as refused:
        drivers_cluster._refused("the list of cores", Reply(status, "no", None, whole=True))
    assert refused.value.reason is reason
    strange = drivers_cluster._strange("the list of cores", Reply(200, "<html>", None, whole=True))
    assert strange.reason is Reason.API_UNAVAILABLE
