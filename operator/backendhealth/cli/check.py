"""`backendhealth check`: probe once, or watch."""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import signal
import sys
import time
from pathlib import Path

from backendhealth.cli.knowing import knowledge_among
from backendhealth.cli.load import Loaded
from backendhealth.cli.options import EXIT_BAD_INPUT, add_files, add_output, exit_code, load_or_tell, tell
from backendhealth.cli.output import Result, render
from backendhealth.cli.probing import InCluster, KubeconfigError, access_problem, add_access, in_cluster, opener
from backendhealth.cli.recording import Recorder, RecordingError
from backendhealth.cli.watching import Lines, LiveTable, View
from backendhealth.core.durations import seconds
from backendhealth.core.observation import Observation
from backendhealth.core.spec.backendhealth import BackendHealth
from backendhealth.core.spec.status import BackendHealthStatus
from backendhealth.engine.engine import Engine

_EPILOG = """exit codes:
  0  all healthy (Degraded too, unless --strict)
  1  something is unhealthy (or Degraded, with --strict)
  2  bad input: every problem is named on standard error
  3  nothing is unhealthy, but something is Unknown: it can't be told

examples:
  backendhealth check -f placeos.yaml
  backendhealth check -f backends/ -f secrets.yaml -o wide
  backendhealth check -f - --watch --record probes.jsonl < placeos.yaml
"""


def add_parser(verbs: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the verb `check`."""
    parser = verbs.add_parser(
        "check",
        help="probe backends once, or watch them",
        description="Probes what BackendHealth resources declare and prints their status. Works with no cluster.",
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add_files(parser)
    add_output(parser)
    parser.add_argument(
        "--watch", action="store_true", help="go on with the declared intervals and thresholds, until Ctrl-C"
    )
    parser.add_argument("--for", dest="span", metavar="DURATION", help="with --watch: end after this time, e.g. 90s")
    add_access(parser)
    parser.add_argument(
        "--record",
        metavar="FILE",
        type=Path,
        help="write every observation to this new file, as JSON Lines, for `backendhealth replay`",
    )
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Probe, print, answer with the exit code."""
    problem = _options_problem(args)
    if problem:
        return tell(problem)
    loaded = load_or_tell(args.files)
    if loaded is None:
        return EXIT_BAD_INPUT
    try:
        recorder = Recorder(args.record, once=not args.watch) if args.record else None
        with contextlib.closing(recorder) if recorder else contextlib.nullcontext():
            return asyncio.run(_check(args, loaded, recorder))
    except (RecordingError, KubeconfigError) as error:
        return tell(str(error))


def _options_problem(args: argparse.Namespace) -> str:
    if args.span and not args.watch:
        return "--for goes with --watch"
    if args.span:
        try:
            seconds(args.span)
        except ValueError:
            return f"--for {args.span}: not a duration: a number with a unit, e.g. 90s"
    return access_problem(args)


async def _check(args: argparse.Namespace, loaded: Loaded, recorder: Recorder | None) -> int:
    async with in_cluster(args, loaded) as cluster:
        return await _probe(args, loaded, recorder, cluster)


async def _probe(args: argparse.Namespace, loaded: Loaded, recorder: Recorder | None, cluster: InCluster) -> int:
    findings: dict[tuple[str, str], Observation] = {}

    def record(seen: Observation) -> None:
        findings[seen.resource, seen.probe] = seen
        if recorder:
            recorder(seen)

    view: View | None = None
    if args.watch and args.output == "table":
        view = LiveTable(sys.stdout, findings) if sys.stdout.isatty() else Lines(sys.stdout)

    def sink(resource: BackendHealth, status: BackendHealthStatus) -> None:
        if view:
            view.changed(resource, status)
        elif args.watch:
            print(render([(resource, status)], findings, args.output, time.time()), end="", flush=True)

    engine = Engine(
        open_prober=opener(args, loaded, cluster.pods),
        clock=time.time,
        sink=sink,
        record=record,
        read_logs=cluster.read_logs,
        once=not args.watch,
    )
    try:
        for resource in loaded.resources:
            await engine.apply(resource, knowledge=knowledge_among(loaded, resource, cluster.profiles))
        await (_until_told(engine, args.span) if args.watch else engine.run_once())
        results: list[Result] = [(resource, engine.status(resource.key)) for resource in engine.resources]
    finally:
        await engine.close()
        if view:
            view.close()
    if not args.watch:
        sys.stdout.write(render(results, findings, args.output, time.time()))
    return exit_code(results, strict=args.strict)


async def _until_told(engine: Engine, span: str | None) -> None:
    """Run until Ctrl-C, SIGTERM or the end of `span`."""
    running = asyncio.ensure_future(engine.run())
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, running.cancel)
    with contextlib.suppress(asyncio.CancelledError, TimeoutError):
        await asyncio.wait_for(running, seconds(span) if span else None)
