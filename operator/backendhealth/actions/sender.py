"""Sends one signal to processes of the container that this one was added to: what runs in the ephemeral container.

`python -m backendhealth.actions.sender --signal USR1 --pod-uid UID --started EPOCH --not-after EPOCH`. It says as one
line of JSON what it did, at the end of its log and as its termination message. It does nothing when it comes too late,
when the container is not the one that was meant, or when one of the processes must not be sent the signal. Standard
library only, and nothing of the rest of the program: it is to start fast.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import signal
import time
from dataclasses import asdict, dataclass, field
from pathlib import Path

FORBIDDEN = (
    *("puma", "ruby", "bundle", "rails", "rackup", "unicorn", "passenger"),
    *("nginx", "openresty", "apache2", "httpd", "haproxy", "php-fpm", "uwsgi", "gunicorn"),
)
"""Names of programs for which SIGUSR1 and SIGUSR2 mean a restart, an upgrade or the like."""
MEANING_VARIES = ("USR1", "USR2")
"""Signals that are not sent to those."""
LATER, EARLIER = 2, 120
"""Seconds by which process 1 may have begun after or before what the cluster calls the container's start.

It begins before, by how long the runtime takes; and the cluster's time is in whole seconds. A successor can only begin
after.
"""
YOUNGEST = 5
"""Seconds that process 1 must have run: the cluster learns of a container's end with some delay."""
TICKS = 100
"""Of /proc/PID/stat, in a second; the same on all machines that Kubernetes runs on."""
MESSAGE = Path("/dev/termination-log")
_PROC = Path("/proc")
_LOW_SIGNALS = 32  # those of them that the last 8 digits of a mask tell of
_TITLE_END = (" ", ":", "\0")


class No(Exception):  # noqa: N818 - what is said, no error
    """Why nothing is sent."""


@dataclass(frozen=True, slots=True)
class Wish:
    """What is to be sent to what, and until when. Times are in seconds since the epoch."""

    signal: str
    process: str
    """Name; empty: process 1."""
    pod_uid: str
    started: float
    not_after: float
    inspect: bool = False


@dataclass(slots=True)
class Told:
    """What came of it."""

    result: str = "refused"
    because: str = ""
    sent: list[int] = field(default_factory=list)
    not_sent: list[int] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class _Process:
    """One process; `begun` in ticks since the machine's start."""

    pid: int
    state: str
    begun: int

    @classmethod
    def of(cls, pid: int) -> _Process | None:
        """As it is now; None when there is none."""
        try:
            fields = (_PROC / str(pid) / "stat").read_text(errors="replace").rpartition(") ")[2].split()
        except OSError:
            return None
        return cls(pid, fields[0], int(fields[19]))

    def read(self, name: str) -> str:
        """A file of /proc/PID; empty when the process has ended."""
        try:
            return (_PROC / str(self.pid) / name).read_text(errors="replace")
        except OSError:
            return ""

    @property
    def name(self) -> str:
        """As /proc/PID/comm has it."""
        return self.read("comm").rstrip("\n")

    def handles(self, number: int) -> bool:
        """Whether it has a handler for the signal."""
        for line in self.read("status").splitlines():
            key, _, value = line.partition(":")
            if key == "SigCgt" and 0 < number < _LOW_SIGNALS:
                return bool(int(value, 16) >> (number - 1) & 1)
        return False


def run(wish: Wish) -> Told:
    """Look, and send it at most once to each process."""
    told = Told()
    try:
        meant = _meant(wish)
    except No as why:
        told.because = str(why)
        return told
    if wish.inspect:
        told.result, told.not_sent = "inspected", [one.pid for one in meant]
        return told
    for one in meant:
        (told.sent if _send(one, wish) else told.not_sent).append(one.pid)
    if told.sent:
        told.result = "sent"
    else:
        told.because = "none of the processes is there any more, or they belong to another user"
    return told


def _meant(wish: Wish) -> list[_Process]:
    """The processes, all of them fit for the signal. Raises No."""
    _check_time(wish)
    if os.getpid() == 1:
        raise No("this container does not share the target's processes: the runtime knows no targetContainerName")
    if wish.pod_uid not in (_PROC / "self" / "mountinfo").read_text(errors="replace"):
        raise No("this is not the pod that was meant")
    _check_container(wish)
    if wish.process:
        found = [one for one in _all() if one.name == wish.process and one.pid != os.getpid()]
    else:
        found = [one for one in (_Process.of(1),) if one]
    if not found:
        raise No(f"there is no process {wish.process or '1'}")
    for one in found:
        _check_process(one, wish.signal)
    return found


def _all() -> list[_Process]:
    pids = sorted(int(entry.name) for entry in _PROC.iterdir() if entry.name.isdecimal())
    return [one for one in map(_Process.of, pids) if one]


def _check_time(wish: Wish) -> None:
    if (late := time.time() - wish.not_after) > 0:
        raise No(f"it is too late, by {late:.0f} s of the node's clock")


def _check_container(wish: Wish) -> None:
    first = _Process.of(1)
    if first is None:
        raise No("there is no process 1")
    age = time.clock_gettime(time.CLOCK_BOOTTIME) - first.begun / TICKS
    begun = time.time() - age
    if not wish.started - EARLIER <= begun <= wish.started + LATER:
        raise No("the container has been restarted: its process 1 did not begin when the container did")
    if age < YOUNGEST:
        raise No(f"the container has only just started: it must have run for {YOUNGEST} s")


def _check_process(one: _Process, name: str) -> None:
    if one.state in ("Z", "X"):
        raise No(f"process {one.pid} has ended")
    title = one.read("cmdline")
    if name in MEANING_VARIES:
        for program in FORBIDDEN:
            if one.name == program or title.startswith(tuple(program + end for end in _TITLE_END)):
                raise No(f"process {one.pid} is {program}, to which SIG{name} means something else")
    if not one.handles(signal.Signals[f"SIG{name}"]):
        raise No(f"process {one.pid} ({one.name}) has no handler for SIG{name}")


def _send(one: _Process, wish: Wish) -> bool:
    """Whether it was sent: not to another process that has got its number meanwhile, and not too late."""
    now = _Process.of(one.pid)
    if now is None or now.begun != one.begun or time.time() > wish.not_after:
        return False
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.kill(one.pid, signal.Signals[f"SIG{wish.signal}"])
        return True
    return False


def main() -> None:
    """See the module."""
    parser = argparse.ArgumentParser(prog="sender", description="Send a signal to processes of the target container.")
    parser.add_argument("--signal", required=True, help="e.g. USR1")
    parser.add_argument("--process", default="", help="name of the processes; default: process 1")
    parser.add_argument("--pod-uid", required=True)
    parser.add_argument("--started", required=True, type=float, help="when the container started: epoch seconds")
    parser.add_argument("--not-after", required=True, type=float, help="do nothing after this: epoch seconds")
    parser.add_argument("--claim", default="", help="any word: makes this call different from every other one")
    parser.add_argument("--inspect", action="store_true", help="only look")
    given = vars(parser.parse_args())
    given.pop("claim")
    line = json.dumps(asdict(run(Wish(**given))))
    print(line, flush=True)  # noqa: T201 - the log of the container
    with contextlib.suppress(OSError):
        MESSAGE.write_text(line, encoding="utf-8")


if __name__ == "__main__":
    main()
