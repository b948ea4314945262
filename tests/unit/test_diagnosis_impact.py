"""What users notice: predicted, measured, contradicted; and the diagnosis in words."""

from __future__ import annotations

from backendhealth.core.diagnosis.evidence import Answer
from backendhealth.core.diagnosis.telling import impact_text, root_cause_text, told
from backendhealth.core.reasons import Reason
from tests.unit.diagnosing import ask, down, profile, unknown, up


def effect(feature: str, effect: str) -> dict[str, str]:
    return {"feature": feature, "effect": effect, "because": f"{feature} needs it."}


PLATFORM = profile(
    "etcd",
    "search",
    "core: etcd",
    fields={
        "etcd": {"effects": [effect("run", "Fails"), effect("login", "Works")], "nextStep": "Look for a leader."},
        "search": {"effects": [effect("list", "Fails")], "runbook": "https://wiki/search"},
        "core": {"effects": [effect("run", "Degraded"), effect("status", "Degraded")]},
    },
    features=[
        {"name": "login", "title": "logging in"},
        {"name": "run", "title": "execute"},
        {"name": "list", "title": "listing"},
        {"name": "status", "title": "status updates"},
    ],
    symptoms=[
        {"name": "lists", "question": "Is it listed?", "feature": "list", "implicates": ["search"]},
        {"name": "runs", "question": "Does it run?", "feature": "run", "implicates": ["core", "etcd"]},
        {"name": "updates", "question": "Is it updated?", "feature": "status", "implicates": ["core"]},
    ],
)
ALL_UP = {"etcd": up(), "search": up(), "core": up()}


def impact(answer: Answer) -> dict[str, tuple[str, str]]:
    return {one.feature: (one.effect, one.because) for one in answer.diagnosis.impact}


def effects(answer: Answer) -> dict[str, str]:
    return {name: told for name, (told, _) in impact(answer).items()}


def test_all_features_in_the_profiles_order_while_anything_fails():
    found = ask(PLATFORM, {**ALL_UP, "etcd": down(-10), "core": down(-9)})
    assert effects(found) == {
        "logging in": "Works",
        "execute": "Fails",
        "listing": "Works",
        "status updates": "Degraded",
    }
    assert impact(found)["execute"][1] == "etcd: run needs it."
    assert impact(found)["logging in"][1] == "nothing that fails is known to touch it"
    assert ask(PLATFORM, ALL_UP).diagnosis.impact == []


def test_a_symptom_that_fails_is_told_as_measured():
    found = ask(PLATFORM, ALL_UP, {"lists": down(message="500 for GET /systems")})
    assert impact(found)["listing"] == ("Fails", "measured by symptom/lists: 500 for GET /systems")
    assert effects(found)["execute"] == "Works"


def test_what_was_measured_to_work_contradicts_the_profile():
    found = ask(PLATFORM, {**ALL_UP, "search": down(-10)}, {"lists": up(-5)})
    assert impact(found)["listing"] == ("Works", "measured by symptom/lists: fine")
    assert found.asked == frozenset()
    assert [one.name for one in found.diagnosis.mismatches] == ["listing"]
    assert "listing fails when search is down, but symptom/lists works" in found.diagnosis.mismatches[0].message


def test_what_was_measured_before_counts_for_nothing_and_is_asked_for():
    found = ask(PLATFORM, {**ALL_UP, "search": down(-10)}, {"lists": up(-15)})
    assert (effects(found)["listing"], found.diagnosis.mismatches, list(found.asked)) == ("Fails", [], ["lists"])
    assert ask(PLATFORM, {**ALL_UP, "search": down(-10)}, {"lists": unknown(Reason.PENDING)}).asked == frozenset()


def test_one_check_that_passes_does_not_prove_that_nothing_is_degraded():
    found = ask(PLATFORM, {**ALL_UP, "core": down(-10)}, {"runs": up(-5), "updates": up(-5)})
    assert (effects(found)["execute"], found.diagnosis.mismatches) == ("Degraded", [])
    assert impact(found)["execute"][1] == "core: run needs it.; symptom/runs works"


def test_titles_that_are_the_same_stay_apart():
    spec = profile("a", features=[{"name": "x", "title": "same"}, {"name": "y", "title": "same"}])
    assert list(effects(ask(spec, {"a": down()}))) == ["same", "y"]


def columns(answer: Answer) -> tuple[str, str]:
    return root_cause_text(answer.diagnosis), impact_text(answer.diagnosis)


def test_the_columns():
    assert columns(ask(PLATFORM, ALL_UP)) == ("", "")
    assert columns(ask(PLATFORM, {**ALL_UP, "etcd": down(), "search": down()})) == ("etcd, search", "execute, listing")
    assert columns(ask(PLATFORM, {**ALL_UP, "core": down()})) == (
        "core",
        "execute (degraded), status updates (degraded)",
    )
    assert columns(ask(PLATFORM, {**ALL_UP, "etcd": unknown(), "core": down()}))[0] == "etcd?"
    assert columns(ask(PLATFORM, {**ALL_UP, "etcd": up(-60), "core": down()}))[0] == "(being determined)"
    many = {f"x{index}": down() for index in range(5)}
    assert columns(ask(PLATFORM, many))[0] == "x0, x1, x2 +2"


def test_the_columns_are_bounded():
    names = [f"{index}{'n' * 60}" for index in range(9)]
    spec = profile(
        *names,
        fields={names[0]: {"effects": [effect(f"f{index}", "Fails") for index in range(9)]}},
        features=[{"name": f"f{index}", "title": f"{index} " + "very " * 60} for index in range(9)],
    )
    assert all(len(text) <= 253 for text in columns(ask(spec, {name: down() for name in names})))


def test_in_words():
    found = ask(PLATFORM, {**ALL_UP, "etcd": down(-10, Reason.QUORUM_LOST, "no leader"), "core": down(-9)})
    assert told(found.diagnosis) == [
        "Cause: etcd (QuorumLost) since 1970-01-12T13:46:34Z: no leader",
        "  etcd fails since 13:46:34 UTC (QuorumLost)",
        "  it explains that these fail: core",
        "Explained: core, by etcd: needs etcd: etcd fails since 13:46:34 UTC (QuorumLost)",
        "Users notice, fails: execute: etcd: run needs it.",
        "Users notice, degraded: status updates: core: status needs it.",
        "Still works: logging in, listing",
        "Next, for etcd: Look for a leader.",
    ]


def test_in_words_what_is_not_known():
    found = ask(PLATFORM, {**ALL_UP, "etcd": unknown(), "core": down()}, {"lists": up()})
    lines = told(found.diagnosis)
    assert "Not explained: core: it needs etcd, of which we can't tell" in lines
    assert "Suspected: etcd: core needs it, and etcd is Unknown (SecretNotFound): no such Secret" in lines
    assert lines[-1] == "Next: Does it run?"


def test_a_runbook_is_told_with_the_next_step():
    cause = ask(PLATFORM, {**ALL_UP, "search": down()}).diagnosis.root_causes[0]
    assert cause.next_step == "Runbook: https://wiki/search"
