"""One measurement in a process of its own: `python -m bench.worker JSON` with a task, answers with JSON."""

from __future__ import annotations

import asyncio
import gc
import json
import sys
import time
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any

from backendhealth.core.observation import Finding
from backendhealth.core.reasons import Reason
from backendhealth.engine.ports import Prober
from bench import decisions
from bench.floors import FLOORS, Loop
from bench.sut import CONNECT_SECONDS, INTERVAL, BenchFailed, Running, fleet, opener

_SETTLE = 0.3
"""Seconds before a window begins."""
_GENTLE = 250
"""Probes a second that leave room for connecting."""
Task = dict[str, Any]


async def cpu(task: Task) -> dict[str, Any]:
    """CPU seconds for each attempt, by round: of the floor, of the floor that shares ticks, of the engine."""
    rounds: dict[str, list[float]] = {"floor": [], "sharedFloor": [], "engine": []}
    version = ""
    for _ in range(task["rounds"]):
        rounds["floor"].append(await _of_floor(task, shared=False))
        rounds["sharedFloor"].append(await _of_floor(task, shared=True))
        used, version = await _of_engine(task)
        rounds["engine"].append(used)
    return {**rounds, "version": version}


async def _of_floor(task: Task, *, shared: bool) -> float:
    make = FLOORS[task["kind"]]
    bares = [make(task["target"], task["secret"]) for _ in range(task["count"])]
    loop = Loop(bares)
    running = None
    try:
        async with asyncio.timeout(CONNECT_SECONDS):
            for bare in bares:
                await bare.exchange()
        running = asyncio.create_task(loop.together() if shared else loop.alone())
        used, made = await _window(lambda: loop.made, task["seconds"])
        if running.done():
            running.result()  # raises what the client raised
        if not made:
            raise BenchFailed("no exchange ended")
    finally:
        if running is not None:
            running.cancel()
            await asyncio.wait([running], timeout=CONNECT_SECONDS)
        for bare in bares:
            await bare.close()
    return used / made


async def _of_engine(task: Task) -> tuple[float, str]:
    resources = fleet(task["kind"], task["target"], task["count"])
    async with Running(resources, opener(task["kind"], task["secret"])) as running:
        await running.all_healthy()
        running.reasons.clear()
        used, made = await _window(running.reasons.total, task["seconds"])
        running.all_succeeded()  # at least one, so made is not 0
        version = str(running.last.facts.get("version", "")) if running.last else ""
    return used / made, version


async def _window(count: Callable[[], int], seconds: float) -> tuple[float, int]:
    """CPU seconds and attempts of a window, once what was begun has settled."""
    gc.collect()
    await asyncio.sleep(_SETTLE)
    before, began = count(), time.process_time()
    await asyncio.sleep(seconds)
    made, used = count() - before, time.process_time() - began
    return used, made


class _Punctual:
    """A prober that notes by how much it was asked too late; it is due at `due` by the loop's clock at first."""

    def __init__(self, late: list[float], due: float) -> None:
        self._late = late
        self._due = due

    async def attempt(self, timeout: float) -> Finding:
        self._late.append(asyncio.get_running_loop().time() - self._due)
        self._due += INTERVAL
        return Finding(Reason.PROBE_SUCCEEDED, "nothing was asked")

    async def close(self) -> None:
        return


async def lateness(task: Task) -> dict[str, Any]:
    """Seconds of start minus due of every attempt in the window, in rising order, and the share of one CPU."""
    count, seconds = task["count"], task["seconds"]
    late: list[float] = []
    opened = 0

    def open_prober(*_: object) -> Prober:  # asked in the order of the fleet, when each is applied
        nonlocal opened
        due = asyncio.get_running_loop().time() + opened * INTERVAL / count
        opened += 1
        return _Punctual(late, due)

    async with Running(fleet("nothing", task["target"], count), open_prober) as running:
        await running.all_healthy()
        used, made = await _window(lambda: len(late), seconds)
        running.all_succeeded()
    return {"late": sorted(late[-made:]), "cpuShare": used / seconds, "rate": made / seconds}


async def memory(task: Task) -> dict[str, float]:
    """Resident bytes once every one of `count` probes has made an attempt and keeps its connection."""
    count = task["count"]
    interval = max(INTERVAL, count / _GENTLE)
    resources = fleet(task["kind"], task["target"], count, interval)
    async with Running(resources, opener(task["kind"], task["secret"])) as running:
        await running.all_healthy()
        gc.collect()
        return {"resident": float(_resident())}


async def deciding(task: Task) -> dict[str, list[float]]:
    """CPU seconds by round; see bench.decisions."""
    return decisions.measured(task["rounds"])


def _resident() -> int:
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith("VmRSS:"):
            return int(line.split()[1]) * 1024
    raise BenchFailed("/proc/self/status has no VmRSS: memory is measured on Linux only")


MEASURES: dict[str, Callable[[Task], Coroutine[Any, Any, dict[str, Any]]]] = {
    "cpu": cpu,
    "decisions": deciding,
    "lateness": lateness,
    "memory": memory,
}


def main() -> None:
    task: Task = json.loads(sys.argv[1])
    run: Callable[[Coroutine[Any, Any, Any]], Any] = asyncio.run
    if task["loop"] == "uvloop":
        import uvloop

        run = uvloop.run
    print(json.dumps(run(MEASURES[task["measure"]](task))))


if __name__ == "__main__":
    main()
