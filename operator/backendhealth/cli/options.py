"""Options and answers that several verbs share."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence

from backendhealth.cli.load import Loaded, load
from backendhealth.cli.output import FORMATS, Result
from backendhealth.core.verdict import Verdict

EXIT_HEALTHY = 0
EXIT_UNHEALTHY = 1
EXIT_BAD_INPUT = 2
EXIT_UNKNOWN = 3


def add_files(parser: argparse.ArgumentParser) -> None:
    """Add `-f`."""
    parser.add_argument(
        "-f",
        "--filename",
        dest="files",
        metavar="FILE",
        action="append",
        required=True,
        help="YAML or JSON file, directory, or - for standard input; may be given several times",
    )


def add_output(parser: argparse.ArgumentParser) -> None:
    """Add `-o` and `--strict`."""
    parser.add_argument("-o", "--output", choices=FORMATS, default="table", help="output format (default: table)")
    parser.add_argument("--strict", action="store_true", help="count Degraded as a failure")


def load_or_tell(files: Sequence[str]) -> Loaded | None:
    """The resources of the files; None when there are problems, which are told on standard error."""
    loaded = load(files)
    for problem in loaded.problems:
        print(problem, file=sys.stderr)
    if loaded.problems:
        return None
    if not loaded.resources:
        print(f"error: no BackendHealth in {', '.join(files)}", file=sys.stderr)
        return None
    return loaded


def tell(problem: str) -> int:
    """Name a problem with the command's input on standard error; the exit code for it."""
    print(f"error: {problem}", file=sys.stderr)
    return EXIT_BAD_INPUT


def exit_code(results: Sequence[Result], *, strict: bool) -> int:
    """The exit code for the worst state."""
    states = {status.summary.state for _, status in results if status.summary}
    if Verdict.UNHEALTHY in states or (strict and _degraded(results)):
        return EXIT_UNHEALTHY
    return EXIT_UNKNOWN if Verdict.UNKNOWN in states else EXIT_HEALTHY


def _degraded(results: Sequence[Result]) -> bool:
    return any(probe.verdict == Verdict.DEGRADED for _, status in results for probe in status.probes)
