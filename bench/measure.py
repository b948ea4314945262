"""The measurements: each starts its servers, lets workers measure, and answers with figures."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bench import effect as enforced
from bench.decisions import RESOURCES, RULES
from bench.figures import Figure, figure, percentile
from bench.servers import SERVERS, secret
from bench.sut import ROOT, BenchFailed, Target

SPARSE = 10
"""Probes a second, at which none share a tick: what is to be reached is said of busier engines."""
RATES = (
    ("nothing", 200),
    ("nothing", SPARSE),
    ("tcp", 200),
    ("http", 200),
    ("redis", 200),
    ("redis", SPARSE),
    ("etcd", 100),
    ("postgres", 200),
    ("elasticsearch", 25),
    ("rethinkdb", 25),
)
"""Probes a second, of targets that are probed once a second each: fewer where their servers would fill this machine."""
IN_MEMORY = ("nothing", "tcp", "http", "redis")
SCHEDULED = 1000
_PATIENCE = 240
"""Seconds for one worker."""
_US, _MS, _MIB = 1e6, 1e3, 1 / (1 << 20)


@dataclass(frozen=True, slots=True)
class Settings:
    """How long and how often; `loop` is asyncio or uvloop. `say` takes lines of progress."""

    rounds: int
    seconds: float
    memory_count: int
    starts: int
    effects: int
    loop: str
    say: Callable[[str], None]


@dataclass(frozen=True, slots=True)
class Cpu:
    """CPU µs for each attempt (user and system, all threads). `added…` is the engine's part, from paired rounds."""

    probe: str
    server: str
    per_second: int
    floor: Figure
    shared_floor: Figure
    engine: Figure
    added: Figure
    added_to_shared: Figure


@dataclass(frozen=True, slots=True)
class Memory:
    """Resident MiB: of a process with one probe, and what each thousand more adds."""

    probe: str
    one: Figure
    per_thousand: Figure


@dataclass(frozen=True, slots=True)
class Lateness:
    """Start minus due in ms (negative: early, in a shared tick), and the share of one CPU in per cent."""

    per_second: Figure
    earliest: Figure
    p50: Figure
    p99: Figure
    latest: Figure
    cpu_percent: Figure


@dataclass(frozen=True, slots=True)
class Decisions:
    """CPU ms for all rules of all policies about all BackendHealths, and beside it for a bare comparison of each.

    `unhealthy`: everything fails, and most rules act; `storm`: the breaker holds all; `healthy`: no rule is meant;
    `reading`: what is decided by is read from the statuses, which is done once for each change of one.
    """

    resources: int
    rules: int
    floor: Figure
    unhealthy: Figure
    storm: Figure
    healthy: Figure
    reading: Figure


@dataclass(frozen=True, slots=True)
class Effect:
    """From a failing answer to the API server's answer to the effect, in ms; `floor`: the calls of it alone."""

    count: int
    floor: Figure
    floor_p99: float
    effect: Figure
    effect_p99: float


@dataclass(frozen=True, slots=True)
class Startup:
    """A whole `check` of one Redis and a bare interpreter, in seconds; ms of import by package, the longest first.

    `check_cpu` is what the check computes: unlike the time that passes, it hardly depends on what else runs.
    """

    check: Figure
    check_cpu: Figure
    interpreter: Figure
    imports: dict[str, float]


def cpu(kind: str, per_second: int, settings: Settings) -> Cpu:
    """CPU of one kind of probe. Raises ServerFailed, BenchFailed."""
    settings.say(f"CPU of a probe: {kind}, {per_second} a second")
    with SERVERS[kind]() as target:
        got = _work("cpu", settings, kind, target, per_second)
    pairs = list(zip(got["floor"], got["sharedFloor"], got["engine"], strict=True))
    return Cpu(
        kind,
        got["version"],
        per_second,
        floor=figure(got["floor"], _US),
        shared_floor=figure(got["sharedFloor"], _US),
        engine=figure(got["engine"], _US),
        added=figure((engine - floor for floor, _, engine in pairs), _US),
        added_to_shared=figure((engine - shared for _, shared, engine in pairs), _US),
    )


def memory(kind: str, settings: Settings) -> Memory:
    """Memory of one kind of probe. Raises ServerFailed, BenchFailed."""
    settings.say(f"memory of a thousand probes: {kind}")
    ones, more = [], []
    with SERVERS[kind]() as target:
        for _ in range(min(settings.rounds, 3)):
            one = _work("memory", settings, kind, target, 1)["resident"]
            many = _work("memory", settings, kind, target, settings.memory_count)["resident"]
            ones.append(one)
            more.append((many - one) / (settings.memory_count - 1) * 1000)
    return Memory(kind, figure(ones, _MIB), figure(more, _MIB))


def lateness(settings: Settings) -> Lateness:
    """How punctual SCHEDULED probes a second are. Raises BenchFailed."""
    settings.say(f"lateness at {SCHEDULED} probes a second")
    with SERVERS["nothing"]() as target:
        got = [_work("lateness", settings, "nothing", target, SCHEDULED) for _ in range(settings.rounds)]
    late = [one["late"] for one in got]
    return Lateness(
        per_second=figure((one["rate"] for one in got), digits=0),
        earliest=figure((rising[0] for rising in late), _MS),
        p50=figure((percentile(rising, 50) for rising in late), _MS),
        p99=figure((percentile(rising, 99) for rising in late), _MS),
        latest=figure((rising[-1] for rising in late), _MS),
        cpu_percent=figure((one["cpuShare"] for one in got), 100.0),
    )


def decisions(settings: Settings) -> Decisions:
    """CPU of deciding. Raises BenchFailed."""
    settings.say(f"decisions for {RESOURCES} resources by {RULES} rules")
    got = _work("decisions", settings, "nothing", {}, RESOURCES)
    return Decisions(RESOURCES, RULES, **{name: figure(took, _MS) for name, took in got.items()})


def effect(settings: Settings) -> Effect:
    """From verdict to effect. Raises ServerFailed, BenchFailed."""
    settings.say(f"from verdict to effect, {settings.effects} times")
    got = enforced.measured(settings.effects)
    floor, took = (sorted(got[name]) for name in ("floor", "effect"))
    p99 = [round(percentile(one, 99) * _MS, 1) for one in (floor, took)]
    return Effect(settings.effects, figure(floor, _MS), p99[0], figure(took, _MS), p99[1])


def startup(settings: Settings) -> Startup:
    """Whole processes of `backendhealth check` on one Redis. Raises ServerFailed, BenchFailed."""
    settings.say("start-up of `backendhealth check` on one Redis")
    with tempfile.TemporaryDirectory(prefix="bh-bench-") as made, SERVERS["redis"]() as target:
        file = Path(made) / "redis.yaml"
        probes = [{"name": "redis", "redis": target}]
        resource = {"apiVersion": "backendhealth.dev/v1alpha1", "kind": "BackendHealth"}
        file.write_text(json.dumps({**resource, "metadata": {"name": "bench"}, "spec": {"probes": probes}}))
        check = [sys.executable, "-m", "backendhealth", "check", "-f", str(file)]
        _timed(check)  # the first one compiles and reads from disk
        checks, bare = [], []
        for _ in range(settings.starts):
            checks.append(_timed(check))
            bare.append(_timed([sys.executable, "-c", "pass"]))
        imports = _imports([sys.executable, "-X", "importtime", *check[1:]])
    return Startup(
        check=figure((took for took, _ in checks), digits=3),
        check_cpu=figure((used for _, used in checks), digits=3),
        interpreter=figure((took for took, _ in bare), digits=3),
        imports=imports,
    )


def _timed(argv: list[str]) -> tuple[float, float]:
    """Seconds that pass and CPU seconds of a process. Raises BenchFailed."""
    began, before = time.perf_counter(), os.times()
    done = subprocess.run(argv, capture_output=True, text=True, check=False, timeout=60, cwd=ROOT)
    took, after = time.perf_counter() - began, os.times()
    if done.returncode or ("check" in argv and "ProbeSucceeded" not in done.stdout):
        raise BenchFailed(f"{' '.join(argv[1:4])} failed: {done.stdout}{done.stderr}")
    used = after.children_user - before.children_user + after.children_system - before.children_system
    return took, used


def _imports(argv: list[str], most: int = 8) -> dict[str, float]:
    """ms spent in the modules of each top-level package, without what they import from others."""
    done = subprocess.run(argv, capture_output=True, text=True, check=True, timeout=60, cwd=ROOT)
    spent: Counter[str] = Counter()
    for line in done.stderr.splitlines():
        parts = line.removeprefix("import time:").split("|")
        if len(parts) == 3 and parts[0].strip().isdigit():
            spent[parts[2].strip().partition(".")[0]] += int(parts[0])
    return {name: round(took / 1000, 1) for name, took in spent.most_common(most)}


def _work(measure: str, settings: Settings, kind: str, target: Target, count: int) -> dict[str, Any]:
    task = {
        "measure": measure,
        "kind": kind,
        "target": target,
        "count": count,
        "seconds": settings.seconds,
        "rounds": settings.rounds,
        "secret": secret(),
        "loop": settings.loop,
    }
    argv = [sys.executable, "-m", "bench.worker", json.dumps(task)]
    try:
        done = subprocess.run(argv, capture_output=True, text=True, check=False, timeout=_PATIENCE, cwd=ROOT)
    except subprocess.TimeoutExpired:
        raise BenchFailed(f"no figures within {_PATIENCE} s") from None
    if done.returncode:
        raise BenchFailed(
            f"{(done.stderr.strip().splitlines() or [f'exit code {done.returncode}'])[-1]}\n{done.stderr}"
        )
    answer: dict[str, Any] = json.loads(done.stdout)
    return answer
