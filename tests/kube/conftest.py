"""What the tests of the running operator probe."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.servers.misbehaving import Server, silent


@pytest.fixture
def target() -> Iterator[Server]:
    """Takes connections, counts them and says nothing."""
    with silent() as server:
        yield server
