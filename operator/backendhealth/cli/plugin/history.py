"""`kubectl backendhealth history`: what changed and what was done, by time."""

from __future__ import annotations

import argparse
import sys

from backendhealth.cli.plugin.reading import backend_health, remediations
from backendhealth.cli.plugin.session import Session, add_cluster
from backendhealth.cli.plugin.showing import plain, table
from backendhealth.core.remediation.situations import moment


def add_parser(verbs: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the verb."""
    parser = verbs.add_parser(
        "history",
        help="what changed, and what was done, by time",
        epilog="example:\n  kubectl backendhealth history placeos\n",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("name", help="a BackendHealth")
    parser.add_argument("-o", "--output", choices=("text", "json", "yaml"), default="text", help="output format")
    add_cluster(parser)
    parser.set_defaults(run=run)


async def run(args: argparse.Namespace, session: Session) -> int:
    """Show it, the newest last."""
    one = await backend_health(session, args.name)
    rows = [
        (change.at, change.component, change.verdict.value, change.reason)
        for change in (one.status.history if one.status else ())
    ]
    for done in await remediations(session):
        cause = done.spec.cause
        if cause is not None and cause.backend_health == args.name:
            at = done.status.started_at or moment(done.created)
            what = f"{done.spec.action.kind} on {done.spec.target.name} ({done.asker})"
            rows.append((at, done.name, done.status.phase, f"{what}: {done.status.message}".rstrip(": ")))
    rows.sort()
    if args.output == "text":
        sys.stdout.write(table([("AT", "WHAT", "STATE", "WHY"), *rows]))
    else:
        keys = ("at", "what", "state", "why")
        sys.stdout.write(plain([dict(zip(keys, row, strict=True)) for row in rows], args.output))
    return 0
