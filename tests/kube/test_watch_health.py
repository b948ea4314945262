"""Whether the watch keeps up with lists: seen with no watch at all, so that only lists tell."""

from __future__ import annotations

import argparse
import asyncio
import sys
from collections.abc import AsyncIterator

import pytest

from backendhealth.kube import logs, resync
from backendhealth.kube.app import App
from backendhealth.kube.settings import Settings
from tests.kube.operator import PATH, Resources
from tests.kube.writing import eventually
from tests.servers.kubernetes import ControlPlane
from tests.servers.process import free_port

PORT = 9
PROBE = {"name": "a", "tcp": {"host": "127.0.0.1", "port": PORT}}


@pytest.fixture
async def app(control_plane: ControlPlane, namespace: str, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[App]:
    monkeypatch.setattr(resync, "STUCK_AFTER", 1.5)
    monkeypatch.setattr(logs, "configure", lambda *_: None)  # the log is pytest's here
    flags = argparse.Namespace(
        kubeconfig=str(control_plane.kubeconfig),
        namespaces=namespace,
        leader_elect=False,
        listen=f"127.0.0.1:{free_port()}",
        resync_interval="1s",
    )
    app = App(Settings.from_sources(flags, {}))
    limit = sys.getrecursionlimit()
    await app.start()
    yield app
    await app.stop()
    sys.setrecursionlimit(limit)  # that of the process is the app's to set, but this one is the tests'


async def ask(app: App, path: str) -> str:
    reader, writer = await asyncio.open_connection("127.0.0.1", app._health.port)
    writer.write(f"GET {path} HTTP/1.0\r\n\r\n".encode())
    answer = (await reader.read()).decode()
    writer.close()
    await writer.wait_closed()
    return answer


async def test_a_watch_that_delivers_nothing_is_stuck_until_it_does(app: App, resources: Resources):
    await eventually(lambda: app._resync.listed, 5, "listed")
    assert " 200 " in await ask(app, "/healthz")
    assert app._resync.watch_age() < 5
    raw = resources.apply("demo", PROBE)
    await eventually(lambda: bool(app._resync.stuck()), 10, "stuck")
    told = await ask(app, "/healthz")
    assert " 503 " in told
    assert f"{resources.namespace}/demo" in told
    assert app._resync.watch_age() > 1
    app.deliver("ADDED", raw)
    await eventually(lambda: not app._resync.stuck(), 5, "not stuck any more")
    assert " 200 " in await ask(app, "/healthz")


async def test_what_only_a_list_shows_is_served_all_the_same(app: App, resources: Resources):
    resources.apply("demo", PROBE)
    path = f"{PATH.format(resources.namespace)}/demo"
    await eventually(lambda: bool(app._controller.served), 10, "served")
    resources.plane.request("DELETE", path)
    await eventually(lambda: not app._controller.served, 10, "dropped")
    assert app._resync.stuck() is None  # no watch tells of what was deleted while it was lost


async def test_an_api_server_that_is_away_is_no_stuck_watch(
    app: App, resources: Resources, control_plane: ControlPlane
):
    app.deliver("ADDED", resources.apply("demo", PROBE))
    control_plane.pause()
    try:
        await eventually(lambda: app._resync.watch_age() > 3, 10, "nothing was compared")
        assert " 200 " in await ask(app, "/healthz")
    finally:
        control_plane.resume()
