"""`kubectl backendhealth why`: which observation, which rule, which guard, and what was done."""

from __future__ import annotations

import argparse
import sys
import time

from backendhealth.cli.plugin.reading import BACKEND_HEALTHS, Watched, backend_health, policies, remediations, watched
from backendhealth.cli.plugin.session import BadInput, Session, add_cluster
from backendhealth.cli.plugin.showing import plain
from backendhealth.core.remediation.deciding import decide
from backendhealth.core.remediation.explaining import why_lines
from backendhealth.core.remediation.situation import Situation, World
from backendhealth.core.remediation.situations import situation_of
from backendhealth.core.verdict import Verdict


def add_parser(verbs: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the verb."""
    parser = verbs.add_parser(
        "why",
        help="why something is done about a resource, or is not",
        description="For each policy and rule: what was observed, whether the rule matches, which guards hold and until"
        " when, and what was done. Decided anew from what the cluster holds, as the operator decides it; what only the"
        " operator knows (its Lease, its own observations) is taken from what it has told.",
        epilog="example:\n  kubectl backendhealth why placeos -n placeos\n",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("name", help="a BackendHealth")
    parser.add_argument("-o", "--output", choices=("text", "json", "yaml"), default="text", help="output format")
    add_cluster(parser)
    parser.set_defaults(run=run)


async def run(args: argparse.Namespace, session: Session) -> int:
    """Explain it."""
    one = await backend_health(session, args.name)
    if one.status is None:
        raise BadInput(
            f"BackendHealth {args.name} has no status yet: is an operator running that serves {session.namespace}?"
        )
    situation = situation_of(f"{one.namespace}/{one.name}", one.raw["metadata"]["uid"], one.status, None)
    governing = [each for each in await policies(session) if one.name in each.policy.spec.backend_healths]
    acted = await remediations(session)
    past = [each.past for each in acted]
    world, now = _world([watched(raw) for raw in await session.list(BACKEND_HEALTHS)]), time.time()
    rulings = {each.uid: decide(each.policy, each.uid, situation, past, world, now) for each in governing}
    messages = {each.name: each.status.message for each in acted if each.status.message}
    lines = why_lines({each.uid: each.policy for each in governing}, situation, rulings, past, now, messages)
    lines += _told_by_operator(one, situation)
    if args.output == "text":
        print("\n".join(lines))
    else:
        sys.stdout.write(plain({"name": one.name, "why": lines}, args.output))
    return 0


def _world(beside: list[Watched]) -> World:
    """As far as it can be seen from here: other namespaces are not."""
    states = [one.status.summary.state for one in beside if one.status and one.status.summary]
    return World(unhealthy=states.count(Verdict.UNHEALTHY), total=len(states))


def _told_by_operator(one: Watched, situation: Situation) -> list[str]:
    """What the operator itself has told last: it knows more, and may be a moment behind."""
    view = one.status.remediation if one.status else None
    if view is None or not view.holds:
        return []
    told = [f"  {hold.policy}/{hold.rule or '*'}: {hold.guard}: {hold.message}" for hold in view.holds]
    return [f"The operator has told of {situation.key}:", *told]
