"""Which Events a change of status makes, and how many may be written."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from backendhealth.core.announcing import Announcement, Budget, Once, announcements, cut_bytes
from backendhealth.core.spec.status import BackendHealthStatus

Told = tuple[str, str]
TIME = "2026-01-01T00:00:00Z"
FINE = ("True", "ProbeSucceeded")
PENDING = ("Unknown", "Pending")
SUSPENDED = ("Unknown", "Suspended")
REFUSED = ("False", "ConnectionRefused")
RISKY = ("True", "ClusterYellow")
BLIND = ("Unknown", "Blind")
PROBING = ("True", "Probing")
INVALID = ("False", "InvalidSpec")


def status(message: str = "seen", **conditions: Told) -> BackendHealthStatus:
    """A status with Ready and what is given: type=(status, reason)."""
    rows = [
        {"type": kind, "status": told, "reason": reason, "message": message}
        | {"lastTransitionTime": TIME, "observedGeneration": 1}
        for kind, (told, reason) in {"Ready": PROBING, **conditions}.items()
    ]
    return BackendHealthStatus.model_validate({"observedGeneration": 1, "conditions": rows})


def told(old: BackendHealthStatus | None, new: BackendHealthStatus) -> list[tuple[str, str, str]]:
    return [(said.type, said.about, said.reason) for said in announcements(old, new)]


def both(one: Told) -> BackendHealthStatus:
    """One component that is all there is."""
    return status(Healthy=one, AHealthy=one)


CASES: list[tuple[Told, Told, list[Told]]] = [
    (FINE, REFUSED, [("Warning", "Healthy"), ("Warning", "AHealthy")]),
    (REFUSED, FINE, [("Normal", "Healthy"), ("Normal", "AHealthy")]),
    (FINE, RISKY, [("Warning", "Healthy"), ("Warning", "AHealthy")]),
    (FINE, BLIND, [("Warning", "Healthy"), ("Warning", "AHealthy")]),
    (PENDING, FINE, [("Normal", "Healthy")]),
    (PENDING, REFUSED, [("Warning", "Healthy"), ("Warning", "AHealthy")]),
    (FINE, SUSPENDED, [("Normal", "Healthy")]),
    (SUSPENDED, FINE, [("Normal", "Healthy")]),
    (SUSPENDED, PENDING, []),
    (FINE, FINE, []),
]


@pytest.mark.parametrize(("before", "after", "expected"), CASES)
def test_a_change_is_told_of_the_whole_and_of_the_component(before: Told, after: Told, expected: list[Told]):
    assert [(kind, about) for kind, about, _ in told(both(before), both(after))] == expected
    assert {reason for *_, reason in told(both(before), both(after))} <= {after[1]}


def test_the_same_status_for_another_reason_is_a_change():
    assert len(told(both(REFUSED), both(("False", "Timeout")))) == 2


def test_only_what_changed_is_told():
    old = status(Healthy=REFUSED, AHealthy=REFUSED, BHealthy=FINE)
    new = status(Healthy=REFUSED, AHealthy=REFUSED, BHealthy=RISKY)
    assert told(old, new) == [("Warning", "BHealthy", "ClusterYellow")]


def test_another_message_alone_is_no_change():
    assert told(status("one", Healthy=REFUSED), status("two", Healthy=REFUSED)) == []


def test_what_follows_from_other_conditions_is_not_told_twice():
    new = status(Healthy=RISKY, Degraded=RISKY, Reconciling=("True", "Pending"))
    assert told(status(Healthy=FINE), new) == [("Warning", "Healthy", "ClusterYellow")]


def test_a_fresh_resource_is_told_of_when_there_is_something_to_tell():
    assert told(None, both(PENDING)) == []
    assert told(None, both(REFUSED)) == [
        ("Warning", "Healthy", "ConnectionRefused"),
        ("Warning", "AHealthy", "ConnectionRefused"),
    ]


ALLOWED, STORM, COOLING = ("True", "Allowed"), ("False", "Storm"), ("False", "CoolingDown")


@pytest.mark.parametrize(
    ("before", "after", "expected"),
    [
        (ALLOWED, STORM, [("Normal", "RemediationAllowed", "Storm")]),
        (STORM, COOLING, [("Normal", "RemediationAllowed", "CoolingDown")]),
        (STORM, STORM, []),
        (STORM, ALLOWED, []),
    ],
)
def test_a_guard_that_holds_remediation_back_is_told_when_it_begins_to(
    before: Told, after: Told, expected: list[tuple[str, str, str]]
):
    assert told(status(RemediationAllowed=before), status(RemediationAllowed=after)) == expected
    assert told(status(), status(RemediationAllowed=after)) == (
        [("Normal", "RemediationAllowed", after[1])] if after[0] == "False" else []
    )


def test_a_guard_that_lets_go_and_holds_again_is_told_once_in_an_incident():
    once = Once()
    storm, cooling = (Announcement("Normal", "RemediationAllowed", guard, "") for guard in ("Storm", "CoolingDown"))
    other = Announcement("Warning", "Healthy", "Timeout", "")
    assert [once.news("a", "1", said) for said in (storm, cooling, storm, cooling)] == [True, True, False, False]
    assert once.news("b", "1", storm)
    assert [once.news("a", "2", said) for said in (storm, storm)] == [True, False]
    assert [once.news("a", "2", other) for _ in range(2)] == [True, True]


def test_what_was_told_is_not_kept_of_every_object_that_ever_was():
    once = Once()
    for number in range(5000):
        once.news(str(number), "", Announcement("Normal", "RemediationAllowed", "Storm", ""))
    assert len(once._told) <= 4096


def test_stalled_is_told_once_and_ready_when_it_is_over():
    stalled = status(Ready=INVALID, Healthy=("Unknown", "InvalidSpec"), Stalled=("True", "InvalidSpec"))
    assert told(both(FINE), stalled) == [("Warning", "Stalled", "InvalidSpec")]
    assert told(None, stalled) == [("Warning", "Stalled", "InvalidSpec")]
    assert told(stalled, stalled) == []
    assert told(stalled, both(PENDING)) == [("Normal", "Ready", "Probing")]


def test_not_ready_is_a_warning():
    assert told(status(), status(Ready=("False", "Terminating"))) == [("Warning", "Ready", "Terminating")]


def test_the_note_says_of_what():
    (said,) = announcements(status(AHealthy=FINE), status("no answer within 5 s", AHealthy=("False", "Timeout")))
    assert said == Announcement("Warning", "AHealthy", "Timeout", "AHealthy is False: no answer within 5 s")


@pytest.mark.parametrize("message", ["😀" * 1024, "x" * 1024, "ä" * 1024])
def test_the_note_fits_in_bytes(message: str):
    (said,) = announcements(status(AHealthy=FINE), status(message, AHealthy=REFUSED))
    assert 1000 < len(said.note.encode()) <= 1024
    assert said.note.endswith("…")


@given(st.text(), st.integers(3, 50))
def test_cut_to_bytes(text: str, limit: int):
    cut = cut_bytes(text, limit)
    assert len(cut.encode()) <= limit
    assert "\n" not in cut


def test_an_object_has_a_burst_and_then_one_now_and_then():
    budget = Budget(per_minute=1000)
    assert [budget.take("a", 0.0) for _ in range(27)] == [True] * 25 + [False] * 2
    assert budget.take("b", 0.0)
    assert not budget.take("a", 299.0)
    assert budget.take("a", 300.0)
    assert not budget.take("a", 301.0)
    assert [budget.take("a", 20_000.0) for _ in range(26)] == [True] * 25 + [False]


def test_all_together_have_no_more_than_so_many_in_any_minute():
    budget = Budget(per_minute=3)
    times = [number * 0.5 for number in range(600)]
    taken = [at for number, at in enumerate(times) if budget.take(f"object {number}", at)]
    assert all(sum(start <= at < start + 60 for at in taken) <= 3 for start in times)
    assert len(taken) == 15


def test_no_budget_no_events():
    assert not Budget(per_minute=0).take("a", 0.0)


def test_a_budget_does_not_grow_with_every_object_that_ever_was():
    budget = Budget(per_minute=10)
    for number in range(20_000):
        budget.take(f"object {number}", number * 60.0)
    assert len(budget._full_at) <= 4097
