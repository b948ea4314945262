"""What held before the operator ended holds for the next one, too."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from typing import Any

import pytest

from tests.kube.operator import Operator
from tests.kube.outages import DELETE, change, cleared, prepared
from tests.kube.test_remediation import QUIET, Platform, stays
from tests.kube.test_remediation_faults import window
from tests.servers.kubernetes import ControlPlane
from tests.servers.process import wait_until

HELD: dict[str, dict[str, Any]] = {
    "Paused": {"pauseRequests": [{"by": "ann", "reason": "migration"}]},
    "OutsideWindow": {"maintenanceWindows": [window("NeverInside")]},
}


@pytest.fixture
def platform(control_plane: ControlPlane, namespace: str) -> Iterator[Platform]:
    made = prepared(control_plane, namespace)
    yield made
    cleared(made)


@pytest.mark.parametrize("guard", HELD)
def test_holds_over_a_restart(control_plane: ControlPlane, namespace: str, platform: Platform, guard: str):
    platform.declare()
    platform.allow(mode="Enforce", rules=[DELETE], **HELD[guard])
    with Operator(control_plane, namespace) as operator:
        platform.until_held(guard)
        if guard == "Paused":
            operator.kill()
        else:
            os.kill(operator.pid, signal.SIGTERM)
            wait_until(lambda: not operator.running, 10, "it ends")
    with Operator(control_plane, namespace) as operator:
        wait_until(lambda: operator.metric("backendhealth_leader") == 1, 30, "it leads")
        assert stays(lambda: platform.phases() == [] and platform.pod_is_there(), QUIET)
        platform.until_held(guard)
        change(platform, mode="Enforce", rules=[DELETE])
        wait_until(lambda: not platform.pod_is_there(), 25, "the guard alone has held it")
