"""Set up before any test runs. With CI=true a test that is skipped fails: there, all that a test needs is installed."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Generator

import pytest

from tests.cluster.fixtures import cluster, own_cluster, product_image  # noqa: F401 - for all
from tests.kube.fixtures import api, control_plane, namespace, operator, resources  # noqa: F401 - for all

CI = os.environ.get("CI") == "true"


def pytest_configure() -> None:
    # Otherwise pytest-asyncio makes itself an event loop before the first asynchronous test that follows a
    # synchronous one, and never closes it: the run ends with a ResourceWarning, which is an error here.
    asyncio.set_event_loop(None)


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
