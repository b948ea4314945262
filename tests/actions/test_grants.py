"""What each action needs: an account that may do nothing is told line by line what to grant, and nothing beyond it."""

from __future__ import annotations

import re
import shlex
from typing import Any

import pytest

from backendhealth.actions.ports import Effect, Outcome, Refused
from backendhealth.core.remediation.actioninfo import INFO
from backendhealth.kube.api import Api
from tests.actions.stage import Act, Stage, debug_logs
from tests.actions.test_restarts import made, restart, rollout, workload
from tests.actions.test_signals import MAIN

_ROLE = re.compile(r"--verb=(\S+) --resource=([a-z]+)(?:\.([a-z.]+))?(/[a-z]+)?;")
Grant = tuple[str, str, str]


async def granted_until_done(stage: Stage, act: Act) -> set[Grant]:
    """Carry it out again and again, each time with what was missing granted: all that was needed in the end."""
    stage.grant(act.account, ())
    granted: set[Grant] = set()
    outcomes: list[Outcome] = []
    while refused := await missing(act, outcomes):
        found = _ROLE.search(refused.remedy)
        assert found, refused
        verbs, plural, group, sub = found.groups()
        new = {(group or "", f"{plural}{sub or ''}", verb) for verb in verbs.split(",")}
        assert not new <= granted, "granted, and still missing"
        granted |= new
        for line in refused.remedy.split("; "):
            stage.cluster.kubectl(*shlex.split(line)[1:])
    return granted


async def missing(act: Act, outcomes: list[Outcome]) -> Refused | None:
    """What was refused first, if anything was; it is performed only once."""
    try:
        await act.targets()
        outcomes += [] if outcomes else [await act.perform()]
        told = await act.verified(outcomes[0], 40)
    except Refused as refused:
        return refused
    assert (outcomes[0].effect, told) == (Effect.DONE, "")
    return None


def rows(kind: str) -> set[Grant]:
    return {(group, resource, verb) for group, resource, verb in INFO[kind].verbs}


@pytest.mark.parametrize("kind", ["debugLogs", "signal"])
async def test_signals_by_both_ways(stage: Stage, kube: Api, kind: str):
    needed: set[Grant] = set()
    for pod in ("granted", "scratch-granted"):
        before = stage.counted(pod)
        action: dict[str, Any] = debug_logs(pod)
        if kind == "signal":
            selector = action["debugLogs"]["podSelector"]
            action = {"signal": {"podSelector": selector, "signal": "SIGUSR1", "confirm": "log level changed"}}
        needed |= await granted_until_done(stage, Act(stage, kube, action, account=f"{kind.lower()}-{pod}"))
        assert stage.counted(pod) == before + MAIN
    assert needed == rows(kind)


async def test_restarts_of_pods(stage: Stage, kube: Api):
    await made(stage, workload("Deployment", "restarted-by-grant"))
    needed: set[Grant] = set()
    for method in ("Evict", "Delete"):
        action = restart("restarted-by-grant", pods="All", method=method)
        needed |= await granted_until_done(stage, Act(stage, kube, action, account=f"restarts-{method.lower()}"))
    assert needed == rows("restartPods")


async def test_rollouts(stage: Stage, kube: Api):
    needed: set[Grant] = set()
    for kind in ("Deployment", "StatefulSet", "DaemonSet"):
        name = f"granted-{kind.lower()}"
        await made(stage, workload(kind, name))
        needed |= await granted_until_done(stage, Act(stage, kube, rollout(kind, name), account=f"rolls-{name}"))
    assert needed == rows("rolloutRestart")
