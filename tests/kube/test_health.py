"""/healthz and /readyz: what they ask, what they answer, and that a stuck process does not answer at all."""

from __future__ import annotations

import os
import signal
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import aiohttp
import pytest

import backendhealth
from backendhealth.kube.health import Health, ListenError
from backendhealth.kube.metrics import Metrics
from backendhealth.kube.settings import Address
from tests.kube.scraping import NONE, served
from tests.servers.process import LOOPBACK, Process, wait_until

PATIENCE = aiohttp.ClientTimeout(total=1.0)  # as a kubelet's timeoutSeconds
STUCK = """
import asyncio, pathlib, signal, sys, time
from backendhealth.kube.health import Health
from backendhealth.kube.metrics import Metrics
from backendhealth.kube.settings import Address

async def main():
    health = Health(Address("127.0.0.1", 0), Metrics(), live={}, ready={})
    await health.start()
    asyncio.get_running_loop().add_signal_handler(signal.SIGUSR1, time.sleep, 600)
    pathlib.Path(sys.argv[1]).write_text(str(health.port))
    await asyncio.Event().wait()

asyncio.run(main())
"""


async def asked(url: str) -> tuple[int, dict[str, Any]]:
    async with aiohttp.ClientSession(timeout=PATIENCE) as session, session.get(url) as answer:
        return answer.status, await answer.json()


async def answers(url: str) -> bool:
    """Whether /healthz answers before a kubelet's patience ends."""
    try:
        await asked(f"{url}/healthz")
    except TimeoutError:
        return False
    return True


class Switch:
    """A check that is told what to say."""

    def __init__(self) -> None:
        self.wrong: str | None = None

    def __call__(self) -> str | None:
        return self.wrong


async def test_all_is_well():
    async with served(Metrics(), live={"watch": Switch(), "scheduler": Switch()}, ready={"list": Switch()}) as url:
        assert await asked(f"{url}/healthz") == (200, {"ok": True, "checks": {"watch": "ok", "scheduler": "ok"}})
        assert await asked(f"{url}/readyz") == (200, {"ok": True, "checks": {"list": "ok"}})


async def test_a_check_that_fails_is_named_and_comes_back():
    scheduler = Switch()
    async with served(Metrics(), live={"watch": Switch(), "scheduler": scheduler}) as url:
        scheduler.wrong = "a probe is overdue by 90 s"
        assert await asked(f"{url}/healthz") == (
            503,
            {"ok": False, "checks": {"watch": "ok", "scheduler": "a probe is overdue by 90 s"}},
        )
        scheduler.wrong = None
        assert (await asked(f"{url}/healthz"))[0] == 200


async def test_not_ready_is_not_dead():
    ready = Switch()
    ready.wrong = "the API server has not answered yet"
    async with served(Metrics(), live={"watch": Switch()}, ready={"list": ready}) as url:
        assert (await asked(f"{url}/healthz"))[0] == 200
        assert await asked(f"{url}/readyz") == (503, {"ok": False, "checks": {"list": ready.wrong}})


async def test_nothing_else_is_served():
    async with served(Metrics()) as url, aiohttp.ClientSession() as session:
        for method, path, status in (("GET", "/", 404), ("POST", "/healthz", 405), ("GET", "/metrics/x", 404)):
            async with session.request(method, url + path) as answer:
                assert answer.status == status


async def test_a_port_that_is_taken_is_told_with_the_setting_to_change():
    async with served(Metrics()) as url:
        port = int(url.rpartition(":")[2])
        other = Health(Address(LOOPBACK, port), Metrics(), live=NONE, ready=NONE)
        with pytest.raises(ListenError) as caught:
            await other.start()
        await other.stop()
    told = str(caught.value)
    assert told.startswith(f"can't listen on {LOOPBACK}:{port}: Address already in use")
    assert "--listen" in told
    assert "BACKENDHEALTH_LISTEN" in told


async def test_an_address_that_is_not_ours_is_told():
    health = Health(Address("192.0.2.1", 0), Metrics(), live=NONE, ready=NONE)
    with pytest.raises(ListenError, match=r"can't listen on 192\.0\.2\.1:0: "):
        await health.start()


async def test_it_stops_with_a_connection_open_and_frees_its_port():
    async with aiohttp.ClientSession() as session:
        async with served(Metrics()) as url, session.get(f"{url}/healthz") as answer:
            assert answer.status == 200
        again = Health(Address(LOOPBACK, int(url.rpartition(":")[2])), Metrics(), live=NONE, ready=NONE)
        await again.start()
        await again.stop()


@pytest.fixture
def process(tmp_path: Path) -> Iterator[tuple[Process, str]]:
    """A process of its own that serves, with its URL; SIGUSR1 blocks its event loop."""
    port = tmp_path / "port"
    script = tmp_path / "script.py"
    script.write_text(STUCK)
    root = str(Path(backendhealth.__file__).parent.parent)
    argv = [sys.executable, str(script), str(port)]
    ready = lambda: port.exists() and bool(port.read_text())  # noqa: E731
    with Process("health", argv, env={**os.environ, "PYTHONPATH": root}, ready=ready) as started:
        yield started, f"http://{LOOPBACK}:{port.read_text()}"


async def test_a_loop_that_is_stuck_does_not_answer(process: tuple[Process, str]):
    stuck, url = process
    assert (await asked(f"{url}/healthz"))[0] == 200
    os.kill(stuck.pid, signal.SIGUSR1)
    deadline = time.monotonic() + 10.0
    while await answers(url):  # until the signal has come
        assert time.monotonic() < deadline
    state = Path(f"/proc/{stuck.pid}/stat").read_text().rpartition(")")[2].split()[0]
    assert state == "S", "the process lives, but sleeps"


async def test_a_process_that_is_frozen_does_not_answer_and_tells_its_lag_when_it_wakes(process: tuple[Process, str]):
    frozen, url = process
    os.kill(frozen.pid, signal.SIGSTOP)
    try:
        assert not await answers(url)
        began = time.monotonic()
        wait_until(lambda: time.monotonic() - began > 2.5, 5.0, "longer than the time between two looks")
    finally:
        os.kill(frozen.pid, signal.SIGCONT)
    assert (await asked(f"{url}/healthz"))[0] == 200
    async with aiohttp.ClientSession() as session, session.get(f"{url}/metrics") as answer:
        lines = (await answer.text()).splitlines()
    (lag,) = [float(line.split()[1]) for line in lines if line.startswith("backendhealth_event_loop_lag_seconds ")]
    assert lag > 0.5
