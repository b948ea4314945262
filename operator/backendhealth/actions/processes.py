"""A signal to processes of a container, once: by exec where its image has a shell, else by an ephemeral container.

Whichever way, whoever sends it looks first, in the same breath: is it the pod and the container that were meant, is it
still time, may each of the processes be sent it.
"""

from __future__ import annotations

import signal
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from backendhealth.actions import ephemeral, script
from backendhealth.actions.podtargets import Changed, Running, Unfit, container_now, pods_of, running, target_of
from backendhealth.actions.ports import Acting, Effect, Outcome, Refused, Silent
from backendhealth.actions.said import unknown
from backendhealth.actions.sender import Wish
from backendhealth.core.patterns import compiled
from backendhealth.core.spec.actions import PodAction
from backendhealth.core.spec.remediation import RemediationSpec, RemediationTarget

EXEC_TIMEOUT = 15.0
"""Seconds; after them the script in the container does nothing any more, either."""
_LOG_TIMEOUT = 5.0
_NO_PROGRAM = "ExecutableNotFound"
_DOUBT = 3.0
"""Seconds after which a log line that says the opposite is believed to be the answer."""


@dataclass(frozen=True, slots=True)
class Confirmation:
    """Log lines, as RE2 expressions: that it worked, and that the opposite has happened."""

    wanted: str
    opposite: str = ""


async def targets(acting: Acting, action: PodAction) -> list[RemediationTarget]:
    """The containers that run. Raises Refused, Silent."""
    pods = [pod for pod in await pods_of(acting, action.pod_selector) if not pod["metadata"].get("deletionTimestamp")]
    return [target_of(found) for pod in pods if (found := running(pod, action.container))]


async def deliver(acting: Acting, spec: RemediationSpec, action: PodAction, name: str) -> Outcome:
    """Send the signal, e.g. `USR1`. Raises Refused, Silent, Stop."""
    try:
        found = await container_now(acting, spec.target)
        _check_alone(found)
    except Changed as changed:
        # what is taken back was in the memory of a process that is gone
        return Outcome(Effect.NOT_DONE, str(changed), needless=spec.revert is not None)
    except Unfit as unfit:
        return Outcome(Effect.NOT_DONE, f"{unfit}: nothing was done")
    whom = f"process {action.process}" if action.process else "process 1"
    what = f"SIG{name} to {whom} in container {spec.target.container} of pod {spec.target.name}"
    after = acting.clock() + EXEC_TIMEOUT
    wish = Wish(name, action.process or "", spec.target.uid or "", found.started, after)
    try:
        return await _by_exec(acting, spec.target, wish, what)
    except Refused as refused:
        if refused.reason != _NO_PROGRAM:
            raise
    if not acting.helper_image:
        told = "its image has no shell, and no image of a helper container is set: the operator's setting helper-image"
        return Outcome(Effect.NOT_DONE, f"container {spec.target.container} can't be sent a signal: {told}")
    return await ephemeral.deliver(acting, spec, found, wish, what)


async def confirmed(
    acting: Acting, target: RemediationTarget, facts: Mapping[str, str], lines: Confirmation
) -> str | None:
    """Whether the log says that the signal was heeded; see Performer.verified. Raises Refused, Silent."""
    try:
        await container_now(acting, target)
    except Changed as changed:
        return str(changed)
    except Unfit as unfit:
        raise Silent(str(unfit)) from None
    elapsed = acting.clock() - float(facts["sentAt"])
    log = await acting.cluster.logs(
        acting.namespace, target.name, target.container or "", since=elapsed + 1, timeout=_LOG_TIMEOUT
    )
    logged = [line.encode() for line in log.splitlines()]
    opposed = _last(lines.opposite, logged)
    if _count(lines.wanted, logged[opposed + 1 :]) >= int(facts["processes"]):
        return ""
    if opposed >= 0 and elapsed > _DOUBT:
        return "the log says that the opposite happened: somebody had done it before"
    return None


def _count(expression: str, lines: Sequence[bytes]) -> int:
    wanted = compiled(expression)
    return sum(bool(wanted.search(line)) for line in lines)


def _last(expression: str, lines: Sequence[bytes]) -> int:
    """Index of the last line that matches; -1 without one."""
    found = compiled(expression) if expression else None
    return max((number for number, line in enumerate(lines) if found and found.search(line)), default=-1)


async def _by_exec(acting: Acting, target: RemediationTarget, wish: Wish, what: str) -> Outcome:
    command = script.command(wish, signal.Signals[f"SIG{wish.signal}"])
    pod, container = target.name, target.container or ""
    await acting.fence(f"send {what}, by exec")
    at = acting.clock()  # not after it: the line that confirms it may be logged long before the answer is here
    done = await acting.cluster.execute(acting.namespace, pod, container, command, timeout=EXEC_TIMEOUT)
    said = script.said(done.output)
    if (done.exit_code == script.SENT and said.sent) or (
        done.exit_code == script.REFUSED and said.refused and not said.sent
    ):
        return said.outcome(what, at)
    if done.exit_code in script.NO_SHELL and not said.sent:
        raise Refused(500, _NO_PROGRAM, "the image has no shell")
    how = "no exit code came" if done.exit_code is None else f"the shell ended with {done.exit_code}"
    return unknown(what, f"{how}; {done.output}")


def _check_alone(found: Running) -> None:
    """Raise Unfit where the container's processes can't be told from others."""
    spec = found.pod["spec"]
    if spec.get("hostPID"):
        raise Unfit("the pod shares the node's processes")
    if spec.get("shareProcessNamespace"):
        raise Unfit("the pod's containers share their processes: it can't be told which are whose")
