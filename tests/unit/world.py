"""A cycle with what its sink was told."""

from __future__ import annotations

from typing import Any

from backendhealth.core.observation import Finding, Observation
from backendhealth.core.spec.backendhealth import BackendHealth
from backendhealth.core.spec.status import BackendHealthStatus
from backendhealth.engine.cycle import Cycle
from tests.unit.support import probe, resource

QUICK: dict[str, Any] = {"failureThreshold": 1, "successThreshold": 1}


class World:
    """A cycle with what its sink was told."""

    def __init__(self, *resources: BackendHealth, once: bool = False) -> None:
        self.told: list[tuple[str, BackendHealthStatus]] = []
        self.cycle = Cycle(lambda declared, status: self.told.append((declared.key, status)), once=once)
        for declared in resources:
            self.cycle.apply(declared, 0.0)

    def see(
        self, name: str, finding: Finding, start: float, end: float | None = None, key: str = "default/demo"
    ) -> list[str]:
        """An attempt from `start` to `end`; answers with who is asked at once."""
        at = start + 0.01 if end is None else end
        asked = self.cycle.observe(Observation(key, 1, name, start, at, finding), at)
        return [probe for _, probe in asked]

    def verdict(self, name: str, key: str = "default/demo") -> str:
        return f"{self._row(name, key).verdict}"

    def reason(self, name: str, key: str = "default/demo") -> str:
        return f"{self._row(name, key).reason}"

    def ever(self, name: str) -> list[str]:
        """All verdicts that a probe was shown with, in order, repetitions left out."""
        rows = [next(row.verdict for row in status.probes if row.name == name) for _, status in self.told]
        return [str(row) for index, row in enumerate(rows) if index == 0 or row != rows[index - 1]]

    def _row(self, name: str, key: str) -> Any:
        return next(row for row in self.cycle.status(key).probes if row.name == name)


def three(**spec: Any) -> BackendHealth:
    return resource(probe("a"), probe("b"), probe("c"), **{**QUICK, **spec})
