"""Durations are read as Prometheus and Flux read them, and spans are told as kubectl tells them."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from backendhealth.core.durations import human, seconds

UNITS = {"ms": 0.001, "s": 1, "m": 60, "h": 3600}


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("30s", 30),
        ("1m30s", 90),
        ("500ms", 0.5),
        ("1h", 3600),
        ("0s", 0),
        ("1.5s", 1.5),
        ("2h45m", 9900),
        ("1m1ms", 60.001),
    ],
)
def test_durations(text: str, value: float):
    assert seconds(text) == pytest.approx(value)


@pytest.mark.parametrize(
    "text", ["", "5", "s", "-1s", "1 s", "1d", "1s ", " 1s", "1s\n", "1,5s", "\u0661s", "1e3s", "1sm", ".5s"]
)
def test_what_is_no_duration(text: str):
    with pytest.raises(ValueError, match="not a duration"):
        seconds(text)


@given(st.lists(st.tuples(st.integers(0, 10_000), st.sampled_from(sorted(UNITS))), min_size=1, max_size=5))
def test_parts_add_up(parts: list[tuple[int, str]]):
    text = "".join(f"{number}{unit}" for number, unit in parts)
    assert seconds(text) == pytest.approx(sum(number * UNITS[unit] for number, unit in parts))


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0, "0s"),
        (42.9, "42s"),
        (119, "119s"),
        (120, "2m"),
        (150, "2m30s"),
        (600, "10m"),
        (10_799, "179m"),
        (11_520, "3h12m"),
        (10_800, "3h"),
        (28_800, "8h"),
        (172_799, "47h"),
        (172_800, "2d"),
        (777_600, "9d"),
    ],
)
def test_spans_for_people(value: float, text: str):
    assert human(value) == text


@given(st.floats(0, 1e9))
def test_a_span_is_told_to_within_its_last_unit(value: float):
    told = human(value)
    back = sum(int(n) * {"s": 1, "m": 60, "h": 3600, "d": 86400}[u] for n, u in _parts(told))
    assert back <= value < back + {"s": 1, "m": 60, "h": 3600, "d": 86400}[told[-1]]


def _parts(told: str) -> list[tuple[str, str]]:
    found, number = [], ""
    for char in told:
        if char.isdigit():
            number += char
        else:
            found.append((number, char))
            number = ""
    return found
