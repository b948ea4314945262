"""Maintenance windows: when they are open, over changes of the clocks; and which schedules and zones are none."""

from __future__ import annotations

import datetime as dt
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from backendhealth.core.remediation.windows import opening, problem, standing
from backendhealth.core.spec.remediationpolicy import MaintenanceWindow

BERLIN, SYDNEY, LORD_HOWE = "Europe/Berlin", "Australia/Sydney", "Australia/Lord_Howe"


def window(schedule: str, duration: str, **fields: Any) -> MaintenanceWindow:
    return MaintenanceWindow.model_validate({"name": "nightly", "schedule": schedule, "duration": duration, **fields})


def at(text: str, zone: str = "UTC", fold: int = 0) -> float:
    return dt.datetime.fromisoformat(text).replace(tzinfo=ZoneInfo(zone), fold=fold).timestamp()


def test_without_windows_any_time_is_good():
    assert standing([], 0.0) == ("", None)


@pytest.mark.parametrize(
    ("now", "held", "until"),
    [
        ("2026-03-02T21:59:59.999", True, "2026-03-02T22:00"),
        ("2026-03-02T22:00", False, ""),
        ("2026-03-02T22:00:00.500", False, ""),
        ("2026-03-03T01:59:59.999", False, ""),
        ("2026-03-03T02:00", True, "2026-03-03T22:00"),
        ("2026-03-07T03:00", True, "2026-03-09T22:00"),  # on a Saturday: the next is on Monday
    ],
)
def test_only_inside(now: str, held: bool, until: str):
    why, when = standing([window("0 22 * * 1-5", "4h")], at(now))
    assert why == ("outside the maintenance window nightly, and only inside is anything done" if held else "")
    assert when == (at(until) if until else None)


def test_never_inside():
    windows = [window("0 8 * * *", "10h", act="NeverInside")]
    assert standing(windows, at("2026-03-02T07:59:59")) == ("", None)
    told = "inside the maintenance window nightly, in which nothing is done"
    assert standing(windows, at("2026-03-02T08:00")) == (told, at("2026-03-02T18:00"))
    assert standing(windows, at("2026-03-02T18:00")) == ("", None)


def test_windows_of_both_kinds_must_all_agree():
    windows = [
        window("0 22 * * *", "4h"),
        window("0 23 * * *", "30m", name="backup", act="NeverInside"),
        window("0 6 * * 0", "1h", name="sunday"),
    ]
    assert standing(windows, at("2026-03-02T22:30")) == ("", None)
    assert standing(windows, at("2026-03-02T23:10")) == (
        "inside the maintenance window backup, in which nothing is done",
        at("2026-03-02T23:30"),
    )
    assert standing(windows, at("2026-03-01T03:00"))[1] == at("2026-03-01T06:00")


def test_until_is_when_all_agree_not_when_the_first_does():
    windows = [window("0 22 * * *", "1h"), window("0 20 * * *", "150m", name="busy", act="NeverInside")]
    assert standing(windows, at("2026-03-02T12:00"))[1] == at("2026-03-02T22:30")


def test_a_window_that_begins_again_before_it_ends_goes_on():
    windows = [window("0 0 * * *", "30h", act="NeverInside")]
    assert standing(windows, at("2026-03-02T05:00")) == (
        "inside the maintenance window nightly, in which nothing is done",
        None,
    )
    assert opening(windows, at("2026-03-02T05:00")) == float("inf")


def test_what_is_not_found_out_is_none():
    windows = [window("* * 1-27 * *", "1m", act="NeverInside")]
    assert opening(windows, at("2026-03-02T05:00")) is None
    assert standing(windows, at("2026-03-02T05:00"))[1] is None


@pytest.mark.parametrize(
    ("now", "fold", "open_"),
    [
        # summer begins on 2026-03-29 at 02:00, which is 03:00: half past two is at 03:00
        ("2026-03-29T01:59:59", 0, False),
        ("2026-03-29T03:00", 0, True),
        ("2026-03-29T03:29:59", 0, True),
        ("2026-03-29T03:30", 0, False),
        # summer ends on 2026-10-25 at 03:00, which is 02:00 again: half past two comes twice, and counts once
        ("2026-10-25T02:29:59", 0, False),
        ("2026-10-25T02:30", 0, True),
        ("2026-10-25T02:59:59", 0, True),
        ("2026-10-25T02:00", 1, False),
        ("2026-10-25T02:15", 1, False),
        ("2026-10-25T02:30", 1, False),
        ("2026-10-26T02:30", 0, True),
    ],
)
def test_a_time_of_day_when_the_clocks_change(now: str, fold: int, open_: bool):
    assert (standing([window("30 2 * * *", "30m", timeZone=BERLIN)], at(now, BERLIN, fold))[0] == "") is open_


@pytest.mark.parametrize("fold", [0, 1])
def test_a_window_over_the_hour_that_comes_twice_is_as_long_as_it_says(fold: int):
    long = [window("30 2 * * *", "1h", timeZone=BERLIN)]
    # it begins at 02:30 the first time, so it ends at 02:30 the second time
    assert standing(long, at("2026-10-25T02:15", BERLIN, fold))[0] == ("" if fold else standing(long, 0.0)[0])
    assert standing(long, at("2026-10-25T02:30", BERLIN, 1))[0]


def test_the_next_start_is_after_now_when_the_hour_comes_again():
    windows = [window("30 2 * * *", "5m", timeZone=BERLIN)]
    assert standing(windows, at("2026-10-25T02:15", BERLIN, 1))[1] == at("2026-10-26T02:30", BERLIN)
    assert standing(windows, at("2026-10-25T02:15", BERLIN, 0))[1] == at("2026-10-25T02:30", BERLIN)
    assert standing(windows, at("2026-03-29T01:30", BERLIN))[1] == at("2026-03-29T03:00", BERLIN)


def test_what_begins_every_hour_begins_in_both_hours():
    hourly = [window("*/30 * * * *", "10m", timeZone=BERLIN)]
    for fold in (0, 1):
        assert standing(hourly, at("2026-10-25T02:35", BERLIN, fold)) == ("", None)
        assert standing(hourly, at("2026-10-25T02:15", BERLIN, fold))[1] == at("2026-10-25T02:30", BERLIN, fold)


def test_a_zone_of_the_southern_half_and_one_that_shifts_by_half_an_hour():
    assert standing([window("0 22 * * *", "1h", timeZone=SYDNEY)], at("2026-01-05T11:30")) == ("", None)
    assert standing([window("0 22 * * *", "1h", timeZone=SYDNEY)], at("2026-07-05T11:30"))[0]
    half = [window("45 1 * * *", "20m", timeZone=LORD_HOWE)]
    assert standing(half, at("2026-04-05T01:50", LORD_HOWE, 0)) == ("", None)
    assert standing(half, at("2026-04-05T01:50", LORD_HOWE, 1))[0]


@settings(deadline=None, max_examples=60)
@given(
    st.integers(0, 59),
    st.integers(0, 23),
    st.integers(1, 600),
    st.sampled_from(["UTC", BERLIN, SYDNEY, LORD_HOWE, "America/New_York"]),
    st.sampled_from(["OnlyInside", "NeverInside"]),
    st.integers(0, 500 * 1440),
)
def test_until_is_the_first_moment_at_which_it_lets_act(  # noqa: PLR0917 - a window and a time
    minute: int, hour: int, length: int, zone: str, act: str, offset: int
):
    windows = [window(f"{minute} {hour} * * *", f"{length}m", timeZone=zone, act=act)]
    now = at("2026-01-01T00:00") + offset * 60.0
    why, until = standing(windows, now)
    if not why:
        assert until is None
        return
    assert until is not None
    assert until > now
    assert standing(windows, until)[0] == ""
    steps = int((until - now) // 60)
    assert all(standing(windows, now + step * 60.0)[0] for step in range(0, steps, max(1, steps // 12)))
    assert standing(windows, until - 1)[0]


@pytest.mark.parametrize(
    "schedule",
    [
        "nonsense at all times ok",
        "@daily",
        "",
        "0 22 * *",
        "0 0 22 * * *",
        "60 22 * * *",
        "0 24 * * *",
        "0 0 31 2 *",
        "0 0 0 * *",
        "0 0 * 13 *",
        "0 0 * * 8",
        "*/0 * * * *",
        "5-1 * * * *",
        "² 0 * * *",
        ", , , , ,",
    ],
)
def test_cron_nonsense_is_told(schedule: str):
    assert problem(schedule)


@pytest.mark.parametrize("schedule", ["0 22 * * 1-5", "*/15 * * * *", "0 0 1 */3 *", "0 2 * * SUN", "0 0 29 2 *"])
def test_good_schedules(schedule: str):
    assert problem(schedule, BERLIN) == ""


@pytest.mark.parametrize("zone", ["Sydney", "Europe", "../etc/passwd", "/etc/passwd", "", "Europe/Berlln", "UTC+2"])
def test_no_time_zone(zone: str):
    assert "time zone" in problem("0 22 * * *", zone)
