"""The engine on real sockets: whatever is cancelled leaves nothing behind."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from backendhealth.core.observation import Observation
from backendhealth.core.reasons import Reason
from backendhealth.core.spec.backendhealth import BackendHealth
from backendhealth.engine.engine import Engine
from backendhealth.probes.dialer import Dialer
from backendhealth.probes.prober import Prober
from backendhealth.probes.registry import Context, build
from tests.probes.support import MemorySecrets
from tests.servers import misbehaving
from tests.servers.redis import RedisServer
from tests.unit.support import resource

pytestmark = pytest.mark.looptime


# Real sockets


def mixture(silent_port: int, redis_port: int) -> list[BackendHealth]:
    """200 probes of three kinds, each with an exchange of its own: 150 hang, 50 keep a connection."""

    def each(kind: str, target: Callable[[int], dict[str, Any]]) -> BackendHealth:
        probes = [{"name": f"p{number}", kind: target(number)} for number in range(50)]
        return resource(*probes, name=kind, timeout="30s")

    kept = [{"name": f"p{n}", "redis": {"url": f"redis://127.0.0.1:{redis_port}/{n}"}} for n in range(50)]
    return [
        each("redis", lambda n: {"url": f"redis://127.0.0.1:{silent_port}/{n}"}),
        each("http", lambda n: {"url": f"http://127.0.0.1:{silent_port}/{n}"}),
        each("tcp", lambda n: {"host": "127.0.0.1", "port": silent_port, "expect": f"{n}"}),
        resource(*kept, name="kept", interval="30s", retryInterval="30s"),
    ]


async def eventually(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 30
    while not condition():
        assert time.monotonic() < deadline, "not in time"
        await asyncio.sleep(0.02)


def sockets() -> int:
    found = 0
    for entry in Path("/proc/self/fd").iterdir():
        with contextlib.suppress(FileNotFoundError):  # the folder's own, closed meanwhile
            found += str(entry.readlink()).startswith("socket:")
    return found


@pytest.mark.looptime(False)
@pytest.mark.parametrize("end", ["close", "remove"])
async def test_200_probes_cancelled_leave_no_socket_and_no_task(end: str):
    with RedisServer(options={"databases": "64", "maxclients": "200"}) as redis, misbehaving.silent() as silent:
        tasks, before = asyncio.all_tasks(), sockets()
        recorded: list[Observation] = []
        context = Context(Dialer(), MemorySecrets())
        engine = Engine(
            open_prober=lambda _, declared, __: Prober(build(declared, context)),
            clock=time.time,
            sink=lambda *_: None,
            record=recorded.append,
        )
        resources = mixture(silent.port, redis.port)
        for declared in resources:
            await engine.apply(declared)
        await eventually(lambda: silent.connections == 150 and len(recorded) == 50)
        assert {seen.finding.reason for seen in recorded} == {Reason.PROBE_SUCCEEDED}
        assert len(asyncio.all_tasks() - tasks) >= 150
        assert sockets() >= before + 200 + 150  # both ends of the silent ones are ours
        if end == "remove":
            await asyncio.gather(*(engine.remove(declared.key) for declared in resources))
        else:
            await engine.close()
        await eventually(lambda: silent.connections == 0)
        await eventually(lambda: sockets() == before)
        assert asyncio.all_tasks() == tasks
        await eventually(lambda: redis.info("clients")["connected_clients"] == 1)
        await engine.close()
    assert len(recorded) == 50
