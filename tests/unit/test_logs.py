"""Log lines: JSON or text, one for each change of a resource, libraries quiet."""

from __future__ import annotations

import datetime as dt
import json
import logging
from collections.abc import Iterator
from typing import Any, Literal

import kopf
import pytest

from backendhealth.core.spec.status import BackendHealthStatus, Summary
from backendhealth.kube.logs import MAX_LINE, configure, log_change

log = logging.getLogger("backendhealth.kube.something")
FORMATS: tuple[Literal["text"], Literal["json"]] = ("text", "json")


@pytest.fixture(autouse=True)
def logging_as_before() -> Iterator[None]:
    """What `configure` changes is put back."""
    root, ours, loop = logging.getLogger(), logging.getLogger("backendhealth"), logging.getLogger("asyncio")
    before = root.handlers[:], root.level, ours.level, loop.propagate, loop.handlers[:]
    yield
    root.handlers[:], root.level, ours.level, loop.propagate, loop.handlers[:] = before


def status(state: str, root_cause: str = "", reason: str = "", message: str = "") -> BackendHealthStatus:
    return BackendHealthStatus(
        observed_generation=1, summary=Summary(state=state, root_cause=root_cause, reason=reason, message=message)
    )


def lines(capsys: pytest.CaptureFixture[str]) -> list[str]:
    output = capsys.readouterr()
    assert output.out == ""
    return output.err.splitlines()


def objects(capsys: pytest.CaptureFixture[str]) -> list[dict[str, Any]]:
    return [json.loads(line) for line in lines(capsys)]


HEALTHY = status("Healthy", message="all 3 components are healthy")
DOWN = status("Unhealthy", "etcd", "QuorumLost", "etcd: no leader")


def test_a_change_as_text(capsys: pytest.CaptureFixture[str]):
    configure("text", "info")
    log_change("placeos/placeos", HEALTHY.summary, DOWN)
    log_change("placeos/placeos", DOWN.summary, HEALTHY)
    down, up = lines(capsys)
    time, level, message = down.split(maxsplit=2)
    assert dt.datetime.fromisoformat(time).utcoffset() == dt.timedelta(0)
    assert level == "WARNING"
    assert message == "placeos/placeos: Unhealthy etcd QuorumLost (was Healthy): etcd: no leader"
    assert up.split(maxsplit=2)[1:] == [
        "INFO",
        "placeos/placeos: Healthy (was Unhealthy): all 3 components are healthy",
    ]


def test_a_change_as_json(capsys: pytest.CaptureFixture[str]):
    configure("json", "info")
    log_change("placeos/placeos", HEALTHY.summary, DOWN)
    (told,) = objects(capsys)
    assert dt.datetime.fromisoformat(told.pop("time")).utcoffset() == dt.timedelta(0)
    assert told == {
        "level": "warning",
        "logger": "backendhealth.kube.logs",
        "message": "placeos/placeos: Unhealthy etcd QuorumLost (was Healthy): etcd: no leader",
        "resource": "placeos/placeos",
        "state": "Unhealthy",
        "rootCause": "etcd",
        "reason": "QuorumLost",
    }


@pytest.mark.parametrize(
    ("old", "new", "count"),
    [
        (None, HEALTHY, 1),
        (HEALTHY, HEALTHY, 0),
        (DOWN, status("Unhealthy", "etcd", "QuorumLost", "other words"), 0),
        (DOWN, status("Unhealthy", "etcd", "Timeout"), 1),
        (DOWN, status("Unhealthy", "etcd, redis", "QuorumLost"), 1),
        (DOWN, BackendHealthStatus(observed_generation=1), 0),
    ],
)
def test_one_line_for_each_change_and_none_for_other_words(
    old: BackendHealthStatus | None, new: BackendHealthStatus, count: int, capsys: pytest.CaptureFixture[str]
):
    configure("text", "info")
    log_change("a/b", old.summary if old else None, new)
    assert len(lines(capsys)) == count


@pytest.mark.parametrize(
    ("new", "level"),
    [
        (HEALTHY, "info"),
        (status("Degraded"), "info"),
        (status("Suspended", reason="Suspended"), "info"),
        (status("Unknown", reason="Pending"), "info"),
        (status("Unknown", reason="Blind"), "warning"),
        (status("Stalled", reason="InvalidSpec"), "warning"),
        (DOWN, "warning"),
    ],
)
def test_how_grave_a_change_is(new: BackendHealthStatus, level: str, capsys: pytest.CaptureFixture[str]):
    configure("json", "info")
    log_change("a/b", None, new)
    assert [told["level"] for told in objects(capsys)] == [level]


@pytest.mark.parametrize("log_format", FORMATS)
def test_what_a_message_holds_stays_on_one_line(
    log_format: Literal["text", "json"], capsys: pytest.CaptureFixture[str]
):
    configure(log_format, "info")
    log.info("one\ntwo\r\x1b[31m three 🦊 %s", "x" * 2 * MAX_LINE)
    (line,) = lines(capsys)
    assert "\x1b" not in line
    assert "🦊" in line
    assert len(line) < MAX_LINE + 200


def test_a_traceback_is_kept(capsys: pytest.CaptureFixture[str]):
    nothing: dict[str, str] = {}
    for log_format in FORMATS:
        configure(log_format, "info")
        try:
            _ = nothing["missing"]
        except KeyError:
            log.exception("a fault")
    *text, last = lines(capsys)
    assert text[1] == "Traceback (most recent call last):"
    assert "KeyError: 'missing'" in json.loads(last)["exception"]


@pytest.mark.parametrize(("level", "count"), [("debug", 4), ("info", 3), ("warning", 2), ("error", 1)])
def test_the_level_is_for_our_own_lines(level: str, count: int, capsys: pytest.CaptureFixture[str]):
    configure("json", level)
    for number in (logging.DEBUG, logging.INFO, logging.WARNING, logging.ERROR):
        log.log(number, "ours")
    assert len(lines(capsys)) == count


@pytest.mark.parametrize(
    "library", ["kubernetes.client.rest", "kubernetes.aio.client.rest", "aiohttp", "kopf", "asyncio"]
)
def test_libraries_never_tell_what_the_api_server_answered(library: str, capsys: pytest.CaptureFixture[str]):
    configure("json", "debug")
    logging.getLogger(library).debug("response body: {'data': {'password': 'aHVudGVyMg=='}}")
    logging.getLogger(library).info("Starting")
    logging.getLogger(library).warning("something is wrong")
    assert [told["message"] for told in objects(capsys)] == ["something is wrong"]


def test_what_kopf_set_up_is_replaced(capsys: pytest.CaptureFixture[str]):
    kopf.configure(verbose=True)
    configure("json", "info")
    reference = {"namespace": "placeos", "name": "one"}
    logging.getLogger("kopf.objects").error("Handler failed", extra={"k8s_ref": reference, "k8s_skip": True})
    log.info("ours")
    logging.getLogger("asyncio").error("a task failed")
    first, *others = objects(capsys)
    assert (first["resource"], first["logger"], first["level"]) == ("placeos/one", "kopf.objects", "error")
    assert [told["message"] for told in others] == ["ours", "a task failed"]
