"""Real servers and the engine probing them: `make run` to play with, `make demo` to see faults come and go."""

from __future__ import annotations

import argparse
import os
import queue
import signal
import string
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import IO

from tests.servers.etcd import Cluster, Member
from tests.servers.redis import RedisServer

HERE = Path(__file__).parent
STEP_TIMEOUT = 15.0


class StepError(Exception):
    """An expected change was not seen; the message names it."""


class Watcher:
    """The `backendhealth check --watch` process and the lines that it prints."""

    def __init__(self, resource: Path) -> None:
        command = [sys.executable, "-m", "backendhealth", "check", "-f", str(resource), "--watch"]
        self._process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        self._lines: queue.Queue[str] = queue.Queue()
        threading.Thread(target=self._read, args=(self._process.stdout,), daemon=True).start()

    def _read(self, stream: IO[str]) -> None:
        for line in stream:
            print(line, end="", flush=True)
            self._lines.put(line)

    def expect(self, *changes: str) -> None:
        """Wait until each of `changes` (component, verdict, reason) was seen in a line. Raises StepError."""
        deadline = time.monotonic() + STEP_TIMEOUT
        missing = list(changes)
        while missing:
            try:
                line = self._lines.get(timeout=max(0.0, deadline - time.monotonic()))
            except queue.Empty:
                raise StepError(f"not seen within {STEP_TIMEOUT:g} s: {', '.join(missing)}") from None
            missing = [change for change in missing if not all(word in line for word in change.split())]

    def end(self) -> int:
        """Ctrl-C; the exit code."""
        self._process.send_signal(signal.SIGINT)
        return self._process.wait(10)


def start(stack: ExitStack) -> tuple[RedisServer, Member, Path]:
    """A Redis, an etcd and the resource that declares them."""
    print("starting a Redis and an etcd on loopback …", flush=True)
    redis = stack.enter_context(RedisServer())
    etcd = stack.enter_context(Cluster()).members[0]
    template = string.Template((HERE / "backendhealth.yaml.in").read_text())
    folder = stack.enter_context(tempfile.TemporaryDirectory())
    resource = Path(folder) / "backendhealth.yaml"
    resource.write_text(template.substitute(REDIS_PORT=redis.port, ETCD_PORT=etcd.port))
    return redis, etcd, resource


@contextmanager
def own_terminal() -> Iterator[None]:
    """Ctrl-C reaches us and our children only: `make`, which runs us, would call it an error."""
    if not sys.stdin.isatty():
        yield
        return
    before = os.tcgetpgrp(0)
    signal.signal(signal.SIGTTOU, signal.SIG_IGN)  # else changing the terminal's group stops us
    os.setpgid(0, 0)
    os.tcsetpgrp(0, os.getpgrp())
    try:
        yield
    finally:
        os.tcsetpgrp(0, before)


def play() -> int:
    """Probe until Ctrl-C; the person makes the faults."""
    with own_terminal(), ExitStack() as stack:
        redis, etcd, resource = start(stack)
        print(f"  try in another terminal:  kill -STOP {redis.pid}   (freezes Redis; kill -CONT thaws it)")
        print(f"                            kill -KILL {etcd.process.pid}   (ends etcd)")
        print("  Ctrl-C ends it.\n", flush=True)
        command = [sys.executable, "-m", "backendhealth", "check", "-f", str(resource), "--watch"]
        watching = subprocess.Popen(command)
        try:
            return watching.wait()
        except KeyboardInterrupt:  # the terminal has sent it to the watcher as well
            watching.wait(10)
            return 0


def unattended() -> int:
    """All healthy, one stopped, one killed, both back; 0 only when each change was seen with its reason."""
    began = time.monotonic()
    with ExitStack() as stack:
        redis, etcd, resource = start(stack)
        watcher = Watcher(resource)
        try:
            watcher.expect("redis -> Healthy", "etcd -> Healthy")
            print(f"--- freezing Redis (kill -STOP {redis.pid})", flush=True)
            redis.freeze()
            watcher.expect("redis -> Unhealthy Timeout")
            print(f"--- killing etcd (kill -KILL {etcd.process.pid})", flush=True)
            etcd.process.kill()
            watcher.expect("etcd -> Unhealthy ConnectionRefused")
            print("--- thawing Redis", flush=True)
            redis.resume()
            watcher.expect("redis -> Healthy ProbeSucceeded")
            print("--- starting etcd again", flush=True)
            etcd.restart()
            watcher.expect("etcd -> Healthy ProbeSucceeded")
        except StepError as error:
            print(f"demo failed: {error}", file=sys.stderr)
            watcher.end()
            return 1
        code = watcher.end()
    print(f"demo passed in {time.monotonic() - began:.1f} s: every change was seen with its reason", flush=True)
    return code


def main() -> int:
    """Parse the options and run."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--unattended", action="store_true", help="make the faults, too, and check that they are seen")
    options = parser.parse_args()
    os.chdir(HERE.parent.parent)
    return unattended() if options.unattended else play()


if __name__ == "__main__":
    sys.exit(main())
