"""A stage for each test: its namespace, a world, a policy, the account that acts, the switch."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.remediation.stage import Stage
from tests.servers.kubernetes import ControlPlane


@pytest.fixture
def stage(control_plane: ControlPlane, namespace: str, tmp_path: Path) -> Iterator[Stage]:
    made = Stage(control_plane, namespace, tmp_path)
    yield made
    made.close()
