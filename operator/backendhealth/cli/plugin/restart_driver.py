"""`kubectl backendhealth restart-driver`: one driver's process ended, which core launches anew (PlaceOS)."""

from __future__ import annotations

import argparse

from backendhealth.cli.plugin import byhand
from backendhealth.cli.plugin.reading import Governed
from backendhealth.cli.plugin.session import BadInput, Session, add_cluster
from backendhealth.core.spec.actions import Action
from backendhealth.core.spec.remediation import RemediationTarget

EXIT_NO = 1


def add_parser(verbs: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the verb."""
    parser = verbs.add_parser(
        "restart-driver",
        help="end one driver's process, which core launches anew (PlaceOS)",
        description="As a rule of a policy restarts drivers: its address and its Secret are used, under its guards and"
        " limits. Who may create Remediations may do this (ClusterRole backendhealth-on-call).",
        epilog="example:\n  kubectl backendhealth restart-driver drivers_lamp_1a2b3c -n placeos\n",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("driver", metavar="DRIVER", help="its key, as status.probes[].subjects name it")
    parser.add_argument("--core", help="ID of the core; needed where several run it")
    parser.add_argument("--policy", help="the RemediationPolicy whose guards hold; default: the only one")
    parser.add_argument("--no-wait", action="store_true", help="don't wait for the end")
    add_cluster(parser)
    parser.set_defaults(run=run)


async def run(args: argparse.Namespace, session: Session) -> int:
    """Ask for it, and wait."""
    policy = await byhand.policy_of(session, args.policy)
    action = _action(policy)
    target = RemediationTarget(kind="Driver", name=args.driver, core=args.core)
    asked = await byhand.ask(session, policy, action, target, await session.user())
    if args.no_wait:
        return 0
    ended = await byhand.until_final(session, [asked])
    return 0 if ended[0].status.phase == "Succeeded" else EXIT_NO


def _action(policy: Governed) -> Action:
    """The policy's own way to restart drivers. Raises BadInput."""
    steps = (step for rule in policy.policy.spec.remediation_rules for step in rule.steps)
    found = next((one for one in steps if one.restart_driver is not None), None)
    if found is None or found.restart_driver is None:
        raise BadInput(
            f"no rule of the policy {policy.name} restarts drivers: its address and its Secret are not known"
        )
    return Action(restart_driver=found.restart_driver.model_copy(update={"drivers": []}))
