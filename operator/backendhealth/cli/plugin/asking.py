"""`kubectl backendhealth probe-now`, `suspend` and `resume`: by annotation, since Git owns the spec."""

from __future__ import annotations

import argparse
import asyncio
import time

from backendhealth.cli.plugin.reading import BACKEND_HEALTHS, backend_health
from backendhealth.cli.plugin.session import BadInput, No, Session, add_cluster, now_text
from backendhealth.core.annotations import PROBE_REQUESTED_AT, SUSPENDED_UNTIL
from backendhealth.core.durations import seconds
from backendhealth.core.statusof import timestamp

_PATIENCE = 60.0
_POLL = 0.3


def add_parser(verbs: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the verbs."""
    probe = verbs.add_parser("probe-now", help="make an attempt of every probe at once")
    probe.add_argument("name", help="a BackendHealth")
    probe.add_argument("--wait", action="store_true", help=f"until every probe has made it, {_PATIENCE:.0f} s at most")
    probe.set_defaults(run=_probe_now)
    suspend = verbs.add_parser("suspend", help="stop probing, and acting, for a while")
    suspend.add_argument("name", help="a BackendHealth")
    suspend.add_argument("--for", dest="span", metavar="DURATION", required=True, help="for how long, e.g. 2h")
    suspend.set_defaults(run=_suspend)
    resume = verbs.add_parser("resume", help="end a suspension by annotation")
    resume.add_argument("name", help="a BackendHealth")
    resume.set_defaults(run=_resume)
    for parser in (probe, suspend, resume):
        add_cluster(parser)


async def _annotate(session: Session, name: str, annotation: str, value: str | None) -> None:
    await session.patch(BACKEND_HEALTHS, name, {"metadata": {"annotations": {annotation: value}}})


async def _probe_now(args: argparse.Namespace, session: Session) -> int:
    await backend_health(session, args.name)
    wanted = f"{now_text()} {time.monotonic_ns():x}"
    await _annotate(session, args.name, PROBE_REQUESTED_AT, wanted)
    if not args.wait:
        print(f"asked: status.probeRequestedAt of {args.name} tells {wanted} when every probe has made its attempt")
        return 0
    ends = time.monotonic() + _PATIENCE
    while time.monotonic() < ends:
        status = (await backend_health(session, args.name)).status
        if status is not None and status.probe_requested_at == wanted:
            print(f"{args.name} is {status.summary.state if status.summary else 'not judged yet'}")
            return 0
        await asyncio.sleep(_POLL)
    raise No(f"not within {_PATIENCE:.0f} s: does an operator run that serves {session.namespace}, or is it suspended?")


async def _suspend(args: argparse.Namespace, session: Session) -> int:
    try:
        until = timestamp(time.time() + seconds(args.span))
    except ValueError:
        raise BadInput(f"--for {args.span}: not a duration: a number with a unit, e.g. 30m, 2h") from None
    await backend_health(session, args.name)
    await _annotate(session, args.name, SUSPENDED_UNTIL, until)
    print(f"{args.name} is suspended until {until}; kubectl backendhealth resume {args.name} ends it")
    return 0


async def _resume(args: argparse.Namespace, session: Session) -> int:
    one = await backend_health(session, args.name)
    if SUSPENDED_UNTIL not in (one.raw["metadata"].get("annotations") or {}):
        spec = one.raw["spec"].get("suspend")
        raise BadInput(f"{args.name} is not suspended by annotation" + ("; spec.suspend is true" if spec else ""))
    await _annotate(session, args.name, SUSPENDED_UNTIL, None)
    print(f"{args.name} is probed again")
    return 0
