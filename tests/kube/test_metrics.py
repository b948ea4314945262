"""Metrics, scraped over HTTP: what they say, what they forget, how many there are, and what they cost."""

from __future__ import annotations

import asyncio
import random
import sys
import time
from typing import Any

import pytest

from backendhealth.core.observation import Finding
from backendhealth.core.reasons import Reason
from backendhealth.core.spec.backendhealth import BackendHealth
from backendhealth.core.spec.status import BackendHealthStatus, Summary
from backendhealth.kube.metrics import BUCKETS, STATES, Metrics
from backendhealth.kube.series import TABLE
from tests.kube.scraping import about, scraped, served, values
from tests.unit.support import GOOD, REFUSED, RISKY, probe, resource, seen
from tests.unit.world import QUICK, World

TIMED = Finding(Reason.PROBE_SUCCEEDED, "fine", steps={"resolve": 0.0004, "connect": 0.003, "ping": 0.2})


class Seeing:
    """Metrics that are told what a cycle is told."""

    def __init__(self, *resources: BackendHealth) -> None:
        self.metrics = Metrics(shards=2, heartbeat=600.0)
        self.metrics.read_from(queue=lambda: 7, watch_age=lambda: 12.5, overdue=lambda: 0.25)
        self.world = World()
        for one in resources:
            self.apply(one)

    def apply(self, one: BackendHealth) -> None:
        self.metrics.declared(one)
        self.world.cycle.apply(one, 0.0)
        self._tell()

    def see(self, name: str, finding: Finding, at: float, key: str = "default/demo") -> None:
        self.metrics.observed(seen(finding, at, probe=name, resource=key))
        self.world.see(name, finding, at - 0.1, at, key=key)
        self._tell()

    def _tell(self) -> None:
        for key, status in self.world.told:
            self.metrics.status_changed(key, status)
        self.world.told.clear()


def three(**more: Any) -> BackendHealth:
    return resource(probe("a"), probe("b", component="shared"), probe("c", component="shared"), **QUICK, **more)


def everything() -> Seeing:
    """One series of each kind at least."""
    seeing = Seeing(three())
    for name, finding in (("a", REFUSED), ("b", TIMED), ("c", GOOD)):
        seeing.see(name, finding, 5.0)
    metrics = seeing.metrics
    metrics.status_written("default/demo", 1000.0)
    metrics.lateness(0.02)
    metrics.loop_lag(0.5)
    metrics.api_request("PUT", "backendhealths/status", 200)
    metrics.api_request("PUT", "backendhealths/status", 0)
    metrics.event("created")
    metrics.status_write("written")
    metrics.leader(1, held=True)
    metrics.remediations.reached("Succeeded", "restartPods", "Enforce")
    metrics.remediations.took_effect("restartPods", 3.0)
    return seeing


@pytest.mark.parametrize("accept", ["text/plain", "application/openmetrics-text; version=1.0.0"])
async def test_what_is_exported_is_what_the_table_says(accept: str):
    async with served(everything().metrics) as url:
        families = await scraped(url, accept)
    ours = {name: family for name, family in families.items() if name.startswith("backendhealth")}
    assert ours.keys() == {one.name.removesuffix("_total") for one in TABLE}
    for one in TABLE:
        family = ours[one.name.removesuffix("_total")]
        assert (family.type, family.documentation) == (one.kind, one.meaning)
        assert family.samples
        assert {label for sample in family.samples for label in sample.labels} - {"le"} == set(one.labels)
    assert not [name for name in families if name.endswith("_created")]
    assert families.keys() - ours.keys() >= {"process_resident_memory_bytes", "process_open_fds"}


async def test_values():
    async with served(everything().metrics) as url:
        families = await scraped(url)
    state = families["backendhealth_state"]
    assert {s.labels["state"]: s.value for s in state.samples} == {s: s == "Unhealthy" for s in STATES}
    assert [s.labels for s in families["backendhealth_component_verdict"].samples] == [
        {"namespace": "default", "name": "demo", "component": component, "verdict": verdict, "reason": reason}
        for component, verdict, reason in (
            ("a", "Unhealthy", "ConnectionRefused"),
            ("shared", "Healthy", "ProbeSucceeded"),
        )
    ]
    assert [s.labels["component"] for s in families["backendhealth_root_cause"].samples] == ["a"]
    assert values(families["backendhealth_leader"]) == {("0",): 0.0, ("1",): 1.0}
    assert {(s.labels["code"], s.value) for s in families["backendhealth_api_requests"].samples} == {
        ("200", 1.0),
        ("none", 1.0),
    }
    singles = {name: values(families[f"backendhealth_{name}"])[()] for name in (
        *("scheduler_overdue_seconds", "event_loop_lag_seconds", "watch_age_seconds", "status_queue_length"),
        "heartbeat_interval_seconds",
    )}  # fmt: skip
    assert list(singles.values()) == [0.25, 0.5, 12.5, 7.0, 600.0]


async def test_attempts_and_durations():
    seeing = Seeing(three())
    for at, finding in enumerate((TIMED, TIMED, REFUSED, RISKY), start=1):
        seeing.see("b", finding, float(at))
    async with served(seeing.metrics) as url:
        families = await scraped(url)
    attempts = families["backendhealth_probe_attempts"].samples
    assert {(s.labels["probe"], s.labels["verdict"]): s.value for s in attempts} == {
        ("b", "Healthy"): 2.0,
        ("b", "Unhealthy"): 1.0,
        ("b", "Degraded"): 1.0,
    }
    (last,) = families["backendhealth_probe_last_duration_seconds"].samples
    assert last.value == pytest.approx(0.1)
    steps = families["backendhealth_probe_step_duration_seconds"].samples
    below = {s.labels["le"]: s.value for s in steps if s.labels["step"] == "connect" and "le" in s.labels}
    assert below == {str(bound): 2.0 * (bound >= 0.005) for bound in BUCKETS} | {"+Inf": 2.0}
    (total,) = (s.value for s in steps if s.labels["step"] == "connect" and s.name.endswith("_sum"))
    assert total == pytest.approx(0.006)
    whole = families["backendhealth_probe_duration_seconds"].samples
    assert {s.labels["kind"] for s in whole} == {"tcp"}
    assert [s.value for s in whole if s.name.endswith("_count")] == [4.0]


async def test_a_duration_on_the_bound_of_a_bucket_is_in_it():
    metrics = Metrics()
    metrics.lateness(0.5)
    async with served(metrics) as url:
        buckets = values((await scraped(url))["backendhealth_scheduler_lateness_seconds"], "_bucket")
    assert (buckets["0.25",], buckets["0.5",]) == (0.0, 1.0)


async def test_what_was_forgotten_has_no_series_and_is_not_brought_back_by_late_news():
    seeing = everything()
    seeing.apply(three(name="stays"))
    async with served(seeing.metrics) as url:
        assert len(about(await scraped(url), "default", "demo")) > 10
        seeing.metrics.forgot("default/demo")
        seeing.metrics.forgot("default/demo")
        seeing.metrics.observed(seen(GOOD, 9.0, probe="a"))
        seeing.metrics.status_written("default/demo", 9.0)
        families = await scraped(url)
    assert about(families, "default", "demo") == []
    assert about(families, "default", "stays")


async def test_what_is_gone_from_the_spec_has_no_series_and_the_rest_goes_on_counting():
    seeing = everything()
    other_c = {"name": "c", "component": "shared", "http": {"url": "http://c"}}
    seeing.apply(resource(probe("b", component="shared"), other_c, generation=2))
    seeing.metrics.observed(seen(GOOD, 9.0, probe="a"))
    seeing.metrics.observed(seen(GOOD, 9.0, probe="b"))
    async with served(seeing.metrics) as url:
        families = await scraped(url)
    attempts = families["backendhealth_probe_attempts"].samples
    assert {s.labels["probe"]: s.value for s in attempts} == {"b": 2.0}, "c is another kind of probe now"
    assert {s.labels["component"] for s in families["backendhealth_component_verdict"].samples} == {"shared"}
    assert families["backendhealth_root_cause"].samples == []


async def test_a_resource_that_can_not_be_used_has_its_state_alone():
    metrics = Metrics()
    metrics.status_changed("ns/one", BackendHealthStatus(observed_generation=1, summary=Summary(state="Stalled")))
    async with served(metrics) as url:
        families = await scraped(url)
    assert set(about(families, "ns", "one")) == {"backendhealth_state"}
    assert [s.labels["state"] for s in families["backendhealth_state"].samples if s.value] == ["Stalled"]


async def test_series_are_bounded_by_what_is_declared():
    resources = [three(name=f"r{number}") for number in range(5)]
    seeing = Seeing(*resources)
    chance = random.Random(7)
    findings = [Finding(reason, f"words {number}") for number, reason in enumerate(Reason)]
    for at in range(1, 500):
        key = chance.choice(resources).key
        seeing.see(chance.choice("abc"), chance.choice(findings), float(at), key)
        seeing.metrics.status_written(key, float(at))
    async with served(seeing.metrics) as url:
        families = await scraped(url)
    counts = {name: len(family.samples) for name, family in families.items() if name.startswith("backendhealth")}
    per = {"a resource": 5, "a component": 10, "a probe": 15}
    for one in TABLE:
        number, _, what = one.bound.partition(" ")
        if what in per:
            assert 0 < counts[one.name.removesuffix("_total")] <= int(number) * per[what], one.name
    assert sum(counts.values()) < 5 * 6 + 10 * 2 + 5 + 15 * 5 + 200


async def test_nothing_that_a_backend_says_is_exported():
    seeing = Seeing(three())
    seeing.see("a", Finding(Reason.PROTOCOL_ERROR, "it said hunter2", facts={"banner": "hunter2"}), 1.0)
    async with served(seeing.metrics) as url:
        families = await scraped(url)
    assert "hunter2" not in repr(families)


async def test_resources_may_come_and_go_while_they_are_scraped():
    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)  # the thread that scrapes is interrupted in the middle of everything
    try:
        await come_and_go_while_scraped()
    finally:
        sys.setswitchinterval(interval)


async def come_and_go_while_scraped() -> None:
    seeing = Seeing(*(three(name=f"r{number}") for number in range(300)))
    status = seeing.world.cycle.status("default/r0")
    async with served(seeing.metrics) as url:
        scrapes = [asyncio.ensure_future(scraped(url)) for _ in range(2)]
        turns = 0
        while not all(scrape.done() for scrape in scrapes):
            turns += 1
            new = three(name=f"x{turns}")
            seeing.metrics.declared(new)
            seeing.metrics.status_changed(new.key, status)
            if turns % 2:
                seeing.metrics.forgot(f"default/x{turns - 20}")
            seeing.metrics.observed(seen(TIMED, 1.0, probe="a", resource=new.key))
            await asyncio.sleep(0)
        for scrape in scrapes:
            assert len((await scrape)["backendhealth_state"].samples) >= 300 * len(STATES)
    assert turns > 50


def test_an_observation_costs_little():
    metrics = Metrics()
    metrics.declared(three())
    steps = dict.fromkeys(("resolve", "connect", "tls", "auth", "ping", "info"), 0.001)
    observation = seen(Finding(Reason.PROBE_SUCCEEDED, "fine", steps=steps), 1.0)

    def cost() -> float:
        began = time.process_time()
        for _ in range(2000):
            metrics.observed(observation)
        return (time.process_time() - began) / 2000

    assert min(cost() for _ in range(10)) < 10e-6
