"""What the servers of a cluster share: databases, tables with their rows, users and grants, as one JSON document.

Whoever changes it raises its version and sends it to its peers; the higher version wins. It is written to the data
directory at every change, so a killed server comes back with what it had.
"""

from __future__ import annotations

import json
import re
import uuid
from collections.abc import Callable
from pathlib import Path
from typing import Any

from tests.servers.rethinkdb.errors import denied, failed, logic
from tests.servers.rethinkdb.handshake import Password

SYSTEM = "rethinkdb"
_NAME = re.compile(r"[A-Za-z0-9_-]+")

Document = dict[str, Any]


class Metadata:
    """The shared document; `changed` is called after every change made here."""

    def __init__(self, path: Path, initial_password: str) -> None:
        self.changed: Callable[[], None] = lambda: None
        self._path = path
        if path.exists():
            self.data: Document = json.loads(path.read_text())
        else:
            admin = Password.make(initial_password).to_json()
            self.data = {
                "version": 1,
                "dbs": {"test": str(uuid.uuid4())},
                "tables": {},
                "users": {"admin": admin},
                "grants": {},
            }
            self._write()

    @property
    def version(self) -> int:
        version: int = self.data["version"]
        return version

    def commit(self) -> None:
        """Make a change known."""
        self.data["version"] += 1
        self._write()
        self.changed()

    def adopt(self, other: Document) -> None:
        """Take a peer's document when it is newer."""
        if other["version"] > self.version:
            self.data = other
            self._write()

    def _write(self) -> None:
        scratch = self._path.with_suffix(".new")
        scratch.write_text(json.dumps(self.data))
        scratch.replace(self._path)

    # names

    def databases(self) -> list[str]:
        return sorted([*self.data["dbs"], SYSTEM])

    def check_database(self, name: str) -> None:
        """Raises what the server answers for a bad or unknown name."""
        if not _NAME.fullmatch(name):
            raise logic(f"Database name `{name}` invalid (Use A-Z, a-z, 0-9, _ and - only).", [0])
        if name not in self.databases():
            raise failed(f"Database `{name}` does not exist.")

    def tables(self, db: str | None = None) -> list[Document]:
        return [table for table in self.data["tables"].values() if db in (None, table["db"])]

    def table(self, db: str, name: str) -> Document:
        """The table of that name; its configuration and its rows."""
        for table in self.tables(db):
            if table["name"] == name:
                return table
        raise failed(f"Table `{db}.{name}` does not exist.")

    # users and grants

    def password(self, user: str) -> Password | None:
        stored = self.data["users"].get(user)
        return Password.from_json(stored) if stored else None

    def grant(self, user: str, scope: str, wanted: Document) -> Document:
        """Set permissions of `user` on `scope` (``, `db:NAME`, `table:ID`); what changed, as the server reports it."""
        if user not in self.data["users"]:
            raise failed(f"User `{user}` not found.")
        scopes = self.data["grants"].setdefault(user, {})
        old = scopes.get(scope)
        new = {key: value for key, value in ((old or {}) | wanted).items() if value is not None}
        scopes[scope] = new
        self.commit()
        return {"granted": 1, "permissions_changes": [{"new_val": new or None, "old_val": old}]}

    def require(self, user: str, permission: str, db: str | None = None, table: Document | None = None) -> None:
        """Raises unless `user` has `permission`: the most specific grant that says anything decides."""
        if user == "admin":
            return
        scopes = self.data["grants"].get(user, {})
        names = ([f"table:{table['id']}"] if table else []) + ([f"db:{db}"] if db else []) + [""]
        for name in names:
            if permission in scopes.get(name, {}):
                if scopes[name][permission]:
                    return
                break
        raise denied(user, permission)

    def delete_user(self, user: str) -> bool:
        """Whether there was such a user; its grants go with it, its open connections stay."""
        existed = self.data["users"].pop(user, None) is not None
        self.data["grants"].pop(user, None)
        if existed:
            self.commit()
        return existed
