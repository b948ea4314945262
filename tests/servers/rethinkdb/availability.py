"""Which operations a table allows, and what its rows in table_status and current_issues say, over time.

Whenever servers come or go, `Availability.update` lays out a plan: phases with an end each, as the recordings show
them. What a client sees depends only on the phase that holds at that moment.
"""

from __future__ import annotations

import time
import uuid
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from tests.servers.rethinkdb.metadata import Document

NOTHING, OUTDATED, READS, WRITES = range(4)
_ISSUES = uuid.UUID("4ae8c575-b103-3335-a79a-121089e34339")
_READINESS_TEXT = {
    NOTHING: "not available for any operations.",
    OUTDATED: "available for outdated reads, but not up-to-date reads or writes.",
    READS: "available for outdated and up-to-date reads, but not writes.",
    WRITES: "available for all operations, but some replicas are not ready.",
}


@dataclass(frozen=True, slots=True)
class Timings:
    """Seconds that the real server took for each of these; tests may shorten or stretch them."""

    heartbeat_timeout: float = 14.0
    election: float = 0.8
    startup: float = 1.6
    handover: float = 0.9
    status_lag: float = 0.01
    non_transitive: float = 3.0


@dataclass(frozen=True, slots=True)
class Phase:
    """One state of a table: who is primary, the replicas that are not `ready`, what is possible."""

    primaries: tuple[str, ...]
    readiness: int
    states: Mapping[str, str] = field(default_factory=dict)
    others: str = "ready"
    flags: bool | None = None  # what all four status fields say, when they are stale
    leader: bool = True


class Availability:
    """The course of one table as one server sees it."""

    def __init__(self, me: str, table: Document, timings: Timings, primary: str | None = None) -> None:
        self._me = me
        self._timings = timings
        self.table = table
        self.primary = primary
        self.leader: str | None = None
        self.connected: frozenset[str] = frozenset()
        self._plan: list[tuple[float, Phase]] = []

    @property
    def replicas(self) -> list[str]:
        return [name for shard in self.table["shards"] for name in shard["replicas"]]

    @property
    def phase(self) -> Phase:
        """What holds now."""
        now = time.monotonic()
        while len(self._plan) > 1 and self._plan[0][0] <= now:
            self._plan.pop(0)
        return self._plan[0][1]

    @property
    def quorum(self) -> bool:
        return 2 * len(self.connected & set(self.replicas)) > len(self.replicas)

    def configured(self) -> str:
        """The primary that the configuration asks for, or the replica that stands in for it."""
        name: str = self.table["shards"][0]["primary_replica"]
        return name if name in self.connected else min(self.connected & set(self.replicas))

    def begin(self, connected: frozenset[str]) -> None:
        """The table was just created: it is ready."""
        self.connected = connected
        self.leader = min(connected)
        self.primary = self.configured()
        self._lay(Phase((self.primary,), WRITES))

    def start(self, connected: frozenset[str]) -> None:
        """The server was just started with this table in its data directory."""
        self.connected = connected
        if not self.quorum:
            return self._no_quorum()
        self.leader, self.primary = min(connected), self.configured()
        waiting = {self.primary: "waiting_for_quorum"}
        steps = self._scaled(
            self._timings.startup,
            (0.8, Phase((self.primary,), OUTDATED, waiting, "waiting_for_primary", leader=False)),
            (0.1, Phase((self.primary,), OUTDATED, waiting, "waiting_for_primary")),
            (0.1, Phase((self.primary,), OUTDATED)),
        )
        return self._lay(*steps, Phase((self.primary,), WRITES))

    def update(self, connected: frozenset[str], *, silent_loss: bool = False) -> None:
        """Servers came or went; `silent_loss`: one was given up because it said nothing."""
        before, had_quorum = self.connected, self.quorum
        self.connected = connected
        if not self.quorum:
            return self._no_quorum()
        if self.leader not in connected:
            self.leader = min(connected)
        old, new = self.primary, self.configured()
        self.primary = new
        joined = dict.fromkeys(sorted((connected - before) & set(self.replicas)), "backfilling")
        if old is None or old not in connected:
            return self._lay(*self._stale(silent_loss, ()), *self._election(new), Phase((new,), WRITES))
        steps = self._stale(silent_loss, (old,))
        if not had_quorum:
            steps.append((0.1 * self._timings.election, Phase((old,), OUTDATED, joined)))
        if old != new:
            steps += self._handover(old, new, joined)
        elif joined and had_quorum:
            steps.append((0.25 * self._timings.handover, Phase((new,), WRITES, joined)))
        return self._lay(*steps, Phase((new,), WRITES))

    def _no_quorum(self) -> None:
        self.leader = None
        if self.primary in self.connected and self.primary:
            self._lay(Phase((self.primary,), OUTDATED, leader=False))
        else:
            self.primary = None
            self._lay(Phase((), OUTDATED, {}, "waiting_for_primary", leader=False))

    def _stale(self, silent_loss: bool, primaries: tuple[str, ...]) -> list[tuple[float, Phase]]:
        """For a moment after a silent loss the four status fields still say what they said before."""
        readiness = WRITES if primaries else OUTDATED
        return [(self._timings.status_lag, Phase(primaries, readiness, flags=True))] if silent_loss else []

    def _election(self, new: str) -> list[tuple[float, Phase]]:
        return self._scaled(
            self._timings.election,
            (0.7, Phase((), OUTDATED, {}, "waiting_for_primary")),
            (0.2, Phase((new,), OUTDATED, {new: "waiting_for_quorum"}, "waiting_for_primary")),
            (0.1, Phase((new,), OUTDATED, {new: "ready"}, "waiting_for_primary")),
        )

    def _handover(self, old: str, new: str, joined: Mapping[str, str]) -> list[tuple[float, Phase]]:
        """The configured primary is back and takes the table: for a short time it can be read only, then neither."""
        return self._scaled(
            self._timings.handover,
            (0.25, Phase((old,), WRITES, joined)),
            (0.20, Phase((old,), READS)),
            (0.20, Phase((), OUTDATED, {old: "transitioning"}, "waiting_for_primary")),
            (0.20, Phase((new,), OUTDATED, {new: "waiting_for_quorum"}, "waiting_for_primary")),
            (0.15, Phase((new,), OUTDATED, {old: "backfilling"})),
        )

    @staticmethod
    def _scaled(total: float, *steps: tuple[float, Phase]) -> list[tuple[float, Phase]]:
        return [(share * total, phase) for share, phase in steps]

    def _lay(self, *steps: tuple[float, Phase] | Phase) -> None:
        at, self._plan = time.monotonic(), []
        for step in steps:
            length, phase = step if isinstance(step, tuple) else (float("inf"), step)
            at += length
            self._plan.append((at, phase))

    # documents

    def status(self) -> Document:
        """The row in table_status."""
        return {"db": self.table["db"], "id": self.table["id"], "name": self.table["name"], **self._document(True)}

    def issue(self) -> Document | None:
        """The row in current_issues; none while every server is there, even when the table is not ready."""
        missing = [name for name in self.replicas if name not in self.connected]
        if not missing:
            return None
        readiness = self.phase.readiness
        text = f"Table `{self.table['db']}.{self.table['name']}` is {_READINESS_TEXT[readiness]}"
        info = {"db": self.table["db"], **self._document(False), "table": self.table["name"]}
        return {
            "critical": readiness < WRITES,
            "description": f"{text} The following servers are not reachable: {', '.join(missing)}",
            "id": str(uuid.uuid5(_ISSUES, self.table["id"])),
            "info": info,
            "type": "table_availability",
        }

    def _document(self, stale: bool) -> Document:
        phase = self.phase
        states = {
            name: phase.states.get(name, phase.others) if name in self.connected else "disconnected"
            for name in self.replicas
        }
        every = all(state == "ready" for state in states.values()) and phase.readiness == WRITES
        flags = [every, phase.readiness >= OUTDATED, phase.readiness >= READS, phase.readiness >= WRITES]
        if stale and phase.flags is not None:
            flags = [phase.flags] * 4
        names = ("all_replicas_ready", "ready_for_outdated_reads", "ready_for_reads", "ready_for_writes")
        replicas: list[Any] = [{"server": name, "state": state} for name, state in states.items()]
        return {
            "raft_leader": self.leader if phase.leader else None,
            "shards": [{"primary_replicas": list(phase.primaries), "replicas": replicas}],
            "status": dict(zip(names, flags, strict=True)),
        }
