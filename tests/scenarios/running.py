"""Runs scenarios one after another on one platform, each from all healthy to all healthy."""

from __future__ import annotations

import asyncio
import concurrent.futures
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Protocol

from backendhealth.core.durations import human, seconds
from backendhealth.core.spec.profile import DiagnosisProfileSpec
from tests.scenarios.generator import Scenario, Step
from tests.scenarios.judge import Verdict, Write, judge
from tests.scenarios.score import Row
from tests.scenarios.truth import FOREVER, Injected, Timing, Truth

PATIENCE = 90.0
"""Seconds until all must be healthy again."""
_GRACE = 20.0
_LOOP_GRACE = 30.0


# of this module, not of an event loop: a server that a test starts ends with the thread that started it
_INJECTOR = concurrent.futures.ThreadPoolExecutor(1, thread_name_prefix="injector")


class Breakable(Protocol):
    """A platform whose faults are made by name; both return when it is done."""

    def begin(self, fault: str) -> None: ...

    def end(self, fault: str) -> None: ...


class Watch(Protocol):
    """Every write of the status, in the order in which it was received."""

    writes: list[Write]


@dataclass(frozen=True, slots=True)
class Outcome:
    """One scenario, what was done, what was written, and what is made of it."""

    scenario: Scenario
    log: Sequence[Injected]
    writes: Sequence[Write]
    verdict: Verdict
    recovered: float
    """Seconds from the last act until all was Healthy."""

    @property
    def row(self) -> Row:
        """Its row in the score."""
        found, names = self.verdict, tuple(fault.name for fault in self.scenario.faults)
        return Row(self.scenario.name, names, found.seconds, len(found.false_blame), tuple(found.wrong))

    @property
    def told(self) -> str:
        """What was wrong, with all that was done and written, for people."""
        start = min(one.began for one in self.log)
        acts = [f"{one.fault.name}: {one.done - start:.1f} to {one.ended - start:.1f} s" for one in self.log]
        return "\n".join([self.scenario.name, self.verdict.told, *acts, *(_line(one, start) for one in self.writes)])


def shortened(profile: DiagnosisProfileSpec) -> DiagnosisProfileSpec:
    """The profile with graces of seconds instead of minutes: a test can't wait for kubelet's back-off.

    One of a driver stays longer than it takes to count as steady again.
    """
    graces = {"drivers": _LOOP_GRACE}
    components = [
        one.model_copy(update={"recovery_grace": human(min(seconds(one.recovery_grace), graces.get(one.name, _GRACE)))})
        for one in profile.components
    ]
    return profile.model_copy(update={"components": components})


def specification(timing: Timing, profile: Mapping[str, str], probes: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """The spec of a BackendHealth."""
    return {
        "profileRef": profile,
        "interval": human(timing.interval),
        "retryInterval": f"{timing.retry_interval * 1000:.0f}ms",
        "timeout": f"{timing.timeout * 1000:.0f}ms",
        "failureThreshold": timing.failure_threshold,
        "successThreshold": timing.success_threshold,
        "probes": list(probes),
    }


async def run(
    scenario: Scenario, platform: Breakable, watch: Watch, profile: DiagnosisProfileSpec, timing: Timing
) -> Outcome:
    """Play one scenario from all healthy to all healthy. Raises TimeoutError when it does not get there."""
    await _healthy(watch, scenario.name)
    before = watch.writes[-1:]
    seen = len(watch.writes)
    log: dict[str, Injected] = {}
    try:
        for step in scenario.steps:
            await asyncio.sleep(step.after)  # the scenario's own time
            await _act(platform, step, log)
    finally:
        for one in log.values():
            if one.ended == FOREVER:
                await _do(platform.end, one.fault.name)
    over = time.time()
    await _healthy(watch, scenario.name)
    writes = [*before, *watch.writes[seen:]]
    truth = Truth(profile, timing, list(log.values()))
    return Outcome(scenario, truth.log, writes, judge(truth, writes, time.time()), time.time() - over)


async def _act(platform: Breakable, step: Step, log: dict[str, Injected]) -> None:
    """Do what the step says. What fails half-way is in the log as well: it is to be taken back."""
    name, at = step.fault.name, time.time()
    if step.begins:
        log[name] = Injected(step.fault, at, FOREVER)
        await _do(platform.begin, name)
        log[name] = replace(log[name], done=time.time())
    else:
        await _do(platform.end, name)
        log[name] = replace(log[name], ending=at, ended=time.time())


async def _do(act: Callable[[str], None], fault: str) -> None:
    await asyncio.get_running_loop().run_in_executor(_INJECTOR, act, fault)


async def _healthy(watch: Watch, name: str) -> None:
    deadline = time.monotonic() + PATIENCE
    while not (watch.writes and _state(watch.writes[-1]) == "Healthy"):
        if time.monotonic() > deadline:
            raise TimeoutError(f"{name}: not healthy within {PATIENCE:g} s: {watch.writes[-1:]}")
        await asyncio.sleep(0.05)


def _state(write: Write) -> str:
    return str((write.status.get("summary") or {}).get("state"))


def _line(write: Write, start: float) -> str:
    diagnosis = write.status.get("diagnosis") or {}
    explained = {one["name"]: one["by"] for one in diagnosis.get("explained", ())}
    open_ = {one["name"]: one["because"][:80] for one in diagnosis.get("unexplained", ())}
    probes = write.status.get("probes", ())
    bad = {one["name"]: one["reason"] for probe in probes for one in (probe, *probe.get("parts", ())) if _fails(one)}
    causes = sorted(write.causes)
    return f"  {write.at - start:6.1f} s: causes {causes}, explained {explained}, unexplained {open_}, seen {bad}"


def _fails(one: Mapping[str, Any]) -> bool:
    return one["verdict"] not in ("Healthy", "Degraded")
