"""PlaceOS in pods, broken by real means, and the operator in its pod: every write of the status tells the truth."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

from backendhealth import profiles
from tests.cluster.cluster import Cluster
from tests.e2e.figures import measured
from tests.e2e.placeos import Pods, objects
from tests.e2e.statuswatch import StatusWatch
from tests.scenarios.catalogue import FAULTS
from tests.scenarios.generator import Scenario, generate, pair, single
from tests.scenarios.running import Outcome, run, shortened, specification
from tests.scenarios.score import Row, page
from tests.scenarios.truth import Timing

NAMESPACE, NAME = "placeos", "placeos"
TIMING = Timing(timeout=1.5, allowance=1.5)
"""All shares one machine's two cores here, and a Service's rules take kube-proxy a while."""
PROFILE = shortened(profiles.built_in("placeos-postgres-etcd").spec)
SEED, COUNT = 2, 45
SCORE = "BACKENDHEALTH_SCORE"
"""Names the file for the page of the long run's score."""


@pytest.fixture(scope="module")
def score() -> Iterator[list[Row]]:
    """What came of the scenarios of the long run; `make score-cluster` writes it down."""
    rows: list[Row] = []
    yield rows
    if rows and SCORE in os.environ:
        where = "PlaceOS in pods of a real cluster, the operator in its own"
        Path(os.environ[SCORE]).write_text(page(rows, FAULTS.values(), TIMING, SEED, where))


@pytest.fixture
def watch(pods: Pods, own_cluster: Cluster) -> Iterator[StatusWatch]:
    """A BackendHealth that nothing is believed of yet, and its writes."""
    spec = specification(TIMING, {"name": "placeos"}, pods.probes())
    profile = {
        "apiVersion": "backendhealth.dev/v1alpha1",
        "kind": "DiagnosisProfile",
        "metadata": {"name": "placeos", "namespace": NAMESPACE},
        "spec": PROFILE.model_dump(mode="json", by_alias=True, exclude_none=True),
    }
    own_cluster.kubectl("apply", "-f", "-", input=yaml.safe_dump_all([profile, *objects(NAMESPACE, NAME, spec)]))
    uid = json.loads(own_cluster.kubectl("-n", NAMESPACE, "get", "bh", NAME, "-o", "json"))["metadata"]["uid"]
    with StatusWatch(own_cluster.kubeconfig, NAMESPACE, NAME, uid) as found:
        yield found
    own_cluster.kubectl("-n", NAMESPACE, "delete", "bh", NAME)


def _right(outcome: Outcome) -> Outcome:
    for fault, seconds in outcome.verdict.seconds.items():
        measured(f"{outcome.scenario.name}: {fault} named", seconds)
    assert outcome.verdict.right, outcome.told
    return outcome


ALWAYS = (
    single(FAULTS["etcd-down"], TIMING),
    single(FAULTS["database-hangs"], TIMING),
    single(FAULTS["load-balancer-down"], TIMING),
    pair(
        FAULTS["core-down"],
        FAULTS["elasticsearch-down"],
        "before the first is told",
        first_ends_first=True,
        timing=TIMING,
        part=0.5,
    ),
)


@pytest.mark.timeout(300)  # the first one brings everything up
@pytest.mark.parametrize("scenario", ALWAYS, ids=lambda scenario: scenario.name)
async def test_the_cause_is_named_in_time_and_nobody_else_is_blamed(pods: Pods, watch: StatusWatch, scenario: Scenario):
    _right(await run(scenario, pods, watch, PROFILE, TIMING))


@pytest.mark.long
@pytest.mark.timeout(400)
@pytest.mark.parametrize("scenario", generate(list(FAULTS.values()), TIMING, SEED, COUNT), ids=lambda one: one.name)
async def test_each_failure_and_each_pair(pods: Pods, watch: StatusWatch, scenario: Scenario, score: list[Row]):
    outcome = await run(scenario, pods, watch, PROFILE, TIMING)
    score.append(outcome.row)
    _right(outcome)


@pytest.mark.timeout(120)
async def test_the_summary_tells_cause_and_impact(pods: Pods, watch: StatusWatch):
    outcome = _right(await run(single(FAULTS["elasticsearch-down"], TIMING), pods, watch, PROFILE, TIMING))
    told = [one for one in outcome.writes if one.causes]
    assert {(one.status["summary"]["state"], one.status["summary"]["rootCause"]) for one in told} == {
        ("Unhealthy", "elasticsearch")
    }
    (fault,) = outcome.log
    during = [one for one in told if one.at < fault.ending]
    assert "listing and search" in during[-1].status["summary"]["impact"]
    for one in told:  # it may be seen to work before its cause is
        assert ("listing and search" in one.status["summary"]["impact"]) is (
            one.impact["listing and search"] != "Works"
        )
