"""`check --watch`, recordings and replay, on real servers with real faults."""

from __future__ import annotations

import json
import os
import pty
import signal
import subprocess
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.cli.support import command, environment, lines_of, redis_probe, refused_probe, resource, run
from tests.servers.redis import RedisServer


class Watch:
    """A running `check --watch` and what it has printed so far."""

    def __init__(self, *arguments: str | Path) -> None:
        self._process = subprocess.Popen(
            command("check", "--watch", *arguments), stdout=subprocess.PIPE, text=True, env=environment()
        )
        self.text = ""
        self._told = 0
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def _read(self) -> None:
        assert self._process.stdout
        for line in self._process.stdout:
            self.text += line

    def wait_for(self, *words: str, timeout: float = 15) -> str:
        """The first line from now on that has all the words."""
        deadline = time.monotonic() + timeout
        while time.monotonic() < deadline:
            for line in self.text[self._told :].splitlines(keepends=True):
                self._told += len(line)
                if all(word in line for word in words):
                    return line
            time.sleep(0.02)
        raise AssertionError(f"{words} not seen in {self.text!r}")

    def end(self, number: int = signal.SIGINT) -> int:
        self._process.send_signal(number)
        code = self._process.wait(10)
        self._reader.join(10)
        assert self._process.stdout
        self._process.stdout.close()
        return code


@contextmanager
def watching(*arguments: str | Path) -> Iterator[Watch]:
    watch = Watch(*arguments)
    try:
        yield watch
    finally:
        if watch._process.poll() is None:
            watch.end(signal.SIGKILL)


@pytest.fixture
def redis() -> Iterator[RedisServer]:
    with RedisServer() as server:
        yield server


def test_a_line_for_each_change_and_a_clean_end(tmp_path: Path, redis: RedisServer):
    path = tmp_path / "r.yaml"
    path.write_text(resource(redis_probe(redis.port)))
    with watching("-f", path) as watch:
        watch.wait_for("redis", "Unknown -> Healthy", "ProbeSucceeded")
        redis.kill()
        watch.wait_for("redis", "Healthy -> Unhealthy", "ConnectionRefused")
        redis.start()
        watch.wait_for("redis", "Unhealthy -> Healthy", "ProbeSucceeded")
        assert watch.end() == 0
    assert len(lines_of(watch.text)) == 3, watch.text


def test_the_exit_code_is_that_of_the_last_state(tmp_path: Path):
    path = tmp_path / "r.yaml"
    path.write_text(resource(refused_probe()))
    with watching("-f", path) as watch:
        watch.wait_for("Unhealthy")
        assert watch.end(signal.SIGTERM) == 1


def test_watch_ends_by_itself_after_its_span(tmp_path: Path, redis: RedisServer):
    path = tmp_path / "r.yaml"
    path.write_text(resource(redis_probe(redis.port)))
    assert run("check", "--watch", "--for", "1s", "-f", path).returncode == 0


def test_a_terminal_gets_a_live_table(tmp_path: Path, redis: RedisServer):
    path = tmp_path / "r.yaml"
    path.write_text(resource(redis_probe(redis.port)))
    ours, theirs = pty.openpty()
    watch = subprocess.Popen(
        command("check", "--watch", "--for", "2s", "-f", path),
        stdout=theirs,
        env={**environment(), "TERM": "xterm"},
    )
    os.close(theirs)
    shown = b""
    try:
        while chunk := os.read(ours, 65536):
            shown += chunk
    except OSError:  # how Linux tells that the other side of a terminal is closed
        pass
    finally:
        os.close(ours)
    assert watch.wait(20) == 0
    assert b"PROBE" in shown
    assert b"Healthy" in shown
    assert b"\x1b[" in shown


def test_replay_gives_the_same_verdicts_without_a_network(tmp_path: Path, redis: RedisServer):
    path, record = tmp_path / "r.yaml", tmp_path / "record.jsonl"
    path.write_text(resource(redis_probe(redis.port), refused_probe()))
    with watching("-f", path, "--record", record) as watch:
        watch.wait_for("redis", "-> Healthy")
        redis.freeze()
        watch.wait_for("redis", "-> Unhealthy", "Timeout")
        redis.resume()
        watch.wait_for("redis", "-> Healthy")
        assert watch.end() == 1
    redis.kill()
    replayed = run("replay", record, "-f", path, "--changes")
    assert replayed.returncode == 1

    def told(text: str) -> list[str]:
        return [line for line in text.splitlines() if "default/demo" in line]

    assert told(replayed.stdout) == told(watch.text)


def test_a_recording_is_versioned_and_complete(tmp_path: Path, redis: RedisServer):
    path, record = tmp_path / "r.yaml", tmp_path / "record.jsonl"
    path.write_text(resource(redis_probe(redis.port)))
    checked = run("check", "-f", path, "--record", record, "-o", "json")
    header, seen = map(json.loads, record.read_text().splitlines())
    assert (header["version"], header["kind"]) == (1, "Recording")
    assert {"at", "started", "resource", "generation", "probe", "reason", "subjects", "facts", "steps"} <= seen.keys()
    assert seen["subjects"][0]["subject"].startswith("endpoint/127.0.0.1:")
    replayed = json.loads(run("replay", record, "-f", path, "-o", "json").stdout)
    original = json.loads(checked.stdout)
    assert [c["status"] for c in replayed["status"]["conditions"]] == [
        c["status"] for c in original["status"]["conditions"]
    ]


@pytest.mark.parametrize("options", [["--watch", "--for", "20s"], []])
def test_a_disk_that_is_full_ends_it_with_the_cause(tmp_path: Path, options: list[str]):
    path = tmp_path / "r.yaml"
    path.write_text(resource(refused_probe()))
    done = run("check", "-f", path, "--record", "/dev/full", *options)
    assert done.returncode == 2
    assert done.stderr == "error: --record /dev/full: No space left on device\n"


def test_a_file_that_is_there_is_not_overwritten(tmp_path: Path):
    path = tmp_path / "r.yaml"
    path.write_text(resource(refused_probe()))
    done = run("check", "-f", path, "--record", path)
    assert done.returncode == 2
    assert "File exists" in done.stderr
    assert "BackendHealth" in path.read_text()


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("", "not a recording"),
        ("{}\n", "not a recording"),
        ("[]\n", "not a JSON object"),
        ("nonsense\n", "not JSON"),
        ('{"version":9,"kind":"Recording"}\n', "version 9"),
        ('{"version":1,"kind":"Recording"}\n{"kind":"Observation"}\n', ":2: not an observation"),
        ('{"version":1,"kind":"Recording"}\n', "no observation"),
    ],
)
def test_a_recording_that_cannot_be_read_exits_2(tmp_path: Path, text: str, told: str):
    path, record = tmp_path / "r.yaml", tmp_path / "record.jsonl"
    path.write_text(resource(refused_probe()))
    record.write_text(text)
    done = run("replay", record, "-f", path)
    assert done.returncode == 2
    assert told in done.stderr
    assert "Traceback" not in done.stderr


def test_an_observation_of_a_probe_that_is_not_declared_is_told(tmp_path: Path):
    path, record = tmp_path / "r.yaml", tmp_path / "record.jsonl"
    path.write_text(resource(refused_probe("one"), refused_probe("two")))
    assert run("check", "-f", path, "--record", record).returncode == 1
    path.write_text(resource(refused_probe("one")))
    done = run("replay", record, "-f", path)
    assert "1 observations of probes that the files do not declare" in done.stderr
    assert done.returncode == 1
