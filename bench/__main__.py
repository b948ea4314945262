"""`python -m bench`: measure and print."""

from __future__ import annotations

import argparse
import dataclasses
import json
import resource
import sys
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

from bench import measure
from bench.report import PARTS, Report, machine, text, update, versions
from bench.sut import BenchFailed
from tests.servers.process import ServerFailed

_OPEN_FILES = 8192
ALONE: dict[str, Callable[[measure.Settings], object]] = {
    "startup": measure.startup,
    "decisions": measure.decisions,
    "effect": measure.effect,
    "lateness": measure.lateness,
}
"""Parts that come to one figure each, under their names in the report."""
_Got = TypeVar("_Got")


def parser() -> argparse.ArgumentParser:
    made = argparse.ArgumentParser(
        prog="bench", description="What probing costs, beside a bare floor. Takes ten minutes."
    )
    made.add_argument("--quick", action="store_true", help="two minutes: few and short rounds, coarse figures")
    made.add_argument("--only", choices=PARTS, action="append", help="only this part; may be given several times")
    made.add_argument("--loop", choices=("asyncio", "uvloop"), default="asyncio", help="event loop of what is measured")
    made.add_argument("-o", "--output", choices=("table", "json"), default="table", help="output format")
    made.add_argument(
        "--update", metavar="FILE", type=Path, help="write the tables of these parts into this document, too"
    )
    return made


def settings(args: argparse.Namespace) -> measure.Settings:
    """Long enough that the medians stay; or quick."""
    if args.quick:
        return measure.Settings(rounds=2, seconds=1.0, memory_count=300, starts=3, effects=10, loop=args.loop, say=_say)
    return measure.Settings(rounds=5, seconds=2.0, memory_count=1000, starts=11, effects=100, loop=args.loop, say=_say)


def _say(line: str) -> None:
    print(line, "…", file=sys.stderr, flush=True)


def run(parts: list[str], wanted: measure.Settings) -> Report:
    """All of `parts`; what is not installed or did not work is named in the report."""
    report = Report(wanted.loop, machine(), versions())

    def measured(what: str, take: Callable[[], _Got]) -> Iterator[_Got]:
        try:
            yield take()
        except (ServerFailed, BenchFailed) as error:
            report.missing[what] = str(error).splitlines()[0]

    for part, take in ALONE.items():
        if part in parts:
            setattr(report, part, next(measured(part, partial(take, wanted)), None))
    if "memory" in parts:
        for kind in measure.IN_MEMORY:
            report.memory += measured(f"memory {kind}", partial(measure.memory, kind, wanted))
    if "cpu" in parts:
        for kind, per_second in measure.RATES:
            report.cpu += measured(f"cpu {kind}", partial(measure.cpu, kind, per_second, wanted))
    report.judge()
    return report


def main() -> int:
    args = parser().parse_args()
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(
        resource.RLIMIT_NOFILE, (_OPEN_FILES if hard == resource.RLIM_INFINITY else min(_OPEN_FILES, hard), hard)
    )
    report = run(args.only or list(PARTS), settings(args))
    if args.update:
        update(args.update, report)
    print(json.dumps(_plain(report), indent=2, ensure_ascii=False) if args.output == "json" else text(report))
    return 1 if report.missing else 0


def _plain(value: Any) -> Any:
    """Dataclasses as JSON has them, their fields in camelCase."""
    if dataclasses.is_dataclass(value):
        return {_camel(field.name): _plain(getattr(value, field.name)) for field in dataclasses.fields(value)}
    return [_plain(one) for one in value] if isinstance(value, list) else value


def _camel(name: str) -> str:
    first, *rest = name.split("_")
    return first + "".join(word.title() for word in rest)


if __name__ == "__main__":
    sys.exit(main())
