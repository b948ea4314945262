"""Replicas in processes of their own, and a cable to the API server that can be cut."""

from __future__ import annotations

import contextlib
import itertools
import json
import os
import socket
import sys
import threading
from collections.abc import Iterable, Iterator
from dataclasses import asdict
from pathlib import Path
from urllib.parse import urlsplit

from backendhealth.core.leasing import Timing
from backendhealth.kube.hold import boottime
from tests.servers.kubernetes import ControlPlane
from tests.servers.misbehaving import Server
from tests.servers.process import LOOPBACK, Process, wait_until

ROOT = Path(__file__).parents[2]
FAST = Timing(
    duration=3, renew_deadline=2, renew_interval=0.5, retry_interval=0.2, request_timeout=0.6, sharing=0.8, handover=0.2
)
"""Short, but with the proportions of the defaults."""
Span = tuple[float, float]


class Replica(Process):
    """One process of tests.kube.leaseholder."""

    def __init__(
        self, kubeconfig: Path, namespace: str, *, identity: str = "replica", shards: int = 1, timing: Timing = FAST
    ) -> None:
        options = {
            "kubeconfig": str(kubeconfig),
            "namespace": namespace,
            "identity": identity,
            "shards": shards,
            "timing": asdict(timing),
        }
        super().__init__(
            "replica",
            [sys.executable, "-m", "tests.kube.leaseholder", json.dumps(options)],
            ready=lambda: "ready\n" in self.log(),
            env={**os.environ, "PYTHONPATH": f"{ROOT / 'operator'}:{ROOT}"},
        )
        self.killed_at: float | None = None

    def kill(self) -> None:
        super().kill()
        self.killed_at = boottime()

    def told(self, word: str, shard: int | None = None) -> list[float]:
        """The times of all lines that begin with `word` (and are about `shard`)."""
        lines = [line.split() for line in self.log(1 << 20).splitlines()]
        return [float(line[2]) for line in lines if line[:1] == [word] and shard in {None, int(line[1])}]

    def woke_holding(self) -> list[int]:
        """How many shards it held at the first moment after each pause."""
        return [int(line.split()[2]) for line in self.log(1 << 20).splitlines() if line.startswith("woke ")]

    def wait_for(self, word: str, timeout: float, *, count: int = 1, shard: int | None = None) -> float:
        """The time of the `count`th such line, as soon as it is there."""
        wait_until(lambda: len(self.told(word, shard)) >= count, timeout, f"{word!r} from {self.log()}")
        return self.told(word, shard)[count - 1]

    def wait_for_log(self, text: str, timeout: float = 10.0) -> None:
        """Wait until it has logged `text`."""
        wait_until(lambda: text in self.log(1 << 20), timeout, f"{text!r} from {self.log()}")

    def holding(self) -> set[int]:
        """The shards that it says it holds."""
        return {shard for shard in range(64) if len(self.told("acquired", shard)) > len(self.told("lost", shard))}

    def spans(self, shard: int) -> list[Span]:
        """From when to when `shard` was held, in its own eyes."""
        ends = self.told("to", shard)
        starts = self.told("from", shard)
        if len(starts) > len(ends):
            ends.append(boottime() if self.killed_at is None else self.killed_at)
        return list(zip(starts, ends, strict=True))


def let_pass(seconds: float) -> None:
    """Wait for as long as the clock of all replicas says."""
    began = boottime()
    wait_until(lambda: boottime() - began > seconds, seconds + 10, "time passed")


def overlaps(replicas: Iterable[Replica], shard: int) -> list[tuple[Span, Span]]:
    """Spans in which two replicas held the same shard at once."""
    spans = sorted(span for replica in replicas for span in replica.spans(shard))
    return [(one, next_one) for one, next_one in itertools.pairwise(spans) if next_one[0] <= one[1]]


class Cable:
    """Leads to the API server until it is cut; what is sent then waits, as on a network that drops packets."""

    def __init__(self, control_plane: ControlPlane) -> None:
        config = json.loads(control_plane.kubectl("config", "view", "--raw", "-o", "json"))
        cluster = config["clusters"][0]["cluster"]
        self._upstream = (LOOPBACK, urlsplit(cluster["server"]).port)
        self._whole = threading.Event()
        self._whole.set()
        self._server = Server(self._relay)
        cluster["server"] = f"https://{LOOPBACK}:{self._server.port}"
        self.kubeconfig = control_plane.directory / f"cable-{self._server.port}.json"
        self.kubeconfig.write_text(json.dumps(config))

    @contextlib.contextmanager
    def plugged(self) -> Iterator[Cable]:
        with self._server:
            try:
                yield self
            finally:
                self.mend()

    def cut(self) -> None:
        self._whole.clear()

    def mend(self) -> None:
        self._whole.set()

    def _relay(self, _server: Server, near: socket.socket) -> None:
        with socket.create_connection(self._upstream) as far:
            back = threading.Thread(target=self._pump, args=(far, near), daemon=True)
            back.start()
            self._pump(near, far)
            back.join()

    def _pump(self, source: socket.socket, sink: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while data := source.recv(1 << 16):
                self._whole.wait()
                sink.sendall(data)
        for end in (source, sink):
            with contextlib.suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)
