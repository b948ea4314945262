"""The diagnosis in the turn of the cycle: who is asked, what is waited for, what a restart leaves."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise
from typing import Any

import pytest

from backendhealth.core.knowledge import Knowledge
from backendhealth.core.observation import Finding
from backendhealth.core.reasons import Reason
from backendhealth.core.spec.backendhealth import BackendHealth
from backendhealth.core.spec.profile import DiagnosisProfileSpec
from backendhealth.core.spec.status import BackendHealthStatus, Diagnosis
from tests.unit.support import GOOD, REFUSED, probe, resource
from tests.unit.world import QUICK, World

SLOW: dict[str, Any] = {"failureThreshold": 3, "successThreshold": 2}
PLACEOS = {
    "url": "http://api:3000",
    "apiKeySecretRef": {"name": "placeos", "key": "key"},
    "services": {"triggers": "http://triggers:3000"},
}
WELL = Finding(
    Reason.PROBE_SUCCEEDED,
    "it answers",
    parts=dict.fromkeys(("symptom/reach", "symptom/login", "symptom/systems", "symptom/triggers"), GOOD)
    | {"component/triggers": GOOD},
)


def with_part(name: str, finding: Finding) -> Finding:
    return replace(WELL, parts={**WELL.parts, name: finding})


def chain(*names: str, **symptom: Any) -> Knowledge:
    """Each component depends on the one before it; the last one's failure stops `orders`."""
    components: list[dict[str, Any]] = [{"name": name, "title": name.upper()} for name in names]
    for below, one in pairwise(components):
        one["dependsOn"] = [below["name"]]
    components[-1]["effects"] = [{"feature": "orders", "effect": "Fails", "because": "nothing takes them"}]
    raw = {"title": "A shop", "components": components, "features": [{"name": "orders", "title": "orders"}]}
    symptoms = [{"name": "login", "question": "Can you log in?", "implicates": ["db"], **symptom}]
    return Knowledge(DiagnosisProfileSpec.model_validate({**raw, **({"symptoms": symptoms} if "db" in names else {})}))


def shop(*names: str, **spec: Any) -> BackendHealth:
    return resource(*(probe(name) for name in names), **spec)


def world_of(declared: BackendHealth, knowledge: Knowledge) -> World:
    world = World()
    world.cycle.apply(declared, 0.0, knowledge=knowledge)
    return world


def diagnosis(world: World) -> Diagnosis:
    found = world.cycle.status("default/demo").diagnosis
    assert found is not None
    return found


def causes(status: BackendHealthStatus) -> list[str]:
    return [cause.component for cause in status.diagnosis.root_causes] if status.diagnosis else []


def well(world: World, at: float, *names: str) -> None:
    for name in names:
        world.see(name, GOOD, at)
        world.see(name, GOOD, at + 1)


def test_what_it_depends_on_is_asked_at_the_first_failure_and_once():
    world = world_of(shop("db", "app", **SLOW), chain("db", "app"))
    well(world, 1, "db", "app")
    assert world.see("app", REFUSED, 10) == ["db"]
    assert world.see("db", GOOD, 10.1) == []
    assert world.see("app", REFUSED, 12) == []
    assert world.see("app", REFUSED, 14) == []
    assert causes(world.cycle.status("default/demo")) == ["app"]


def test_blame_waits_until_what_it_depends_on_was_seen_since():
    world = world_of(shop("db", "app", **QUICK), chain("db", "app"))
    well(world, 1, "db", "app")
    assert world.see("app", REFUSED, 10) == ["db"]
    told = world.cycle.status("default/demo")
    assert causes(told) == []
    assert told.summary is not None
    assert (told.summary.state, told.summary.root_cause) == ("Unhealthy", "(being determined)")
    assert [one.name for one in diagnosis(world).unexplained] == ["app"]
    world.told.clear()
    world.see("db", GOOD, 10.1)  # its belief does not change by that, what is told does
    assert [causes(status) for _, status in world.told] == [["app"]]


def test_an_attempt_that_began_before_is_no_answer():
    world = world_of(shop("db", "app", **QUICK), chain("db", "app"))
    well(world, 1, "db", "app")
    world.see("app", REFUSED, 10, 12)
    assert world.see("db", GOOD, 11, 13) == ["db"] or diagnosis(world).unexplained
    assert causes(world.cycle.status("default/demo")) == []
    world.see("db", REFUSED, 13)
    assert causes(world.cycle.status("default/demo")) == ["db"]
    assert [(one.name, one.by) for one in diagnosis(world).explained] == [("app", ["db"])]


def test_nothing_healthy_is_blamed_on_the_way():
    world = world_of(shop("db", "app", **SLOW), chain("db", "app"))
    well(world, 1, "db", "app")
    for at in (10, 12, 14):  # the one that depends is seen first each time
        world.see("app", REFUSED, at)
        world.see("db", REFUSED, at + 0.1)
    for at in (30, 32, 34):  # and recovers later
        world.see("db", GOOD, at)
        world.see("app", REFUSED, at + 0.1)
    well(world, 40, "app")
    blamed = [causes(status) for _, status in world.told]
    assert ["app"] not in blamed
    assert blamed[-1] == []
    assert ["db"] in blamed


def test_the_impact_is_in_the_columns():
    world = world_of(shop("db", "app", **QUICK), chain("db", "app"))
    well(world, 1, "db", "app")
    world.see("app", REFUSED, 10)
    world.see("db", GOOD, 10.1)
    summary = world.cycle.status("default/demo").summary
    assert summary is not None
    assert (summary.root_cause, summary.reason, summary.impact) == ("app", "ConnectionRefused", "orders")


def test_a_grace_that_ends_is_noticed_at_the_next_attempt():
    world = world_of(shop("db", "app", **QUICK), chain("db", "app"))
    well(world, 1, "db", "app")
    world.see("db", REFUSED, 10)
    world.see("app", REFUSED, 10.1)
    world.see("db", GOOD, 20)
    world.see("app", REFUSED, 20.1)
    assert [(one.name, one.by) for one in diagnosis(world).explained] == [("app", ["db"])]
    world.see("app", REFUSED, 139)
    assert causes(world.cycle.status("default/demo")) == []
    world.see("app", REFUSED, 141)  # two minutes after the other came back
    assert causes(world.cycle.status("default/demo")) == ["app"]
    assert "did not recover" in diagnosis(world).root_causes[0].message


def test_another_profile_is_another_diagnosis_and_resets_nothing():
    declared = shop("db", "app", **QUICK)
    world = world_of(declared, chain("db", "app"))
    well(world, 1, "db", "app")
    world.see("db", REFUSED, 10)
    world.see("app", REFUSED, 10.1)
    before = world.cycle.status("default/demo")
    assert causes(before) == ["db"]
    fresh = world.cycle.apply(declared, 11.0, knowledge=chain("other"))
    after = world.cycle.status("default/demo")
    assert fresh == set()
    assert causes(after) == ["app", "db"]
    assert (after.probes, after.incident, after.history) == (before.probes, before.incident, before.history)
    assert [one.last_transition_time for one in after.conditions] == [
        one.last_transition_time for one in before.conditions
    ]


@pytest.mark.parametrize("problem", [Reason.PROFILE_NOT_FOUND, Reason.PROFILE_INVALID])
def test_a_profile_that_is_not_as_asked_for_is_told_while_probing_goes_on(problem: Reason):
    declared = shop("db", **QUICK)
    world = world_of(declared, chain("db"))
    well(world, 1, "db")
    world.cycle.apply(declared, 5.0, knowledge=replace(chain("db"), problem=problem, message="it is gone"))
    conditions = {one.type: (one.status, one.reason) for one in world.cycle.status("default/demo").conditions}
    assert conditions["Stalled"] == ("True", problem.value)
    assert (conditions["Ready"][0], conditions["Healthy"][0]) == ("True", "True")
    world.see("db", REFUSED, 10)
    assert causes(world.cycle.status("default/demo")) == ["db"]
    world.cycle.apply(declared, 11.0, knowledge=chain("db"))
    assert "Stalled" not in {one.type for one in world.cycle.status("default/demo").conditions}


def test_a_message_tells_the_cause_what_users_notice_and_what_to_look_at():
    knowledge = chain("db", "app")
    spec = knowledge.profile.model_dump(by_alias=True, exclude_none=True)
    spec["components"][0]["nextStep"] = "Look at the disk."
    knowledge = Knowledge(DiagnosisProfileSpec.model_validate(spec))
    world = world_of(shop("db", "app", **QUICK), knowledge)
    well(world, 1, "db", "app")
    world.see("app", REFUSED, 10)
    world.see("db", Finding(Reason.TIMEOUT, "no answer within 5 s"), 10.1)
    status = world.cycle.status("default/demo")
    told = "db: no answer within 5 s; explained by that: app; users notice: orders; next: Look at the disk."
    assert status.summary is not None
    assert status.summary.message == told
    assert next(one.message for one in status.conditions if one.type == "Healthy") == told
    assert next(one.message for one in status.conditions if one.type == "AppHealthy") == "connection refused"


# Parts


def platform(**spec: Any) -> BackendHealth:
    return resource({"name": "api", "placeos": PLACEOS}, probe("db"), **{**SLOW, **spec})


def parts(world: World) -> dict[str, str]:
    row = next(row for row in world.cycle.status("default/demo").probes if row.name == "api")
    return {part.name: str(part.verdict) for part in row.parts}


def test_each_part_has_thresholds_of_its_own():
    world = world_of(platform(), chain("db", "triggers"))
    well(world, 1, "db")
    for at in (1, 2, 3):
        world.see("api", WELL, at)
    assert set(parts(world).values()) == {"Healthy"}
    failing = with_part("symptom/systems", REFUSED)
    for at in (10, 12, 14):
        world.see("api", failing, at)
    assert [name for name, verdict in parts(world).items() if verdict == "Unhealthy"] == ["symptom/systems"]
    both = replace(failing, parts={**failing.parts, "component/triggers": REFUSED})
    world.see("api", both, 16)  # one odd failure of another part decides nothing
    assert [name for name, verdict in parts(world).items() if verdict == "Unhealthy"] == ["symptom/systems"]


def test_a_part_speaks_for_another_component():
    world = world_of(platform(), chain("db", "triggers"))
    well(world, 1, "db")
    world.see("api", WELL, 1)
    conditions = {one.type: one.status for one in world.cycle.status("default/demo").conditions}
    assert conditions["TriggersHealthy"] == "Unknown"
    for at in (10, 12, 14):
        world.see("api", with_part("component/triggers", REFUSED), at)
        world.see("db", GOOD, at + 0.5)
    told = world.cycle.status("default/demo")
    conditions = {one.type: one.status for one in told.conditions}
    assert (conditions["TriggersHealthy"], conditions["ApiHealthy"]) == ("False", "True")
    assert causes(told) == ["triggers"]


def test_a_symptom_alone_makes_the_whole_unhealthy_and_names_suspects():
    world = world_of(platform(), chain("db", implicates=["db", "balancer"]))
    well(world, 1, "db")
    for at in (10, 12, 14):
        world.see("api", with_part("symptom/login", REFUSED), at)
        world.see("db", GOOD, at + 0.5)
    told = world.cycle.status("default/demo")
    assert told.summary is not None
    assert (told.summary.state, told.summary.root_cause) == ("Unhealthy", "balancer?")
    assert told.incident is not None
    healthy = next(one for one in told.conditions if one.type == "Healthy")
    assert (healthy.status, healthy.reason) == ("False", "ConnectionRefused")


def test_what_was_not_come_to_is_unknown():
    world = world_of(platform(**QUICK), chain("db"))
    world.see("api", REFUSED, 1)
    row = next(row for row in world.cycle.status("default/demo").probes if row.name == "api")
    assert {(str(part.verdict), part.reason) for part in row.parts} == {("Unknown", "StepSkipped")}
    assert "connection refused" in row.parts[0].message


def test_the_doubt_about_our_network_is_not_about_a_step_of_one_that_answered():
    world = world_of(platform(**QUICK), chain("db"))
    silent = Finding(Reason.TIMEOUT, "no answer within 1 s", contact=False)
    world.see("api", with_part("symptom/systems", silent), 1)
    assert parts(world)["symptom/systems"] == "Unhealthy"


# A restart


def test_a_restart_leaves_the_diagnosis_as_it_was():
    declared, knowledge = platform(), chain("db", "triggers")
    world = world_of(declared, knowledge)
    well(world, 1, "db")
    for at in (1, 2, 3):
        world.see("api", WELL, at)
    for at in (10, 12, 14):
        world.see("db", REFUSED, at)
        world.see("api", with_part("component/triggers", REFUSED), at + 0.5)
    before = world.cycle.status("default/demo")
    assert causes(before) == ["db"]
    again = World()
    again.cycle.apply(declared, 100.0, restored=before, knowledge=knowledge)
    assert again.cycle.status("default/demo") == before


def test_two_causes_stay_two_after_a_restart():
    declared, knowledge = shop("db", "app", **QUICK, timeout="1s"), chain("db", "app")
    world = world_of(declared, knowledge)
    well(world, 1, "db", "app")
    world.see("app", REFUSED, 10)
    world.see("db", GOOD, 11)
    world.see("db", REFUSED, 60)
    before = world.cycle.status("default/demo")
    assert causes(before) == ["db", "app"]
    again = World()
    again.cycle.apply(declared, 100.0, restored=before, knowledge=knowledge)
    assert causes(again.cycle.status("default/demo")) == ["db", "app"]
