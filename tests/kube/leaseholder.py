"""A replica as a process of its own: takes part in the election and prints what it holds, on a clock all share.

`acquired SHARD AT` and `lost SHARD AT` as they are told; `from SHARD AT` and `to SHARD AT`, the first and the last
moment at which a thread that asks all the time was told that it is held; `woke AT HELD` after a pause.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import signal
import sys
import threading
from typing import Any

from backendhealth.core.leasing import Timing
from backendhealth.kube.api import connect
from backendhealth.kube.hold import boottime
from backendhealth.kube.leases import Leases

_EVERY = 0.01
_PAUSE = 0.5


def say(*words: object) -> None:
    line = " ".join(map(str, words))
    print(f"{line}\n", end="", flush=True)  # in one piece: two threads say something


class Watcher:
    """Asks what is held all the time, whatever the event loop does."""

    def __init__(self, leases: Leases) -> None:
        self._leases = leases
        self._last: dict[int, float] = {}
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def close(self) -> None:
        self._stop.set()
        self._thread.join()
        self._look(boottime())

    def _run(self) -> None:
        before = boottime()
        while not self._stop.wait(_EVERY):
            now = boottime()
            if now - before > _PAUSE:
                say("woke", now, len(self._leases.held))
            self._look(now)
            before = now

    def _look(self, now: float) -> None:
        held = self._leases.held
        for shard in held - self._last.keys():
            say("from", shard, now)
        for shard in self._last.keys() - held:
            say("to", shard, self._last[shard])
        self._last = dict.fromkeys(held, now)


async def main(options: dict[str, Any]) -> None:
    async with await connect(options["kubeconfig"], None) as api:
        leases = Leases(
            api,
            namespace=options["namespace"],
            name="test",
            shards=options["shards"],
            identity=options["identity"],
            acquired=lambda shard: say("acquired", shard, boottime()),
            lost=lambda shard: say("lost", shard, boottime()),
            timing=Timing(**options["timing"]),
        )
        task = asyncio.create_task(leases.run())
        asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, task.cancel)
        watcher = Watcher(leases)
        say("ready")
        with contextlib.suppress(asyncio.CancelledError):
            await task
        watcher.close()
        say("stopped", 0, boottime())


if __name__ == "__main__":
    logging.basicConfig(level=logging.INFO, format="%(levelname)s %(message)s")
    asyncio.run(main(json.loads(sys.argv[1])))
