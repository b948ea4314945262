"""Symptoms: explained, waiting, or with suspects and a next question; confounders; error texts."""

from __future__ import annotations

import pytest

from backendhealth.core.diagnosis.evidence import Seen
from backendhealth.core.observation import SubjectFinding
from backendhealth.core.reasons import Reason
from tests.unit.diagnosing import (
    ask,
    at_risk,
    causes,
    down,
    evidence,
    explained,
    profile,
    subjects,
    suspected,
    unexplained,
    unknown,
    up,
)

SYMPTOMS = [
    {"name": "reach", "question": "Does it answer?", "implicates": ["lb", "api"]},
    {"name": "login", "question": "Can you log in?", "feature": "login", "implicates": ["db", "lb", "api"]},
    {
        "name": "listing",
        "question": "Are systems listed?",
        "implicates": ["search", "db"],
        "nextStep": "Look at the index.",
    },
]
PLATFORM = profile(
    "db",
    "search",
    "lb",
    "api: db",
    "cache",
    fields={
        "lb": {"nextStep": "Do requests reach the services?"},
        "cache": {"effects": [{"feature": "login", "effect": "Degraded", "because": "Sessions are lost."}]},
    },
    features=[{"name": "login", "title": "login"}],
    symptoms=SYMPTOMS,
)
ALL_UP = {"db": up(), "search": up(), "api": up(), "cache": up()}
WORK = {"reach": up(), "login": up(), "listing": up()}


def test_it_is_explained_by_what_it_implicates_and_by_what_explains_that():
    answer = ask(PLATFORM, {**ALL_UP, "db": down(-10), "api": down(-9)}, {**WORK, "reach": down(-8), "login": down(-8)})
    assert causes(answer) == ["db"]
    assert explained(answer) == {"api": ["db"], "symptom/reach": ["db"], "symptom/login": ["db"]}
    assert answer.diagnosis.next_question == ""


def test_it_is_explained_by_what_has_an_effect_on_its_feature():
    answer = ask(PLATFORM, {**ALL_UP, "cache": down()}, {**WORK, "login": down(-9)})
    assert explained(answer) == {"symptom/login": ["cache"]}
    assert answer.diagnosis.explained[0].because.endswith("(ConnectionRefused): Sessions are lost.")


def test_it_is_not_explained_by_what_worked_since():
    answer = ask(PLATFORM, {**ALL_UP, "db": down(-10)}, {**WORK, "login": down(-60)})
    assert (causes(answer), list(unexplained(answer)), suspected(answer)) == (["db"], ["symptom/login"], ["lb"])


@pytest.mark.parametrize("late", ["db", "api", "cache"])
def test_it_waits(late: str):
    answer = ask(PLATFORM, {**ALL_UP, late: up(-30)}, {**WORK, "login": down(-10)})
    assert unexplained(answer) == {"symptom/login": f"being determined: waiting for {late}"}
    assert (suspected(answer), list(answer.asked), answer.diagnosis.next_question) == ([], [late], "")


def test_the_database_is_fine_so_it_may_be_the_load_balancer():
    answer = ask(PLATFORM, ALL_UP, {**WORK, "login": down()})
    assert (causes(answer), list(unexplained(answer)), suspected(answer)) == ([], ["symptom/login"], ["lb"])
    assert answer.diagnosis.next_question == "Do requests reach the services?"
    assert "lb is not watched" in answer.diagnosis.suspects[0].because


def test_suspects_are_those_that_were_not_cleared_in_order():
    seen = {**ALL_UP, "db": at_risk(), "api": unknown(Reason.BLIND)}
    assert suspected(ask(PLATFORM, seen, {**WORK, "login": down()})) == ["db", "lb", "api"]
    del seen["db"]
    assert suspected(ask(PLATFORM, seen, {**WORK, "login": down()})) == ["db", "lb", "api"]


def test_all_cleared():
    answer = ask(PLATFORM, ALL_UP, {**WORK, "listing": down()})
    assert unexplained(answer) == {"symptom/listing": "all that it speaks against was seen to work since"}
    assert (suspected(answer), answer.diagnosis.next_question) == ([], "Look at the index.")


@pytest.mark.parametrize(
    ("answered", "question"),
    [
        ({}, "Does it answer?"),
        ({"reach": up()}, "Can you log in?"),
        ({"reach": unknown(Reason.PENDING), "login": up()}, "Look at the index."),  # one that logs in has reached it
        ({"reach": up(), "login": unknown(Reason.PENDING)}, "Can you log in?"),
    ],
)
def test_the_next_question_is_the_next_in_triage(answered: dict[str, Seen], question: str):
    assert ask(PLATFORM, ALL_UP, {**answered, "listing": down()}).diagnosis.next_question == question


def test_a_component_of_the_same_name_answers_and_is_never_a_cause():
    answer = ask(PLATFORM, {**ALL_UP, "login": down(-9), "db": down()}, {})
    assert (causes(answer), explained(answer)) == (["db"], {"login": ["db"]})
    answer = ask(PLATFORM, {**ALL_UP, "login": down()}, {})
    assert (causes(answer), list(unexplained(answer))) == ([], ["login"])


def test_a_symptom_that_bears_the_name_of_a_component():
    spec = profile("triggers", symptoms=[{"name": "triggers", "question": "?", "implicates": ["triggers"]}])
    answer = ask(spec, {"triggers": down()}, {"triggers": down(-9)})
    assert (causes(answer), explained(answer)) == (["triggers"], {"symptom/triggers": ["triggers"]})


def test_a_symptom_that_the_profile_does_not_know():
    assert list(unexplained(ask(PLATFORM, ALL_UP, {"odd": down()}))) == ["symptom/odd"]


def test_with_nothing_but_what_a_person_answers():
    answer = ask(PLATFORM, {}, {"reach": up(), "login": down()})
    assert (suspected(answer), answer.asked) == (["db", "lb", "api"], frozenset())


# what looks like a cause and is not

CONFOUNDER = {
    "name": "together",
    "component": "drivers",
    "reasons": ["CrashLoopBackOff"],
    "allSubjects": True,
    "suspects": ["redis"],
    "because": "All drivers relaunch together",
}
DRIVERS = profile("redis", "core", "drivers: core", confounders=[CONFOUNDER])
CRASH = Reason.CRASH_LOOP_BACK_OFF
LOOPING = down(-9, CRASH, subjects=subjects(a=CRASH, b=CRASH))


def test_a_confounder_is_explained_by_a_suspect_that_fails():
    answer = ask(DRIVERS, {"redis": down(), "core": up(), "drivers": LOOPING})
    assert (causes(answer), explained(answer)) == (["redis"], {"drivers": ["redis"]})
    assert answer.diagnosis.explained[0].because.startswith("All drivers relaunch together (redis fails since ")


def test_a_confounder_waits_for_its_suspects():
    answer = ask(DRIVERS, {"redis": up(-60), "core": up(), "drivers": LOOPING})
    assert (causes(answer), list(answer.asked)) == ([], ["redis"])


@pytest.mark.parametrize("redis", [{}, {"redis": unknown()}, {"redis": unknown(Reason.SUSPENDED)}])
def test_a_confounder_holds_while_we_cannot_tell(redis: dict[str, Seen]):
    answer = ask(DRIVERS, {**redis, "core": up(), "drivers": LOOPING})
    assert (causes(answer), list(unexplained(answer)), suspected(answer)) == ([], ["drivers"], ["redis"])


def test_a_confounder_whose_suspects_work_does_not_hold():
    assert causes(ask(DRIVERS, {"redis": up(), "core": up(), "drivers": LOOPING})) == ["drivers"]


@pytest.mark.parametrize(
    "seen",
    [
        down(-9, CRASH),
        down(-9, CRASH, subjects=subjects(a=CRASH, b=Reason.PROBE_SUCCEEDED)),
        down(-9, Reason.OOM_KILLED, subjects=subjects(a=CRASH)),
    ],
)
def test_a_confounder_asks_for_all_subjects_and_its_reasons(seen: Seen):
    assert causes(ask(DRIVERS, {"redis": down(), "core": up(), "drivers": seen})) == ["redis", "drivers"]


def test_a_confounder_goes_before_a_reason_of_its_own_if_it_names_it():
    fields = {"drivers": {"ownReasons": ["CrashLoopBackOff"]}}
    named = profile("redis", "drivers", fields=fields, confounders=[CONFOUNDER])
    any_reason = profile("redis", "drivers", fields=fields, confounders=[{**CONFOUNDER, "reasons": []}])
    seen = {"redis": down(), "drivers": LOOPING}
    assert (causes(ask(named, seen)), causes(ask(any_reason, seen))) == (["redis"], ["redis", "drivers"])


def test_confounders_that_name_each_other_leave_one_cause():
    def mistaken(one: str, other: str) -> dict[str, object]:
        return {"name": one, "component": one, "suspects": [other], "because": "so it is"}

    spec = profile("a", "b", confounders=[mistaken("a", "b"), mistaken("b", "a")])
    answer = ask(spec, {"a": down(), "b": down()})
    assert (causes(answer), explained(answer)) == (["b"], {"a": ["b"]})


# error texts

SIGNATURES = [
    {"name": "key", "pattern": "(?i)unknown key", "implicates": ["db"], "because": "The database may be down."},
    {"name": "host", "pattern": "bad host", "implicates": ["lb"], "clears": ["api"], "because": "The host is wrong."},
]
SIGNED = profile("db", "api: db", "lb", symptoms=SYMPTOMS[:2], signatures=SIGNATURES)


def test_a_text_puts_its_suspect_first_and_clears_others():
    answer = ask(SIGNED, {}, {"login": down(texts=("bad host",))})
    assert suspected(answer) == ["lb", "db"]
    assert answer.diagnosis.suspects[0].because == "symptom/login says so: The host is wrong."
    assert suspected(ask(SIGNED, {}, {"login": down()})) == ["db", "lb", "api"]


def test_a_text_clears_what_could_not_be_told():
    clearing = [{"name": "x", "pattern": "raised", "clears": ["db", "api"], "because": "It is the code."}]
    spec = profile("db", "api: db", signatures=clearing)
    assert suspected(ask(spec, {"db": unknown(), "api": down(message="raised")})) == ["api"]


def test_a_text_is_evidence_never_a_cause():
    answer = ask(SIGNED, {"db": down(), "api": down(-9, message="Unknown KEY")})
    assert causes(answer) == ["db"]
    assert "api says so: The database may be down." in evidence(answer, "db")
    answer = ask(SIGNED, {"db": unknown(), "api": down(message="unknown key")})
    assert (causes(answer), suspected(answer)) == ([], ["db", "api"])


def test_a_text_against_what_works_is_a_mismatch():
    answer = ask(SIGNED, {"db": up(), "api": down(message="unknown key")})
    assert causes(answer) == ["api"]
    told = {one.name: one.message for one in answer.diagnosis.mismatches}
    assert list(told) == ["db"]
    assert "look at the way from api to db" in told["db"]
    waiting = ask(SIGNED, {"db": up(-60), "api": down(message="unknown key")})
    assert waiting.diagnosis.mismatches == []


def test_texts_of_parts_that_work_do_not_count():
    def against(reason: Reason) -> str:
        parts = (SubjectFinding("member/a", reason, "bad host"),)
        return evidence(ask(SIGNED, {"lb": down(subjects=parts)}), "lb")

    assert "says so" in against(CRASH)
    assert "says so" not in against(Reason.PROBE_SUCCEEDED)


def test_a_text_that_seems_to_speak_against_another_is_no_contradiction_when_something_explains_it():
    signatures = [{"name": "refused", "pattern": "refused", "implicates": ["cache"], "because": "No cache."}]
    platform = profile(
        "db", "cache", symptoms=SYMPTOMS[1:2], signatures=signatures, features=[{"name": "login", "title": "login"}]
    )
    works = {"cache": up(), "lb": up(), "api": up()}
    answer = ask(
        platform, {**works, "db": down(-10, message="gone")}, {"login": down(-9, message="connection refused")}
    )
    assert explained(answer) == {"symptom/login": ["db"]}
    assert answer.diagnosis.mismatches == []
    answer = ask(platform, {**works, "db": up()}, {"login": down(-9, message="connection refused")})
    assert [one.name for one in answer.diagnosis.mismatches] == ["cache"]


NO_DB = {"name": "no-db", "pattern": "check to db failed", "implicates": ["db"], "because": "It can't reach the db."}


def test_the_log_of_one_that_works_tells_whom_to_suspect():
    listing = {**SYMPTOMS[1], "implicates": ["lb", "db"]}
    platform = profile("db", "lb", "api", symptoms=[listing], signatures=[NO_DB])
    failing = {"login": down(-9)}
    assert suspected(ask(platform, {"api": up()}, failing)) == ["lb", "db"]
    said = ask(platform, {"api": up(texts=("check to db failed",))}, failing)
    assert suspected(said) == ["db", "lb"]
    assert said.diagnosis.suspects[0].because == "api says so: It can't reach the db."
    assert causes(said) == []


def test_the_log_of_a_cause_that_speaks_of_what_nobody_watches_is_evidence():
    platform = profile("db", "api: db", signatures=[NO_DB])
    answer = ask(platform, {"api": down(texts=("check to db failed",))})
    assert causes(answer) == ["api"]
    assert "It can't reach the db." in evidence(answer, "api")


def test_logs_say_nothing_while_nothing_fails():
    platform = profile("db", "api: db", signatures=[NO_DB])
    answer = ask(platform, {"db": up(), "api": up(texts=("check to db failed",))})
    assert (answer.diagnosis.mismatches, answer.diagnosis.suspects) == ([], [])


# what works speaks for what it needs

EFFECTS = {
    "db": {"nextStep": "Ask the db.", "effects": [{"feature": "login", "effect": "Fails", "because": "No users."}]},
    "lb": {"effects": [{"feature": "login", "effect": "Fails", "because": "No way in."}]},
    "search": {"nextStep": "Look at its disks."},
}
LOGIN = {"name": "login", "question": "Can you log in?", "feature": "login", "implicates": ["db", "lb"]}
LISTING = {"name": "listing", "question": "Listed?", "implicates": ["db", "lb", "search"], "nextStep": "Which error?"}
NO_INDEX = {"name": "index", "pattern": "no index", "implicates": ["search"], "because": "Its index is gone."}
LOGS_IN = profile(
    *("db", "lb", "search", "api: db"),
    fields=EFFECTS,
    features=[{"name": "login", "title": "login"}],
    symptoms=[LOGIN, LISTING],
    signatures=[NO_INDEX],
)


def test_a_symptom_that_works_makes_unlikely_what_it_needs():
    answer = ask(LOGS_IN, {}, {"login": up(-5), "listing": down(-10)})
    assert suspected(answer) == ["lb", "search", "db"]  # a check may go past what nothing depends on
    assert answer.diagnosis.suspects[-1].because.endswith("; yet symptom/login works, which fails with it")


@pytest.mark.parametrize("login", [up(-20), at_risk(), unknown(), down(-5)])
def test_one_that_was_not_seen_to_work_since_speaks_for_nobody(login: Seen):
    assert suspected(ask(LOGS_IN, {}, {"login": login, "listing": down(-10)}))[0] == "db"


def test_what_fails_by_itself_stays_as_likely_as_it_is():
    spec = profile("db", "api: db", fields={"db": EFFECTS["db"]}, features=[{"name": "login", "title": "login"}])
    spec = spec.model_copy(update={"symptoms": [one for one in LOGS_IN.symptoms if one.name == "login"]})
    assert suspected(ask(spec, {"db": unknown(), "api": down(-10)}, {})) == ["db", "api"]
    assert suspected(ask(spec, {"db": unknown(), "api": down(-10)}, {"login": up(-5)})) == ["api", "db"]


def test_the_next_question_is_what_the_error_text_points_at():
    assert ask(LOGS_IN, {}, {"listing": down()}).diagnosis.next_question == "Can you log in?"
    assert ask(LOGS_IN, {}, {"login": up(), "listing": down()}).diagnosis.next_question == "Which error?"
    said = down(message="no index")
    assert ask(LOGS_IN, {}, {"listing": said}).diagnosis.next_question == "Look at its disks."
    assert ask(LOGS_IN, {"search": up()}, {"login": up(), "listing": said}).diagnosis.next_question == "Which error?"


def test_the_text_of_what_is_explained_asks_nothing():
    seen = {"search": unknown(), "db": down(-12), "api": down(-10, message="no index")}
    answer = ask(LOGS_IN, seen, {"listing": down(-30)})
    assert explained(answer) == {"api": ["db"]}
    assert answer.diagnosis.next_question == "Can you log in?"
