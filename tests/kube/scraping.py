"""A Health that is served on loopback, and what a scrape of it says."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator, Mapping

import aiohttp
from prometheus_client.metrics_core import Metric
from prometheus_client.openmetrics import parser as openmetrics
from prometheus_client.parser import text_string_to_metric_families

from backendhealth.kube.health import Check, Health
from backendhealth.kube.metrics import Metrics
from backendhealth.kube.settings import Address
from tests.servers.process import LOOPBACK

OPENMETRICS = "application/openmetrics-text; version=1.0.0; charset=utf-8"
NONE: Mapping[str, Check] = {}


@contextlib.asynccontextmanager
async def served(
    metrics: Metrics, live: Mapping[str, Check] = NONE, ready: Mapping[str, Check] = NONE
) -> AsyncIterator[str]:
    """The URL at which it is served."""
    health = Health(Address(LOOPBACK, 0), metrics, live=live, ready=ready)
    await health.start()
    try:
        yield f"http://{LOOPBACK}:{health.port}"
    finally:
        await health.stop()


async def scraped(url: str, accept: str = "text/plain") -> dict[str, Metric]:
    """All families by name, read over HTTP."""
    async with aiohttp.ClientSession() as session, session.get(f"{url}/metrics", headers={"Accept": accept}) as answer:
        text = await answer.text()
        assert answer.status == 200, text
        wanted = OPENMETRICS if "openmetrics" in accept else "text/plain; version=0.0.4; charset=utf-8"
        assert answer.headers["Content-Type"].startswith(wanted)
    parse = openmetrics.text_string_to_metric_families if "openmetrics" in accept else text_string_to_metric_families
    return {family.name: family for family in parse(text)}


def values(family: Metric, suffix: str = "") -> dict[tuple[str, ...], float]:
    """Value by the values of the labels, in the order of the labels' names in the family's first sample."""
    wanted = [sample for sample in family.samples if sample.name == family.name + suffix]
    return {tuple(sample.labels.values()): sample.value for sample in wanted}


def about(families: Mapping[str, Metric], namespace: str, name: str) -> list[str]:
    """Names of the series that speak of a resource."""
    mine = {"namespace": namespace, "name": name}
    return [s.name for family in families.values() for s in family.samples if mine.items() <= s.labels.items()]
