"""The shipped PrometheusRule: each alert fires when it should, on series that the operator really has."""

from __future__ import annotations

import asyncio
import contextlib
import operator
import re
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import aiohttp
import yaml

from backendhealth.core.reasons import Reason
from backendhealth.core.verdict import Verdict
from backendhealth.kube.metrics import STATES, Metrics
from backendhealth.kube.series import TABLE
from tests.kube.scraping import served
from tests.servers.prometheus import Prometheus, promtool
from tests.unit.support import GOOD, REFUSED, probe, resource, seen
from tests.unit.world import QUICK, World

ROOT = Path(__file__).resolve().parent.parent.parent
SHIPPED = ROOT / "manifests" / "monitoring" / "prometheusrule.yaml"
CASES = Path(__file__).parent / "alerts.yaml"
ALERTS = "sum by (alertname, name) (ALERTS)"


def rules() -> dict[str, Any]:
    shipped: dict[str, Any] = yaml.safe_load(SHIPPED.read_text())["spec"]
    return shipped


def alerts() -> dict[str, dict[str, Any]]:
    return {rule["alert"]: rule for group in rules()["groups"] for rule in group["rules"]}


def run_promtool(directory: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    (directory / "rules.yaml").write_text(yaml.safe_dump(rules()))
    (directory / "alerts.yaml").write_text(CASES.read_text())
    return subprocess.run(
        [promtool(), *arguments], cwd=directory, capture_output=True, text=True, check=False, timeout=60
    )


def test_prometheus_accepts_the_rules(tmp_path: Path):
    done = run_promtool(tmp_path, "check", "rules", "--lint-fatal", "rules.yaml")
    assert done.returncode == 0, done.stdout + done.stderr


def test_each_alert_fires_when_it_should_and_not_otherwise(tmp_path: Path):
    done = run_promtool(tmp_path, "test", "rules", "alerts.yaml")
    assert done.returncode == 0, done.stdout + done.stderr


def test_each_alert_has_a_case_in_which_it_fires():
    cases = [case for test in yaml.safe_load(CASES.read_text())["tests"] for case in test.get("alert_rule_test", [])]
    fires = {case["alertname"] for case in cases if case["exp_alerts"]}
    silent = {case["alertname"] for case in cases if not case["exp_alerts"]}
    queries = [case for test in yaml.safe_load(CASES.read_text())["tests"] for case in test.get("promql_expr_test", [])]
    fires |= {sample["labels"].split('"')[1] for case in queries for sample in case["exp_samples"]}
    silent |= {case["expr"].split('"')[1] for case in queries if not case["exp_samples"]}
    assert fires == alerts().keys()
    assert silent >= alerts().keys() - {"BackendHealthProbesLate"}  # its case has a replica that is not late


def test_alerts_speak_of_series_and_values_that_there_are():
    names = {one.name for one in TABLE}
    known = {"state": set(STATES), "verdict": {v.value for v in Verdict}, "reason": {r.value for r in Reason}}
    for alert, rule in alerts().items():
        text = yaml.safe_dump(rule)
        used = set(re.findall(r"backendhealth_[a-z_]+", text))
        assert {name.removesuffix("_bucket") for name in used} <= names, alert
        for label, value in re.findall(r'(state|verdict|reason)=\\*"(\w+)', text):
            assert value in known[label], alert


def test_each_alert_says_what_to_do():
    guide = (ROOT / "docs" / "how-to" / "monitor.md").read_text()
    for alert, rule in alerts().items():
        assert rule["annotations"].keys() == {"summary", "description", "runbook"}
        assert rule["labels"]["severity"] in {"critical", "warning"}
        assert f"`{alert}`" in guide


async def asked(prometheus: Prometheus, path: str, **parameters: str) -> Any:
    async with (
        aiohttp.ClientSession() as session,
        session.get(f"{prometheus.url}/api/v1/{path}", params=parameters) as answer,
    ):
        return (await answer.json()).get("data", {})


async def samples(prometheus: Prometheus, query: str) -> dict[str, float]:
    """Value by the labels of each sample, as text."""
    found = await asked(prometheus, "query", query=query)
    return {" ".join(map(str, one["metric"].values())): float(one["value"][1]) for one in found.get("result", [])}


async def until(prometheus: Prometheus, query: str, wanted: Callable[[dict[str, float]], bool]) -> dict[str, float]:
    """What a query gives as soon as it is as wanted; TimeoutError after 20 s."""
    async with asyncio.timeout(20.0):
        while not wanted(found := await samples(prometheus, query)):
            await asyncio.sleep(0.1)
    return found


async def test_a_real_prometheus_sees_a_backend_die_a_resource_go_and_the_operator_stop():
    metrics, world = Metrics(), World()
    metrics.read_from(queue=lambda: 0, watch_age=lambda: 0, overdue=lambda: 0)
    metrics.leader(0, held=True)
    for name in ("down", "up"):
        one = resource(probe("etcd"), name=name, namespace="placeos", **QUICK)
        metrics.declared(one)
        world.cycle.apply(one, 0.0)
        found = REFUSED if name == "down" else GOOD
        world.see("etcd", found, 1.0, 1.1, key=one.key)
        metrics.observed(seen(found, 1.1, probe="etcd", resource=one.key))
        metrics.status_changed(one.key, world.cycle.status(one.key))
    dead = {"BackendHealthOperatorDown": 1.0}
    async with contextlib.AsyncExitStack() as serving:
        url = await serving.enter_async_context(served(metrics))
        with Prometheus(url.removeprefix("http://"), rules()) as prometheus:
            told = await until(prometheus, ALERTS, lambda found: "BackendUnhealthy down" in found)
            assert told.keys() - dead.keys() == {"BackendUnhealthy down"}, "dead it was before the first scrape"
            told = await samples(prometheus, "sum by (name, verdict, reason) (backendhealth_component_verdict)")
            assert told == {"down ConnectionRefused Unhealthy": 1.0, "up ProbeSucceeded Healthy": 1.0}
            metrics.forgot("placeos/down")
            await until(prometheus, ALERTS, operator.not_)
            assert await samples(prometheus, '{name="down"}') == {}
            await serving.aclose()
            assert await until(prometheus, ALERTS, bool) == dead
            groups = (await asked(prometheus, "rules"))["groups"]
            assert {rule["health"] for group in groups for rule in group["rules"]} == {"ok"}
