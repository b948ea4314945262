"""The engine in fake time: changes of the spec, and what is shared."""

from __future__ import annotations

import asyncio

import pytest

from backendhealth.core.observation import Finding
from backendhealth.core.spec.backendhealth import BackendHealth, Probe
from backendhealth.engine.ports import Signal
from tests.unit.rig import EPOCH, Rig, Scripted, one
from tests.unit.support import GOOD, REFUSED, probe, resource

pytestmark = pytest.mark.looptime


# Changes of the spec


async def test_only_what_changed_starts_afresh(rig: Rig):
    await rig.engine.apply(resource(probe("a"), probe("b"), probe("c"), successThreshold=1))
    await asyncio.sleep(5)
    await rig.engine.apply(resource(probe("a"), probe("b", port=81), generation=2, successThreshold=1))
    await asyncio.sleep(1)
    assert [(p.declared.name, p.closed) for p in rig.opened] == [("a", 0), ("b", 1), ("c", 1), ("b", 0)]
    assert rig.began(0) == [0]
    assert rig.began(3) == [5]
    assert {seen.generation for seen in rig.recorded if seen.started > EPOCH + 4} == {2}


async def test_another_service_account_is_another_identity_for_what_needs_secrets(rig: Rig):
    secret = {"name": "b", "redis": {"url": "redis://r", "auth": {"secretRef": {"name": "s"}}}}
    await rig.engine.apply(resource(probe("a"), secret, serviceAccountName="one"))
    await asyncio.sleep(1)
    await rig.engine.apply(resource(probe("a"), secret, generation=2, serviceAccountName="two"))
    await asyncio.sleep(1)
    assert [(p.declared.name, p.closed) for p in rig.opened] == [("a", 0), ("b", 1), ("b", 0)]


async def test_an_attempt_under_way_for_the_old_spec_counts_no_more(rig: Rig):
    rig.prepare = lambda prober: setattr(prober, "took", 3)
    await rig.engine.apply(one(failureThreshold=1, successThreshold=1))
    rig.opened[0].finding = REFUSED
    await asyncio.sleep(2.9)
    await rig.engine.apply(resource(probe("a", port=81), interval="10s", failureThreshold=1, successThreshold=1))
    await asyncio.sleep(4)
    assert [seen.finding for seen in rig.recorded] == [GOOD]
    assert rig.states() == [(0, "Unknown"), (2.9, "Unknown"), (5.9, "Healthy")]


async def test_an_old_attempt_that_goes_on_for_others_counts_no_more(rig: Rig):
    """Two resources share an exchange; one of them is changed while an attempt is under way."""
    rig.prepare = lambda prober: setattr(prober, "took", 3)
    await rig.engine.apply(one(successThreshold=1))
    await rig.engine.apply(resource(probe("a"), name="other", interval="10s", retryInterval="2s", failureThreshold=1))
    await asyncio.sleep(0)
    rig.opened[0].finding = REFUSED
    await asyncio.sleep(1)
    await rig.engine.apply(resource(probe("a", port=81), interval="10s", successThreshold=1, generation=2))
    await asyncio.sleep(6)
    assert [(prober.declared.tcp and prober.declared.tcp.port, prober.closed) for prober in rig.opened] == [
        (80, 0),
        (81, 0),
    ]
    seen = [(one.resource, one.finding.reason.value) for one in rig.recorded]
    assert seen.count(("default/demo", "ConnectionRefused")) == 0
    assert ("default/other", "ConnectionRefused") in seen
    assert rig.engine.status("default/demo").probes[0].verdict == "Healthy"


async def test_it_may_come_back_to_an_exchange_that_is_in_the_middle_of_an_attempt(rig: Rig):
    rig.prepare = lambda prober: setattr(prober, "took", 3)
    await rig.engine.apply(one())
    await rig.engine.apply(resource(probe("a"), name="other", timeout="5s"))
    await asyncio.sleep(1)
    await rig.engine.apply(one(suspend=True))
    await rig.engine.apply(one())
    await asyncio.sleep(60)
    assert rig.opened[0].most_at_once == 1
    assert len(rig.opened) == 1
    assert rig.engine.status("default/demo").probes[0].verdict == "Healthy"


async def test_removal_ends_attempts_and_closes(rig: Rig):
    rig.prepare = lambda prober: setattr(prober, "took", 3)
    await rig.engine.apply(resource(probe("a"), probe("b"), probe("c")))
    await asyncio.sleep(1)
    told = len(rig.told)
    await rig.engine.remove("default/demo")
    assert [(prober.cancelled, prober.closed) for prober in rig.opened] == [(1, 1)] * 3
    await rig.engine.remove("default/demo")
    await asyncio.sleep(60)
    assert len(rig.told) == told
    assert rig.engine.resources == []
    assert [rig.began(index) for index in range(3)] == [[0], [0], [0]]


async def test_a_removed_resource_leaves_nothing_in_the_queue(rig: Rig):
    await rig.engine.apply(resource(probe("a"), probe("b", initialDelay="10s")))
    await asyncio.sleep(1)
    await rig.engine.remove("default/demo")
    assert len(rig.engine._scheduler) == 0


async def test_who_is_due_while_an_attempt_for_somebody_else_goes_on_takes_part_in_it(rig: Rig):
    rig.prepare = lambda prober: setattr(prober, "took", 3)
    await rig.engine.apply(one())
    await rig.engine.apply(resource(probe("a", initialDelay="1s"), name="other", successThreshold=1))
    await asyncio.sleep(0.5)
    await rig.engine.remove("default/demo")  # only it was waiting
    await asyncio.sleep(10)
    assert rig.opened[0].most_at_once == 1
    assert rig.began() == [0]
    assert rig.states()[-1] == (3, "Healthy")


class SlowToEnd(Scripted):
    """One whose attempts take a while to end when they are cancelled."""

    async def attempt(self, timeout: float) -> Finding:
        try:
            return await super().attempt(timeout)
        except asyncio.CancelledError:
            await asyncio.sleep(2)
            raise


async def test_what_ends_slowly_holds_up_nothing_that_happens_meanwhile(rig: Rig, monkeypatch: pytest.MonkeyPatch):
    """While one attempt takes its time to be cancelled, another ends, and the resource is changed once more."""
    running = asyncio.ensure_future(rig.engine.run())

    def open_prober(of: BackendHealth, declared: Probe, signal: Signal) -> Scripted:
        rig.opened.append((SlowToEnd if declared.name == "a" else Scripted)(of, declared, signal))
        rig.opened[-1].took = 3
        return rig.opened[-1]

    monkeypatch.setattr(rig.engine._exchanges, "_open", open_prober)
    await rig.engine.apply(resource(probe("a"), probe("b")))
    await asyncio.sleep(2)
    removal = asyncio.ensure_future(rig.engine.remove("default/demo"))
    await asyncio.sleep(0.1)
    await rig.engine.apply(resource(probe("b", port=82)))
    await asyncio.sleep(30)
    await removal
    assert not running.done()
    assert rig.engine.status("default/demo").probes[0].verdict == "Healthy"
    running.cancel()


# Sharing


async def test_two_resources_that_ask_the_same_make_one_attempt(rig: Rig):
    rig.prepare = lambda prober: setattr(prober, "took", 1)
    await rig.engine.apply(one())
    await rig.engine.apply(one().model_copy(update={"metadata": resource(probe("x"), name="other").metadata}))
    await asyncio.sleep(16)
    assert len(rig.opened) == 1
    assert rig.began() == [0, 2, 12]
    assert {status.probes[0].verdict for status in map(rig.engine.status, ("default/demo", "default/other"))} == {
        "Healthy"
    }
    await rig.engine.remove("default/other")
    assert rig.opened[0].closed == 0
    await rig.engine.remove("default/demo")
    assert rig.opened[0].closed == 1


@pytest.mark.parametrize(
    "other",
    [
        resource(probe("a"), name="other", namespace="elsewhere"),
        resource(probe("a"), name="other", timeout="4s"),
        resource(probe("a", port=81), name="other"),
    ],
    ids=["namespace", "timeout", "target"],
)
async def test_what_differs_is_not_shared(rig: Rig, other: BackendHealth):
    await rig.engine.apply(resource(probe("a")))
    await rig.engine.apply(other)
    assert len(rig.opened) == 2


async def test_the_attempts_timeout_is_the_declared_one(rig: Rig):
    await rig.engine.apply(one(timeout="700ms"))
    await asyncio.sleep(1)
    assert rig.opened[0].timeouts == {0.7}
