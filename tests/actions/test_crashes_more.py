"""A restart of pods whose leader gets SIGKILL at each step, and a leader that gets SIGTERM: one effect at most."""

from __future__ import annotations

import contextlib
import os
import signal
from collections.abc import Iterator

import pytest

from backendhealth.engine.remediation.fencing import STEPS
from tests.actions.place import Place, phase_of, placed
from tests.actions.services import pod, service
from tests.actions.stage import debug_logs
from tests.actions.test_leaders import LONG, QUIET, killed, leads
from tests.actions.test_restarts import restart, workload
from tests.cluster import images
from tests.cluster.cluster import Cluster
from tests.kube.test_remediation import stays

ELSEWHERE = {"performed", "recorded"}
"""In test_leaders."""
CASES = {
    "decided": ("second", "Succeeded", 1),
    "claimed": ("second", "Succeeded", 1),
    "toggle-claimed": ("second", "Succeeded", 1),
    "running": ("first", "Unknown", 0),
    "fencing": ("first", "Unknown", 0),
    "shown": ("first", "Succeeded", 1),
    "finished": ("first", "Succeeded", 1),
}
"""By step: who had it begun, how it ends, and how many evictions there are."""
ASKED_TO_END = {"claimed": "second", "running": "second", "performed": "first"}
"""By step: who has it done. What has not passed its fence by then is left to the next leader."""


@pytest.fixture(scope="module")
def stand(own_cluster: Cluster, product_image: str) -> Iterator[Place]:
    workloads = [workload("Deployment", f"evicted-{step}") for step in CASES]
    pods = [pod(f"ended-{step}", service(images.BUSYBOX)) for step in ASKED_TO_END]
    with placed(own_cluster, product_image, *workloads, *pods) as place:
        yield place


def test_each_step_has_its_case() -> None:
    assert {*CASES, *ELSEWHERE} == set(STEPS)
    assert ELSEWHERE.isdisjoint(CASES)


@pytest.mark.long
@pytest.mark.parametrize("step", CASES)
def test_pods_are_restarted_once(place: Place, step: str) -> None:
    by, phase, evictions = CASES[step]
    name, since = f"evicted-{step}", place.mark()
    (before,) = place.pods(name)
    with place.operator("first", kill_at=step) as first, place.operator("second"), contextlib.ExitStack() as stack:
        leads(first)
        place.declare()
        place.allow("policy", restart(name, pods="All"))
        if evictions:
            place.until(lambda: bool(place.effects(since)), "evicted", 40)
            stack.enter_context(place.mended())
        killed(first)
        place.until_final(timeout=60)
        assert stays(lambda: len(place.effects(since)) == evictions and len(place.done()) == 1, QUIET), place.done()
    done = place.only()
    assert phase_of(done) == phase, done
    assert done["status"]["by"].startswith(by), done
    assert place.effects(since) == [f"eviction {before['metadata']['name']}"] * evictions
    recorded_first(place, since)


@pytest.mark.parametrize("step", ASKED_TO_END)
def test_asked_to_end(place: Place, step: str) -> None:
    name, since = f"ended-{step}", place.mark()
    with place.operator("first", stop_at=step) as first:
        leads(first)
        place.declare()
        place.allow("policy", debug_logs(name, **LONG))
        first.until_at(step)
        os.kill(first.pid, signal.SIGTERM)  # it is seen once the process goes on
        first.resume()
        killed(first)
    with place.operator("second"):
        place.until_final()
        done = place.only()
        # on a machine that is too busy to write down in time that it has stopped, nobody knows: then it is not done
        signals = 0 if phase_of(done) == "Unknown" and step != "performed" else 1
        assert stays(lambda: place.counted(name).total() == signals and len(place.done()) == 1, QUIET), place.all()
    assert place.only() == done
    if phase_of(done) == "Unknown":
        assert "it is not known what was done, and it is not repeated" in done["status"]["message"]
    else:
        assert phase_of(done) == "Succeeded", done
        assert done["status"]["by"].startswith(ASKED_TO_END[step]), done
    assert place.effects(since) == [f"exec {name}"] * signals
    recorded_first(place, since)


def recorded_first(place: Place, since: int) -> None:
    """The API server had answered to the claim before it was asked for the effect."""
    claimed = [
        one["stageTimestamp"]
        for one in place.cluster.audited(since)
        if one["verb"] == "create"
        and one["stage"] == "ResponseComplete"
        and one.get("objectRef", {}).get("resource") == "remediations"
        and one["objectRef"].get("namespace") == place.namespace
    ]
    asked = [
        one["requestReceivedTimestamp"]
        for one in place.audited(since, "remediator")
        if one.get("objectRef", {}).get("subresource") in {"exec", "eviction"}
    ]
    assert claimed
    assert all(min(claimed) < one for one in asked)
