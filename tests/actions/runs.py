"""Runs in which the leader is killed or stopped at random while an action is under way, and what is made of each.

A run: core goes down, and one policy acts on one pod. At a moment by chance (`Chance`, from a seed) the replica that
leads is killed with SIGKILL, or stopped until another leads and woken then. The processes' own counts of signals and
the Remediations are the truth that is judged.
"""

from __future__ import annotations

import contextlib
import random
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

from tests.actions.place import FINAL, Place, Stepped, phase_of
from tests.kube.replicas import let_pass
from tests.servers.process import wait_until

Json = dict[str, Any]
Span = tuple[float, float]
BYSTANDER = "bystander"
NO_LIMITS = {"max": 1000, "window": "1m", "cooldown": "0s", "maxConcurrent": 100}
_STOPPED = 0.25
_QUIET = 2.0
"""Seconds in which a second signal would come."""
HAD = frozenset({"Succeeded", "NotHelpful", "Unknown"})
"""Phases that may follow a signal that was sent."""
NOT_HAD = frozenset({"Failed", "Held", "Expired", "Unknown"})
"""Phases that may stand where none was."""


@dataclass(frozen=True, slots=True)
class Chance:
    """What happens: so many seconds after core went down the leader gets SIGKILL."""

    after: float
    stops: bool
    """SIGSTOP instead, and SIGCONT once another leads."""

    @classmethod
    def drawn(cls, random_: random.Random, spans: Sequence[Span]) -> Chance:
        """At some time within one of them."""
        return cls(random_.uniform(*random_.choice(spans)), stops=random_.random() < _STOPPED)

    @property
    def told(self) -> str:
        """For people."""
        return f"{'stopped' if self.stops else 'killed'} {self.after:.2f} s after the failure"


@dataclass(frozen=True, slots=True)
class Run:
    """What came of one. `signals`: those that the pod's process got; `elsewhere`: those of all others."""

    lane: str
    chance: Chance | None
    hit: str
    """The last step that the process had told when it was hit."""
    phases: tuple[str, ...]
    """Of its Remediations; those that take back come last."""
    signals: int
    elsewhere: int
    expected: int
    """Signals without faults."""
    seconds: float
    why: str = ""
    """What the records say that did not succeed."""

    @property
    def wrong(self) -> list[str]:
        """What must never be, in words; nothing in nearly all."""
        found = []
        if self.elsewhere:
            found.append(f"{self.elsewhere} signals to others")
        if self.signals > self.expected:
            found.append(f"{self.signals} signals, {self.expected} at most")
        if len(self.phases) > self.expected:
            found.append(f"claimed again: {', '.join(self.phases)}")
        if self.signals > sum(phase in HAD for phase in self.phases):
            found.append(f"{self.signals} signals, but {', '.join(self.phases) or 'no record'}")
        if self.signals < sum(phase in HAD - NOT_HAD for phase in self.phases):
            found.append(f"{self.signals} signals, and yet {', '.join(self.phases)}")
        if not self.phases or not set(self.phases) <= FINAL:
            found.append(f"not at the end: {', '.join(self.phases) or 'no record'}")
        if self.chance is None and self.signals != self.expected:
            found.append(f"{self.signals} signals without a fault, not {self.expected}")
        return found


@dataclass
class Lane:
    """One namespace, its target and its two replicas. `toggles`: on and off again; otherwise one signal.

    `spans`: seconds after the failure between which something is under way, with nobody killed.
    """

    place: Place
    app: str
    action: Json
    toggles: bool
    spans: Sequence[Span]
    replicas: list[Stepped] = field(default_factory=list)
    _number: int = 0
    _stack: contextlib.ExitStack = field(default_factory=contextlib.ExitStack)

    @contextlib.contextmanager
    def running(self) -> Iterator[Lane]:
        """Two replicas and the policy, while it is open; core is up in between the runs."""
        with self._stack:
            self._up = self._stack.enter_context(contextlib.ExitStack())
            self._up.enter_context(self.place.mended())
            self.place.declare()
            self.place.allow("policy", self.action, limits=NO_LIMITS)
            for _ in range(2):
                self._another()
            yield self

    def run(self, chance: Chance | None) -> Run:
        """From core up to core up; raises AssertionError or TimeoutError when it gets to no end."""
        began = time.monotonic()
        self._healthy()
        leader = self._leader()
        counts, known = self._counts(), {one["metadata"]["name"] for one in self.place.all()}
        told = len(leader.log(1 << 22))
        self._up.close()
        hit = self._strike(chance, leader, told) if chance else ""
        self.place.until(lambda: self._over(known), f"the end of {chance and chance.told}", 60)
        let_pass(_QUIET)
        signals = self._counts() - counts
        mine = signals.pop((self.app, "main", "main"), 0)
        phases = tuple(phase_of(one) for one in self._new(known))
        self._up.enter_context(self.place.mended())
        found = Run(
            self.app,
            chance,
            hit,
            phases,
            mine,
            signals.total(),
            2 if self.toggles else 1,
            time.monotonic() - began,
            "; ".join(one["status"].get("message", "") for one in self._new(known) if phase_of(one) != "Succeeded"),
        )
        if "Unknown" in phases and self.toggles:
            self._restart()
        return found

    def _strike(self, chance: Chance, leader: Stepped, told: int) -> str:
        """Do it; answers with the last step before."""
        let_pass(chance.after)
        leader.freeze() if chance.stops else leader.kill()
        lines = leader.log(1 << 22)[told:].splitlines()
        steps = [line.removeprefix("step ") for line in lines if line.startswith("step ")]
        if chance.stops:
            other = next(one for one in self.replicas if one is not leader)
            wait_until(lambda: _leads(other), 30, "another leads")
            leader.resume()
        else:
            self.replicas.remove(leader)
            self._another()
        # at the end it is decided again and again, and found to be done already
        begun = [step for step in steps if step != "decided"]
        return [*steps[:1], *begun][-1] if steps else "before the decision"

    def _new(self, known: set[str]) -> list[Json]:
        found = [one for one in self.place.all() if one["metadata"]["name"] not in known]
        return sorted(found, key=lambda one: "revert" in one["spec"])

    def _over(self, known: set[str]) -> bool:
        new = self._new(known)
        return bool(new) and all(phase_of(one) in FINAL for one in new)

    def _healthy(self) -> None:
        self.place.resources.wait("demo", "Healthy", 30)

    def _leader(self) -> Stepped:
        """The replica that leads, once one does and the other is ready."""
        wait_until(lambda: all(one.is_ready() for one in self.replicas), 40, "both replicas ready")
        wait_until(lambda: any(map(_leads, self.replicas)), 40, "one leads")
        return next(one for one in self.replicas if _leads(one))

    def _another(self) -> None:
        self._number += 1
        replica = self.place.operator(f"replica-{self._number}")
        self.replicas.append(self._stack.enter_context(replica))

    def _counts(self) -> Counter[tuple[str, str, str]]:
        """How often each process says that it was signalled, by pod, container and process."""
        found: Counter[tuple[str, str, str]] = Counter()
        for pod in (self.app, BYSTANDER):
            for container in ("main", "beside"):
                for process, count in self.place.counted(pod, container).items():
                    found[pod, container, process] += count
        return found

    def _restart(self) -> None:
        """So that the next run begins with verbose logs off, whatever this one has left."""
        before = self._restarts()
        self.place.end_process_1(self.app, "main")
        wait_until(lambda: self._restarts() > before and bool(self.place.ready(self.app)), 60, "restarted")
        self.place.settle()

    def _restarts(self) -> int:
        statuses = self.place.get("pods", self.app)["status"]["containerStatuses"]
        return sum(int(one["restartCount"]) for one in statuses if one["name"] == "main")


def _leads(one: Stepped) -> bool:
    return one.metric("backendhealth_leader") == 1
