"""`backendhealth explain`: what a reason means, its verdict, how it is found out and what to look at."""

from __future__ import annotations

import argparse
import json
import shutil
import sys
import textwrap
from collections.abc import Iterable
from typing import TYPE_CHECKING

from backendhealth.core.reasons import Reason
from backendhealth.core.verdict import Verdict
from backendhealth.core.wording import closest

if TYPE_CHECKING:
    from argparse import _SubParsersAction

EXIT_GOOD = 0
EXIT_BAD = 2
_MAX_WIDTH = 120


def add_parser(subparsers: _SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the verb `explain`."""
    parser = subparsers.add_parser("explain", help="say what a reason means", description=__doc__)
    parser.add_argument("reason", metavar="REASON", nargs="?", help="for example QuorumLost; all reasons without it")
    parser.add_argument(
        "-o", "--output", choices=("text", "json"), default="text", help="output format (default: text)"
    )
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Print one reason, or the table of all; 2 for a reason that there isn't."""
    if args.reason is None:
        print(_json([_fields(reason) for reason in Reason]) if args.output == "json" else _table())
        return EXIT_GOOD
    found = next((reason for reason in Reason if reason.lower() == args.reason.lower()), None)
    if found is None:
        meant = closest(args.reason, list(Reason))
        hint = f': did you mean "{meant}"?' if meant else "; `backendhealth explain` lists all"
        print(f"error: there is no reason {args.reason}{hint}", file=sys.stderr)
        return EXIT_BAD
    print(_json(_fields(found)) if args.output == "json" else _page(found))
    return EXIT_GOOD


def _json(value: object) -> str:
    return json.dumps(value, indent=2)


def _fields(reason: Reason) -> dict[str, str]:
    info = reason.info
    return {
        "reason": reason.value,
        "verdict": info.verdict.value,
        "givenBy": info.given_by,
        "meaning": info.meaning,
        "foundBy": info.found_by,
        "lookAt": info.look_at,
    }


def _page(reason: Reason) -> str:
    info = reason.info
    lines = (
        ("Verdict:", info.verdict.value),
        ("Given by:", info.given_by),
        ("Meaning:", info.meaning),
        ("Found by:", info.found_by),
        ("Look at:", info.look_at),
    )
    return "\n".join([reason.value, *(_wrapped(f"  {label:<10}", text) for label, text in lines)])


def _table() -> str:
    width = max(map(len, Reason)) + 4
    return "\n\n".join(
        "\n".join(
            [verdict.value, *(_wrapped(f"  {reason.value:<{width - 2}}", reason.info.meaning) for reason in reasons)]
        )
        for verdict, reasons in by_verdict()
    )


def by_verdict() -> Iterable[tuple[Verdict, list[Reason]]]:
    """The reasons by verdict, from the worst to the best."""
    for verdict in sorted(Verdict, key=lambda v: v.rank, reverse=True):
        yield verdict, [reason for reason in Reason if reason.verdict is verdict]


def _wrapped(label: str, text: str) -> str:
    columns = min(shutil.get_terminal_size((_MAX_WIDTH, 24)).columns, _MAX_WIDTH)
    return textwrap.fill(
        text, columns, initial_indent=label, subsequent_indent=" " * len(label), break_on_hyphens=False
    )
