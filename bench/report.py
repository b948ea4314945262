"""A run as tables in Markdown, which are legible on a terminal, too."""

from __future__ import annotations

import importlib.metadata
import os
import platform
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from bench.measure import SPARSE, Cpu, Decisions, Effect, Lateness, Memory, Startup

ADDED_MICROSECONDS = 100
STARTUP_SECONDS = 0.7
DECISIONS_MILLISECONDS = 50
EFFECT_MILLISECONDS = 1000
PARTS = ("cpu", "memory", "lateness", "startup", "decisions", "effect")
_PACKAGES = ("pydantic", "redis", "grpcio", "etcd3", "rethinkdb", "elasticsearch", "asyncpg", "aiohttp", "uvloop")


@dataclass(slots=True)
class Report:
    """All that one run has measured; `missing` says why something could not be."""

    loop: str
    machine: dict[str, str | int | float] = field(default_factory=dict)
    versions: dict[str, str] = field(default_factory=dict)
    cpu: list[Cpu] = field(default_factory=list)
    memory: list[Memory] = field(default_factory=list)
    lateness: Lateness | None = None
    startup: Startup | None = None
    decisions: Decisions | None = None
    effect: Effect | None = None
    missing: dict[str, str] = field(default_factory=dict)
    reached: dict[str, bool] = field(default_factory=dict)

    def judge(self) -> None:
        """Compare with what is to be reached."""
        self.reached = {what: met for part in PARTS for what, met in _goals(self, part)}


def machine() -> dict[str, str | int | float]:
    """What it runs on, and the load of the last minute before."""
    return {
        "cpu": _cpu_name(),
        "cores": os.cpu_count() or 0,
        "system": f"{platform.system()} {platform.release()}",
        "loadBefore": round(os.getloadavg()[0], 2),
    }


def _cpu_name() -> str:
    try:
        text = Path("/proc/cpuinfo").read_text()
    except OSError:
        text = ""
    found = re.search(r"^model name\s*:\s*(.+)$", text, re.MULTILINE)
    return found[1] if found else platform.machine()


def versions() -> dict[str, str]:
    """Of Python and of the packages whose cost is in the figures."""
    known = {"python": platform.python_version()}
    for name in _PACKAGES:
        try:
            known[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    return known


def text(report: Report) -> str:
    """The whole report in Markdown: medians, ranges in parentheses."""
    return "\n".join([_where(report), "", *(_section(report, part) for part in PARTS)])


def _section(report: Report, part: str) -> str:
    """What one part has come to; empty where it was not measured."""
    tables = {
        "cpu": (report.cpu, f"CPU of one attempt in µs, {report.loop}:", _cpu_table),
        "memory": (report.memory, "Memory in MiB:", _memory_table),
        "lateness": (report.lateness, "Start minus due in ms (negative: early, in a shared tick):", _lateness_table),
        "startup": (report.startup, "`backendhealth check` on one Redis, the whole process:", _startup_table),
        "decisions": (report.decisions, "CPU of deciding in ms:", _decisions_table),
        "effect": (report.effect, "From a failing answer to the effect in ms:", _effect_table),
    }
    found, head, table = tables[part]
    told = [f"{head}\n\n{table(found)}"] if found else []  # type: ignore[operator]
    missing = [f"- missing: {what}: {why}" for what, why in report.missing.items() if what.split()[0] == part]
    goals = [f"- {'reached' if met else 'MISSED'}: {what}" for what, met in _goals(report, part)]
    if missing or goals:
        told.append("\n".join([*missing, *goals]))
    return "\n\n".join(told) + "\n" if told else ""


def _goals(report: Report, part: str) -> Iterator[tuple[str, bool]]:
    """What is to be reached, and whether it is."""
    if part == "cpu" and report.cpu:
        busy = [one for one in report.cpu if one.per_second > SPARSE]
        what = f"the engine adds at most {ADDED_MICROSECONDS} µs a probe to the floor (at more than {SPARSE} a second)"
        yield what, all(one.added.median <= ADDED_MICROSECONDS for one in busy)
    if part == "startup" and report.startup:
        took = report.startup.check.median
        yield f"`check` on one Redis takes at most {STARTUP_SECONDS} s", took <= STARTUP_SECONDS
    if part == "decisions" and report.decisions:
        one = report.decisions
        what = f"{one.resources:,} resources x {one.rules} rules, all unhealthy or in a storm, are decided in"
        slowest = max(one.unhealthy.median, one.storm.median)
        yield f"{what} {DECISIONS_MILLISECONDS} ms of CPU", slowest <= DECISIONS_MILLISECONDS
    if part == "effect" and report.effect:
        what = f"from a failing verdict to its effect takes at most {EFFECT_MILLISECONDS} ms, 99 times of 100"
        yield what, report.effect.effect_p99 <= EFFECT_MILLISECONDS


def _where(report: Report) -> str:
    told = report.machine
    packages = ", ".join(f"{name} {version}" for name, version in report.versions.items())
    return f"{told['cpu']}, {told['cores']} cores, {told['system']}, load before {told['loadBefore']}; {packages}"


def _cpu_table(rows: Sequence[Cpu]) -> str:
    head = ["probe", "a second", "floor", "floor, shared ticks", "engine", "engine - floor", "ratio", "engine - shared"]
    return _table(
        head,
        [
            [
                f"{one.probe} {one.server}".strip(),
                str(one.per_second),
                one.floor.shown(),
                one.shared_floor.shown(),
                one.engine.shown(),
                one.added.shown(),
                f"{one.engine.median / one.floor.median:.2f}",
                one.added_to_shared.shown(),
            ]
            for one in rows
        ],
    )


def _memory_table(rows: Sequence[Memory]) -> str:
    head = ["probe", "process with one", "each thousand more"]
    return _table(head, [[one.probe, one.one.shown(1), one.per_thousand.shown(1)] for one in rows])


def _lateness_table(one: Lateness) -> str:
    head = ["a second", "earliest", "p50", "p99", "latest", "% of one CPU"]
    figures = (one.earliest, one.p50, one.p99, one.latest, one.cpu_percent)
    return _table(head, [[one.per_second.shown(), *(each.shown(1) for each in figures)]])


def _startup_table(one: Startup) -> str:
    imports = ", ".join(f"{name} {took:.0f}" for name, took in one.imports.items())
    return _table(
        ["seconds", "CPU seconds", "a bare interpreter", "ms of import by package"],
        [[one.check.shown(2), one.check_cpu.shown(2), one.interpreter.shown(2), imports]],
    )


def _decisions_table(one: Decisions) -> str:
    told = f"{one.resources:,} resources by {one.rules} rules each"
    named = {"all unhealthy": one.unhealthy, "in a storm": one.storm, "all healthy": one.healthy}
    named["reading the statuses"] = one.reading
    floor = one.floor
    return _table(
        [told, "floor", "product", "ratio"],
        [[name, floor.shown(1), took.shown(1), f"{took.median / floor.median:.1f}"] for name, took in named.items()],
    )


def _effect_table(one: Effect) -> str:
    rows = [("the calls alone, one after another", one.floor, one.floor_p99), ("product", one.effect, one.effect_p99)]
    head = [f"{one.count} times", "median", "p99"]
    return _table(head, [[name, took.shown(0), f"{p99:.0f}"] for name, took, p99 in rows])


def _table(head: list[str], rows: list[list[str]]) -> str:
    widths = [max(len(row[column]) for row in [head, *rows]) for column in range(len(head))]

    def line(cells: Sequence[str]) -> str:
        return "| " + " | ".join(cell.ljust(width) for cell, width in zip(cells, widths, strict=True)) + " |"

    return "\n".join([line(head), "|" + "|".join("-" * (width + 2) for width in widths) + "|", *map(line, rows)])


def update(path: Path, report: Report) -> None:
    """Put each part that was measured between its two marks of the document, and leave the others as they are.

    Raises ValueError when they are not there.
    """
    document = path.read_text(encoding="utf-8")
    for part in PARTS:
        section = _section(report, part)
        if section:
            document = _replaced(document, part, f"{_where(report)}\n\n{section}", path)
    path.write_text(document, encoding="utf-8")


def _replaced(document: str, part: str, section: str, path: Path) -> str:
    begin, end = (f"<!-- bench: {part}: {edge} -->" for edge in ("begin", "end"))
    before, found, rest = document.partition(begin)
    _, ended, after = rest.partition(end)
    if not found or not ended:
        raise ValueError(f"{path} has no {begin} … {end}")
    return f"{before}{begin}\n{section}{end}{after}"
