"""Guards taken out of the operator's process are missed: the proof fails, and what they guard against happens."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.kube import test_remediation as alone
from tests.kube import test_remediation_faults as faults
from tests.kube import test_remediation_storm as storms
from tests.kube.operator import Operator
from tests.kube.outages import cleared, prepared
from tests.kube.test_operator_faults import faked
from tests.kube.test_remediation import Platform
from tests.kube.unguarded import without
from tests.servers.kubernetes import ControlPlane
from tests.servers.process import wait_until

pytestmark = pytest.mark.long


@dataclass(frozen=True)
class World:
    """What the proofs are given."""

    plane: ControlPlane
    namespace: str
    platform: Platform
    clock: Path

    def operator(self) -> Operator:
        return Operator(self.plane, self.namespace)


def begun(world: World) -> bool:
    return bool(world.platform.phases())


def acted(world: World) -> bool:
    return not world.platform.pod_is_there()


def switched_off(world: World) -> None:
    with world.operator() as operator:
        alone.test_switched_off_nothing_is_done_and_it_is_said(world.platform, operator)


def windows_and_pauses(world: World) -> None:
    with world.operator() as operator:
        faults.test_windows_and_pauses(world.platform, operator)


def clock_jumps(world: World) -> None:
    with Operator(world.plane, world.namespace, env=faked(world.clock)) as operator:
        try:
            faults.test_a_clock_that_jumps_over_an_approvals_expiry(world.platform, operator, world.clock)
        except TimeoutError:
            with contextlib.suppress(TimeoutError):  # it is looked at again after LOOK_AGAIN
                wait_until(lambda: expired(world), 40, "expired")
            raise


def expired(world: World) -> bool:
    return world.platform.phases() == ["Expired"]


ROWS: dict[str, tuple[str, Callable[[World], None], Callable[[World], bool]]] = {
    "before a new observation": (
        "observed",
        lambda world: alone.test_after_a_restart_nothing_happens_before_an_attempt_has_shown_it_anew(
            world.plane, world.namespace, world.platform
        ),
        begun,
    ),
    "switched off": ("switch", switched_off, acted),
    "its own setting": (
        "switch",
        lambda world: alone.test_the_operators_own_setting_is_off(
            world.plane, world.namespace, world.platform, "Enforce"
        ),
        acted,
    ),
    "a pause": ("paused", windows_and_pauses, acted),
    "a window": ("window", windows_and_pauses, acted),
    "a clock that jumps": ("clock,steady", clock_jumps, expired),
    "what the cluster does not know": (
        "recorded",
        lambda world: faults.test_killed_before_its_status_is_written(world.plane, world.namespace, world.platform),
        begun,
    ),
    "storm": (
        "storm",
        lambda world: storms.test_fifty_of_sixty_fail_at_once(world.plane, world.namespace, world.platform),
        acted,
    ),
}


@pytest.fixture
def world(control_plane: ControlPlane, namespace: str, tmp_path: Path) -> Iterator[World]:
    clock = tmp_path / "clock"
    clock.write_text("+0")
    platform = prepared(control_plane, namespace)
    yield World(control_plane, namespace, platform, clock)
    cleared(platform)


@pytest.mark.parametrize("name", ROWS)
def test_a_guard_that_is_taken_out_is_missed(world: World, name: str) -> None:
    off, proof, harm = ROWS[name]
    with without(*off.split(",")), pytest.raises((AssertionError, TimeoutError)):
        proof(world)
    assert harm(world)
