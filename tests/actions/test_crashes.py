"""The leader gets SIGKILL at each step from a decision to the end of its record: one signal at most, a true record."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from backendhealth.engine.remediation.fencing import STEPS
from tests.actions.place import Place, phase_of, placed
from tests.actions.services import pod, service
from tests.actions.stage import debug_logs
from tests.actions.test_leaders import LONG, QUIET, killed, leads
from tests.cluster import images
from tests.cluster.cluster import Cluster
from tests.kube.test_remediation import stays

CASES = {
    "decided": ("second", "Succeeded", 1),
    "claimed": ("second", "Succeeded", 1),
    "toggle-claimed": ("second", "Succeeded", 1),
    "running": ("first", "Unknown", 0),
    "fencing": ("first", "Unknown", 0),
    "performed": ("first", "Unknown", 1),
    "recorded": ("first", "Succeeded", 1),
    "shown": ("first", "Succeeded", 1),
    "finished": ("first", "Succeeded", 1),
}
"""By step: who had it begun, how it ends, and how many signals the process has got."""


@pytest.fixture(scope="module")
def stand(own_cluster: Cluster, product_image: str) -> Iterator[Place]:
    with placed(own_cluster, product_image, *(pod(step, service(images.BUSYBOX)) for step in CASES)) as place:
        yield place


def test_each_step_has_its_case() -> None:
    assert tuple(CASES) == STEPS


@pytest.mark.parametrize("step", CASES)
def test_killed_at(place: Place, step: str) -> None:
    by, phase, signals = CASES[step]
    since = place.mark()
    with place.operator("first", kill_at=step) as first, place.operator("second"):
        leads(first)
        place.declare()
        place.allow("policy", debug_logs(step, **LONG))
        killed(first)
        place.until_final()
        assert stays(lambda: place.counted(step).total() == signals and len(place.done()) == 1, QUIET)
    done = place.only()
    assert phase_of(done) == phase, done
    assert done["status"]["by"].startswith(by), done
    assert ("effectAt" in done["status"]) is (phase == "Succeeded"), done
    assert place.effects(since) == [f"exec {step}"] * signals
