"""Pods evicted or deleted, and workloads rolled out anew, by real controllers."""

from __future__ import annotations

import asyncio
import json
import time
from typing import Any

import pytest

from backendhealth.actions.ports import Effect, Refused
from backendhealth.actions.rollout_restart import ANNOTATION
from backendhealth.core.remediation.situation import Subject
from backendhealth.kube.api import Api
from tests.actions.services import pod
from tests.actions.stage import LOOK_AGAIN, Act, Stage
from tests.cluster import images

RUNS = "trap 'exit 0' TERM; exec 3</dev/ptmx; while :; do read -t 1 line <&3; done"
# Runs well until it ends, and never again in the same pod.
ONCE = f"test -e /kept/x && exit 3; touch /kept/x; {RUNS}"


def workload(kind: str, name: str, script: str = RUNS, replicas: int = 1) -> dict[str, Any]:
    kept = {"name": "kept", "mountPath": "/kept"}
    main = {"name": "main", "image": images.BUSYBOX, "imagePullPolicy": "Never", "command": ["sh", "-c", script]}
    made = pod(name, {**main, "volumeMounts": [kept]}, volumes=[{"name": "kept", "emptyDir": {}}])
    template = {"metadata": {"labels": made["metadata"]["labels"]}, "spec": made["spec"]}
    spec: dict[str, Any] = {"selector": {"matchLabels": {"app": name}}, "template": template}
    spec |= {} if kind == "DaemonSet" else {"replicas": replicas}
    spec |= {"serviceName": name} if kind == "StatefulSet" else {}
    return {"apiVersion": "apps/v1", "kind": kind, "metadata": {"name": name}, "spec": spec}


def restart(app: str, **more: Any) -> dict[str, Any]:
    return {"restartPods": {"podSelector": {"matchLabels": {"app": app}}, **more}}


def rollout(kind: str, name: str) -> dict[str, Any]:
    return {"rolloutRestart": {"workload": {"kind": kind, "name": name}}}


async def made(stage: Stage, *objects: dict[str, Any]) -> None:
    stage.apply(*objects)
    for one in objects:
        await is_ready(stage, one["metadata"]["name"], one["spec"].get("replicas", 1))


async def is_ready(stage: Stage, name: str, replicas: int = 1) -> None:
    async with asyncio.timeout(60):
        while len(stage.ready(name)) != replicas:
            await asyncio.sleep(LOOK_AGAIN)


async def test_the_pod_that_crashes_is_evicted_and_no_other(stage: Stage, kube: Api):
    await made(stage, workload("Deployment", "crashy", ONCE, 2))
    well, ill = stage.pods("crashy")
    assert await Act(stage, kube, restart("crashy")).targets() == []
    stage.end_process_1(ill["metadata"]["name"])
    async with asyncio.timeout(60):
        while not (found := await Act(stage, kube, restart("crashy")).targets()):
            await asyncio.sleep(LOOK_AGAIN)
    assert [one.name for one in found] == [ill["metadata"]["name"]]
    assert await Act(stage, kube, restart("crashy"), since=time.time() - 3600).targets() == [], "a replacement"
    other = found[0].model_copy(update={"uid": "another"})
    assert (await Act(stage, kube, restart("crashy"), target=other).perform()).effect is Effect.NOT_DONE
    not_ill = found[0].model_copy(update={"name": well["metadata"]["name"], "uid": well["metadata"]["uid"]})
    healthy = await Act(stage, kube, restart("crashy"), target=not_ill).perform()
    assert (healthy.effect, healthy.needless) == (Effect.NOT_DONE, True)
    act = Act(stage, kube, restart("crashy"), target=found[0])
    done = await act.perform()
    assert done.effect is Effect.DONE, done.message
    assert any(note.endswith("/eviction → 201 Created") for note in act.notes), act.notes
    assert await act.verified(done, 30) == ""
    ready = stage.ready("crashy")
    assert well["metadata"]["uid"] in ready
    assert ill["metadata"]["uid"] not in ready


async def test_one_at_a_time_and_within_the_disruption_budget(stage: Stage, kube: Api):
    budget = {"minAvailable": 2, "selector": {"matchLabels": {"app": "guarded"}}}
    stage.apply(
        {"apiVersion": "policy/v1", "kind": "PodDisruptionBudget", "metadata": {"name": "guarded"}, "spec": budget}
    )
    await made(stage, workload("Deployment", "guarded", replicas=2))
    before = stage.ready("guarded")
    with pytest.raises(Refused) as caught:
        await Act(stage, kube, restart("guarded", pods="All")).perform()
    assert caught.value.status == 429
    assert "disruption budget" in caught.value.message
    assert stage.ready("guarded") == before
    name = stage.pods("guarded")[1]["metadata"]["name"]
    action = restart("guarded", pods="Subjects", method="Delete")
    act = Act(stage, kube, action, subjects=(Subject(f"pod/{name}", "X"),))
    done = await act.perform()
    assert done.effect is Effect.DONE
    assert act.target is not None
    assert act.target.name == name
    assert await Act(stage, kube, restart("guarded", pods="All")).targets() == [], "its replacement is not ready yet"
    assert await act.verified(done, 30) == ""
    assert len(set(stage.ready("guarded")) & set(before)) == 1


async def test_a_replacement_of_the_same_name_is_another_pod(stage: Stage, kube: Api):
    await made(stage, workload("StatefulSet", "named"))
    (before,) = stage.ready("named")
    act = Act(stage, kube, restart("named", pods="All", method="Delete"))
    done = await act.perform()
    assert await act.verified(done, 30) == ""
    assert stage.ready("named") != [before]
    again = await act.perform()
    assert again.effect is Effect.NOT_DONE
    assert "another one" in again.message


async def test_what_nothing_would_replace_is_left_alone(stage: Stage, kube: Api):
    assert await Act(stage, kube, restart("shell", pods="All")).targets() == []
    (target,) = await Act(stage, kube, {"debugLogs": restart("shell")["restartPods"]}).targets()
    done = await Act(stage, kube, restart("shell", pods="All"), target=target).perform()
    assert done.effect is Effect.NOT_DONE
    assert "no controller" in done.message


@pytest.mark.parametrize("kind", ["Deployment", "StatefulSet", "DaemonSet"])
async def test_one_rollout_of_each_kind(stage: Stage, kube: Api, kind: str):
    name = f"rolled-{kind.lower()}"
    await made(stage, workload(kind, name))
    before = stage.ready(name)
    act = Act(stage, kube, rollout(kind, name))
    done = await act.perform()
    assert done.effect is Effect.DONE, done.message
    assert await act.performer.verified(act.acting, await act.spec(), done.facts) is None
    assert await act.verified(done, 30) == ""
    assert len(stage.ready(name)) == 1
    assert not set(stage.ready(name)) & set(before)


async def test_what_would_not_roll_out_is_left_alone(stage: Stage, kube: Api):
    none, paused = workload("Deployment", "none", replicas=0), workload("Deployment", "paused")
    paused["spec"]["paused"] = True
    by_hand = workload("DaemonSet", "by-hand")
    by_hand["spec"]["updateStrategy"] = {"type": "OnDelete"}
    stage.apply(none, paused, by_hand)
    for one in (none, paused, by_hand):
        act = Act(stage, kube, rollout(one["kind"], one["metadata"]["name"]))
        done = await act.perform()
        assert done.effect is Effect.NOT_DONE
        assert "would not roll out" in done.message
        other = (await act.targets())[0].model_copy(update={"uid": "another"})
        assert (await Act(stage, kube, act.action, target=other).perform()).effect is Effect.NOT_DONE
    with pytest.raises(Refused) as caught:
        await Act(stage, kube, rollout("Deployment", "nope")).targets()
    assert caught.value.status == 404


# GitOps controllers


async def test_who_applies_its_own_manifest_causes_no_second_rollout(stage: Stage, kube: Api):
    """Server-side, as Flux and Argo CD with ServerSideApply=true; merged with what was applied last, as Argo CD."""
    server_side = ("apply", "--server-side", "--force-conflicts", "--field-manager=kustomize-controller", "-f", "-")
    for name, apply in (("flux", server_side), ("argo", ("apply", "-f", "-"))):
        manifest = json.dumps(workload("Deployment", name))
        stage.kubectl(*apply, input=manifest)
        await is_ready(stage, name)
        act = Act(stage, kube, rollout("Deployment", name))
        done = await act.perform()
        assert await act.verified(done, 30) == ""
        generation = stage.get("deployments", name, "apis/apps/v1")["metadata"]["generation"]
        if name == "flux":
            disown_kubectl(stage, name)
        stage.kubectl(*apply, input=manifest)
        after = stage.get("deployments", name, "apis/apps/v1")
        assert after["metadata"]["generation"] == generation
        assert ANNOTATION in after["spec"]["template"]["metadata"]["annotations"]


async def test_a_field_manager_that_flux_takes_for_kubectl_would_cause_one(stage: Stage, kube: Api):
    server_side = ("apply", "--server-side", "--force-conflicts", "--field-manager=kustomize-controller", "-f", "-")
    manifest = json.dumps(workload("Deployment", "disowned"))
    stage.kubectl(*server_side, input=manifest)
    await is_ready(stage, "disowned")
    act = Act(stage, kube, rollout("Deployment", "disowned"), field_manager="kubectl-rollout")
    done = await act.perform()
    disown_kubectl(stage, "disowned")
    stage.kubectl(*server_side, input=manifest)
    assert "removed our annotation" in await act.verified(done)


async def test_who_replaces_the_whole_object_is_told_of(stage: Stage, kube: Api):
    manifest = workload("Deployment", "replaced")
    await made(stage, manifest)
    act = Act(stage, kube, rollout("Deployment", "replaced"))
    done = await act.perform()
    stage.kubectl("replace", "-f", "-", input=json.dumps(manifest))
    assert "removed our annotation" in await act.verified(done)


def disown_kubectl(stage: Stage, name: str) -> None:
    """What Flux does before it applies: the fields of managers called kubectl… become its own."""
    found = stage.get("deployments", name, "apis/apps/v1")["metadata"]["managedFields"]
    own = next(one for one in found if one["manager"] == "kustomize-controller")
    for one in [one for one in found if one["manager"].startswith("kubectl")]:
        merge(own["fieldsV1"], one["fieldsV1"])
        found.remove(one)
    patch = json.dumps([{"op": "replace", "path": "/metadata/managedFields", "value": found}])
    stage.kubectl("patch", "deployment", name, "--type=json", "-p", patch)


def merge(into: dict[str, Any], other: dict[str, Any]) -> None:
    for key, value in other.items():
        merge(into.setdefault(key, {}), value)
