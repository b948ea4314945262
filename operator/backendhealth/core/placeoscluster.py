"""PlaceOS's cores and the drivers on them, as its cluster API and core itself tell of them: data, from JSON."""

from __future__ import annotations

import ipaddress
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from yarl import URL

from backendhealth.core.observation import clip

MAX_DRIVERS = 5000
"""Drivers of one core that are looked at."""
_MAX_EDGES = 64
_QUERY_FAILED = "query failed"
_MAX_TEXT = 4096


@dataclass(frozen=True, slots=True)
class Driver:
    """One driver on one core, or on an edge node that the core speaks for. Numbers are None where they are not told.

    `edge` is the node's ID, empty for core itself; `modules` is how many modules the process says it has loaded,
    `instances` how many it should have; `trouble` is why the process could not be asked.
    """

    key: str
    modules: int | None = None
    trouble: str = ""
    running: bool | None = None
    instances: int | None = None
    exit_code: int | None = None
    launches: int | None = None
    edge: str = ""

    @property
    def place(self) -> str:
        """Which of a core's drivers it is: its key, on an edge node `EDGE/KEY`."""
        return f"{self.edge}/{self.key}" if self.edge else self.key


@dataclass(frozen=True, slots=True)
class Core:
    """One core. `drivers` is None where it did not tell; `unavailable` has the reason by the driver's key."""

    id: str
    uri: str
    unavailable: Mapping[str, str] = field(default_factory=dict)
    drivers: tuple[Driver, ...] | None = None

    @property
    def name(self) -> str:
        """What stays the same when it is started again: the first label of its host, or its address."""
        return name_of(self.uri) or self.id


def name_of(uri: str) -> str:
    """`core-0` of http://core-0.core:3000; `10.0.0.1:3000` of an address."""
    try:
        url = URL(uri)
        host, port = url.host or "", url.port or 0
    except ValueError:
        return ""
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return clip(host.partition(".")[0], 63)
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def cores_of(answer: list[Any]) -> list[Core]:
    """From what `GET /cluster?include_status=true` answers."""
    found = []
    for one in _objects(answer):
        status = one.get("status")
        missing = unavailable(status) if isinstance(status, dict) else {}
        found.append(Core(_text(one.get("id")), _text(one.get("uri")), missing))
    return [core for core in found if core.id]


def drivers_of(answer: list[Any]) -> tuple[Driver, ...]:
    """From what `GET /cluster/ID?include_status=true` answers."""
    found = []
    for one in _objects(answer[:MAX_DRIVERS]):
        key = _text(one.get("driver"))
        local = one.get("local")
        if key and isinstance(local, dict):
            on_edges = [(edge, told) for edge, told in _edges(one.get("edge")) if _has_process(told)]
            places = [("", local), *on_edges] if _has_process(local) or not on_edges else on_edges
            found += [with_status(_loaded(key, edge, told.get("modules")), told.get("status")) for edge, told in places]
    return tuple(found[:MAX_DRIVERS])


def loaded_of(answer: object) -> list[Driver] | None:
    """From what core's own `GET /status/loaded` answers; None where that is something else."""
    local = answer.get("local") if isinstance(answer, dict) else None
    if not isinstance(answer, dict) or not isinstance(local, dict):
        return None
    places = [("", local), *_edges(answer.get("edge"))]
    return [_loaded(key, edge, modules) for edge, told in places for key, modules in told.items() if key][:MAX_DRIVERS]


def with_status_of(driver: Driver, answer: object) -> Driver:
    """The driver with what core's own `GET /status/driver` answers of it."""
    if not isinstance(answer, dict):
        return driver
    edges = answer.get("edge")
    there = edges.get(driver.edge) if driver.edge and isinstance(edges, dict) else None
    return with_status(driver, there if driver.edge else answer.get("local"))


def _edges(told: object) -> list[tuple[str, dict[str, Any]]]:
    """ID of each edge node, and what is told of it."""
    listed = [*told.items()][:_MAX_EDGES] if isinstance(told, dict) else []
    return [(edge, there) for key, there in listed if (edge := _text(key, 128)) and isinstance(there, dict)]


def _has_process(told: Mapping[str, Any]) -> bool:
    """Whether a driver runs, or should, where this is told of: each of its core's edge nodes is told with each."""
    return bool(told.get("modules")) or isinstance(told.get("status"), dict)


def _loaded(key: str, edge: str, modules: object) -> Driver:
    """A driver, from the list of modules that its process gave, or of what went wrong."""
    bare = Driver(key, edge=edge)
    if not isinstance(modules, list):
        return bare
    failed = next((text for text in modules if isinstance(text, str) and text.startswith(_QUERY_FAILED)), "")
    return replace(bare, modules=None if failed else len(modules), trouble=clip(failed, 200))


def with_status(driver: Driver, status: object) -> Driver:
    """The driver with what core tells of its process."""
    if not isinstance(status, dict):
        return driver
    running = status.get("running")
    return replace(
        driver,
        running=running if isinstance(running, bool) else None,
        instances=_count(status.get("module_instances")),
        launches=_count(status.get("launch_count")),
        exit_code=code if isinstance(code := status.get("last_exit_code"), int) else None,
    )


def unavailable(status: Mapping[str, Any]) -> dict[str, str]:
    """The drivers that core has no binary of, each with why."""
    found = status.get("unavailable_drivers")
    rows = _objects(found[:MAX_DRIVERS]) if isinstance(found, list) else []
    return {name: _text(row.get("reason"), _MAX_TEXT) for row in rows if (name := _text(row.get("name")))}


def _objects(answer: list[Any]) -> list[dict[str, Any]]:
    return [one for one in answer if isinstance(one, dict)]


def _text(value: object, limit: int = 253) -> str:
    return value[:limit] if isinstance(value, str) else ""


def _count(value: object) -> int | None:
    return value if isinstance(value, int) and not isinstance(value, bool) and value >= 0 else None
