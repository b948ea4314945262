"""Old Remediations go, but none that anything is still counted from."""

from __future__ import annotations

from typing import Any

from backendhealth.core.remediation.situation import Situation
from backendhealth.core.spec.remediation import Remediation, RemediationStatus
from backendhealth.core.statusof import timestamp
from backendhealth.engine.remediation.book import name_of
from backendhealth.engine.remediation.ports import Stored
from backendhealth.engine.remediation.pruning import KEPT, LONGEST_SPAN, MAX_AGE, prunable
from tests.unit.remediating import BH_UID, INCIDENT, KEY, START, policy, situation, spec

DAY = 86400.0
NOW = START + 400 * DAY


def stored(name: str, age: float, phase: Any = "Succeeded", **more: Any) -> Stored:
    at = NOW - age
    finished = None if phase in ("Pending", "Verifying") else timestamp(at)
    status = RemediationStatus(phase=phase, started_at=timestamp(at), finished_at=finished)
    meta = {"name": name, "namespace": "default"}
    told = spec(policy(), **more)
    remediation = Remediation.model_construct(
        api_version="backendhealth.dev/v1alpha1",
        kind="Remediation",
        metadata=policy().metadata.model_copy(update=meta),
        spec=told,
    )
    return Stored(remediation, status, name, "1", at)


def gone(*records: Stored, now: Situation | None = None, **limits: Any) -> list[str]:
    policies = {"placeos": policy(limits=limits)} if limits else {"placeos": policy()}
    return [name_of(one) for one in prunable(records, policies, lambda key: now if key == KEY else None, NOW)]


def test_old_ones_go_and_young_ones_stay() -> None:
    assert gone(stored("old", MAX_AGE + DAY), stored("young", MAX_AGE - DAY)) == ["old"]


def test_too_many_go_the_oldest_first() -> None:
    records = [stored(f"r{number}", (number + 1) * DAY / 24 + DAY) for number in range(KEPT + 2)]
    assert gone(*records) == [f"r{KEPT + 1}", f"r{KEPT}"]


def test_none_within_a_window_or_a_cool_down() -> None:
    records = [stored(f"r{number}", number * 60.0) for number in range(KEPT + 2)]
    assert gone(*records) == []
    assert gone(*records, window="1s", cooldown="1s", maxCooldown="1s") == [f"r{KEPT + 1}", f"r{KEPT}"]
    assert prunable([stored(f"r{n}", LONGEST_SPAN - n) for n in range(KEPT + 2)], {}, lambda _: None, NOW) == []


def test_none_that_is_open_or_is_to_be_taken_back() -> None:
    action = {"debugLogs": {"podSelector": {"matchLabels": {"app": "core"}}}}
    revert = {"remediation": "on", "toggle": "t", "epoch": 0, "notBefore": timestamp(NOW)}
    pending = stored("off", MAX_AGE + DAY, "Pending", action=action, revert=revert)
    assert gone(stored("on", MAX_AGE + DAY), pending, stored("open", MAX_AGE + DAY, "Verifying")) == []


def test_none_of_an_incident_that_is_not_over() -> None:
    record = stored("long", MAX_AGE + DAY)
    assert situation().uid == BH_UID
    assert situation().incident == INCIDENT
    assert gone(record, now=situation()) == []
    assert gone(record, now=situation(incident="another")) == ["long"]
