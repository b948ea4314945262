"""Real server processes for tests: loopback only, bounded life, stopped by their own pid."""

from __future__ import annotations

import contextlib
import ctypes
import os
import random
import resource
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Self

LOOPBACK = "127.0.0.1"
MAX_CPU_SECONDS = 1800  # a server that outlives this much CPU is a runaway, whatever the test does
_PR_SET_PDEATHSIG = 1
_given: set[int] = set()


class ServerFailed(RuntimeError):  # noqa: N818 - what is said of a server
    """A server exited or did not become ready; the message carries the end of its log."""


def free_port(host: str = LOOPBACK) -> int:
    """A TCP port on `host` that was free a moment ago, and that this process has not been given before.

    Not from the range of outgoing connections: one of those would take it before its server is up.
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    while True:
        port = random.randrange(10_000, 32_000)
        with socket.socket(family) as probe, contextlib.suppress(OSError):
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind((host, port))
            if port not in _given:
                _given.add(port)
                return port


def wait_until(condition: Callable[[], bool], timeout: float, what: str) -> None:
    """Poll `condition` until it holds; raises TimeoutError naming `what` after `timeout` seconds."""
    deadline = time.monotonic() + timeout
    while not condition():
        if time.monotonic() >= deadline:
            raise TimeoutError(f"{what}: not within {timeout:g} s")
        time.sleep(0.02)


def port_answers(port: int, host: str = LOOPBACK) -> bool:
    """Whether something accepts a TCP connection on `port`."""
    try:
        with socket.create_connection((host, port), timeout=1):
            return True
    except OSError:
        return False


def cache_dir() -> Path:
    """Where downloads and builds are kept between runs, outside the checkout, keyed by version below it."""
    root = os.environ.get("BACKENDHEALTH_CACHE")
    if root:
        return Path(root)
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "backendhealth"


def find_binary(name: str, *, env: str, fallbacks: Sequence[str | Path] = (), remedy: str) -> str:
    """Path of an executable: the variable `env`, then PATH, then `fallbacks`; else ServerFailed naming the remedy."""
    for candidate in (os.environ.get(env), shutil.which(name), *map(str, fallbacks)):
        if candidate and os.access(candidate, os.X_OK):
            return candidate
    raise ServerFailed(f"{name} not found: {remedy}, or name it in {env}")


def _bounded_life() -> None:
    """In the child: die with the test process, even while stopped by SIGSTOP, and never run away."""
    with contextlib.suppress(OSError, AttributeError):  # not Linux: stop() and atexit still end it
        ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    resource.setrlimit(resource.RLIMIT_CPU, (MAX_CPU_SECONDS, MAX_CPU_SECONDS))


class Process:
    """One server process that can be started, stopped, killed, frozen and resumed.

    `ready` is asked until it says True; a process that exits before that raises ServerFailed at once.
    """

    def __init__(
        self,
        name: str,
        argv: Sequence[str],
        *,
        ready: Callable[[], bool],
        env: Mapping[str, str] | None = None,
        cwd: str | Path | None = None,
        user: str | None = None,
        start_timeout: float = 30.0,
        parent: Path | None = None,
    ) -> None:
        self.name = name
        self.argv = list(argv)
        self.ready = ready
        self.env = dict(env) if env is not None else None
        self.cwd = cwd
        self.user = user
        self.start_timeout = start_timeout
        self.directory = Path(tempfile.mkdtemp(prefix=f"bh-{name}-", dir=parent))
        self.log_path = self.directory / "server.log"
        self._popen: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(self, *_: object) -> None:
        self.close()

    @property
    def pid(self) -> int:
        if self._popen is None:
            raise ServerFailed(f"{self.name} was not started")
        return self._popen.pid

    @property
    def running(self) -> bool:
        return self._popen is not None and self._popen.poll() is None

    def log(self, tail: int = 4000) -> str:
        """The last `tail` characters that the server wrote."""
        return self.log_path.read_text(errors="replace")[-tail:] if self.log_path.exists() else ""

    def start(self, *, wait: bool = True) -> Self:
        """Start (again), by default waiting until ready. Raises ServerFailed."""
        with self.log_path.open("ab") as log:
            self._popen = subprocess.Popen(
                self.argv,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                env=self.env,
                cwd=self.cwd or self.directory,
                user=self.user,
                preexec_fn=_bounded_life,  # noqa: PLW1509 - it takes no lock
                start_new_session=True,  # Ctrl-C in a terminal reaches the tests, not their servers
            )
        if wait:
            self.wait_ready()
        return self

    def wait_ready(self) -> None:
        """Wait until `ready` holds; ServerFailed when the process ends first or time runs out."""

        def ready_or_dead() -> bool:
            return not self.running or self.ready()

        try:
            wait_until(ready_or_dead, self.start_timeout, f"{self.name} ready")
        except TimeoutError as error:
            raise ServerFailed(f"{error}\n{self.log()}") from error
        if not self.running:
            raise ServerFailed(f"{self.name} exited while starting:\n{self.log()}")

    def stop(self, timeout: float = 10.0) -> None:
        """Ask it to end (SIGTERM), then make it (SIGKILL) after `timeout` seconds."""
        if self._popen is None or self._popen.poll() is not None:
            return
        self.resume()
        self._popen.terminate()
        try:
            self._popen.wait(timeout)
        except subprocess.TimeoutExpired:
            self.kill()

    def kill(self) -> None:
        """SIGKILL, and wait until it is gone."""
        if self._popen is not None and self._popen.poll() is None:
            self._popen.kill()
            self._popen.wait(10)

    def freeze(self) -> None:
        """SIGSTOP: its sockets stay open, the kernel still accepts, nothing answers."""
        os.kill(self.pid, signal.SIGSTOP)
        wait_until(self._all_threads_stopped, 5, f"{self.name} stopped")

    def _all_threads_stopped(self) -> bool:
        """Whether the signal has reached every thread; until then one may still answer."""
        states = []
        for thread in Path(f"/proc/{self.pid}/task").glob("*/stat"):
            with contextlib.suppress(FileNotFoundError, ProcessLookupError):  # that thread has just ended
                states.append(thread.read_text().rpartition(")")[2].split()[0])
        return all(state in "TtZX" for state in states)

    def resume(self) -> None:
        """SIGCONT."""
        os.kill(self.pid, signal.SIGCONT)

    @contextlib.contextmanager
    def frozen(self) -> Iterator[None]:
        """Frozen inside the with block."""
        self.freeze()
        try:
            yield
        finally:
            self.resume()

    def close(self) -> None:
        """Stop it and delete its directory."""
        self.stop()
        shutil.rmtree(self.directory, ignore_errors=True)
