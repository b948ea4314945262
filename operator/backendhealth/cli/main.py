"""The `backendhealth` command."""

from __future__ import annotations

import argparse
import importlib
import os
import sys
from collections.abc import Sequence
from importlib.metadata import version

_VERBS = ("check", "replay", "lint", "explain", "profiles", "triage", "testing", "simulate", "operator")


def parser() -> argparse.ArgumentParser:
    """The parser of the whole command line."""
    main_parser = argparse.ArgumentParser(
        prog="backendhealth",
        description="Probes a platform's backends at protocol depth and says what is broken, and why.",
    )
    main_parser.add_argument("--version", action="version", version=f"backendhealth {version('backendhealth')}")
    verbs = main_parser.add_subparsers(title="verbs", dest="verb", required=True, metavar="VERB")
    for verb in _VERBS:
        importlib.import_module(f"backendhealth.cli.{verb}").add_parser(verbs)
    return main_parser


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line; answers with the exit code (2 for a wrong option, as argparse does)."""
    args = parser().parse_args(arguments)
    try:
        code: int = args.run(args)
        sys.stdout.flush()
    except BrokenPipeError:  # the reader, e.g. `head`, has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except KeyboardInterrupt:
        return 130
    return code


if __name__ == "__main__":
    sys.exit(main())
