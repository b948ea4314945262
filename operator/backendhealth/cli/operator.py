"""`backendhealth operator`: watch BackendHealth resources in a cluster and write their status."""

from __future__ import annotations

import argparse
import asyncio
import os

from backendhealth.cli.options import EXIT_BAD_INPUT, tell
from backendhealth.kube.settings import Settings, SettingsError, add_flags

_EPILOG = """exit codes:
  0  stopped by a signal
  1  stopped by a fault of its own, or nothing to work with: no cluster, no address to listen on
  2  bad input: every setting that is wrong is named on standard error

examples:
  backendhealth operator --kubeconfig ~/.kube/config --no-leader-elect --allow-targets 127.0.0.0/8
  BACKENDHEALTH_NAMESPACES=placeos BACKENDHEALTH_LOG_FORMAT=json backendhealth operator
"""


def add_parser(verbs: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the verb `operator`."""
    parser = verbs.add_parser(
        "operator",
        help="run the Kubernetes operator",
        description="Watches BackendHealth resources, probes what they declare and writes their status.",
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add_flags(parser)
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Run until a signal; answers with the exit code."""
    try:
        settings = Settings.from_sources(args, os.environ)
    except SettingsError as error:
        for problem in error.problems:
            tell(problem)
        return EXIT_BAD_INPUT
    return asyncio.run(_operate(settings))


async def _operate(settings: Settings) -> int:
    from backendhealth.kube.api import NoCluster  # noqa: PLC0415 - other verbs don't pay for kopf
    from backendhealth.kube.app import App  # noqa: PLC0415
    from backendhealth.kube.health import ListenError  # noqa: PLC0415
    from backendhealth.kube.watching import operate  # noqa: PLC0415

    app = App(settings)
    try:
        await operate(app, settings)
    except (NoCluster, ListenError) as error:
        tell(str(error))
        return 1
    return 1 if app.failed else 0
