"""Cgroups of the cluster's own (version 1), so that nothing it starts is mixed up with the machine's."""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from tests.servers.process import wait_until

NEEDED = frozenset({"cpu", "cpuacct", "cpuset", "memory", "devices", "freezer", "blkio", "pids", "name=systemd"})
_PREFIX = "bh-cluster-"


@dataclass(frozen=True, slots=True)
class Hierarchy:
    """One mounted hierarchy with its controllers, and where this process is in it."""

    controllers: str
    own: Path


def hierarchies() -> list[Hierarchy]:
    """The hierarchies that a kubelet needs, as far as they are mounted."""
    mounted = _mounts()
    found = []
    for line in Path("/proc/self/cgroup").read_text().splitlines():
        _, controllers, path = line.split(":", 2)
        if controllers in mounted:
            found.append(Hierarchy(controllers, mounted[controllers] / path.lstrip("/")))
    return found


def missing() -> str:
    """Which hierarchies this machine lacks, in one line; empty when none."""
    absent = NEEDED - {name for hierarchy in hierarchies() for name in hierarchy.controllers.split(",")}
    if not absent:
        return ""
    return (
        f"the cluster's node needs cgroup v1 with the controllers {', '.join(sorted(absent))}; "
        "with cgroup v2 use kind and BACKENDHEALTH_E2E_KUBECONFIG"
    )


def _mounts() -> dict[str, Path]:
    """Mount point by controllers, such as `cpu,cpuacct`."""
    found = {}
    for line in Path("/proc/self/mountinfo").read_text().splitlines():
        before, _, after = line.partition(" - ")
        kind, _, options = after.split(" ", 2)
        if kind == "cgroup":
            known = ",".join(option for option in options.split(",") if option in NEEDED)
            found[known] = Path(before.split(" ")[4])
    return found


class Cgroups:
    """One new cgroup in each hierarchy, below our own."""

    def __init__(self) -> None:
        name = f"{_PREFIX}{os.getpid()}"
        self.members = [Hierarchy(found.controllers, found.own / name) for found in hierarchies()]

    def create(self) -> None:
        """Make them, and remove those of clusters that were killed. Raises OSError where that is not allowed."""
        self._sweep()
        for member in self.members:
            member.own.mkdir(exist_ok=True)
            for setting in ("cpuset.cpus", "cpuset.mems"):  # empty in a new one, which then takes no process
                path = member.own / setting
                if path.exists() and not path.read_text().strip():
                    path.write_text((member.own.parent / setting).read_text())

    def _sweep(self) -> None:
        for member in self.members:
            _remove_trees([path for path in member.own.parent.glob(f"{_PREFIX}*") if not _alive(path)])

    def join(self) -> None:
        """Move the calling process into them."""
        for member in self.members:
            (member.own / "cgroup.procs").write_text("0")

    def processes(self) -> set[int]:
        """Pids of all processes in them and below."""
        found: set[int] = set()
        for member in self.members:
            for procs in member.own.glob("**/cgroup.procs"):
                with contextlib.suppress(OSError):  # that cgroup has just ended
                    found.update(int(pid) for pid in procs.read_text().split())
        return found

    def processes_of(self, container: str) -> list[int]:
        """Pids of a container's processes, the oldest first."""
        while True:
            with contextlib.suppress(FileNotFoundError):  # a cgroup has ended meanwhile, this one or another
                procs = [path for member in self.members for path in member.own.glob(f"**/{container}/cgroup.procs")]
                pids = {int(pid) for path in procs[:1] for pid in path.read_text().split()}
                return sorted(pids, key=_start_time)

    def remove(self, timeout: float = 10.0) -> None:
        """Delete them and all below, once the last process is gone. Raises TimeoutError."""
        wait_until(lambda: not self.processes(), timeout, "the last process of the cluster gone")
        deadline = time.monotonic() + timeout
        while left := [member.own for member in self.members if member.own.exists()]:
            _remove_trees(left)
            if time.monotonic() > deadline:
                raise TimeoutError(f"cgroups are still in use: {', '.join(map(str, left))}")
        self._sweep()

    def memory(self) -> dict[int, int]:
        """Resident bytes by pid, of the processes in them."""
        page = os.sysconf("SC_PAGE_SIZE")
        sizes = {}
        for pid in self.processes():
            with contextlib.suppress(OSError):
                sizes[pid] = int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * page
        return sizes


def _alive(path: Path) -> bool:
    """Whether the process is there that made this cgroup."""
    return Path("/proc", path.name.removeprefix(_PREFIX)).exists()


def _start_time(pid: int) -> int:
    """In ticks since the machine started."""
    return int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[19])


def _remove_trees(roots: Sequence[Path]) -> None:
    for root in roots:
        for directory in sorted((path for path in root.glob("**/") if path.is_dir()), reverse=True):
            with contextlib.suppress(OSError):  # busy for a moment longer
                directory.rmdir()
        with contextlib.suppress(OSError):
            root.rmdir()
