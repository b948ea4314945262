"""What triage asks, when it stops, and what it comes to: the built-in profiles, and small ones."""

from __future__ import annotations

from typing import Any

import pytest

from backendhealth.core.diagnosis.evidence import Evidence, Seen
from backendhealth.core.reasons import Reason
from backendhealth.core.spec.backendhealth import BackendHealth
from backendhealth.core.spec.status import BackendHealthStatus, Condition, ProbeStatus, Summary
from backendhealth.core.statusof import timestamp
from backendhealth.core.triage import Reply, Triage, evidence_told
from backendhealth.core.verdict import Verdict
from backendhealth.profiles import built_in
from tests.unit.diagnosing import NOW, down, profile, unknown, up

PLACEOS = ("placeos-rethinkdb", "placeos-postgres-etcd", "placeos-postgres")
DATABASE = {"placeos-rethinkdb": "rethinkdb"}
ORDER = ["reach", "login", "systems", "modules", "execute", "websocket-open", "websocket-new", "triggers"]
ETCD_ERA = PLACEOS[:2]


def walked(name: str, said: dict[str, Any], components: dict[str, Seen] | None = None, **symptoms: Seen):
    """The triage at its end and what was asked: `said` holds False, None or an error's text; all else works."""
    triage = Triage(built_in(name).spec, Evidence(components or {}, symptoms), NOW)
    asked = []
    while question := triage.question:
        symptom = question.symptom.name
        answer = said.get(symptom, True)
        error = answer if isinstance(answer, str) else ""
        asked.append(f"{symptom}?" if question.about_error else symptom)
        works = None if answer is None else answer is True
        triage = triage.replied(symptom, Reply(works, error if question.about_error else None))
    return triage, asked


def suspects(triage: Triage) -> list[str]:
    return [one.component for one in triage.diagnosis.suspects]


@pytest.mark.parametrize("name", PLACEOS)
def test_when_all_works_everything_is_asked_in_order_and_nothing_is_wrong(name: str):
    triage, asked = walked(name, {})
    assert asked == ORDER
    assert not triage.diagnosis.impact
    assert triage.unanswered == []


def failures(name: str) -> dict[str, tuple[dict[str, Any], str]]:
    """Each failure of the document: what a person notices of it, and the component that is down."""
    database = DATABASE.get(name, "postgres")
    found: dict[str, tuple[dict[str, Any], str]] = {
        "database": ({"login": False}, database),
        "database, with an API key": ({"login": "unknown X-API-Key"}, database),
        "redis": ({"modules": False}, "redis"),
        "elasticsearch": ({"systems": False}, "elasticsearch"),
        "load balancer": ({"reach": False}, "load-balancer"),
        "load balancer that changes the Host": ({"login": "authority not found"}, "load-balancer"),
        "driver that doesn't compile": ({"execute": "failed to compile driver"}, "drivers"),
        "driver that raises": ({"execute": "module raised: timeout"}, "drivers"),
        "core": ({"execute": "No registered core instances"}, "core"),
        "core, in the document's words": ({"execute": "no core instances"}, "core"),
    }
    if name in ETCD_ERA:
        found["etcd"] = ({"execute": "unable to connect to etcd"}, "etcd")
        found["etcd, as it really says"] = ({"execute": "Error connecting to 'etcd:2379': Connection refused"}, "etcd")
    return found


@pytest.mark.parametrize(
    ("name", "failure"), [(name, failure) for name in PLACEOS for failure in failures(name)], ids=str
)
def test_a_persons_answers_lead_to_what_the_cluster_would_blame(name: str, failure: str):
    said, cause = failures(name)[failure]
    triage, asked = walked(name, said)
    failing = next(iter(said))
    assert suspects(triage)[0] == cause
    assert asked == [*ORDER[: ORDER.index(failing) + 1], f"{failing}?"]  # nothing that comes after it
    assert triage.diagnosis.root_causes == []  # nobody has looked at the component itself
    assert triage.diagnosis.next_question
    watched = {one.name: up(1) for one in triage.profile.components} | {cause: down(-10)}
    cluster = Triage(triage.profile, Evidence(watched, {failing: down(-9)}), NOW).diagnosis
    assert [one.component for one in cluster.root_causes] == [cause]


def test_no_core_instances_leaves_etcd_second():
    triage, _ = walked("placeos-rethinkdb", {"execute": "no core instances"})
    assert suspects(triage)[:2] == ["core", "etcd"]


def test_an_error_text_in_many_lines_is_read_from_both_ends():
    filler = "\n".join(f"  from line {number}" for number in range(500))
    for text in (f"unable to connect to etcd\n{filler}", f"{filler}\nunable to connect to etcd"):
        triage, _ = walked("placeos-rethinkdb", {"execute": text})
        assert suspects(triage)[0] == "etcd"


@pytest.mark.parametrize(
    ("cause", "asked"),
    [
        ("redis", ["reach", "login", "systems"]),
        ("rethinkdb", ["reach", "websocket-open"]),
        ("elasticsearch", [one for one in ORDER if one != "systems"]),
    ],
)
def test_nobody_is_asked_for_what_a_cause_that_was_found_explains(cause: str, asked: list[str]):
    triage, questions = walked("placeos-rethinkdb", {}, {cause: down()})
    assert questions == asked
    assert [one.component for one in triage.diagnosis.root_causes] == [cause]


def test_what_the_error_says_is_not_asked_where_a_cause_explains_it():
    spec = built_in("placeos-rethinkdb").spec
    replies = {name: Reply(works=name != "modules") for name in ORDER}
    assert Triage(spec, Evidence({"redis": down()}), NOW, replies).question is None
    question = Triage(spec, Evidence({}), NOW, replies).question
    assert question
    assert (question.symptom.name, question.about_error) == ("modules", True)


def test_a_second_failure_beside_a_cause_is_found():
    triage, asked = walked("placeos-rethinkdb", {"login": False}, {"redis": down()})
    assert [one.component for one in triage.diagnosis.root_causes] == ["redis"]
    assert suspects(triage)[0] == "rethinkdb"
    assert asked == ["reach", "login", "login?"]


def test_what_probes_answer_is_not_asked():
    measured = {name: up() for name in ORDER[:4]}
    triage, asked = walked("placeos-rethinkdb", {"execute": "no core instances"}, None, **measured)
    assert asked == ["execute", "execute?"]
    assert suspects(triage)[0] == "core"


def test_a_symptom_that_a_probe_measures_as_failing_ends_the_questions():
    triage, asked = walked("placeos-rethinkdb", {}, None, reach=up(), login=down())
    assert asked == []
    assert suspects(triage)[0] == "rethinkdb"


def test_what_a_probe_can_not_tell_is_asked():
    skipped = unknown(Reason.STEP_SKIPPED, "not tried")
    _, asked = walked("placeos-rethinkdb", {"login": False}, None, reach=up(), login=skipped)
    assert asked == ["login", "login?"]


def test_a_component_that_is_seen_to_work_is_no_suspect():
    triage, _ = walked("placeos-rethinkdb", {"login": False}, {"rethinkdb": up(1)})
    assert suspects(triage)[0] == "load-balancer"


def test_who_does_not_know_is_asked_the_next_and_told_so_in_the_end():
    triage, asked = walked("placeos-rethinkdb", {"reach": None, "login": False})
    assert asked == ["reach", "login", "login?"]
    assert [one.name for one in triage.unanswered][:1] == ["reach"]
    assert triage.diagnosis.next_question == triage.profile.symptoms[0].question


def test_an_earlier_question_is_asked_though_a_later_one_was_answered_before():
    triage = Triage(built_in("placeos-rethinkdb").spec, Evidence({}), NOW, {"login": Reply(works=False, error="")})
    question = triage.question
    assert question
    assert question.symptom.name == "reach"


def test_a_person_is_believed_more_than_a_probe():
    spec = built_in("placeos-rethinkdb").spec
    triage = Triage(spec, Evidence({}, {"login": up()}), NOW, {"login": Reply(works=False, error="")})
    assert suspects(triage)[0] == "rethinkdb"
    healed = Triage(spec, Evidence({}, {"login": down()}), NOW, {"login": Reply(works=True)})
    assert not healed.diagnosis.unexplained


SMALL = profile(
    "web: db",
    "db",
    "cache",
    symptoms=[
        {"name": "page", "question": "Does the page load?", "implicates": ["web", "db"]},
        {"name": "search", "question": "Does search work?", "implicates": ["cache"]},
    ],
)


def test_the_order_is_that_of_the_profile():
    first = Triage(SMALL, Evidence({}), NOW).question
    turned = SMALL.model_copy(update={"symptoms": SMALL.symptoms[::-1]})
    other = Triage(turned, Evidence({}), NOW).question
    assert first
    assert other
    assert [first.symptom.name, other.symptom.name] == ["page", "search"]


def test_without_signatures_nobody_is_asked_what_the_error_says():
    assert Triage(SMALL, Evidence({}), NOW).replied("page", Reply(works=False)).question is None


def test_a_failure_that_all_suspects_were_cleared_of_does_not_end_the_questions():
    triage = Triage(SMALL, Evidence({"web": up(1), "db": up(1)}), NOW).replied("page", Reply(works=False))
    question = triage.question
    assert question
    assert question.symptom.name == "search"


def test_a_component_answers_the_symptom_of_its_name_until_a_person_does():
    triage = Triage(SMALL, Evidence({"page": down()}), NOW)
    assert suspects(triage) == ["web", "db"]
    assert triage.measured(SMALL.symptoms[0])
    assert not triage.replied("page", Reply(works=True)).diagnosis.unexplained


def test_a_profile_without_symptoms_has_no_question():
    assert Triage(built_in("generic").spec, Evidence({"a": down()}), NOW).question is None


def written(generation: int) -> tuple[BackendHealth, BackendHealthStatus]:
    """A resource of generation 2 and a status: Redis is down, RethinkDB works."""
    raw = {
        "apiVersion": "backendhealth.dev/v1alpha1",
        "kind": "BackendHealth",
        "metadata": {"name": "a", "generation": 2},
        "spec": {"probes": [{"name": name, "tcp": {"host": name, "port": 80}} for name in ("redis", "rethinkdb")]},
    }
    since = timestamp(NOW - 60)
    reasons = {"redis": Reason.CONNECTION_REFUSED, "rethinkdb": Reason.PROBE_SUCCEEDED}
    probes = [
        ProbeStatus(name=name, component=name, verdict=reason.verdict, reason=reason, message="seen", since=since)
        for name, reason in reasons.items()
    ]
    conditions = [
        Condition(
            type=f"{name.capitalize()}Healthy",
            status="False" if reason.verdict is Verdict.UNHEALTHY else "True",
            reason=reason,
            message="seen",
            last_transition_time=since,
            observed_generation=generation,
        )
        for name, reason in reasons.items()
    ]
    status = BackendHealthStatus(
        observed_generation=generation, summary=Summary(state="Unhealthy"), probes=probes, conditions=conditions
    )
    return BackendHealth.model_validate(raw), status


def test_a_status_is_evidence_and_nothing_is_waited_for():
    triage = Triage(built_in("placeos-rethinkdb").spec, evidence_told(*written(2), NOW), NOW)
    assert [one.component for one in triage.diagnosis.root_causes] == ["redis"]
    after = triage.replied("login", Reply(works=False, error=""))
    assert suspects(after) == ["load-balancer", "auth", "api"]  # the database was seen to work


def test_a_status_of_an_older_spec_is_no_evidence():
    triage = Triage(built_in("placeos-rethinkdb").spec, evidence_told(*written(1), NOW), NOW)
    assert triage.evidence == Evidence({})
    assert suspects(triage.replied("login", Reply(works=False, error="")))[0] == "rethinkdb"


def test_what_a_person_says_is_a_failed_request():
    triage = Triage(built_in("placeos-rethinkdb").spec, Evidence({}), NOW, {"login": Reply(works=False)})
    assert triage.evidence.symptoms["login"].reason is Reason.REQUEST_FAILED
