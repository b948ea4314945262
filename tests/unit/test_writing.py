"""Which change of a status is worth a write, what fits into an object, and when a sign of life is due."""

from __future__ import annotations

import copy
import json
import re
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from backendhealth.core.spec.status import BackendHealthStatus
from backendhealth.core.statusof import timestamp
from backendhealth.core.writestate import ECHO, MAX_OVERWRITTEN, MINUTE, WriteState
from backendhealth.core.writing import (
    STATUS_BYTES,
    WRITTEN_FIELDS,
    age_of,
    fingerprint,
    fitted,
    heartbeat_in,
    rendered,
    stored_bytes,
)

NAME = "x" * 253
TIME = "2026-01-01T00:00:00Z"


def full(message: str = "m" * 1024, name: str = NAME) -> dict[str, Any]:
    """A status filled to every bound of the schema; with a shorter `name`, only as to messages and numbers."""
    told = {"reason": name, "message": message}
    return {
        "observedGeneration": 2**53,
        "heartbeatTime": TIME,
        "probeRequestedAt": name,
        "summary": {"state": name, "rootCause": name, "impact": message, "since": TIME, **told},
        "conditions": [
            {
                "type": f"{n:03}{name[3:]}{'x' * 63 if name else ''}",
                "status": "Unknown",
                "lastTransitionTime": TIME,
                "observedGeneration": 1,
            }
            | told
            for n in range(128)
        ],
        "probes": [
            {"name": f"{n:03}{name[3:]}", "component": name, "verdict": "Unhealthy", "since": TIME, **told}
            | {"subjects": [{"subject": f"{m:03}{name[3:]}", "verdict": "Unhealthy", **told} for m in range(64)]}
            | {"parts": [{"name": f"{m:03}{name[3:]}", "verdict": "Unknown", "since": TIME, **told} for m in range(32)]}
            for n in range(100)
        ],
        "diagnosis": {
            "rootCauses": [
                {"component": f"{n:03}{name[3:]}", "since": TIME, **told}
                | {"evidence": [message] * 8, "nextStep": message}
                for n in range(100)
            ],
            "explained": [
                {"name": f"{n:03}{name[3:]}", "by": [f"{m:03}{name[3:]}" for m in range(16)], "because": message}
                for n in range(100)
            ],
            "unexplained": [{"name": f"{n:03}{name[3:]}", "because": message} for n in range(100)],
            "suspects": [{"component": f"{n:03}{name[3:]}", "because": message} for n in range(32)],
            "nextQuestion": message,
            "impact": [{"feature": f"{n:03}{name[3:]}", "effect": "Fails", "because": message} for n in range(64)],
            "mismatches": [{"name": f"{n:03}{name[3:]}", "message": message} for n in range(32)],
        },
        "incident": {"id": name, "since": TIME},
        "history": [{"at": TIME, "component": name, "verdict": "Unhealthy", "reason": name} for _ in range(20)],
        "remediation": {
            "holds": [
                {"policy": name, "rule": name, "guard": f"{n:03}{name[3:]}", "message": message, "until": TIME}
                for n in range(64)
            ],
            "active": [f"{n:03}{name[3:]}" for n in range(64)],
        },
    }


def small(message: str = "connection refused") -> dict[str, Any]:
    """A status of one component."""
    return {
        "observedGeneration": 1,
        "summary": {"state": "Unhealthy", "message": message},
        "probes": [{"name": "a", "component": "a", "verdict": "Unhealthy", "message": message, "subjects": []}],
    }


def test_every_field_is_listed_but_the_heartbeat():
    model = {re.sub(r"_(.)", lambda found: found[1].upper(), name) for name in BackendHealthStatus.model_fields}
    assert model - set(WRITTEN_FIELDS) == {"heartbeatTime"}
    assert set(WRITTEN_FIELDS) <= model


@pytest.mark.parametrize("field", WRITTEN_FIELDS)
def test_a_change_of_a_listed_field_is_worth_a_write(field: str):
    before, after = full("m"), full("m")
    after[field] = small("other").get(field, "other")
    assert fingerprint(before) != fingerprint(after)


def test_what_is_not_listed_is_not_worth_a_write():
    assert fingerprint(small()) == fingerprint({**small(), "heartbeatTime": TIME, "unknown": 1})


def test_what_is_empty_is_as_what_is_absent():
    filled = {**small(), "incident": None, "history": [], "diagnosis": {"rootCauses": []}}
    filled["probes"][0].pop("subjects")
    assert fingerprint(filled) == fingerprint(small())
    assert fingerprint({}) == fingerprint(None)
    assert fingerprint({"observedGeneration": 0}) != fingerprint(None)


def test_order_of_keys_means_nothing_order_of_entries_does():
    assert fingerprint(dict(reversed(small().items()))) == fingerprint(small())
    two = {"history": [{"component": "a"}, {"component": "b"}]}
    assert fingerprint(two) != fingerprint({"history": two["history"][::-1]})


def test_rendered_as_the_api_server_takes_it_without_heartbeat():
    status = BackendHealthStatus(observed_generation=3, heartbeat_time=TIME)
    assert rendered(status) == {"observedGeneration": 3, "conditions": [], "probes": [], "history": []}


def test_a_status_that_fits_is_left_as_it_is():
    assert fitted(small()) == small()


@pytest.mark.parametrize("message", ["m" * 1024, "😀" * 1024, "<" * 1024, "", "\u2028" * 1024])
def test_a_status_filled_to_every_bound_fits_when_cut(message: str):
    status = full(message)
    before = copy.deepcopy(status)
    cut = fitted(status)
    assert stored_bytes(cut) <= STATUS_BYTES
    assert status == before
    BackendHealthStatus.model_validate_json(json.dumps(cut))
    assert [probe["name"] for probe in cut["probes"]] == [probe["name"] for probe in status["probes"]]
    assert [one["type"] for one in cut["conditions"]] == [one["type"] for one in status["conditions"]]
    assert cut["history"] == status["history"]
    assert fitted(cut) == cut


def test_subjects_lose_their_messages_first():
    status = full("m" * 1024)
    status["probes"] = status["probes"][:3]
    status["conditions"] = status["conditions"][:5]
    for probe in status["probes"]:
        del probe["parts"]
    del status["diagnosis"], status["remediation"]
    cut = fitted(status)
    assert cut["conditions"] == status["conditions"]
    for probe in cut["probes"]:
        assert probe["message"] == "m" * 1024
        assert len(probe["subjects"]) == 64
        assert {one["message"] for one in probe["subjects"]} == {"m" * 255 + "…"}


def test_what_was_left_out_is_told():
    cut = fitted(full())
    for probe in cut["probes"]:
        left = probe["subjects"][-1]
        assert left["subject"] == f"… {64 - len(probe['subjects']) + 1} more"
        assert left["verdict"] == "Unhealthy"
    causes = cut["diagnosis"]["rootCauses"]
    assert causes[-1]["component"] == f"… {100 - len(causes) + 1} more"


def test_of_remediation_the_first_guards_and_all_messages_stay_as_long_as_there_is_room():
    status = full(name="short")
    status["probes"] = status["conditions"] = []
    del status["diagnosis"]
    assert fitted(status) == status
    cut = fitted(status, 20_000)
    assert [one["guard"] for one in cut["remediation"]["holds"]] == [f"{n:03}rt" for n in range(16)]
    assert {one["message"] for one in cut["remediation"]["holds"]} == {"m" * 255 + "…"}
    assert fitted(status, 2_000)["remediation"]["active"] == status["remediation"]["active"][:4]


def test_the_rest_has_the_worst_verdict_of_those_left_out():
    status = full()
    for probe in status["probes"]:
        for number, subject in enumerate(probe["subjects"]):
            subject["verdict"] = "Unhealthy" if number == 60 else "Degraded"
    assert {probe["subjects"][-1]["verdict"] for probe in fitted(status)["probes"]} == {"Unhealthy"}


@given(st.text(max_size=200), st.integers(500, 20_000))
def test_cutting_further_leaves_less(message: str, room: int):
    status = small(message or "x")
    status["probes"][0]["subjects"] = [
        {"subject": f"member/{n}", "verdict": "Unhealthy", "reason": "MemberDown", "message": message}
        for n in range(64)
    ]
    sizes = [stored_bytes(fitted(status, limit)) for limit in (20_000, room, 500)]
    assert all(one >= other for one, other in pairwise(sorted(sizes, reverse=True)))
    assert stored_bytes(fitted(status, room)) <= max(room, 800)


def test_bytes_as_go_stores_them():
    assert stored_bytes({"a": "<&>"}) == len(r'{"a":"\u003c\u0026\u003e"}')
    assert stored_bytes("😀") == 6
    assert stored_bytes("\u2028") == len(r'"\u2028"')


@given(st.floats(-1e6, 1e6), st.text(min_size=1))
def test_heartbeats_are_spread_and_never_far(age: float, key: str):
    due = heartbeat_in(age, 600, key)
    assert 0 <= due <= 600
    assert due <= max(600 - max(age, 0), 60)


def test_heartbeats_that_were_written_together_do_not_beat_together():
    due = sorted(heartbeat_in(0, 600, f"default/{n}") for n in range(1000))
    assert 540 <= due[0] < 545
    assert 595 < due[-1] <= 600
    late = sorted(heartbeat_in(9999, 600, f"default/{n}") for n in range(1000))
    assert late[0] < 5
    assert 55 < late[-1] <= 60


def test_age_of_a_status():
    assert age_of({"heartbeatTime": timestamp(1000)}, 1600) == 600
    assert [age_of(one, 0) for one in (None, {}, {"heartbeatTime": "nonsense"}, {"heartbeatTime": 5})] == [None] * 4


def state(shown: dict[str, Any] | None = None, version: str = "1") -> WriteState:
    return WriteState("uid", version, fingerprint(shown), 1000.0)


def test_a_new_state_is_written_and_a_shown_one_is_not():
    one = state()
    assert one.why_write(fingerprint(small()), 0, 600) == "written"
    one.wrote(fingerprint(small()), "1", "2", small(), 0)
    assert one.why_write(fingerprint(small()), 0, 600) == ""
    assert state(small()).why_write(fingerprint(small()), 0, 600) == ""


def test_a_heartbeat_is_due_until_it_is_written():
    one = state(small())
    for now in (1000, 1001, 1002):
        assert one.why_write(fingerprint(small()), now, 600) == "heartbeat"
    one.beat_after(0.0, 600, "default/a", 1002)
    assert one.why_write(fingerprint(small()), 1003, 600) == ""
    assert 1542 <= one.next_look(1003) <= 1602


def test_what_an_older_schema_prunes_is_no_foreign_change():
    one, pruned = state(), {"observedGeneration": 1}
    one.wrote(fingerprint(small()), "1", "2", pruned, 0)
    assert not one.saw("2", pruned, 1)
    assert one.why_write(fingerprint(small()), 1, 600) == ""
    assert one.saw("3", {}, 2)
    assert one.why_write(fingerprint(small()), 2, 600) == "overwritten"


def test_what_the_watch_shows_late_is_not_taken_for_new():
    one = state()
    one.wrote(fingerprint(small()), "1", "5", small(), 0)
    assert not one.saw("3", {}, 1)  # older than ours
    assert one.version == "5"
    assert not one.saw("5", small(), 2)
    assert one.saw("6", {}, 3)
    assert one.version == "6"


def test_a_watch_that_never_shows_our_write_is_believed_in_the_end():
    one = state()
    one.wrote(fingerprint(small()), "1", "5", small(), 0)
    assert one.saw("9", {}, ECHO)
    assert one.version == "9"


def test_a_watch_that_is_faster_than_the_answer():
    one = state()
    assert one.saw("5", small(), 0)
    assert one.saw("6", {}, 0)  # somebody has overwritten it already
    one.wrote(fingerprint(small()), "1", "5", small(), 0)
    assert one.version == "6"
    assert one.why_write(fingerprint(small()), 0, 600) == "overwritten"


def test_who_overwrites_us_too_often_is_left_alone_for_a_minute():
    one, ours = state(), fingerprint(small())
    one.wrote(ours, "1", "2", small(), 0)
    for number in range(MAX_OVERWRITTEN):
        one.read(f"theirs {number}", {}, number)
        assert one.why_write(ours, number, 600) == "overwritten"
        one.wrote(ours, one.version, f"ours {number}", small(), number)
    one.read("theirs again", {}, 10)
    assert one.why_write(ours, 10, 600) == ""
    assert one.next_look(10) == 10 + MINUTE
    assert one.why_write(fingerprint(small("new")), 11, 600) == "written"
    assert one.why_write(ours, 10 + MINUTE, 600) == "overwritten"


def test_a_rejected_state_is_not_tried_again_and_beats_no_more():
    one = state()
    assert not one.reject(fingerprint(small()), too_large=False)
    assert one.why_write(fingerprint(small()), 2000, 600) == ""
    assert one.next_look(2000) == 2600
    assert one.why_write(fingerprint(small("other")), 2000, 600) == "written"


def test_a_state_that_is_too_large_is_cut_further_a_few_times():
    one = state()
    rooms = []
    while one.reject("x", too_large=True):
        rooms.append(one.room)
    assert rooms == [STATUS_BYTES // 4, STATUS_BYTES // 16]
    assert one.rejected
