"""Platforms for the probes of PlaceOS, and the probes, closed after each test."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator, Callable, Iterator

import pytest

from tests.placeos.support import World, Worlds
from tests.probes.placeos.helpers import Probing, probing
from tests.probes.support import MemorySecrets
from tests.servers.http import HttpServer

Make = Callable[..., Probing]


def calm(found: World) -> None:
    """End the faults of drivers, and bring back what a test took."""
    for driver in ("driver-probe", "driver-display"):
        found.platform.crash_driver(driver, on=False)
    found.heal()


@pytest.fixture(scope="package")
def worlds() -> Iterator[Worlds]:
    with contextlib.ExitStack() as stack:
        yield Worlds(stack)


@pytest.fixture
def world(worlds: Worlds) -> Iterator[World]:
    """One with etcd and PostgreSQL."""
    found = worlds.get("postgres-etcd")
    yield found
    calm(found)


@pytest.fixture
def by_redis(worlds: Worlds) -> Iterator[World]:
    """One that discovers by Redis."""
    found = worlds.get("postgres")
    yield found
    calm(found)


@pytest.fixture(scope="package")
def two_cores_world(worlds: Worlds) -> Iterator[World]:
    with worlds.fresh("postgres-etcd", cores=2) as found:
        yield found


@pytest.fixture
def two_cores(two_cores_world: World) -> Iterator[World]:
    yield two_cores_world
    calm(two_cores_world)


@pytest.fixture
def server() -> Iterator[HttpServer]:
    with HttpServer() as running:
        yield running


@pytest.fixture
async def make() -> AsyncIterator[Make]:
    """Makes probes."""
    made: list[Probing] = []

    def one(member: str, target: dict[str, object], known: MemorySecrets | None = None) -> Probing:
        made.append(probing(member, target, known))
        return made[-1]

    yield one
    for probe in made:
        await probe.exchange.close()
