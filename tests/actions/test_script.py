"""Who sends the signal within a pod: the script, in each shell that images have, and the helper's program.

They are tried on real processes in a PID namespace of their own, and must all say the same.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
import uuid
from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import pytest

from backendhealth.actions import sender
from backendhealth.actions.said import Said
from backendhealth.actions.script import command, said
from tests.servers.process import find_binary, wait_until

_ROOT = Path(__file__).parents[2]
_IN_EVERY_NAMESPACE = "proc"  # in place of a pod's UID: stands in each mountinfo
# Handlers for all that there are, the last one too: the mask is as large as it can be.
_SERVICE = """
import os, signal, sys
open("/proc/self/comm", "w").write(sys.argv[1])
def heard(number, _frame):
    with open(sys.argv[2], "a") as log:
        log.write(f"{os.getpid()} {number}\\n")
for number in set(range(1, 65)) - {9, 19, 32, 33} if sys.argv[3] == "hears" else ():
    signal.signal(number, heard)
for _ in range(int(sys.argv[4])):
    if os.fork() == 0:
        break
open(sys.argv[2], "a").write("ready\\n")
while True:
    signal.pause()
"""


_NAMESPACE = ("unshare", "--pid", "--fork", "--kill-child", "--mount-proc")


@dataclass(frozen=True)
class Service:
    """Processes in a namespace of their own. `log` has a line for each signal."""

    pid: int
    log: Path
    started: float

    def wish(self) -> sender.Wish:
        return sender.Wish("USR1", "", _IN_EVERY_NAMESPACE, self.started, time.time() + 10)

    def heard(self) -> list[str]:
        return sorted(line for line in self.log.read_text().splitlines() if line != "ready")


@pytest.fixture(scope="module")
def services(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, Service]]:
    if os.geteuid() != 0:
        pytest.skip("a PID namespace needs root")
    folder = tmp_path_factory.mktemp("services")
    running: list[subprocess.Popen[bytes]] = []
    found: dict[str, Service] = {}
    python = sys.executable
    kinds = {
        "core": ("python", "core", "hears", 0),
        "workers": ("python", "core", "hears", 2),
        "deaf": ("python", "core", "is deaf", 0),
        "puma": ("python", "puma", "hears", 0),
        "titled": ("puma: cluster worker 0", "core", "hears", 0),
    }
    try:
        for kind, (title, name, hears, workers) in kinds.items():
            log = folder / kind
            serve = ["bash", "-c", 'exec -a "$0" "$@"', title, python, "-c", _SERVICE, name, str(log)]
            started = time.time()
            process = subprocess.Popen([*_NAMESPACE, *serve, hears, str(workers)])
            running.append(process)
            wait_until(partial(is_ready, log, workers + 1), 20, kind)
            children = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()
            found[kind] = Service(int(children[0]), log, started)
        wait_until(lambda: time.time() - started > sender.YOUNGEST + 1, 10, "they have run for long enough")
        yield found
    finally:
        for process in running:
            process.kill()
            process.wait()


def send(by: str, service: Service, wish: sender.Wish) -> Said:
    enter = ["nsenter", "--target", str(service.pid), "--pid", "--mount", "--"]
    if by == "sender":
        named = {"signal": wish.signal, "process": wish.process, "pod-uid": wish.pod_uid}
        named |= {"started": str(wish.started), "not-after": str(wish.not_after)}
        argv = [sys.executable, "-m", "backendhealth.actions.sender", *(f"--{key}={named[key]}" for key in named)]
        told = json.loads(run([*enter, *argv, *(["--inspect"] if wish.inspect else [])]))
        return Said(tuple(told["sent"]), tuple(told["not_sent"]), told["because"])
    _, *rest = command(wish, signal.Signals[f"SIG{wish.signal}"])
    shell = find_binary(by, env=by.upper(), remedy=f"apt-get install {by}")
    return said(run([*enter, *([shell, "sh"] if by == "busybox" else [shell]), *rest]))


def is_ready(log: Path, count: int) -> bool:
    return log.exists() and log.read_text().count("ready") == count


def has_heard(service: Service, all_of_it: list[str]) -> bool:
    return service.heard() == all_of_it


def run(argv: list[str]) -> str:
    env = {**os.environ, "PYTHONPATH": str(_ROOT / "operator")}
    return subprocess.run(argv, capture_output=True, text=True, timeout=20, check=False, env=env).stdout


@pytest.mark.parametrize("by", ["dash", "bash", "busybox", "sender"])
def test_all_look_at_the_same_things(services: dict[str, Service], by: str):
    core, workers = services["core"], services["workers"]
    wish = core.wish()
    refusals = {
        "there is no process nope": (core, replace(wish, process="nope")),
        "not the pod that was meant": (core, replace(wish, pod_uid=str(uuid.uuid4()))),
        "it is too late, by": (core, replace(wish, not_after=time.time() - 5)),
        "has been restarted": (core, replace(wish, started=wish.started - 60)),
        "has been restarted:": (core, replace(wish, started=wish.started + sender.EARLIER + 60)),
        "has no handler for SIGUSR1": (services["deaf"], services["deaf"].wish()),
        "process 1 is puma, to which SIGUSR1": (services["puma"], services["puma"].wish()),
        "process 1 is puma, to which SIGUSR1 ": (services["titled"], services["titled"].wish()),
    }
    before = {kind: service.heard() for kind, service in services.items()}
    for why, (service, wanted) in refusals.items():
        told = send(by, service, wanted)
        assert why in told.refused, (why, told)
        assert not told.sent
    assert {kind: service.heard() for kind, service in services.items()} == before
    assert send(by, core, wish).sent == (1,)
    assert send(by, services["puma"], replace(services["puma"].wish(), signal="HUP")).sent == (1,)
    named = send(by, workers, replace(workers.wish(), process="core")).sent
    assert len(named) == 3
    number = signal.SIGUSR1.value
    for service, heard in ((core, [f"1 {number}"]), (workers, sorted(f"{pid} {number}" for pid in named))):
        kind = next(kind for kind, one in services.items() if one is service)
        wait_until(partial(has_heard, service, sorted(before[kind] + heard)), 5, "heard")


def test_the_helper_looks_without_sending_and_knows_when_it_is_alone(services: dict[str, Service]):
    before = services["core"].heard()
    assert send("sender", services["core"], replace(services["core"].wish(), inspect=True)).missed == (1,)
    assert services["core"].heard() == before
    wish = services["core"].wish()
    named = [f"--pod-uid={wish.pod_uid}", f"--started={wish.started}", f"--not-after={wish.not_after}", "--signal=USR1"]
    alone = [*_NAMESPACE, sys.executable, "-m", "backendhealth.actions.sender", *named]
    assert "does not share the target's processes" in json.loads(run(alone))["because"]


@pytest.mark.parametrize("by", ["dash", "bash", "busybox", "sender"])
def test_one_that_has_just_started_is_left_alone(tmp_path: Path, by: str):
    if os.geteuid() != 0:
        pytest.skip("a PID namespace needs root")
    log = tmp_path / "log"
    started = time.time()
    process = subprocess.Popen([*_NAMESPACE, sys.executable, "-c", _SERVICE, "core", str(log), "hears", "0"])
    try:
        wait_until(log.exists, 10, "it runs")
        pid = int(Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text())
        service = Service(pid, log, started)
        assert "only just started" in send(by, service, service.wish()).refused
    finally:
        process.kill()
        process.wait()
