"""The built-in profile of PlaceOS with RethinkDB: each single failure of its document, as probes would see it."""

from __future__ import annotations

import pytest

from backendhealth.core.diagnosis.evidence import Seen
from backendhealth.core.diagnosis.telling import impact_text, root_cause_text
from backendhealth.core.reasons import Reason
from backendhealth.profiles import built_in
from tests.unit.diagnosing import ask, causes, down, explained, profile, subjects, suspected, unexplained, unknown, up

PLACEOS = built_in("placeos-rethinkdb").spec
BACKENDS = ("rethinkdb", "etcd", "redis", "elasticsearch", "core", "drivers", "api")
SYMPTOMS = ("reach", "login", "systems", "modules", "execute", "websocket-open", "websocket-new", "triggers")
ALL_UP = {name: up() for name in BACKENDS}
WORK = {name: up() for name in SYMPTOMS}
SKIPPED = unknown(Reason.PENDING, "an earlier step failed")


def after(
    cause: str, symptoms: dict[str, Seen], *, fallen: tuple[str, ...] = ()
) -> tuple[dict[str, Seen], dict[str, Seen]]:
    return {**ALL_UP, cause: down(-10), **{name: down(-9) for name in fallen}}, {**WORK, **symptoms}


FAILURES = {
    "etcd": after("etcd", {"execute": down(-8), "websocket-new": down(-8), "triggers": down(-8)}, fallen=("core",)),
    "rethinkdb": after("rethinkdb", {"login": down(-8), "systems": SKIPPED, "modules": SKIPPED, "execute": SKIPPED}),
    "redis": after("redis", {"modules": down(-8), "execute": down(-8)}),
    "elasticsearch": after("elasticsearch", {"systems": down(-8)}),
    "core": after("core", {"execute": down(-8, message="No registered core instances")}, fallen=("drivers",)),
}
FAILS = {
    "etcd": {"execute", "new WebSockets", "triggers", "driver launch"},
    "rethinkdb": {"login", "API requests"},
    "redis": {"status updates and signals", "lists of modules and functions"},
    "elasticsearch": {"listing and search"},
    "core": {"execute"},
}
WORKS = {
    "etcd": {"login", "API requests", "listing and search"},
    "rethinkdb": {"existing WebSockets"},
    "redis": {"login", "API requests", "listing and search"},
    "elasticsearch": {"login", "API requests", "execute", "new WebSockets", "triggers", "status updates and signals"},
    "core": {"login", "API requests", "listing and search"},
}


@pytest.mark.parametrize("cause", FAILURES)
def test_each_failure_of_the_document(cause: str):
    components, symptoms = FAILURES[cause]
    answer = ask(PLACEOS, components, symptoms)
    assert causes(answer) == [cause]
    assert unexplained(answer) == {}
    assert all(by == [cause] for by in explained(answer).values())
    effects = {one.feature: one.effect for one in answer.diagnosis.impact}
    assert FAILS[cause] <= {name for name, effect in effects.items() if effect == "Fails"}
    assert WORKS[cause] <= {name for name, effect in effects.items() if effect == "Works"}
    assert root_cause_text(answer.diagnosis) == cause
    assert impact_text(answer.diagnosis)


@pytest.mark.parametrize("cause", FAILURES)
def test_each_failure_without_any_probe_of_the_platform_itself(cause: str):
    components, _ = FAILURES[cause]
    answer = ask(PLACEOS, components)
    assert causes(answer) == [cause]
    assert FAILS[cause] <= {one.feature for one in answer.diagnosis.impact if one.effect == "Fails"}


@pytest.mark.parametrize("reason", ["DriverCompileFailed", "DriverCrashLooping"])
def test_a_driver_that_fails_by_itself(reason: str):
    one = Reason(reason)
    seen = down(-10, one, subjects=subjects(a=one, b=Reason.PROBE_SUCCEEDED))
    answer = ask(PLACEOS, {**ALL_UP, "drivers": seen}, WORK)
    assert causes(answer) == ["drivers"]
    assert {one.effect for one in answer.diagnosis.impact if one.feature == "execute"} == {"Degraded"}


def test_all_drivers_that_crash_together_are_no_cause():
    crash = Reason("DriverCrashLooping")
    drivers = down(-9, crash, subjects=subjects(a=crash, b=crash))
    assert causes(ask(PLACEOS, {**ALL_UP, "redis": down(), "drivers": drivers}, WORK)) == ["redis"]
    assert ask(PLACEOS, {**ALL_UP, "redis": up(-30), "drivers": drivers}, WORK).asked == {"redis"}


@pytest.mark.parametrize("backend", ["rethinkdb", "etcd", "redis"])
def test_an_api_that_is_restarted_is_no_cause(backend: str):
    api = down(-9, Reason.CRASH_LOOP_BACK_OFF)
    answer = ask(PLACEOS, {**ALL_UP, backend: down(), "api": api})
    assert (causes(answer), explained(answer)) == ([backend], {"api": [backend]})


def test_login_fails_and_the_database_is_fine():
    answer = ask(PLACEOS, ALL_UP, {**WORK, "login": down()})
    assert (causes(answer), suspected(answer)) == ([], ["load-balancer", "auth"])
    assert root_cause_text(answer.diagnosis) == "load-balancer?"
    assert "do requests reach the services?" in answer.diagnosis.next_question


@pytest.mark.parametrize(
    ("symptom", "suspect"), [("login", "rethinkdb"), ("systems", "elasticsearch"), ("modules", "redis")]
)
def test_a_person_answers_and_nothing_is_probed(symptom: str, suspect: str):
    answered = {name: up() for name in SYMPTOMS[: SYMPTOMS.index(symptom)]}
    assert suspected(ask(PLACEOS, {}, {**answered, symptom: down()}))[0] == suspect


@pytest.mark.parametrize(
    ("text", "suspect"),
    [("No registered core instances", "core"), ("unable to connect to etcd", "etcd"), ("module raised: x", "drivers")],
)
def test_the_error_of_an_execute_names_the_suspect(text: str, suspect: str):
    answered = {name: up() for name in SYMPTOMS[: SYMPTOMS.index("execute")]}
    assert suspected(ask(PLACEOS, {}, {**answered, "execute": down(message=text)}))[0] == suspect


def test_the_generic_profile_blames_what_fails():
    generic = built_in("generic").spec
    answer = ask(generic, {"a": down(), "b": up(-100)})
    assert causes(answer) == ["a"]
    assert ask(profile(), {"a": down()}).diagnosis.root_causes == answer.diagnosis.root_causes
