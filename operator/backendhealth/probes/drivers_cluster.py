"""What PlaceOS tells of its cores and drivers, by the cluster API or by core itself, as data."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Mapping
from dataclasses import replace

from backendhealth.core.placeoscluster import (
    Core,
    Driver,
    cores_of,
    drivers_of,
    loaded_of,
    unavailable,
    with_status_of,
)
from backendhealth.core.reasons import Reason
from backendhealth.probes.exchange import ProbeError
from backendhealth.probes.placeos_client import FORBIDDEN, UNAUTHORIZED, Client, Reply
from backendhealth.probes.placeos_steps import unlike

MAX_CORES = 16
"""Cores that are asked in one attempt."""
ASKED_DIRECTLY = 32
"""Drivers whose status is asked of one core in one attempt: core tells it one by one."""
_AT_ONCE = 4
_API, _CORE = "/api/engine/v2/cluster", "/api/core/v1"


async def listed(api: Client, headers: Mapping[str, str]) -> list[Core]:
    """The cores that are registered and answer the API. Raises ProbeError and what a broken connection raises."""
    reply = await api.ask("GET", _API, headers=headers, query={"include_status": "true"})
    _refused("listing the cores", reply)
    if not isinstance(reply.json, list):
        raise _strange("listing the cores", reply)
    return cores_of(reply.json)


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
        return replace(core, drivers=drivers_of(reply.json)) if isinstance(reply.json, list) else core

    return await asyncio.gather(*(told(core) for core in [*cores][:MAX_CORES]))


async def direct(client: Client, turn: int) -> Core:
    """A core by its own interface; the status of some drivers is asked for, others in the next `turn`.

    Raises ProbeError and what a broken connection raises.
    """
    status = await client.ask("GET", f"{_CORE}/status")
    told_loaded = await client.ask("GET", f"{_CORE}/status/loaded")
    what = f"core at {client.place}"
    drivers = loaded_of(told_loaded.json)
    if not (status.good and told_loaded.good and isinstance(status.json, dict)) or drivers is None:
        raise _strange(what, status if not isinstance(status.json, dict) else told_loaded)
    drivers.sort(key=lambda one: (not one.trouble, one.place))
    first = turn * ASKED_DIRECTLY % max(len(drivers), 1)
    chosen = {one.place for one in (drivers[first:] + drivers[:first])[:ASKED_DIRECTLY]}
    limit = asyncio.Semaphore(_AT_ONCE)

    async def told(driver: Driver) -> Driver:
        if driver.place not in chosen:
            return driver
        async with limit:
            reply = await client.ask("GET", f"{_CORE}/status/driver", query={"path": driver.key})
        return with_status_of(driver, reply.json)

    found = await asyncio.gather(*(told(one) for one in drivers))
    return Core("", str(client.url), unavailable(status.json), tuple(found))


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
