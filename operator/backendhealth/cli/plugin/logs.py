"""`kubectl backendhealth logs`: the pods' logs as they come, with verbose logs on meanwhile if wanted."""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import shutil

from backendhealth.cli.plugin import byhand, debug_logs
from backendhealth.cli.plugin.session import BadInput, Session, add_cluster
from backendhealth.cli.plugin.showing import say


def add_parser(verbs: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the verb."""
    parser = verbs.add_parser(
        "logs",
        help="the logs of pods as they come, verbose ones if wanted",
        description="Follows the logs of all pods of TARGET until Ctrl-C, by `kubectl logs`. With --debug verbose logs"
        " are turned on first, and off again after --for.",
        epilog="examples:\n  kubectl backendhealth logs component/core\n"
        "  kubectl backendhealth logs statefulset/core --debug --for 5m\n",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("target", metavar="TARGET", help="as debug-logs takes it")
    parser.add_argument("--debug", action="store_true", help="turn verbose logs on first")
    parser.add_argument("--for", dest="span", metavar="DURATION", default="15m", help="for how long (15m)")
    parser.add_argument("--container", help="container of the pods; default: the first one")
    parser.add_argument("--process", help="with --debug: name of the processes; default: the container's PID 1")
    parser.add_argument("--policy", help="with --debug: the RemediationPolicy whose guards hold; default: the only one")
    add_cluster(parser)
    parser.set_defaults(run=run)


async def run(args: argparse.Namespace, session: Session) -> int:
    """Follow them."""
    kubectl = shutil.which("kubectl")
    if kubectl is None:
        raise BadInput("kubectl is not on the PATH")
    pods = [pod["metadata"]["name"] for pod in await byhand.running_pods(session, args.target)]
    if args.debug:
        asked = await debug_logs.turn_on(args, session)
        ended = await byhand.until_final(session, asked)
        if all(one.status.phase != "Succeeded" for one in ended):
            say("no verbose logs; showing what is logged all the same")
    where = ["--namespace", session.namespace]
    where += [f"--{name}={value}" for name in ("context", "kubeconfig") if (value := getattr(args, name))]
    which = [f"--container={args.container}"] if args.container else []
    running = [
        await asyncio.create_subprocess_exec(
            kubectl, *where, "logs", f"pod/{pod}", "--follow", "--prefix", "--tail=20", *which
        )
        for pod in pods
    ]
    try:
        codes = await asyncio.gather(*(process.wait() for process in running))
    finally:
        for process in running:  # a terminal's Ctrl-C reaches them, a signal to this command alone does not
            with contextlib.suppress(ProcessLookupError):
                process.terminate()
    return 0 if not any(codes) else 1
