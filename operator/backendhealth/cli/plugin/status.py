"""`kubectl backendhealth status`: the table, and the diagnosis of each in plain words."""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Iterator

from backendhealth.cli.plugin.reading import BACKEND_HEALTHS, Done, Watched, backend_health, remediations, watched
from backendhealth.cli.plugin.session import Session, add_cluster
from backendhealth.cli.plugin.showing import age, plain, table
from backendhealth.core.diagnosis.telling import told
from backendhealth.core.spec.status import Summary


def add_parser(verbs: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the verb."""
    parser = verbs.add_parser(
        "status",
        help="what is broken, why, what users notice, what is done about it",
        epilog="examples:\n  kubectl backendhealth status\n  kubectl backendhealth status placeos -n placeos\n",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("name", nargs="?", help="a BackendHealth; default: all of the namespace")
    parser.add_argument("-A", "--all-namespaces", action="store_true", help="of all namespaces")
    parser.add_argument("-o", "--output", choices=("text", "json", "yaml"), default="text", help="output format")
    add_cluster(parser)
    parser.set_defaults(run=run)


async def run(args: argparse.Namespace, session: Session) -> int:
    """Show it."""
    if args.name:
        found = [await backend_health(session, args.name)]
    else:
        namespace = "" if args.all_namespaces else None
        found = [watched(raw) for raw in await session.list(BACKEND_HEALTHS, namespace)]
    if args.output != "text":
        objects = [one.raw for one in found]
        sys.stdout.write(plain(objects[0] if args.name else objects, args.output))
        return 0
    if not found:
        print(f"no BackendHealth in the namespace {session.namespace}; see -n and -A")
        return 0
    acted = await remediations(session, "" if args.all_namespaces else None)
    sys.stdout.write(
        table([("NAMESPACE", "NAME", "STATE", "ROOT CAUSE", "REASON", "IMPACT", "SINCE"), *map(_row, found)])
    )
    for one in found:
        for line in _lines(one, [each for each in acted if _about(each, one)]):
            print(line)
    return 0


def _row(one: Watched) -> tuple[str, ...]:
    summary = (one.status.summary if one.status else None) or Summary(state="not probed yet")
    since = age(summary.since, time.time())
    return (one.namespace, one.name, summary.state, summary.root_cause, summary.reason, summary.impact, since)


def _about(done: Done, one: Watched) -> bool:
    beside = done.raw["metadata"]["namespace"] == one.namespace
    return beside and done.spec.cause is not None and done.spec.cause.backend_health == one.name


def _lines(one: Watched, acted: list[Done]) -> Iterator[str]:
    status = one.status
    if status is None:
        return
    lines = told(status.diagnosis) if status.diagnosis else []
    lines = [*lines, *_remediation(one, acted)]
    if lines:
        yield f"\n{one.namespace}/{one.name}"
        yield from (f"  {line}" for line in lines)


def _remediation(one: Watched, acted: list[Done]) -> Iterator[str]:
    view = one.status.remediation if one.status else None
    for hold in view.holds if view else ():
        until = f" until {hold.until}" if hold.until else ""
        where = f"{hold.policy}/{hold.rule}" if hold.rule else hold.policy
        yield f"Held back, {where}: {hold.guard}{until}: {hold.message}"
    for done in acted:
        if not done.final:
            yield f"Under way: {done.name} ({done.spec.action.kind} on {done.spec.target.name}): {done.status.phase}"
