"""`backendhealth replay`: the verdicts of a recording, without a network."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from backendhealth.cli.knowing import knowledge_among
from backendhealth.cli.load import Loaded
from backendhealth.cli.options import EXIT_BAD_INPUT, add_files, add_output, exit_code, load_or_tell, tell
from backendhealth.cli.output import Result, render
from backendhealth.cli.recording import RecordingError, read
from backendhealth.cli.watching import Lines
from backendhealth.core.observation import Observation
from backendhealth.core.spec.backendhealth import BackendHealth
from backendhealth.core.spec.status import BackendHealthStatus
from backendhealth.engine.cycle import Cycle


def add_parser(verbs: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the verb `replay`."""
    parser = verbs.add_parser(
        "replay",
        help="judge a recording again, without a network",
        description="Runs the observations that `check --record` wrote through thresholds and diagnosis again. "
        "The thresholds are those of the files given, so a change of them can be tried on what really happened.",
    )
    parser.add_argument("recording", metavar="RECORDING", type=Path, help="file that `check --record` wrote")
    add_files(parser)
    add_output(parser)
    parser.add_argument("--changes", action="store_true", help="print a line for each change on the way")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Replay, print, answer with the exit code that `check` would have had."""
    loaded = load_or_tell(args.files)
    if loaded is None:
        return EXIT_BAD_INPUT
    try:
        return _replay(args, loaded)
    except (RecordingError, OSError, UnicodeDecodeError) as error:
        return tell(str(error))


def _replay(args: argparse.Namespace, loaded: Loaded) -> int:
    once, observations = read(args.recording)
    findings: dict[tuple[str, str], Observation] = {}
    lines = Lines(sys.stderr if args.output in ("json", "yaml", "junit") else sys.stdout) if args.changes else None

    def sink(resource: BackendHealth, status: BackendHealthStatus) -> None:
        if lines:
            lines.changed(resource, status)

    cycle = Cycle(sink, once=once)
    known = {(resource.key, probe.name) for resource in loaded.resources for probe in resource.spec.probes}
    now, dropped = None, 0
    for seen in observations:
        if now is None:
            for resource in loaded.resources:
                cycle.apply(resource, seen.started, knowledge=knowledge_among(loaded, resource))
        now = seen.at
        if (seen.resource, seen.probe) not in known:
            dropped += 1
            continue
        findings[seen.resource, seen.probe] = seen
        cycle.observe(seen, now)
    if now is None:
        return tell(f"{args.recording}: no observation in it")
    if once:
        cycle.settle(now)
    if dropped:
        print(f"warning: {dropped} observations of probes that the files do not declare", file=sys.stderr)
    results: list[Result] = [(resource, cycle.status(resource.key)) for resource in cycle.resources]
    sys.stdout.write(render(results, findings, args.output, now))
    return exit_code(results, strict=args.strict)
