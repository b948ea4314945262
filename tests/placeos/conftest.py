"""The platforms that the tests share."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

import pytest

from tests.placeos.support import KINDS, World, Worlds


@pytest.fixture(scope="session")
def worlds() -> Iterator[Worlds]:
    with contextlib.ExitStack() as stack:
        yield Worlds(stack)


@pytest.fixture(params=KINDS[:3])
def world(worlds: Worlds, request: pytest.FixtureRequest) -> Iterator[World]:
    """Each generation in turn; the newest differs from the third in listing alone."""
    found = worlds.get(request.param)
    yield found
    found.heal()


@pytest.fixture
def platform(worlds: Worlds) -> Iterator[World]:
    """One with etcd and PostgreSQL, where the kind makes no difference."""
    found = worlds.get("postgres-etcd")
    yield found
    found.heal()


@pytest.fixture
def by_redis(worlds: Worlds) -> Iterator[World]:
    """One that discovers by Redis."""
    found = worlds.get("postgres")
    yield found
    found.heal()
