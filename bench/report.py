"""A run as tables in Markdown, which are legible on a terminal, too."""

from __future__ import annotations

import importlib.metadata
import os
import platform
import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from bench.measure import SPARSE, Cpu, Decisions, Lateness, Memory, Startup

ADDED_MICROSECONDS = 100
STARTUP_SECONDS = 0.7
DECISIONS_MILLISECONDS = 50
_PACKAGES = ("pydantic", "redis", "grpcio", "etcd3", "rethinkdb", "elasticsearch", "asyncpg", "aiohttp", "uvloop")
_BEGIN, _END = "<!-- bench: begin -->", "<!-- bench: end -->"


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
    missing: dict[str, str] = field(default_factory=dict)
    reached: dict[str, bool] = field(default_factory=dict)

    def judge(self) -> None:
        """Compare with what is to be reached."""
        if self.cpu:
            what = (
                f"the engine adds at most {ADDED_MICROSECONDS} µs a probe to the floor (at more than {SPARSE} a second)"
            )
            busy = [one for one in self.cpu if one.per_second > SPARSE]
            self.reached[what] = all(one.added.median <= ADDED_MICROSECONDS for one in busy)
        if self.startup:
            self.reached[f"`check` on one Redis takes at most {STARTUP_SECONDS} s"] = (
                self.startup.check.median <= STARTUP_SECONDS
            )
        if self.decisions:
            what = f"{self.decisions.resources:,} resources x {self.decisions.rules} rules, all unhealthy or in a storm"
            slowest = max(self.decisions.unhealthy.median, self.decisions.storm.median)
            self.reached[f"{what}, are decided in {DECISIONS_MILLISECONDS} ms of CPU"] = (
                slowest <= DECISIONS_MILLISECONDS
            )


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
    parts = [_where(report)]
    if report.cpu:
        parts += [f"CPU of one attempt in µs, {report.loop}:", _cpu_table(report.cpu)]
    if report.memory:
        parts += ["Memory in MiB:", _memory_table(report.memory)]
    if report.lateness:
        parts += ["Start minus due in ms (negative: early, in a shared tick):", _lateness_table(report.lateness)]
    if report.startup:
        parts += ["`backendhealth check` on one Redis, the whole process:", _startup_table(report.startup)]
    if report.decisions:
        told = f"{report.decisions.resources:,} resources by {report.decisions.rules} rules each"
        parts += [f"CPU of deciding in ms, {told}:", _decisions_table(report.decisions)]
    if report.missing:
        parts.append("\n".join(f"- missing: {what}: {why}" for what, why in report.missing.items()))
    parts.append("\n".join(f"- {'reached' if met else 'MISSED'}: {what}" for what, met in report.reached.items()))
    return "\n\n".join(part for part in parts if part) + "\n"


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
    named = {"all unhealthy": one.unhealthy, "in a storm": one.storm, "all healthy": one.healthy}
    named["reading the statuses"] = one.reading
    floor = one.floor
    return _table(
        ["what", "floor", "product", "ratio"],
        [[name, floor.shown(1), took.shown(1), f"{took.median / floor.median:.1f}"] for name, took in named.items()],
    )


def _table(head: list[str], rows: list[list[str]]) -> str:
    widths = [max(len(row[column]) for row in [head, *rows]) for column in range(len(head))]

    def line(cells: Sequence[str]) -> str:
        return "| " + " | ".join(cell.ljust(width) for cell, width in zip(cells, widths, strict=True)) + " |"

    return "\n".join([line(head), "|" + "|".join("-" * (width + 2) for width in widths) + "|", *map(line, rows)])


def update(path: Path, report: Report) -> None:
    """Put the report between the two marks of the document. Raises ValueError when they are not there."""
    before, begin, rest = path.read_text(encoding="utf-8").partition(_BEGIN)
    _, end, after = rest.partition(_END)
    if not begin or not end:
        raise ValueError(f"{path} has no {_BEGIN} … {_END}")
    path.write_text(f"{before}{begin}\n{text(report)}{end}{after}", encoding="utf-8")
