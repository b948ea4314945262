"""Pods' logs in fake time: when they are read, what follows, and when no more."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any

import pytest

from backendhealth.core.knowledge import NOTHING_KNOWN, Knowledge
from backendhealth.core.observation import Finding
from backendhealth.core.reasons import Reason
from backendhealth.core.spec.backendhealth import BackendHealth, Probe
from backendhealth.core.spec.profile import DiagnosisProfileSpec
from backendhealth.engine.ports import Logged
from tests.unit.rig import Rig
from tests.unit.support import GOOD, probe, resource

pytestmark = pytest.mark.looptime

BECAUSE = "the core does not ask another member of etcd"
SHOP = Knowledge(
    DiagnosisProfileSpec.model_validate(
        {
            "title": "A shop",
            "components": [
                {"name": "etcd", "title": "etcd"},
                {"name": "core", "title": "The core", "dependsOn": ["etcd"]},
            ],
            "symptoms": [{"name": "checkout", "question": "Can you pay?", "implicates": ["core", "etcd"]}],
            "signatures": [{"name": "a", "pattern": "no leader", "implicates": ["core"], "because": BECAUSE}],
        }
    )
)
CRASHES = Finding(Reason.CRASH_LOOP_BACK_OFF, "it crashes")
DARK = Finding(Reason.NOT_ENOUGH_READY, "0 of 1 pods are ready")


class Logs:
    """What pods have logged, and when it was read."""

    def __init__(self, rig: Rig, lines: Sequence[bytes]) -> None:
        self.rig = rig
        self.lines = lines
        self.read_at: list[float] = []
        self.took = 0.0
        self.unread = False
        self.error: Exception | None = None
        self.engine = rig.engine = rig.new_engine(read_logs=self.read)

    async def read(self, _of: BackendHealth, _probe: Probe) -> Logged:
        self.read_at.append(round(self.rig.now, 2))
        await asyncio.sleep(self.took)
        if self.error is not None:
            raise self.error
        return Logged((), unread=True) if self.unread else Logged(self.lines)

    @property
    def said(self) -> bool:
        """Whether the status tells what the log says."""
        return BECAUSE in self.rig.told[-1][2].model_dump_json()


def core(logs: dict[str, Any] | None = None, *others: dict[str, Any]) -> BackendHealth:
    target = {"selector": {"matchLabels": {"app": "core"}}, **({} if logs is None else {"logs": logs})}
    pods = {"name": "core", "pods": target}
    return resource(pods, *others, interval="10s", failureThreshold=1, successThreshold=1)


@pytest.fixture
async def rig() -> Rig:
    return Rig()


@pytest.fixture
def logs(rig: Rig) -> Logs:
    return Logs(rig, [b"password=planted no leader password=planted"])


async def test_only_while_something_fails_and_not_again_without_news(rig: Rig, logs: Logs):
    await logs.engine.apply(core({}), knowledge=SHOP)
    await asyncio.sleep(25)
    assert logs.read_at == []
    rig.opened[0].finding = CRASHES
    await asyncio.sleep(10)
    assert len(logs.read_at) == 1
    assert logs.said
    assert not any("planted" in status.model_dump_json() for _, _, status in rig.told)
    rig.opened[0].finding = GOOD
    await asyncio.sleep(10)
    assert not logs.said
    seen = len(logs.read_at)
    await asyncio.sleep(300)
    assert len(logs.read_at) == seen
    await logs.engine.close()


async def test_again_while_something_is_unexplained(rig: Rig, logs: Logs):
    rig.prepare = lambda prober: setattr(prober, "finding", GOOD if prober.declared.name == "core" else DARK)
    await logs.engine.apply(core({}, probe("checkout")), knowledge=SHOP)
    await asyncio.sleep(100)
    diagnosis = rig.told[-1][2].diagnosis
    assert diagnosis is not None
    assert [one.name for one in diagnosis.unexplained] == ["checkout"]
    assert logs.read_at == [0.0, 30.0, 60.0, 90.0]
    await logs.engine.close()


async def test_again_while_they_can_not_be_read(rig: Rig, logs: Logs):
    rig.prepare = lambda prober: setattr(prober, "finding", CRASHES)
    logs.unread = True
    await logs.engine.apply(core({}), knowledge=SHOP)
    await asyncio.sleep(50)
    assert (logs.read_at, logs.said) == ([0.0, 30.0], False)
    logs.unread = False
    await asyncio.sleep(100)
    assert (logs.read_at, logs.said) == ([0.0, 30.0, 60.0], True)
    await logs.engine.close()


@pytest.mark.parametrize("without", ["logs", "signatures"])
async def test_never_where_nobody_asks_for_it(rig: Rig, logs: Logs, without: str):
    rig.prepare = lambda prober: setattr(prober, "finding", CRASHES)
    declared, knowledge = (core(), SHOP) if without == "logs" else (core({}), NOTHING_KNOWN)
    await logs.engine.apply(declared, knowledge=knowledge)
    await asyncio.sleep(100)
    assert logs.read_at == []
    await logs.engine.close()


async def test_a_reading_under_way_ends_with_its_resource(rig: Rig, logs: Logs):
    logs.took = 5
    rig.prepare = lambda prober: setattr(prober, "finding", CRASHES)
    await logs.engine.apply(core({}), knowledge=SHOP)
    await asyncio.sleep(1)
    await logs.engine.remove("default/demo")
    told = len(rig.told)
    await asyncio.sleep(100)
    assert (logs.read_at, len(rig.told)) == ([0.0], told)
    await logs.engine.close()


async def test_a_fault_of_our_own_ends_the_run(rig: Rig, logs: Logs):
    logs.error = KeyError("ours")
    rig.prepare = lambda prober: setattr(prober, "finding", CRASHES)
    await logs.engine.apply(core({}), knowledge=SHOP)
    await asyncio.sleep(1)
    with pytest.raises(KeyError, match="ours"):
        await logs.engine.run()
    await logs.engine.close()


async def test_one_round_reads_what_failed_in_it_and_waits_for_that(rig: Rig, logs: Logs):
    logs.engine = rig.engine = rig.new_engine(read_logs=logs.read, once=True)
    logs.took = 2.0
    rig.prepare = lambda prober: setattr(prober, "finding", CRASHES)
    await logs.engine.apply(core({}), knowledge=SHOP)
    await logs.engine.run_once()
    assert logs.said
    assert len(logs.read_at) == 1
    await logs.engine.close()


async def test_one_round_in_which_all_works_reads_nothing(rig: Rig, logs: Logs):
    logs.engine = rig.engine = rig.new_engine(read_logs=logs.read, once=True)
    await logs.engine.apply(core({}), knowledge=SHOP)
    await logs.engine.run_once()
    assert logs.read_at == []
    await logs.engine.close()
