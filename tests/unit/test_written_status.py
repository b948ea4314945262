"""Which status of an object is taken for one that was written by us, and that none of them can stop us."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest

from backendhealth.core.restoring import restored_state, written_status
from backendhealth.core.statusof import status_of
from tests.unit.rig import EPOCH
from tests.unit.support import GOOD, REFUSED, probe, resource
from tests.unit.test_restoring import NOBODY_SUSPENDED, believing, shown, written
from tests.unit.world import QUICK


@pytest.mark.parametrize(
    "raw",
    [
        None,
        {},
        {"observedGeneration": -1},
        {"observedGeneration": -1, "summary": None},
        "healthy",
        ["healthy"],
        7,
    ],
)
def test_a_status_that_nobody_has_written(raw: Any):
    assert written_status(raw) is None


def _with(raw: Mapping[str, Any], path: tuple[str | int, ...], value: Any) -> Any:
    if not path:
        return value
    copy: Any = list(raw) if isinstance(raw, list) else dict(raw)
    copy[path[0]] = _with(raw[path[0]] if len(path) > 1 else {}, path[1:], value)  # type: ignore[index]
    return copy


GARBAGE: list[Any] = [
    None,
    "x" * 100_000,
    1e300,
    -1,
    True,
    [],
    {},
    [None],
    {"a": {"b": None}},
    float("nan"),
    object(),
    {1, 2},
]
PLACES: list[tuple[str | int, ...]] = [
    ("observedGeneration",),
    ("summary",),
    ("summary", "state"),
    ("summary", "since"),
    ("conditions",),
    ("conditions", 0),
    ("conditions", 0, "lastTransitionTime"),
    ("conditions", 1, "reason"),
    ("probes",),
    ("probes", 0),
    ("probes", 0, "since"),
    ("probes", 0, "verdict"),
    ("probes", 0, "subjects"),
    ("diagnosis",),
    ("diagnosis", "rootCauses"),
    ("diagnosis", "rootCauses", 0, "since"),
    ("incident",),
    ("incident", "since"),
    ("history",),
    ("history", 0),
    ("history", 0, "at"),
    ("history", 0, "reason"),
    ("probeRequestedAt",),
]


@pytest.mark.parametrize("place", PLACES, ids=lambda path: ".".join(map(str, path)))
def test_garbage_is_no_status_or_a_sane_one(place: tuple[str | int, ...]):
    raw = written(shown(believing(REFUSED)))
    declared = resource(probe("a"), probe("b"), **QUICK)
    for value in GARBAGE:
        status = written_status(_with(raw, place, value))
        if status is not None:
            state = restored_state(declared, status, EPOCH + 9000, NOBODY_SUSPENDED)
            status_of(state, status, EPOCH + 9000)


def test_most_garbage_is_refused():
    raw = written(shown(believing(REFUSED)))
    for place in PLACES:
        assert written_status(_with(raw, place, 1e300)) is None
        assert written_status(_with(raw, place, [None])) is None


TIMES = [place for place in PLACES if place[-1] in ("since", "lastTransitionTime", "at")]


@pytest.mark.parametrize("place", TIMES, ids=lambda path: ".".join(map(str, path)))
@pytest.mark.parametrize(
    "time",
    [
        "yesterday",
        "2027-01-15",
        "2027-01-15T08:00:00",
        "0001-01-01T00:00:00Z",
        "9999-12-31T23:59:59-23:59",
        "2027-13-01T00:00:00Z",
    ],
)
def test_a_time_that_is_none_is_refused(place: tuple[str | int, ...], time: str):
    raw = written(shown(believing(REFUSED)))
    assert written_status(_with(raw, place, "2027-01-15T09:00:00+01:00")) is not None
    assert written_status(_with(raw, place, time)) is None


def test_a_status_without_end_is_refused():
    raw = written(shown(believing(REFUSED)))
    raw["probes"] = raw["probes"] * 200
    assert written_status(raw) is None
    deep: Any = "x"
    for _ in range(100_000):
        deep = [deep]
    assert written_status({**written(shown(believing(GOOD))), "more": deep}) is None
