"""Faults of drivers that a test wants, kept in a file so that they outlive core's process."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any


class Faults:
    """{"crash": {driver key: launches left, -1 for ever}, "compile": {driver key: the compiler's output}}."""

    def __init__(self, directory: str) -> None:
        self._path = Path(directory) / "faults.json"

    def read(self) -> dict[str, Any]:
        """All of them."""
        if not self._path.exists():
            return {"crash": {}, "compile": {}}
        found: dict[str, Any] = json.loads(self._path.read_text())
        return found

    def set(self, kind: str, key: str, value: object) -> None:
        """Want a fault; None takes it back."""
        found = self.read()
        found[kind].pop(key, None)
        if value is not None:
            found[kind][key] = value
        draft = self._path.with_suffix(".new")
        draft.write_text(json.dumps(found))
        draft.replace(self._path)

    def take_crash(self, key: str) -> bool:
        """Whether this launch is to crash; counts it."""
        left = int(self.read()["crash"].get(key, 0))
        if left > 0:
            self.set("crash", key, left - 1 or None)
        return left != 0

    def compile_output(self, key: str) -> str | None:
        """What the compiler says of a driver that doesn't compile."""
        found: str | None = self.read()["compile"].get(key)
        return found
