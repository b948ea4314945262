"""What PlaceOS tells of its cores and drivers, by the cluster API or by core itself, as data."""

from __future__ import annotations

import asyncio
import ipaddress
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from yarl import URL

from backendhealth.core.observation import clip
from backendhealth.core.reasons import Reason
from backendhealth.probes.endpoint import host_port
from backendhealth.probes.exchange import ProbeError
from backendhealth.probes.placeos_client import FORBIDDEN, UNAUTHORIZED, Client, Reply
from backendhealth.probes.placeos_steps import unlike

MAX_CORES = 16
"""Cores that are asked in one attempt."""
MAX_DRIVERS = 5000
"""Drivers of one core that are looked at."""
ASKED_DIRECTLY = 32
"""Drivers whose status is asked of one core in one attempt: core tells it one by one."""
_AT_ONCE = 4
_API, _CORE = "/api/engine/v2/cluster", "/api/core/v1"
_QUERY_FAILED = "query failed"
_MAX_TEXT = 4096


@dataclass(frozen=True, slots=True)
class Driver:
    """One driver on one core. Numbers are None where they are not told.

    `modules` is how many modules the process says it has loaded, `instances` how many it should have; `trouble` is
    why the process could not be asked.
    """

    key: str
    modules: int | None = None
    trouble: str = ""
    running: bool | None = None
    instances: int | None = None
    exit_code: int | None = None
    launches: int | None = None


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
    return host_port(host, port)


async def listed(api: Client, headers: Mapping[str, str]) -> list[Core]:
    """The cores that are registered and answer the API. Raises ProbeError and what a broken connection raises."""
    reply = await api.ask("GET", _API, headers=headers, query={"include_status": "true"})
    _refused("listing the cores", reply)
    if not isinstance(reply.json, list):
        raise _strange("listing the cores", reply)
    cores = []
    for one in _objects(reply.json):
        status = one.get("status")
        unavailable = _unavailable(status) if isinstance(status, dict) else {}
        cores.append(Core(_text(one.get("id")), _text(one.get("uri")), unavailable))
    return [core for core in cores if core.id]


async def with_drivers(api: Client, headers: Mapping[str, str], cores: Iterable[Core], timeout: float) -> list[Core]:
    """The cores with what the API tells of their drivers; one whose drivers it can't tell in time stays without."""
    deadline = asyncio.get_running_loop().time() + timeout
    turn = asyncio.Semaphore(_AT_ONCE)

    async def told(core: Core) -> Core:
        try:
            async with asyncio.timeout_at(deadline), turn:
                reply = await api.ask("GET", f"{_API}/{core.id}", headers=headers, query={"include_status": "true"})
            _refused(f"the drivers of {core.name}", reply)
        except (ProbeError, OSError):  # a time-out included
            return core
        return replace(core, drivers=_drivers(reply.json)) if isinstance(reply.json, list) else core

    return await asyncio.gather(*(told(core) for core in [*cores][:MAX_CORES]))


async def direct(client: Client, turn: int) -> Core:
    """A core by its own interface; the status of some drivers is asked for, others in the next `turn`.

    Raises ProbeError and what a broken connection raises.
    """
    status = await client.ask("GET", f"{_CORE}/status")
    loaded = await client.ask("GET", f"{_CORE}/status/loaded")
    what = f"core at {client.place}"
    local = loaded.json.get("local") if isinstance(loaded.json, dict) else None
    if not (status.good and loaded.good and isinstance(status.json, dict) and isinstance(local, dict)):
        raise _strange(what, status if not isinstance(status.json, dict) else loaded)
    drivers = [replace(_loaded(modules), key=key) for key, modules in [*local.items()][:MAX_DRIVERS] if _is_key(key)]
    drivers.sort(key=lambda one: (not one.trouble, one.key))
    first = turn * ASKED_DIRECTLY % max(len(drivers), 1)
    chosen = {one.key for one in (drivers[first:] + drivers[:first])[:ASKED_DIRECTLY]}
    limit = asyncio.Semaphore(_AT_ONCE)

    async def told(driver: Driver) -> Driver:
        if driver.key not in chosen:
            return driver
        async with limit:
            reply = await client.ask("GET", f"{_CORE}/status/driver", query={"path": driver.key})
        own = reply.json.get("local") if isinstance(reply.json, dict) else None
        return _with_status(driver, own)

    found = await asyncio.gather(*(told(one) for one in drivers))
    return Core("", str(client.url), _unavailable(status.json), tuple(found))


async def ready(client: Client) -> bool:
    """Whether a core answers and says that it has started. Raises what a broken connection raises."""
    return (await client.ask("GET", f"{_CORE}/ready")).good


def _refused(what: str, reply: Reply) -> None:
    if reply.good:
        return
    if reply.status == FORBIDDEN:
        told = f"{what} is for administrators, and the credentials are of none: {reply.told}"
        raise ProbeError(Reason.PERMISSION_DENIED, told)
    if reply.status == UNAUTHORIZED:
        told = f"{what}: PlaceOS lets us in with no request: {reply.told}; its log-in may fail for all"
        raise ProbeError(Reason.API_UNAVAILABLE, told)
    raise ProbeError(Reason.API_UNAVAILABLE, f"{what} fails: {reply.told}")


def _strange(what: str, reply: Reply) -> ProbeError:
    return ProbeError(Reason.API_UNAVAILABLE, unlike(what, reply).message)


def _drivers(answer: list[Any]) -> tuple[Driver, ...]:
    found = []
    for one in _objects(answer[:MAX_DRIVERS]):
        key, local = _text(one.get("driver")), one.get("local")
        if key and isinstance(local, dict):
            found.append(_with_status(replace(_loaded(local.get("modules")), key=key), local.get("status")))
    return tuple(found)


def _loaded(modules: object) -> Driver:
    """A driver without its name, from the list of modules that its process gave, or of what went wrong."""
    if not isinstance(modules, list):
        return Driver("")
    failed = next((text for text in modules if isinstance(text, str) and text.startswith(_QUERY_FAILED)), "")
    return Driver("", None if failed else len(modules), clip(failed, 200))


def _with_status(driver: Driver, status: object) -> Driver:
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


def _unavailable(status: Mapping[str, Any]) -> dict[str, str]:
    found = status.get("unavailable_drivers")
    rows = _objects(found[:MAX_DRIVERS]) if isinstance(found, list) else []
    return {name: _text(row.get("reason"), _MAX_TEXT) for row in rows if (name := _text(row.get("name")))}


def _objects(answer: list[Any]) -> list[dict[str, Any]]:
    return [one for one in answer if isinstance(one, dict)]


def _text(value: object, limit: int = 253) -> str:
    return value[:limit] if isinstance(value, str) else ""


def _is_key(key: object) -> bool:
    return isinstance(key, str) and bool(key)


def _count(value: object) -> int | None:
    return value if isinstance(value, int) and not isinstance(value, bool) and value >= 0 else None
