"""`kubectl backendhealth debug-logs`: verbose logs by SIGUSR1 for a while, and off again."""

from __future__ import annotations

import argparse
from typing import Any

from backendhealth.actions.podtargets import running, target_of
from backendhealth.cli.plugin import byhand
from backendhealth.cli.plugin.reading import Done, Governed, policies, remediations
from backendhealth.cli.plugin.session import BadInput, Json, Session, add_cluster
from backendhealth.core.durations import seconds
from backendhealth.core.remediation.names import toggle_key
from backendhealth.core.spec.actions import Action, DebugLogs
from backendhealth.core.spec.remediation import RemediationTarget, Revert

EXIT_NO = 1
_EPILOG = """TARGET is pod/NAME or a pod's name, deployment/NAME, statefulset/NAME, daemonset/NAME, or component/NAME:
the pods that a BackendHealth watches for that component. Each pod gets a Remediation of its own, under the guards,
limits and identity of a policy; who may create Remediations may do this (ClusterRole backendhealth-on-call).

examples:
  kubectl backendhealth debug-logs on statefulset/core --for 15m -n placeos
  kubectl backendhealth debug-logs off core-0 -n placeos

exit codes: 0 all succeeded, 1 not all did, 2 bad input
"""


def add_parser(verbs: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the verb."""
    parser = verbs.add_parser(
        "debug-logs",
        help="verbose logs on for a while, or off again now",
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("to", choices=("on", "off"))
    parser.add_argument("target", metavar="TARGET")
    parser.add_argument("--for", dest="span", metavar="DURATION", default="15m", help="on: for how long (15m)")
    parser.add_argument("--container", help="container of the pods; default: the first one")
    parser.add_argument("--process", help="name of the processes; default: the container's PID 1")
    parser.add_argument("--policy", help="the RemediationPolicy whose guards hold; default: the only one")
    parser.add_argument("--no-wait", action="store_true", help="don't wait for the end")
    add_cluster(parser)
    parser.set_defaults(run=run)


async def run(args: argparse.Namespace, session: Session) -> int:
    """Ask for it, and wait."""
    asked = await (turn_on(args, session) if args.to == "on" else _turn_off(args, session))
    if args.no_wait:
        return 0
    ended = await byhand.until_final(session, asked)
    return 0 if all(one.status.phase == "Succeeded" for one in ended) else EXIT_NO


async def turn_on(args: argparse.Namespace, session: Session) -> list[Done]:
    """A Remediation for each pod. Raises BadInput, ApiError, ApiUnavailable."""
    try:
        seconds(args.span)
    except ValueError:
        raise BadInput(f"--for {args.span}: not a duration: a number with a unit, e.g. 15m") from None
    policy = await byhand.policy_of(session, args.policy)
    pods = await byhand.running_pods(session, args.target)
    user = await session.user()
    return [
        await byhand.ask(session, policy, _action(policy, pod, args), _target(pod, args.container), user)
        for pod in pods
    ]


def _target(pod: Json, container: str | None) -> RemediationTarget:
    found = running(pod, container)
    if found is None:
        name = pod["metadata"]["name"]
        what = f"has no running container {container}" if container else "does not run"
        raise BadInput(f"pod {name} {what}: its containers are {', '.join(_containers(pod))}")
    return target_of(found)


def _containers(pod: Json) -> list[str]:
    return [one["name"] for one in pod["spec"]["containers"]]


def _action(policy: Governed, pod: Json, args: argparse.Namespace) -> Action:
    """As a rule of the policy has it that is for such pods: it knows the log lines; else by the defaults."""
    labels = pod["metadata"].get("labels") or {}
    known = next((one for one in _known(policy) if _fits(one, labels)), None)
    fields: dict[str, Any] = known.model_dump(by_alias=True, exclude_none=True) if known else {}
    if not labels:
        raise BadInput(f"pod {pod['metadata']['name']} has no label that an action could select it by")
    fields["podSelector"] = {"matchLabels": dict(list(labels.items())[:16])}
    fields["revertAfter"] = args.span
    fields |= {key: value for key, value in (("container", args.container), ("process", args.process)) if value}
    return Action(debug_logs=DebugLogs.model_validate(fields, by_alias=True))


def _known(policy: Governed) -> list[DebugLogs]:
    actions = [step for rule in policy.policy.spec.remediation_rules for step in rule.steps]
    return [one.debug_logs for one in actions if one.debug_logs is not None]


def _fits(action: DebugLogs, labels: dict[str, str]) -> bool:
    wanted = action.pod_selector.match_labels
    return bool(wanted) and all(labels.get(key) == value for key, value in wanted.items())


async def _turn_off(args: argparse.Namespace, session: Session) -> list[Done]:
    pods = await byhand.running_pods(session, args.target)
    governing = {one.name: one for one in await policies(session)}
    on = {one.spec.revert.toggle: one for one in await remediations(session) if one.spec.revert and not one.final}
    user, asked = await session.user(), []
    for pod in pods:
        target = _target(pod, args.container)
        there = on.get(toggle_key(target.uid or "", target.container or "", target.restart_count or 0))
        if there is None or there.spec.revert is None:
            continue
        policy = governing.get(there.spec.policy_ref.name)
        if policy is None:
            raise BadInput(
                f"the policy {there.spec.policy_ref.name} of {there.name} is gone: it is taken back at its time"
            )
        revert = Revert(
            remediation=there.name,
            toggle=there.spec.revert.toggle,
            epoch=there.spec.revert.epoch,
            not_before=there.spec.revert.not_before,
        )
        asked.append(await byhand.ask(session, policy, there.spec.action, target, user, revert))
    if not asked:
        raise BadInput(f"no verbose logs of {args.target} are on, as far as Remediations tell")
    return asked
