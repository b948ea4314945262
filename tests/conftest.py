"""Set up before any test runs. With CI=true a test that is skipped fails: there, all that a test needs is installed."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Generator
from typing import Any

import pytest
from xdist.scheduler import LoadFileScheduling

from tests.cluster.fixtures import cluster, own_cluster, product_image  # noqa: F401 - for all
from tests.kube.fixtures import api, control_plane, namespace, operator, resources  # noqa: F401 - for all

CI = os.environ.get("CI") == "true"


def pytest_configure() -> None:
    # Otherwise pytest-asyncio makes itself an event loop before the first asynchronous test that follows a
    # synchronous one, and never closes it: the run ends with a ResourceWarning, which is an error here.
    asyncio.set_event_loop(None)


class Lanes(LoadFileScheduling):  # type: ignore[misc]  # it has no types
    """Of `pytest -n`: a file's tests go to one, and all of the real cluster, of which a machine can have one."""

    def _split_scope(self, nodeid: str) -> str:
        on_cluster = nodeid.startswith(("tests/actions/", "tests/e2e/"))
        return "cluster" if on_cluster else str(super()._split_scope(nodeid))


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> Lanes:
    return Lanes(config, log)


def _why(report: pytest.TestReport | pytest.CollectReport) -> str:
    return report.longrepr[2] if isinstance(report.longrepr, tuple) else str(report.longrepr)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport() -> Generator[None, pytest.TestReport, pytest.TestReport]:
    report = yield
    if CI and report.skipped and not hasattr(report, "wasxfail"):
        report.outcome = "failed"
        report.longrepr = f"CI=true, so nothing may be skipped: {_why(report)}"
    return report


@pytest.hookimpl(wrapper=True)
def pytest_make_collect_report() -> Generator[None, pytest.CollectReport, pytest.CollectReport]:
    report = yield
    if CI and report.skipped:
        report.outcome = "failed"
        report.longrepr = f"CI=true, so nothing may be skipped: {_why(report)}"
    return report
