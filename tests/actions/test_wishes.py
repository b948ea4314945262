"""Many who want the same pod's verbose logs, on the real cluster: turned on once, turned off once, and it is said."""

from __future__ import annotations

import datetime as dt
import queue
import signal
import subprocess
import threading
import time
from collections import Counter
from collections.abc import Iterator

import pytest

from tests.actions.place import Person, Place, ended, phase_of, placed
from tests.actions.services import pod, service
from tests.actions.stage import debug_logs
from tests.cluster import images
from tests.cluster.cluster import Cluster
from tests.kube.test_remediation import stays
from tests.servers.process import wait_until

PODS = ("wished", "early", "restarting", "streamed")
ON, OFF = Counter(main=1), Counter(main=2)


@pytest.fixture(scope="module")
def place(own_cluster: Cluster, product_image: str) -> Iterator[Place]:
    pods = [pod(name, service(images.BUSYBOX)) for name in PODS]
    with placed(own_cluster, product_image, *pods) as place, place.operator():
        yield place


@pytest.fixture
def people(place: Place) -> Iterator[tuple[Person, Person]]:
    """Two, and a policy under which they may act."""
    place.allow("by-hand", debug_logs("nothing"), limits={"max": 20, "maxConcurrent": 10})
    yield Person(place, "ada"), Person(place, "grace")
    place.clear()


def due(place: Place) -> float:
    """When the only revert is to be done, in seconds since the epoch."""
    (revert,) = place.reverts()
    return dt.datetime.fromisoformat(revert["spec"]["revert"]["notBefore"]).timestamp()


def test_two_policies_and_two_people_toggle_once(place: Place, people: tuple[Person, Person]):
    since = place.mark()
    wish = debug_logs("wished", revertAfter="20s", confirmWithin="5s")
    asked = [one.begin("debug-logs", "on", "wished", "--for", "20s", "--policy", "by-hand") for one in people]
    for name in ("one", "two"):
        place.allow(name, wish)
    place.declare()
    told = [ended(one) for one in asked]
    place.until_final(4)
    assert place.counted("wished") == ON
    (revert,) = place.reverts()
    first = revert["spec"]["revert"]["remediation"]
    until = revert["spec"]["revert"]["notBefore"]
    by_name = {one["metadata"]["name"]: one for one in place.done()}
    winner = by_name.pop(first)
    assert {phase_of(winner)} | {phase_of(one) for one in by_name.values()} == {"Succeeded"}
    assert "effectAt" in winner["status"]
    said = f"not needed: verbose until {until}, by {first}"
    assert [one["status"]["message"] for one in by_name.values()] == [said] * 3
    assert sum(said in one for one in told) == sum("requestedBy" in one["spec"] for one in by_name.values())
    asking = {one["spec"].get("requestedBy") for one in (winner, *by_name.values())}
    assert asking == {None, *(one.user for one in people)}
    place.until_reverted()
    assert stays(lambda: place.counted("wished") == OFF, 2)
    assert place.effects(since) == ["exec wished"] * 2


def test_off_early_is_off_once(place: Place, people: tuple[Person, Person]):
    since = place.mark()
    ada, grace = people
    ada.does("debug-logs", "on", "pod/early", "--for", "15s")
    assert place.counted("early") == ON
    grace.does("debug-logs", "off", "early")
    assert time.time() < due(place)
    assert place.counted("early") == OFF
    place.until_reverted()
    wish = next(one for one in place.all() if one["spec"].get("requestedBy") == grace.user)
    (revert,) = place.reverts()
    assert wish["spec"]["revert"]["remediation"] == revert["metadata"]["name"]
    assert phase_of(wish) == "Succeeded"
    wait_until(lambda: time.time() > due(place) + 2, 30, "its time has come")
    assert place.counted("early") == OFF
    assert place.effects(since) == ["exec early"] * 2
    assert "no verbose logs of early are on" in ended(grace.begin("debug-logs", "off", "early"), 2)


def test_a_restart_takes_them_back(place: Place, people: tuple[Person, Person]):
    since = place.mark()
    people[0].does("debug-logs", "on", "restarting", "--for", "12s")
    assert place.counted("restarting") == ON
    place.end_process_1("restarting")
    wait_until(lambda: not place.counted("restarting") and bool(place.ready("restarting")), 30, "it runs again")
    place.until_reverted()
    assert "not needed" in place.reverts()[0]["status"]["message"]
    assert "was restarted" in place.reverts()[0]["status"]["message"]
    assert not place.counted("restarting")
    assert place.effects(since) == ["exec restarting"]


def test_logs_are_streamed_meanwhile(place: Place, people: tuple[Person, Person]):
    """By the command that a person types, until Ctrl-C."""
    command = people[0].begin("logs", "streamed", "--debug", "--for", "12s")
    lines: queue.Queue[str] = queue.Queue()
    reader = threading.Thread(target=_read, args=(command, lines), daemon=True)
    reader.start()
    try:
        until_line(lines, "[pod/streamed/main] main signal 1: default log level changed to Trace")
        place.until_reverted()
        until_line(lines, "[pod/streamed/main] main signal 2: default log level changed to Info")
    finally:
        command.send_signal(signal.SIGINT)
        command.wait(10)
        reader.join(10)
    assert not reader.is_alive(), "nobody is left who writes into it"
    assert command.stdout is not None
    command.stdout.close()


def _read(command: subprocess.Popen[str], lines: queue.Queue[str]) -> None:
    assert command.stdout is not None
    for line in command.stdout:
        lines.put(line.rstrip("\n"))


def until_line(lines: queue.Queue[str], wanted: str, timeout: float = 40) -> None:
    seen, ends = [""], time.monotonic() + timeout
    while seen[-1] != wanted:
        try:
            seen.append(lines.get(timeout=max(0.0, ends - time.monotonic())))
        except queue.Empty:
            raise AssertionError(f"{wanted!r} is not among {seen}") from None
