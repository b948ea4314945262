"""The rows that a fresh platform has: two systems, two drivers, users, keys, authorities. `python -m …placeos.seed`."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Iterable

from tests.servers.placeos import database
from tests.servers.placeos.access import digest
from tests.servers.placeos.database import Database, Row
from tests.servers.placeos.settings import read

API_KEY = "key-probe.planted-secret-of-a-test"
PLAIN_KEY = "key-plain.planted-secret-of-a-user"
USERNAME, PASSWORD = "support@example.com", "planted-password-of-a-test"
SYSTEM, OTHER_SYSTEM = "sys-probe", "sys-other"
MODULE, OTHER_MODULE, STOPPED_MODULE = "mod-probe", "mod-display", "mod-stopped"
DRIVERS = {"driver-probe": "drivers_probe_1a2b3c", "driver-display": "drivers_display_4d5e6f"}


def rows(domains: Iterable[str]) -> dict[str, list[Row]]:
    """Rows by table."""
    return {
        "authority": [{"id": f"authority-{number}", "domain": name} for number, name in enumerate(domains)],
        "user": [
            {"id": "user-support", "email": USERNAME, "digest": digest(PASSWORD), "sys_admin": True},
            {"id": "user-plain", "email": "plain@example.com", "digest": digest(PASSWORD), "sys_admin": False},
        ],
        "api_key": [
            _key(API_KEY, "user-support"),
            _key(PLAIN_KEY, "user-plain"),
        ],
        "driver": [
            {"id": key, "name": key.removeprefix("driver-").title(), "file_name": file, "compilation_output": None}
            for key, file in DRIVERS.items()
        ],
        "mod": [
            _module(MODULE, "driver-probe", "Probe", running=True),
            _module(OTHER_MODULE, "driver-display", "Display", running=True),
            _module(STOPPED_MODULE, "driver-probe", "Stopped", running=False),
        ],
        "sys": [
            {"id": SYSTEM, "name": "Probe room", "modules": [MODULE, STOPPED_MODULE]},
            {"id": OTHER_SYSTEM, "name": "Other room", "modules": [OTHER_MODULE]},
        ],
    }


def _key(key: str, user: str) -> Row:
    identity, _, secret = key.partition(".")
    return {"id": identity, "user_id": user, "digest": digest(secret)}


def _module(key: str, driver: str, name: str, *, running: bool) -> Row:
    return {"id": key, "driver_id": driver, "name": name, "custom_name": "", "running": running}


async def seed(db: Database, domains: Iterable[str]) -> None:
    """Make the tables and write the rows; what is there already is written again."""
    await db.create()
    for table, found in rows(domains).items():
        for row in found:
            await db.put(table, row)
    await db.close()


if __name__ == "__main__":
    asyncio.run(seed(database.connect(read("seed", 0)), os.environ.get("SEED_DOMAINS", "localhost").split(",")))
