"""Commands in containers that don't behave: bounded, and never told better than they are known."""

from __future__ import annotations

import asyncio
import time

import pytest

from backendhealth.actions import processes
from backendhealth.actions.ports import Effect, Refused, Silent
from backendhealth.kube.acting import AccountCluster
from backendhealth.kube.api import Api
from tests.actions.stage import ACCOUNT, Act, Stage, debug_logs


@pytest.fixture
def account(stage: Stage, kube: Api) -> AccountCluster:
    return AccountCluster(kube, stage.namespace, ACCOUNT, [])


@pytest.mark.parametrize(
    ("script", "code", "output"),
    [("echo out; echo err >&2", 0, {"out", "err"}), ("exit 7", 7, set()), ("kill -9 $PPID; kill -9 $$", 137, set())],
)
async def test_what_a_command_came_to(stage: Stage, account: AccountCluster, script: str, code: int, output: set[str]):
    done = await account.execute(stage.namespace, "shell", "main", ["sh", "-c", script], timeout=10)
    assert done.exit_code == code
    assert set(done.output.split()) == output


async def test_100_mb_of_output_and_a_hang_are_bounded(stage: Stage, account: AccountCluster):
    flood, hang = await asyncio.gather(
        account.execute(stage.namespace, "flood", "main", ["sh"], timeout=20),
        account.execute(stage.namespace, "hang", "main", ["sh"], timeout=2),
    )
    assert (flood.exit_code, hang.exit_code) == (None, None)
    assert len(flood.output) <= 64 << 10


async def test_what_floods_or_hangs_is_unknown(stage: Stage, kube: Api, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(processes, "EXEC_TIMEOUT", 2.0)
    for pod in ("flood", "hang"):
        act = Act(stage, kube, debug_logs(pod))
        done = await act.perform()
        assert done.effect is Effect.UNKNOWN
        assert any("/exec in main" in note and note.endswith("→ no exit code") for note in act.notes)
        assert not stage.counted(pod)


async def test_what_was_not_started_is_refused(stage: Stage, account: AccountCluster):
    with pytest.raises(Refused) as caught:
        await account.execute(stage.namespace, "scratch", "main", ["sh", "-c", "true"], timeout=10)
    assert caught.value.reason == "ExecutableNotFound"
    for pod, container in (("shell", "nope"), ("nope", "main")):
        with pytest.raises(Refused):
            await account.execute(stage.namespace, pod, container, ["true"], timeout=10)


async def test_an_api_server_that_dies_meanwhile_leaves_it_unknown(stage: Stage, kube: Api):
    act = Act(stage, kube, debug_logs("hang"))
    spec = await act.spec()
    performing = asyncio.create_task(act.performer.perform(act.acting, spec))
    async with asyncio.timeout(10):
        while not act.fenced:
            await asyncio.sleep(0.05)
    await asyncio.sleep(1)  # until the command runs; earlier it would be Silent, and as unknown
    await asyncio.to_thread(stage.cluster.stop_api)
    try:
        began = time.monotonic()
        try:
            done = await performing
        except Silent:
            pytest.fail("the command had begun")
        assert done.effect is Effect.UNKNOWN
        assert time.monotonic() - began < processes.EXEC_TIMEOUT + 1
        again = await act.performer.perform(act.acting, spec)
        assert again.effect is Effect.NOT_DONE  # not even the look at the pod was possible
    finally:
        await asyncio.to_thread(stage.cluster.start_api)
