"""The namespaces (mount, network, pid, cgroup, uts) in which a cluster lives, and the programs in them.

Killing their PID 1 ends all: nothing can escape, whatever it forks. That PID 1 dies with the process that made it.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Self

from tests.cluster.apiserver import SERVICE_NETWORK
from tests.cluster.cgroups import Cgroups
from tests.servers.process import ServerFailed, wait_until

NAME = "node"
ADDRESS = "10.77.0.1"
_ROOT = Path(__file__).parents[2]
_PR_SET_PDEATHSIG = 1
_ALL = ("--mount", "--net", "--pid", "--cgroup", "--uts")


class Node:
    """Namespaces and cgroups; files of its own in `directory`, which must not be below /run."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.cgroups = Cgroups()
        self._holder: subprocess.Popen[bytes] | None = None
        self.init_pid = 0
        """Of PID 1, as the host sees it."""

    def start(self) -> Self:
        """Make the namespaces. Raises ServerFailed with the reason."""
        self.cgroups.create()
        controllers = [member.controllers for member in self.cgroups.members]
        log = self.directory / "init.log"
        with log.open("wb") as output:
            self._holder = subprocess.Popen(
                [
                    *("unshare", *_ALL, "--fork", "--kill-child", "--mount-proc"),
                    *(sys.executable, "-m", "tests.cluster.init"),
                    *(str(self.directory), ADDRESS, NAME, SERVICE_NETWORK, *controllers),
                ],
                cwd=_ROOT,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                start_new_session=True,
                preexec_fn=self._bound,  # noqa: PLW1509 - it takes no lock
            )
        holder = self._holder
        ready = self.directory / "ready"
        wait_until(lambda: ready.exists() or holder.poll() is not None, 20, "the node's namespaces")
        if not ready.exists():
            raise ServerFailed(f"no namespaces for the node:\n{log.read_text()[-2000:]}")
        self.init_pid = _only_child(holder.pid)
        return self

    def _bound(self) -> None:
        ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
        self.cgroups.join()

    def enter(self, *namespaces: str) -> list[str]:
        """The beginning of a command line that runs inside; by default in all the namespaces."""
        return ["nsenter", f"--target={self.init_pid}", *(namespaces or _ALL), "--"]

    def run(self, *argv: str, stdin: Path | None = None, timeout: float = 60.0) -> str:
        """What a command printed inside. Raises ServerFailed."""
        with (stdin or Path(os.devnull)).open("rb") as source:
            done = subprocess.run(
                [*self.enter(), *argv],
                stdin=source,
                capture_output=True,
                timeout=timeout,
                preexec_fn=self.cgroups.join,
                check=False,
            )
        if done.returncode != 0:
            told = (done.stdout + done.stderr).decode(errors="replace")
            raise ServerFailed(f"{' '.join(argv)}: {told.strip()[-2000:]}")
        return done.stdout.decode()

    def kill(self) -> None:
        """Kill everything inside."""
        if self._holder is not None:
            with contextlib.suppress(ProcessLookupError):
                os.kill(self.init_pid or self._holder.pid, signal.SIGKILL)
            self._holder.wait(20)
            self._holder = None

    def clean_up(self) -> None:
        """Once all is dead: remove what the machine would keep."""
        self.cgroups.remove()


class Program:
    """One program of the node, started inside it; it can be killed, frozen and started again."""

    def __init__(
        self,
        node: Node,
        name: str,
        argv: Sequence[str],
        *,
        namespaces: Sequence[str] = _ALL,
        cwd: Path | None = None,
    ) -> None:
        self.name = name
        self._node = node
        self._argv = list(argv)
        self._namespaces = namespaces
        self._cwd = cwd
        self._log = node.directory / "log" / f"{name}.log"
        self._entered: subprocess.Popen[bytes] | None = None
        self.pid = 0
        """As the host sees it."""

    @property
    def running(self) -> bool:
        """Whether it was started and has not ended."""
        return self._entered is not None and self._entered.poll() is None

    def log(self, tail: int = 4000) -> str:
        """The last `tail` characters that it wrote."""
        return self._log.read_text(errors="replace")[-tail:] if self._log.exists() else ""

    def start(self, *, pass_fds: Sequence[int] = ()) -> Self:
        """Start it (again); does not wait until it is ready."""
        self._log.parent.mkdir(exist_ok=True)
        with self._log.open("ab") as log:
            entered = subprocess.Popen(
                [*self._node.enter(*self._namespaces), *self._argv],
                cwd=self._cwd,
                pass_fds=pass_fds,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
                preexec_fn=self._node.cgroups.join,  # noqa: PLW1509 - it takes no lock
            )
        self._entered = entered
        # nsenter forks into the pid namespace and waits there: the program is its child
        wait_until(lambda: not self.running or _children(entered.pid) != [], 10, f"{self.name} started")
        if self.running:
            self.pid = _only_child(entered.pid)
        return self

    def wait_ready(self, ready: Callable[[], bool], timeout: float) -> None:
        """Wait until `ready` holds. Raises ServerFailed with its log when it ends first or time runs out."""
        try:
            wait_until(lambda: not self.running or ready(), timeout, f"{self.name} ready")
        except TimeoutError as error:
            raise ServerFailed(f"{error}\n{self.log()}") from error
        if not self.running:
            raise ServerFailed(f"{self.name} ended while starting:\n{self.log()}")

    def signal(self, number: signal.Signals) -> None:
        """Send it a signal."""
        os.kill(self.pid, number)

    def kill(self) -> None:
        """SIGKILL, and wait until it is gone."""
        if self._entered is not None and self.running:
            self.resume()
            self.signal(signal.SIGKILL)
            self._entered.wait(10)

    def freeze(self) -> None:
        """SIGSTOP: its sockets stay open, nothing answers. nsenter stops itself with it."""
        self.signal(signal.SIGSTOP)

    def resume(self) -> None:
        """SIGCONT."""
        if self._entered is not None:
            self.signal(signal.SIGCONT)
            os.kill(self._entered.pid, signal.SIGCONT)

    def reap(self) -> None:
        """After the node's end: nsenter ends with the program."""
        if self._entered is not None:
            with contextlib.suppress(ProcessLookupError):
                os.kill(self._entered.pid, signal.SIGCONT)  # it stopped itself with a frozen program
            self._entered.wait(10)


def _children(pid: int) -> list[int]:
    try:
        return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
    except FileNotFoundError:
        return []


def _only_child(pid: int) -> int:
    (child,) = _children(pid)
    return child
