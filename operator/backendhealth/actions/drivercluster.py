"""What an action asks PlaceOS's cluster API before and after it does anything: which driver is where, and how it is."""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from typing import Any

from backendhealth.actions.ports import Http, Refused, Reply
from backendhealth.core.observation import clip
from backendhealth.core.placeoscluster import Core, Driver, cores_of, drivers_of

CLUSTER, DRIVERS = "/api/engine/v2/cluster", "/api/engine/v2/drivers"
QUOTED = 300
"""Characters of PlaceOS's own words that a message repeats."""
MOST_DRIVERS = 1000
MAX_CORES = 64
_ID = re.compile(r"[A-Za-z0-9][-_.A-Za-z0-9]{0,127}")
"""What goes into a path as it is: an ID that would lead elsewhere is none."""
_STATUS = {"include_status": "true"}


class Gone(Exception):  # noqa: N818 - what is said of the world
    """The driver is not where it was meant to be, or it can't be told which it is: nothing may be done."""


@dataclass(frozen=True, slots=True)
class Placed:
    """One driver on one core, which has its binary or not."""

    core: Core
    driver: Driver

    @property
    def subject(self) -> str:
        """What the drivers' probe calls it."""
        return f"driver/{self.core.name}/{self.driver.key}"

    @property
    def key_unavailable(self) -> bool:
        """Whether the core has no binary of it."""
        return self.driver.key in self.core.unavailable


async def all_placed(http: Http, core: str | None = None) -> list[Placed]:
    """All drivers on all cores, or on one; those without a binary, too. Raises Refused, Silent.

    Not those on edge nodes: the API has no way to end one, and would end the driver of that key on core itself.
    """
    listed = sorted(cores_of(await _list(http, "listing the cores", CLUSTER)), key=lambda one: one.id)
    # one that was started again is there twice until its former registration ends: the newer ID is the greater one
    newest = {one.uri or one.id: one for one in listed if _ID.fullmatch(one.id)}
    cores = [one for one in newest.values() if core in {None, one.id}][:MAX_CORES]
    found: list[Placed] = []
    for one in cores:
        drivers = drivers_of(await _list(http, f"the drivers of {one.name}", f"{CLUSTER}/{one.id}"))
        bare = replace(one, drivers=None)
        known = {driver.key for driver in drivers}
        found += [Placed(bare, driver) for driver in drivers if not driver.edge]
        found += [Placed(bare, Driver(key)) for key in one.unavailable if key not in known]
    return found


async def placed(http: Http, key: str, core: str | None = None) -> list[Placed]:
    """One driver on each core that should run it, at least one. Raises Gone, Refused, Silent."""
    found = [one for one in await all_placed(http, core) if one.driver.key == key]
    if not found:
        where = f"core {core} is gone, does not answer, or has no such driver" if core else "no core has it"
        raise Gone(f"{key}: {where}")
    return found


async def driver_id(http: Http, key: str) -> str:
    """The database's ID of the driver with that key: its file's name begins it. Raises Gone, Refused, Silent."""
    rows = await _list(http, "listing the drivers", DRIVERS, {"limit": str(MOST_DRIVERS)})
    matching = [(len(name), row) for row in rows if isinstance(row, dict) and (name := _file(row)) and _is(key, name)]
    longest = max((length for length, _ in matching), default=0)
    ids = {str(row.get("id")) for length, row in matching if length == longest}
    by_commit = {
        str(row.get("id"))
        for length, row in matching
        if length == longest and (commit := str(row.get("commit") or "")[:7]) and commit in key
    }
    ids = by_commit or ids
    if len(ids) != 1:
        many = f"{len(ids)} drivers of the database fit" if ids else "no driver of the database fits"
        raise Gone(f"it can't be told which driver {key} is: {many}")
    found = ids.pop()
    if not _ID.fullmatch(found):
        raise Gone(f"it can't be told which driver {key} is: its ID is none")
    return found


def told(reply: Reply) -> str:
    """Status and PlaceOS's own words, for messages."""
    said = reply.text
    if isinstance(reply.json, dict):
        said = ": ".join(text for key in ("error", "message") if isinstance(text := reply.json.get(key), str) and text)
    said = clip(said, QUOTED)
    return f"status {reply.status}, {said}" if said else f"status {reply.status}, and says no more"


async def _list(http: Http, what: str, path: str, query: dict[str, str] | None = None) -> list[Any]:
    reply = await http.ask("GET", path, query=query or _STATUS)
    if 200 <= reply.status < 300 and isinstance(reply.json, list):
        return reply.json
    if 300 <= reply.status < 400:
        raise Refused(reply.status, "Redirected", f"{what} fails: status {reply.status} leads elsewhere, not followed")
    raise Refused(reply.status, "NotTold", clip(f"{what} fails: {told(reply)}"))


def _file(row: dict[str, Any]) -> str:
    name = row.get("file_name")
    return _plain(name.removesuffix(".cr")) if isinstance(name, str) else ""


def _is(key: str, name: str) -> bool:
    return _plain(key) == name or _plain(key).startswith(f"{name}_")


def _plain(text: str) -> str:
    """As a key is made of a file's name."""
    return re.sub(r"[^a-z0-9]+", "_", text.lower()).strip("_")
