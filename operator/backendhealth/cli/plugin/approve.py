"""`kubectl backendhealth approve` and `reject`: a person's word on what waits for it."""

from __future__ import annotations

import argparse

from backendhealth.cli.plugin.reading import REMEDIATIONS, Done, remediation
from backendhealth.cli.plugin.session import BadInput, Session, add_cluster

_VERBS = {"approve": "Approved", "reject": "Rejected"}


def add_parser(verbs: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add both verbs."""
    for verb, decision in _VERBS.items():
        parser = verbs.add_parser(
            verb,
            help=f"{verb} a Remediation that waits for it",
            description="It is written under your own name, once, and can't be taken back. Needs the verbs approve and"
            " patch on remediations: ClusterRole backendhealth-approver.",
            epilog=f"example:\n  kubectl backendhealth {verb} restart-core-1f2e3d4c5b6a7988 --reason 'seen it'\n",
            formatter_class=argparse.RawDescriptionHelpFormatter,
        )
        parser.add_argument("name", help="a Remediation: `kubectl get remediations` lists them")
        parser.add_argument("--reason", help="why, for those who read it later")
        add_cluster(parser)
        parser.set_defaults(run=run, decision=decision)


async def run(args: argparse.Namespace, session: Session) -> int:
    """Decide."""
    done = await remediation(session, args.name)
    why = _not_now(done)
    if why:
        raise BadInput(f"{args.name} can't be decided about: {why}")
    cause = done.spec.cause
    print(f"{done.spec.action.kind} on {done.spec.target.kind} {done.spec.target.name}, for {done.asker}")
    if cause:
        print(f"because {cause.component} of {cause.backend_health} is unhealthy ({cause.reason}): {cause.message}")
    approval = {"decision": args.decision, "by": await session.user()}
    approval |= {"reason": args.reason} if args.reason else {}
    await session.patch(REMEDIATIONS, args.name, {"spec": {"approval": approval}})
    print(f"{args.decision.lower()} by {approval['by']}")
    return 0


def _not_now(done: Done) -> str:
    approval = done.spec.approval
    if approval is not None:
        return f"it was {approval.decision.lower()} by {approval.by}"
    if done.final:
        return f"it is {done.status.phase}"
    return "" if done.spec.mode == "Approve" else f"its mode is {done.spec.mode}: it waits for nobody"
