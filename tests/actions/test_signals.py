"""SIGUSR1 to real processes: exactly once to each that is meant, and never to any other."""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import Awaitable, Callable

import pytest

from backendhealth.actions.ports import Effect, Outcome, Refused, Stop
from backendhealth.kube.api import Api
from tests.actions.services import PODS
from tests.actions.stage import Act, Stage, debug_logs
from tests.probes.checks import eventually

MAIN = Counter(main=1)
ALL = Counter({"main": 1, "worker-0": 1, "worker-1": 1, "worker-2": 1})


@pytest.mark.parametrize(
    ("pod", "by", "each"),
    [
        ("shell", "by exec", MAIN),
        ("workers", "by exec", ALL),
        ("only-kill", "by helper", MAIN),
        ("scratch", "by helper", MAIN),
        ("scratch-workers", "by helper", ALL),
    ],
)
async def test_verbose_logs_on_and_off_again(stage: Stage, kube: Api, pod: str, by: str, each: Counter[str]):
    act = Act(stage, kube, debug_logs(pod, **({"process": "core"} if each is ALL else {})))
    done = await act.perform()
    assert done.effect is Effect.DONE, done.message
    assert await act.verified(done) == ""
    assert stage.counted(pod) == each
    assert by in act.fenced[-1]
    off = Act(stage, kube, act.action, revert=True, target=act.target)
    done = await off.perform()
    assert done.effect is Effect.DONE, done.message
    assert await off.verified(done) == ""
    assert stage.counted(pod) == each + each
    if len(PODS[pod]["spec"]["containers"]) > 1:
        assert not stage.counted(pod, "beside")


@pytest.mark.parametrize(
    ("pod", "more", "why"),
    [
        ("puma", {}, "is puma, to which SIGUSR1 means something else"),
        ("scratch-puma", {}, "is puma, to which SIGUSR1 means something else"),
        ("deaf", {}, "has no handler for SIGUSR1"),
        ("scratch-deaf", {}, "has no handler for SIGUSR1"),
        ("shell", {"process": "nope"}, "there is no process nope"),
        ("scratch", {"process": "nope"}, "there is no process nope"),
        ("shared", {}, "containers share their processes"),
    ],
)
async def test_what_must_not_be_signalled_is_not(stage: Stage, kube: Api, pod: str, more: dict[str, str], why: str):
    before = stage.counted(pod)
    done = await Act(stage, kube, debug_logs(pod, **more)).perform()
    assert done.effect is Effect.NOT_DONE
    assert why in done.message
    assert stage.counted(pod) == before


@pytest.mark.parametrize("pod", ["shell", "scratch"])
async def test_what_comes_too_late_does_nothing(stage: Stage, kube: Api, pod: str):
    before = stage.counted(pod)
    done = await Act(stage, kube, debug_logs(pod), clock=lambda: time.time() - 100, rule="late").perform()
    assert done.effect is Effect.NOT_DONE
    assert "it is too late" in done.message
    assert stage.counted(pod) == before


@pytest.mark.parametrize("pod", ["restarted", "scratch-restarted"])
async def test_a_container_that_restarts_meanwhile_is_left_alone(stage: Stage, kube: Api, pod: str):
    async def restart(_what: str) -> None:
        stage.end_process_1(pod)
        await eventually(lambda: _restarts(stage, pod) == 1, "it runs again", 30)

    act = Act(stage, kube, debug_logs(pod))
    target = (await act.targets())[0]
    act.fence = _nth(1 if pod == "restarted" else 2, restart)
    done = await act.perform()
    assert done.effect is Effect.NOT_DONE
    assert "restarted" in done.message
    assert not stage.counted(pod)
    off = await Act(stage, kube, act.action, revert=True, target=target).perform()
    assert (off.effect, off.needless) == (Effect.NOT_DONE, True)


@pytest.mark.parametrize("pod", ["remade", "scratch-remade"])
async def test_another_pod_of_the_name_is_left_alone(stage: Stage, kube: Api, pod: str):
    async def replace(_what: str) -> None:
        stage.kubectl("delete", "pod", pod, "--grace-period=1")
        stage.apply(PODS[pod])
        await eventually(lambda: "running" in _state(stage, pod), "the other one runs", 30)

    act = Act(stage, kube, debug_logs(pod), fence=_nth(1 if pod == "remade" else 2, replace))
    if pod == "remade":
        done = await act.perform()
        assert done.effect is Effect.NOT_DONE
        assert "not the pod that was meant" in done.message
    else:
        with pytest.raises(Refused, match=r"metadata\.uid"):
            await act.perform()
    assert not stage.counted(pod)
    off = await Act(stage, kube, act.action, revert=True, target=act.target).perform()
    assert (off.effect, off.needless) == (Effect.NOT_DONE, True)


async def test_verbose_logs_that_somebody_had_turned_on_are_told_to_be_off_now(stage: Stage, kube: Api):
    stage.kubectl("exec", "toggled", "--", "kill", "-USR1", "1")
    await eventually(lambda: stage.counted("toggled") == MAIN, "they are on")
    act = Act(stage, kube, debug_logs("toggled"))
    done = await act.perform()
    assert "the opposite happened" in await act.verified(done)
    assert stage.counted("toggled") == MAIN + MAIN


async def test_two_helpers_for_one_remediation_are_one(stage: Stage, kube: Api):
    acts = [Act(stage, kube, debug_logs("two-at-once")) for _ in range(2)]
    outcomes = await asyncio.gather(*(act.perform() for act in acts), return_exceptions=True)
    done = [one for one in outcomes if isinstance(one, Outcome) and one.effect is Effect.DONE]
    assert len(done) == 1, outcomes
    assert all(isinstance(one, Outcome | Refused) for one in outcomes)
    again = await acts[0].perform()
    assert again.effect is Effect.NOT_DONE
    assert stage.counted("two-at-once") == MAIN


async def test_a_closed_fence_stops_both_ways(stage: Stage, kube: Api):
    async def closed(_what: str) -> None:
        raise Stop("dry run")

    before = stage.counted("shell")
    with pytest.raises(Stop):
        await Act(stage, kube, debug_logs("shell"), fence=closed).perform()
    assert stage.counted("shell") == before


async def test_without_a_helper_image_a_container_without_a_shell_is_left_alone(stage: Stage, kube: Api):
    done = await Act(stage, kube, debug_logs("scratch"), helper_image="").perform()
    assert done.effect is Effect.NOT_DONE
    assert "helper-image" in done.message


async def test_a_signal_of_another_kind(stage: Stage, kube: Api):
    selector = {"podSelector": {"matchLabels": {"app": "shell"}}}
    refused = await Act(stage, kube, {"signal": {**selector, "signal": "SIGHUP"}}).perform()
    assert refused.effect is Effect.NOT_DONE
    act = Act(stage, kube, {"signal": {**selector, "container": "beside", "signal": "SIGUSR1", "confirm": "signal 1"}})
    done = await act.perform()
    assert done.effect is Effect.DONE, done.message
    assert await act.verified(done) == ""
    assert stage.counted("shell", "beside") == MAIN


def _restarts(stage: Stage, pod: str) -> int:
    status = stage.get("pods", pod)["status"]["containerStatuses"][0]
    return int(status["restartCount"]) if "running" in status["state"] else -1


def _state(stage: Stage, pod: str) -> dict[str, object]:
    statuses = stage.get("pods", pod)["status"].get("containerStatuses") or [{"state": {}}]
    state: dict[str, object] = statuses[0]["state"]
    return state


def _nth(which: int, happens: Callable[[str], Awaitable[None]]) -> Callable[[str], Awaitable[None]]:
    """A fence through which something happens, that time only: the helper comes second, after a look for a shell."""
    passed: list[str] = []

    async def fence(what: str) -> None:
        passed.append(what)
        if len(passed) == which:
            await happens(what)

    return fence
