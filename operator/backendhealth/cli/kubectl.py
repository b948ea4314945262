"""The `kubectl-backendhealth` command, which kubectl finds on the PATH and runs as `kubectl backendhealth`."""

from __future__ import annotations

import argparse
import asyncio
import importlib
import os
import sys
from collections.abc import Sequence
from importlib.metadata import version

from backendhealth.cli.options import EXIT_BAD_INPUT, tell
from backendhealth.cli.plugin.session import BadInput, No, Session, open_session
from backendhealth.kube.api import ApiError, ApiUnavailable, NoCluster

PROGRAM = "kubectl backendhealth"
VERBS = ("status", "why", "history", "approve", "asking", "debug_logs", "restart_driver", "logs", "switch")
"""Modules; some have more than one verb."""
EXIT_NO = 1
_INTERRUPTED = 130
_EPILOG = """exit codes:
  0  fine
  1  the answer is no: an action did not succeed, the API server refuses, time is over
  2  bad input, or no cluster to ask: what to do about it is told on standard error

`kubectl backendhealth VERB --help` has examples. Options come after the verb.
"""


def parser() -> argparse.ArgumentParser:
    """The parser of the whole command line."""
    main_parser = argparse.ArgumentParser(
        prog=PROGRAM,
        description="Shows what is broken and why, and what is done about it; decides, and acts by hand, under the"
        " guards of a RemediationPolicy.",
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    main_parser.add_argument("--version", action="version", version=f"backendhealth {version('backendhealth')}")
    verbs = main_parser.add_subparsers(title="verbs", dest="verb", required=True, metavar="VERB")
    for verb in VERBS:
        importlib.import_module(f"backendhealth.cli.plugin.{verb}").add_parser(verbs)
    return main_parser


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line; answers with the exit code (2 for a wrong option, as argparse does)."""
    args = parser().parse_args(arguments)
    try:
        code = asyncio.run(_run(args))
        sys.stdout.flush()
    except BrokenPipeError:  # the reader, e.g. `head`, has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except KeyboardInterrupt:
        return _INTERRUPTED
    return code


async def _run(args: argparse.Namespace) -> int:
    session: Session | None = None
    try:
        async with await open_session(args) as session:
            code: int = await args.run(args, session)
            return code
    except BadInput as error:
        return tell(str(error))
    except (NoCluster, ApiUnavailable) as error:
        return tell(f"{error}: see --kubeconfig and --context, `kubectl cluster-info`")
    except No as error:
        tell(str(error))
        return EXIT_NO
    except ApiError as error:
        tell(session.refusal(error) if session else str(error))
        return EXIT_BAD_INPUT if error.status in {400, 401, 404} else EXIT_NO


if __name__ == "__main__":
    sys.exit(main())
