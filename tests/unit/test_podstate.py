"""What pods show, from the API server's objects to one finding."""

from __future__ import annotations

from typing import Any

import pytest

from backendhealth.core.durations import seconds
from backendhealth.core.observation import MAX_SUBJECTS, Finding
from backendhealth.core.pods import pod_of
from backendhealth.core.podstate import Restarts, judged, next_look, remembered
from backendhealth.core.reasons import Reason
from backendhealth.core.spec.pods import PodsProbe
from backendhealth.core.verdict import Verdict
from tests.unit.podmaking import NOW, Json, container, ended, good, pod, running, waiting

PLANTED = "pl4nted-s3cret"


def target(**fields: Any) -> PodsProbe:
    return PodsProbe.model_validate({"selector": {"matchLabels": {"app": "core"}}, **fields})


def judge(*pods: Json, history: Restarts | None = None, now: float = NOW, **fields: Any) -> Finding:
    seen, declared = [pod_of(raw) for raw in pods], target(**fields)
    return judged(declared, seen, remembered(history or {}, seen, now, seconds(declared.restart_window)), now)


def reasons(finding: Finding) -> dict[str, Reason]:
    """Reasons of the subjects in trouble."""
    return {one.subject: one.reason for one in finding.subjects if one.reason.verdict is not Verdict.HEALTHY}


# how many


def test_all_are_ready():
    finding = judge(good("a"), good("b"))
    assert finding.reason is Reason.PROBE_SUCCEEDED
    assert finding.message == "2 of 2 pods are ready"
    assert finding.facts == {"ready": 2, "total": 2, "restarts": 0}
    assert [one.subject for one in finding.subjects] == ["pod/a", "pod/b"]
    assert finding.contact


def test_no_pod_matches():
    finding = judge()
    assert finding.reason is Reason.NO_PODS
    assert "app=core" in finding.message
    assert finding.facts == {"ready": 0, "total": 0, "restarts": 0}


def test_only_pods_that_have_ended_or_are_being_deleted():
    finding = judge(pod("done", phase="Succeeded"), good("going", deleting=True))
    assert finding.reason is Reason.NO_PODS
    assert finding.message == "of the pods that match app=core none is to run: 1 being deleted, 1 ended"


def test_a_completed_job_beside_a_ready_pod_is_no_trouble():
    completed = pod("done", container(ended("Completed", 0)), phase="Succeeded")
    assert judge(good(), completed).reason is Reason.PROBE_SUCCEEDED


def test_fewer_than_needed():
    finding = judge(good(), minimumReady=2)
    assert finding.reason is Reason.NOT_ENOUGH_READY
    assert finding.message == "1 of 1 pods are ready, 2 needed"


def test_a_pod_being_deleted_is_not_counted_though_it_is_ready():
    assert judge(good("a"), good("b", deleting=True), minimumReady=2).reason is Reason.NOT_ENOUGH_READY


# why a pod is not ready

IMAGE = ("ImagePullBackOff", "ErrImagePull", "ErrImageNeverPull", "InvalidImageName", "ImageInspectError")
RARE_IMAGE = ("RegistryUnavailable", "SignatureValidationFailed")
START = ("CreateContainerError", "RunContainerError", "PreCreateHookError", "PreStartHookError", "PostStartHookError")


@pytest.mark.parametrize(
    ("word", "reason"),
    [
        ("CrashLoopBackOff", Reason.CRASH_LOOP_BACK_OFF),
        ("CreateContainerConfigError", Reason.CONTAINER_CONFIG_ERROR),
        *((word, Reason.IMAGE_PULL_FAILED) for word in (*IMAGE, *RARE_IMAGE)),
        *((word, Reason.CONTAINER_START_FAILED) for word in START),
    ],
)
def test_what_the_kubelet_waits_for(word: str, reason: Reason):
    for broken in (
        pod("x", container(waiting(word, "the kubelet's words")), phase="Pending"),
        pod("x", container(waiting("PodInitializing")), init=(container(waiting(word, "the kubelet's words")),)),
    ):
        finding = judge(broken)
        assert finding.reason is reason
        assert finding.verdict is Verdict.UNHEALTHY
        assert reasons(finding) == {"pod/x": reason}
        assert finding.message.startswith("0 of 1 pods are ready, 1 needed; pod x: ")
        if reason is not Reason.CRASH_LOOP_BACK_OFF:
            assert f"({word}): the kubelet's words" in finding.message
        assert ("init container main" in finding.message) is ("initContainerStatuses" in broken["status"])


def test_a_crash_loop_says_how_it_ended():
    crash = container(waiting("CrashLoopBackOff", "back-off 10s"), restarts=7, last=ended("Error", 3))
    (subject,) = judge(pod("x", crash)).subjects
    assert "keeps crashing: it ended with exit code 3 at 2027-01-15T07:59:55Z, 7 restarts" in subject.message
    assert subject.facts == {"restarts": 7}


@pytest.mark.parametrize("state", [running(NOW - 1), ended()])
def test_between_two_crashes_it_still_is_a_crash_loop(state: Json):
    crashing = pod("x", container(state, restarts=2, last=ended()), age=300)
    assert judge(crashing).reason is Reason.CRASH_LOOP_BACK_OFF


@pytest.mark.parametrize(("reason", "told"), [("Error", Reason.CRASH_LOOP_BACK_OFF), ("OOMKilled", Reason.OOM_KILLED)])
def test_between_two_crashes_it_does_not_count_as_ready(reason: str, told: Reason):
    def up(span: float) -> Json:
        again = container(running(NOW - span), ready=True, restarts=2, last=ended(reason, 137, at=NOW - span - 10))
        return pod("x", again, ready=True, age=300)

    finding = judge(up(15))
    assert finding.reason is told
    assert finding.facts["ready"] == 0
    assert judge(up(15), good("a")).reason is Reason.PODS_DEGRADED
    assert judge(up(25)).facts["ready"] == 1


def test_restarts_of_long_ago_make_no_crash_loop_of_one_crash():
    old = pod("x", container(running(NOW - 5), ready=True, restarts=9, last=ended()), ready=True, age=9e6)
    assert judge(old).reason is Reason.PROBE_SUCCEEDED


def test_one_crash_is_no_loop():
    assert judge(pod("x", container(ended(), restarts=1))).reason is Reason.CONTAINER_EXITED
    restarted = pod("x", container(running(NOW - 3), restarts=1, last=ended()))
    assert judge(restarted).reason is Reason.NOT_ENOUGH_READY


def test_a_crash_of_long_ago_does_not_explain():
    old = pod("x", container(running(NOW - 700), restarts=9, last=ended(at=NOW - 701)), age=720)
    assert judge(old, restartWindow="1h").reason is Reason.NOT_ENOUGH_READY


@pytest.mark.parametrize(
    "broken",
    [
        container(ended("OOMKilled", 137)),
        container(waiting("CrashLoopBackOff"), restarts=4, last=ended("OOMKilled", 137)),
        container(running(NOW - 2), restarts=1, last=ended("OOMKilled", 137)),
    ],
)
def test_killed_for_memory(broken: Json):
    finding = judge(pod("x", broken))
    assert finding.reason is Reason.OOM_KILLED
    assert "more memory than its limit at 2027-" in finding.message


def test_a_kill_for_memory_stays_told_for_the_window():
    killed = pod("x", container(ready=True, restarts=1, last=ended("OOMKilled", 137, at=NOW - 500)), ready=True)
    finding = judge(killed)
    assert finding.reason is Reason.PODS_DEGRADED
    assert reasons(finding) == {"pod/x": Reason.OOM_KILLED}
    assert judge(killed, now=NOW + 200).reason is Reason.PROBE_SUCCEEDED


def test_a_kill_for_memory_is_not_what_an_image_waits_for():
    other = container(waiting("ImagePullBackOff"), restarts=1, last=ended("OOMKilled", 137))
    assert judge(pod("x", other)).reason is Reason.IMAGE_PULL_FAILED


def test_an_old_kill_for_memory_does_not_explain_a_failing_readiness_probe():
    old = container(running(NOW - 7200), restarts=1, last=ended("OOMKilled", 137, at=NOW - 7201))
    assert judge(pod("x", old)).reason is Reason.NOT_ENOUGH_READY


def test_a_command_that_the_image_lacks():
    words = 'exec: "nope": executable file not found in $PATH'
    broken = container(waiting("CrashLoopBackOff"), restarts=1, last=ended("StartError", 128, message=words))
    finding = judge(pod("x", broken))
    assert finding.reason is Reason.CONTAINER_START_FAILED
    assert words in finding.message


def test_the_schedulers_own_words():
    words = "0/3 nodes are available: 3 Insufficient memory."
    finding = judge(pod("x", phase="Pending", scheduled=words))
    assert finding.reason is Reason.UNSCHEDULABLE
    assert words in finding.message


def test_held_back_by_a_gate_without_a_word():
    raw = pod("x", phase="Pending", scheduled="x")
    raw["status"]["conditions"][0] |= {"reason": "SchedulingGated", "message": ""}
    finding = judge(raw)
    assert finding.reason is Reason.UNSCHEDULABLE
    assert "SchedulingGated" in finding.message


def test_a_readiness_probe_that_fails():
    finding = judge(pod("x", container(), since=NOW - 30))
    assert finding.reason is Reason.NOT_ENOUGH_READY
    assert reasons(finding) == {"pod/x": Reason.POD_NOT_READY}
    assert "not ready since 2027-01-15T07:59:30Z: container main runs, but its readiness probe fails" in finding.message


def test_a_node_that_is_lost():
    lost = pod("x", container(ready=True), since=NOW - 30)
    assert "is its node node-1 there?" in judge(lost).message


def test_being_created():
    starting = pod("x", container(waiting("ContainerCreating")), phase="Pending", age=400)
    finding = judge(starting)
    assert finding.reason is Reason.NOT_ENOUGH_READY
    assert "being created since 2027-01-15T07:53:20Z (container main)" in finding.message


def test_just_made():
    raw = pod("x", phase="Pending")
    raw["status"] = {"phase": "Pending"}
    finding = judge(raw)
    assert finding.reason is Reason.NOT_ENOUGH_READY
    assert "nothing runs yet" in finding.message


def test_a_finished_container_of_a_job_is_not_the_trouble():
    job = pod("x", container(ended("Completed", 0), name="done"), container(name="slow"))
    assert judge(job).reason is Reason.NOT_ENOUGH_READY


def test_evicted():
    evicted = pod("x", phase="Failed", reason="Evicted", message="The node was low on resource: memory.")
    finding = judge(evicted)
    assert finding.reason is Reason.POD_FAILED
    assert "Evicted: The node was low on resource: memory." in finding.message
    assert finding.facts["total"] == 0


def test_a_pod_that_has_failed_by_itself():
    failed = pod("x", container(ended("Error", 2)), phase="Failed")
    assert "it has failed: container main has ended with exit code 2 at " in judge(failed).message


def test_one_that_was_evicted_and_replaced_is_no_trouble():
    evicted = pod("x", phase="Failed", reason="Evicted")
    assert judge(evicted, good()).reason is Reason.PROBE_SUCCEEDED
    starting = pod("y", container(waiting("ContainerCreating")), phase="Pending", age=5)
    finding = judge(evicted, starting)
    assert finding.reason is Reason.NOT_ENOUGH_READY
    assert reasons(finding) == {"pod/y": Reason.POD_NOT_READY}


def test_the_most_telling_trouble_comes_first():
    crash = pod("b", container(waiting("CrashLoopBackOff"), restarts=4))
    config = pod("c", container(waiting("CreateContainerConfigError", 'secret "x" not found')), phase="Pending")
    finding = judge(pod("a"), crash, config)
    assert finding.reason is Reason.CONTAINER_CONFIG_ERROR
    assert 'pod c: container main lacks what its spec names (CreateContainerConfigError): secret "x"' in finding.message
    assert finding.message.endswith("; 2 more pods are in trouble")


# enough are ready


def crash_looping(name: str) -> Json:
    return pod(name, container(waiting("CrashLoopBackOff"), restarts=4, last=ended()))


def test_enough_are_ready_but_one_is_in_trouble():
    finding = judge(good("a"), crash_looping("b"))
    assert finding.reason is Reason.PODS_DEGRADED
    assert finding.verdict is Verdict.DEGRADED
    assert reasons(finding) == {"pod/b": Reason.CRASH_LOOP_BACK_OFF}
    assert finding.message.startswith("1 of 2 pods are ready, but pod b: container main keeps crashing")


@pytest.mark.parametrize(
    "surplus",
    [
        pod("new", container(waiting("ContainerCreating")), phase="Pending", age=10),
        pod("new", container(running(NOW - 5)), age=10),
        pod("new", container(running(NOW - 5)), age=300, since=NOW - 300),
        pod("old", container(ended()), deleting=True),
        pod("old", deleting=True),
    ],
)
def test_a_rollouts_surplus_is_no_trouble(surplus: Json):
    finding = judge(good("a"), surplus)
    assert finding.reason is Reason.PROBE_SUCCEEDED
    assert reasons(finding) == {}


@pytest.mark.parametrize(
    "stuck",
    [
        pod("new", container(waiting("ContainerCreating")), phase="Pending", age=70),
        pod("new", container(running(NOW - 65)), age=70),
        pod("was-ready", container(running(NOW - 3600)), since=NOW - 1),
    ],
)
def test_not_ready_for_long_or_no_more_is_a_trouble(stuck: Json):
    finding = judge(good("a"), stuck)
    assert finding.reason is Reason.PODS_DEGRADED
    assert list(reasons(finding).values()) == [Reason.POD_NOT_READY]


# restarts


def restarted(count: int, **more: Any) -> Json:
    last = ended(at=NOW - 1) if count else None
    return pod("x", container(ready=True, restarts=count, last=last), ready=True, **more)


def history_of(*seen: tuple[float, int]) -> Restarts:
    history: Restarts = {}
    for at, count in seen:
        history = remembered(history, [pod_of(restarted(count, age=9e6))], at, 600)
    return history


def test_restarts_rise():
    history = history_of((NOW - 500, 10), (NOW - 300, 12), (NOW - 100, 13))
    finding = judge(restarted(14, age=9e6), history=history)
    assert finding.reason is Reason.RESTARTS_RISING
    assert finding.verdict is Verdict.DEGRADED
    assert reasons(finding) == {"pod/x": Reason.RESTARTS_RISING}
    assert "restarted 4 times within 10m, most of all container main; last with exit code 1 at 2027-" in finding.message


def test_as_many_restarts_as_are_allowed():
    assert judge(restarted(13, age=9e6), history=history_of((NOW - 500, 10))).reason is Reason.PROBE_SUCCEEDED


def test_restarts_of_before_the_window_do_not_count():
    history = history_of((NOW - 2000, 10), (NOW - 700, 20))
    assert judge(restarted(21, age=9e6), history=history).reason is Reason.PROBE_SUCCEEDED
    assert history == {("uid-x", "main"): ((NOW - 2000, 10), (NOW - 700, 20))}
    later = remembered(history, [pod_of(restarted(21, age=9e6))], NOW, 600)
    assert later == {("uid-x", "main"): ((NOW - 700, 20), (NOW, 21))}


def test_restarts_of_before_we_looked_do_not_count():
    assert judge(restarted(50, age=9e6)).reason is Reason.PROBE_SUCCEEDED


def test_all_restarts_of_a_young_pod_count():
    assert judge(restarted(4, age=300)).reason is Reason.RESTARTS_RISING


def test_what_is_gone_is_forgotten():
    assert remembered(history_of((NOW, 1)), [], NOW, 600) == {}


def test_another_pod_of_the_same_name_starts_anew():
    other = restarted(9, age=9e6)
    other["metadata"]["uid"] = "other"
    assert judge(other, history=history_of((NOW - 100, 0))).reason is Reason.PROBE_SUCCEEDED


def test_restarts_rising_beside_another_trouble():
    history = history_of((NOW - 500, 0))
    finding = judge(restarted(4, age=9e6), crash_looping("b"), history=history)
    assert finding.reason is Reason.PODS_DEGRADED
    too_few = judge(restarted(4, age=9e6), history=history, minimumReady=2)
    assert too_few.reason is Reason.NOT_ENOUGH_READY
    assert reasons(too_few) == {"pod/x": Reason.RESTARTS_RISING}


# what is told


def test_what_a_program_has_said_last_is_not_told():
    crash = container(waiting("CrashLoopBackOff"), restarts=2, last=ended(message=f"no such password: {PLANTED}"))
    ending = container(ended("Error", 1, message=PLANTED), name="other")
    assert PLANTED not in repr(pod_of(pod("x", crash, ending)))
    assert PLANTED not in repr(judge(pod("x", crash, ending)))


def test_credentials_in_the_registrys_urls_are_not_told():
    words = f'failed: "https://me:{PLANTED}@cdn.example/blob?sig={PLANTED}": 403, see https://cdn.example/a?x={PLANTED}'
    finding = judge(pod("x", container(waiting("ErrImagePull", words)), phase="Pending"))
    assert PLANTED not in repr(finding)
    assert '"https://cdn.example/blob": 403' in finding.message


def test_an_image_that_is_named_once():
    told = judge(pod("x", container(waiting("ImagePullBackOff", "Back-off pulling image")), phase="Pending")).message
    assert "can't get its image registry.example/team/main:1 (ImagePullBackOff): Back-off pulling image" in told


def test_long_words_are_cut():
    words = "x" * 5000
    finding = judge(pod("x", phase="Pending", scheduled=words))
    assert len(finding.message) < 400


def test_the_troubled_are_named_when_not_all_fit():
    finding = judge(*(good(f"a{n:03}") for n in range(200)), crash_looping("z"))
    assert len(finding.subjects) == MAX_SUBJECTS
    assert reasons(finding) == {"pod/z": Reason.CRASH_LOOP_BACK_OFF}
    assert finding.facts["total"] == 201


def test_the_selector_as_the_api_server_takes_it():
    selector = {
        "matchLabels": {"app.kubernetes.io/name": "core", "empty": ""},
        "matchExpressions": [
            {"key": "tier", "operator": "In", "values": ["a", "b"]},
            {"key": "track", "operator": "NotIn", "values": ["canary"]},
            {"key": "here", "operator": "Exists"},
            {"key": "gone", "operator": "DoesNotExist"},
        ],
    }
    told = PodsProbe.model_validate({"selector": selector}).selector.text
    assert told == "app.kubernetes.io/name=core,empty=,tier in (a,b),track notin (canary),here,!gone"


# when to look again


@pytest.mark.parametrize(
    ("seen", "wait"),
    [
        (good(), None),
        (pod("x", container(waiting("CrashLoopBackOff"), restarts=2, last=ended())), None),  # the watch will tell
        (pod("x", container(running(NOW - 5), ready=True, restarts=2), ready=True, age=9e6), 15),
        (pod("x", container(running(NOW - 20), ready=True, restarts=2), ready=True, age=9e6), None),
        (pod("x", container(running(NOW - 5)), age=5), 55),
    ],
)
def test_when_time_alone_may_change_the_verdict(seen: Json, wait: float | None):
    pods = [pod_of(seen)]
    assert next_look(pods, remembered({}, pods, NOW, 600), NOW, 600) == wait


def test_restarts_leave_the_window_by_themselves():
    pods = [pod_of(restarted(13, age=9e6))]
    assert next_look(pods, history_of((NOW - 500, 10), (NOW - 100, 13)), NOW, 600) == 500
