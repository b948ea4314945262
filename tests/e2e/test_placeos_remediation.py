"""PlaceOS in pods under examples/placeos-policy.yaml, the operator in its pod: what it mends, and what it lets be.

The account is that of examples/placeos-remediator.yaml. Times are shorter, so that a test can wait for them.
"""

from __future__ import annotations

import datetime as dt
import json
import os
import re
import signal
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.actions.place import FINAL, Person, Place, phase_of
from tests.cluster.cluster import Cluster
from tests.e2e.figures import measured
from tests.e2e.placeos import CORES, Pods, objects
from tests.e2e.test_placeos import NAMESPACE, PROFILE, TIMING
from tests.kube.remediating import path
from tests.kube.test_remediation import stays
from tests.scenarios.running import specification
from tests.servers.placeos import PlaceOS
from tests.servers.process import wait_until

EXAMPLES = Path(__file__).parents[2] / "examples"
NAME, SECRET, ACCOUNT = "placeos-production", "placeos-remediation", "placeos-remediator"
HEEDLESS = "heedless"
DELAY = 30
"""Seconds for which etcd must have worked again: longer than core is excused by its return (its recoveryGrace)."""
QUIET = 8.0
_ON = "default log level changed to Trace"

pytestmark = pytest.mark.timeout(300)  # the first one may bring everything up
Json = dict[str, Any]


@pytest.fixture(scope="module")
def allowed(pods: Pods, own_cluster: Cluster, product_image: str) -> Place:
    """The policy's account, its rights and its key, as the example has them."""
    accounts = yaml.safe_load_all((EXAMPLES / "placeos-remediator.yaml").read_text(encoding="utf-8"))
    notes = {"backendhealth.dev/allow": f"remediationpolicy/{NAME}", "backendhealth.dev/allow-hosts": "api"}
    meta = {"name": SECRET, "namespace": NAMESPACE, "annotations": notes}
    secret = {"apiVersion": "v1", "kind": "Secret", "metadata": meta, "stringData": {"key": PlaceOS.api_key}}
    place = Place(own_cluster, NAMESPACE, product_image)
    place.apply(*accounts, secret)
    return place


@pytest.fixture
def place(allowed: Place, pods: Pods) -> Iterator[Place]:
    """The platform healthy, and nothing that was done before."""
    profile = {
        "apiVersion": "backendhealth.dev/v1alpha1",
        "kind": "DiagnosisProfile",
        "metadata": {"name": "placeos", "namespace": NAMESPACE},
        "spec": PROFILE.model_dump(mode="json", by_alias=True, exclude_none=True),
    }
    spec = specification(TIMING, {"name": "placeos"}, pods.probes())
    # here a core goes and comes back every few seconds
    spec["flapDetection"] = {"changes": 20, "window": "30s"}
    allowed.apply(profile, *objects(NAMESPACE, NAME, spec))
    allowed.resources.wait(NAME, "Healthy", 60)
    yield allowed
    allowed.clear()


def declare(place: Place, *names: str) -> None:
    """These rules of the example, in force."""
    place.cluster.request("POST", path(NAMESPACE, "remediationpolicies"), example(*names))


def example(*names: str) -> Json:
    """The example with these rules, in Enforce."""
    raw: Json = yaml.safe_load((EXAMPLES / "placeos-policy.yaml").read_text(encoding="utf-8"))
    raw["spec"]["mode"] = "Enforce"
    raw["spec"]["rules"] = [_quick(one) for one in raw["spec"]["rules"] if one["name"] in names]
    assert len(raw["spec"]["rules"]) == len(names)
    return raw


def _quick(rule: Json) -> Json:
    rule["when"]["for"] = "2s"
    if "unless" in rule:
        known = {"rethinkdb": "postgres"}  # as this generation of PlaceOS has it
        rule["unless"] = {"unhealthy": [known.get(one, one) for one in rule["unless"]["unhealthy"]]}
    if "after" in rule:
        rule["after"]["delay"] = f"{DELAY}s"
    if "debugLogs" in rule["action"]:
        quick = {"revertAfter": "10s", "confirmWithin": "5s"}
        rule["action"]["debugLogs"] |= {"podSelector": {"matchLabels": {"app": "core"}}, **quick}
    return rule


def until(place: Place, condition: Callable[[], bool], what: str, timeout: float = 30) -> None:
    """As wait_until, and tells what was believed meanwhile."""
    try:
        wait_until(condition, timeout, what)
    except TimeoutError as error:
        status = place.resources.status(NAME)
        probes = [[one["name"], one["verdict"], one["message"], one["subjects"]] for one in status["probes"]]
        told = [status["summary"], status["history"][:12], status.get("remediation"), status["diagnosis"]["explained"]]
        raise AssertionError(f"{error}: {json.dumps([*told, *probes], indent=1)} {place.all()}") from error


def ended(place: Place, count: int) -> bool:
    """Whether so many were done, and all are at their end."""
    return len(place.done()) == count and all(phase_of(one) in FINAL for one in place.all())


def causes(place: Place) -> list[str]:
    """Components that are named as root causes now."""
    diagnosis = place.resources.status(NAME).get("diagnosis", {})
    return [one["component"] for one in diagnosis.get("rootCauses", [])]


def at(text: str) -> float:
    return dt.datetime.fromisoformat(text).timestamp()


def hang_a_driver(place: Place) -> None:
    """SIGSTOP to one driver's process, from the node."""
    for number in range(CORES):
        pid = place.cluster.pod_pid(NAMESPACE, f"core-{number}")
        children = Path(f"/proc/{pid}/task/{pid}/children").read_text(encoding="utf-8").split()
        if children:
            os.kill(int(children[0]), signal.SIGSTOP)
            return
    raise AssertionError("no core runs a driver")


def test_a_driver_that_hangs_is_restarted_and_verified(place: Place):
    declare(place, "restart-drivers")
    began = time.time()
    hang_a_driver(place)
    until(place, lambda: ended(place, 1), "it is restarted", 60)
    done = place.only()
    assert phase_of(done) == "Succeeded", done
    measured("PlaceOS: a driver hangs, until it is restarted and verified", time.time() - began)
    target, status = done["spec"]["target"], done["status"]
    assert target["kind"] == "Driver"
    effects = [call for call in status["calls"] if call.startswith("DELETE ")]
    assert len(effects) == 1, status
    assert f"?driver={target['name']} → 202" in effects[0]
    assert status["actingAs"] == f"system:serviceaccount:{NAMESPACE}:{ACCOUNT}"
    assert PlaceOS.api_key not in json.dumps(place.all())
    place.resources.wait(NAME, "Healthy", 60)
    assert len(place.all()) == 1


def test_a_driver_that_crashes_for_ever_is_restarted_once_and_that_is_told_as_no_help(place: Place, pods: Pods):
    declare(place, "restart-drivers")
    pods.begin("driver-crashes")
    try:
        until(place, lambda: ended(place, 1), "it is restarted", 60)
        assert stays(lambda: len(place.all()) == 1, QUIET), "once"
    finally:
        pods.end("driver-crashes")
    done = place.only()
    assert phase_of(done) == "NotHelpful", done
    assert done["spec"]["cause"]["reason"] == "DriverCrashLooping"
    assert done["spec"]["target"]["name"] == PlaceOS.driver_key("driver-probe")
    assert len([call for call in done["status"]["calls"] if call.startswith("DELETE ")]) == 1
    assert "crashes again at once" in done["status"]["message"]


@pytest.fixture(scope="module")
def ada(allowed: Place) -> Person:
    """Somebody on call, who may look."""
    found = Person(allowed, "ada")
    allowed.kubectl("create", "rolebinding", "ada-looks", "--clusterrole=backendhealth-view", f"--user={found.user}")
    return found


def test_drivers_that_die_with_redis_are_let_be(place: Place, pods: Pods, ada: Person):
    rules = ("restart-drivers", "restart-core-that-stays-out", "restart-the-api-that-holds-stale-cores")
    declare(place, *rules)
    heedless(place)
    pods.begin("redis-down")
    try:
        until(place, lambda: causes(place) == ["redis"], "Redis is blamed")
        until(place, lambda: "drivers" in explained(place), "the drivers die")
        until(place, lambda: any("redis is Unhealthy" in one for one in unless(place)), "and it is told what holds")
        assert stays(lambda: causes(place) == ["redis"] and place.all() == [], QUIET)
        told = ada.does("why", NAME)
        assert "does not match: drivers is no root cause: redis explains it" in told
    finally:
        # with Redis back nothing would hold it, while the drivers still count as crashing
        place.cluster.request("DELETE", path(NAMESPACE, "remediationpolicies", HEEDLESS))
        pods.end("redis-down")
    place.resources.wait(NAME, "Healthy", 90)
    assert place.all() == []


def heedless(place: Place) -> None:
    """A policy beside, whose rule is for symptoms as well: `unless` alone holds it back."""
    raw = example("restart-drivers")
    raw["metadata"]["name"] = HEEDLESS
    raw["spec"]["rules"][0]["when"] = {"component": "drivers", "includeSymptoms": True, "for": "2s"}
    place.cluster.request("POST", path(NAMESPACE, "remediationpolicies"), raw)


def unless(place: Place) -> list[str]:
    """What the heedless one is said to be held back by."""
    holds = place.resources.status(NAME).get("remediation", {}).get("holds", [])
    return [one["message"] for one in holds if (one["policy"], one["guard"]) == (HEEDLESS, "Unless")]


def explained(place: Place) -> list[str]:
    return [one["name"] for one in place.resources.status(NAME).get("diagnosis", {}).get("explained", [])]


@pytest.fixture
def old_cores(place: Place) -> Iterator[None]:
    """Builds that never register again once they have lost their registration."""
    place.kubectl("set", "env", "statefulset/core", "REREGISTER=false")
    place.kubectl("rollout", "status", "statefulset/core", "--timeout=90s", timeout=100)
    place.resources.wait(NAME, "Healthy", 60)
    yield
    place.kubectl("set", "env", "statefulset/core", "REREGISTER-")
    place.kubectl("rollout", "status", "statefulset/core", "--timeout=90s", timeout=100)
    place.resources.wait(NAME, "Healthy", 60)


def generation(place: Place) -> int:
    found: int = place.get("statefulsets", "core", "apis/apps/v1")["metadata"]["generation"]
    return found


@pytest.mark.usefixtures("old_cores")
def test_cores_that_stay_out_after_etcds_return_are_restarted_once(place: Place, pods: Pods):
    declare(place, "restart-core-that-stays-out")
    before = generation(place)
    pods.begin("etcd-down")
    try:
        until(place, lambda: causes(place) == ["etcd"], "etcd is blamed")
        assert stays(lambda: place.all() == [], QUIET), "nothing is restarted while etcd is down"
    finally:
        pods.end("etcd-down")
    until(place, lambda: ended(place, 1), "core is restarted", 150)
    done, history = place.only(), place.resources.status(NAME)["history"]
    assert phase_of(done) == "Succeeded", done
    back = max(at(one["at"]) for one in history if (one["component"], one["verdict"]) == ("etcd", "Healthy"))
    waited = at(done["status"]["effectAt"]) - back
    assert waited >= DELAY
    measured("PlaceOS: etcd is back, until core that stays out is restarted", waited)
    assert generation(place) == before + 1
    place.resources.wait(NAME, "Healthy", 60)
    assert stays(lambda: len(place.all()) == 1, 2)


def test_verbose_logs_of_core_while_it_fails_and_off_again(place: Place, pods: Pods):
    declare(place, "debug-logs-while-core-fails")
    pods.begin("core-not-registered")
    try:
        until(place, lambda: ended(place, CORES) and len(place.reverts()) == CORES, "on and off on all cores", 90)
    finally:
        logs = {f"core-{number}": place.kubectl("logs", f"core-{number}") for number in range(CORES)}
        pods.end("core-not-registered")
    assert {phase_of(one) for one in place.all()} == {"Succeeded"}, place.all()
    for name, log in logs.items():
        switched = re.findall(f"{_ON}|default log level changed to (?:Debug|Info)", log)
        assert [one == _ON for one in switched] == [True, False], f"{name}: {switched}"
    place.resources.wait(NAME, "Healthy", 90)
