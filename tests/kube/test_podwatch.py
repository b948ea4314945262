"""Watching pods on a real API server: what is seen, how soon, and what is said when nothing can be seen."""

from __future__ import annotations

import asyncio
import contextlib
import re
import shlex
import time
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest

from backendhealth.core.pods import Pod, pod_of
from backendhealth.core.reasons import Reason
from backendhealth.core.spec.pods import LabelSelector
from backendhealth.kube import podwatch, reflector
from backendhealth.kube.api import Api, Observe, connect
from backendhealth.kube.podwatch import PodWatches, View
from backendhealth.probes.exchange import ProbeError
from tests.kube.pods import Pods
from tests.probes.checks import eventually, nothing_left
from tests.servers.kubernetes import ControlPlane
from tests.servers.process import free_port
from tests.unit.podmaking import good, pod

SELECTOR = "app=core"


class Look:
    """A view and the times at which it was told of a change."""

    def __init__(self, watches: PodWatches, namespace: str, selector: str = SELECTOR) -> None:
        self.told: list[float] = []
        self.view: View = watches.watch(namespace, selector, lambda: self.told.append(time.monotonic()))

    async def names(self) -> list[str]:
        return sorted(one.name for one in await self.view.pods())

    async def one(self) -> Pod:
        (found,) = await self.view.pods()
        return found

    async def reason(self) -> Reason | None:
        """Why nothing can be seen; None when it can."""
        try:
            await self.view.pods()
        except ProbeError as error:
            return error.reason
        return None

    async def until(self, condition: Callable[[list[Pod]], bool], what: str, timeout: float = 5) -> None:
        deadline = time.monotonic() + timeout
        while not condition(list(await self.view.pods())):
            assert time.monotonic() < deadline, f"not within {timeout:g} s: {what}"
            await asyncio.sleep(0.01)

    async def until_reason(self, wanted: Reason | None, timeout: float = 10) -> None:
        deadline = time.monotonic() + timeout
        while (found := await self.reason()) is not wanted:
            assert time.monotonic() < deadline, f"{found}, not {wanted} within {timeout:g} s"
            await asyncio.sleep(0.01)


@contextlib.asynccontextmanager
async def watches_with(kubeconfig: Path, observe: Observe | None = None) -> AsyncIterator[PodWatches]:
    """Watches over a client of their own."""
    async with await connect(str(kubeconfig), None, observe) as api, PodWatches(api) as watches:
        yield watches


def account(plane: ControlPlane, namespace: str, name: str) -> Path:
    """The kubeconfig of a new ServiceAccount."""
    plane.kubectl("-n", namespace, "create", "serviceaccount", name)
    return plane.token_kubeconfig(namespace, name)


@pytest.fixture
async def watches(api: Api) -> AsyncIterator[PodWatches]:
    async with PodWatches(api) as made:
        yield made


@pytest.fixture
def pods(api: Api, namespace: str) -> Pods:
    return Pods(api, namespace)


async def test_what_is_there_and_what_changes(watches: PodWatches, pods: Pods, namespace: str):
    await pods.create("a", good())
    await pods.create("other", app="other")
    look = Look(watches, namespace)
    assert await look.names() == ["a"]
    assert (await look.one()).ready
    assert look.told == []
    await pods.patch("a", pod("a"))
    await eventually(lambda: len(look.told) == 1, "a change is told")
    assert not (await look.one()).ready
    await pods.create("b", good())
    await look.until(lambda found: len(found) == 2, "a new pod")
    await pods.delete("a")
    await look.until(lambda found: [one.name for one in found] == ["b"], "a deleted pod")


async def test_a_change_is_told_within_a_second(watches: PodWatches, pods: Pods, namespace: str):
    await pods.create("a", good())
    look = Look(watches, namespace)
    await look.names()
    for broken in (pod("a"), good("a"), pod("a")):
        look.told.clear()
        began = time.monotonic()
        await pods.patch("a", broken)
        await eventually(lambda: bool(look.told), "told")
        assert look.told[0] - began < 1


async def test_changes_in_quick_succession_are_told_as_few(watches: PodWatches, pods: Pods, namespace: str):
    look = Look(watches, namespace)
    assert await look.names() == []
    await pods.create_many(40)
    await look.until(lambda found: sum(one.ready for one in found) == 40, "all of them")
    await eventually(lambda: bool(look.told), "told")
    assert len(look.told) < 40


async def test_every_kind_of_requirement(watches: PodWatches, pods: Pods, namespace: str):
    named: dict[str, str] = {"app.kubernetes.io/name": "core"}
    await pods.create("a", None, **named, tier="front")
    await pods.create("b", tier="back", old="yes")
    selector = {
        "matchLabels": {"app": "core"},
        "matchExpressions": [
            {"key": "tier", "operator": "In", "values": ["front", "back"]},
            {"key": "tier", "operator": "NotIn", "values": ["side", ""]},
            {"key": "app.kubernetes.io/name", "operator": "Exists"},
            {"key": "old", "operator": "DoesNotExist"},
        ],
    }
    text = LabelSelector.model_validate(selector).text
    assert await Look(watches, namespace, text).names() == ["a"]
    assert await Look(watches, namespace, "tier in (back,side)").names() == ["b"]


async def test_what_is_not_judged_is_not_told(watches: PodWatches, pods: Pods, namespace: str):
    await pods.create("a", good())
    look = Look(watches, namespace)
    await look.names()
    await pods.annotate("a", "x")
    await pods.create("b")  # comes later in the same watch
    await look.until(lambda found: len(found) == 2, "the later change")
    await eventually(lambda: bool(look.told), "the later change is told")
    assert len(look.told) == 1


async def test_more_pods_than_a_page(watches: PodWatches, pods: Pods, namespace: str, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(reflector, "PAGE", 3)
    await pods.create_many(10)
    assert len(await Look(watches, namespace).names()) == 10


async def test_all_who_look_share_one_watch(watches: PodWatches, pods: Pods, namespace: str):
    async with nothing_left():
        looks = [Look(watches, namespace) for _ in range(3)]
        assert await asyncio.gather(*(look.names() for look in looks)) == [[], [], []]
        assert len(watches) == 1
        await pods.create("a")
        await eventually(lambda: all(look.told for look in looks), "all are told")
        other = Look(watches, namespace, "app=other")
        assert await other.names() == []
        assert len(watches) == 2
        for look in (*looks, other, other):
            look.view.close()
        assert len(watches) == 0
    again = Look(watches, namespace)
    assert await again.names() == ["a"]


async def test_a_watch_that_the_server_ends_goes_on(
    control_plane: ControlPlane, namespace: str, pods: Pods, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(reflector, "WATCH_SECONDS", 1)
    requests: list[str] = []
    async with watches_with(control_plane.kubeconfig, lambda method, *_: requests.append(method)) as watches:
        look = Look(watches, namespace)
        assert await look.names() == []
        await eventually(lambda: requests.count("WATCH") >= 3, "watched anew")
        await pods.create("a")
        await look.until(lambda found: len(found) == 1, "a pod that came after")
        assert requests.count("GET") == 1
        assert len(look.told) <= 1


async def test_many_watches_over_one_client(watches: PodWatches, pods: Pods, namespace: str):
    await pods.create("a", good())
    looks = [Look(watches, namespace, f"app=core,number!={number}") for number in range(150)]
    async with asyncio.timeout(30):
        assert await asyncio.gather(*(look.names() for look in looks)) == [["a"]] * 150
    await pods.patch("a", pod("a"))
    await eventually(lambda: all(look.told for look in looks), "all are told")


# when nothing can be seen


async def test_expired_with_deletions_meanwhile(control_plane: ControlPlane, pods: Pods, namespace: str):
    for name in "abc":
        await pods.create(name, good())
    requests: list[tuple[str, int]] = []
    async with watches_with(control_plane.kubeconfig, lambda *told: requests.append((told[0], told[2]))) as watches:
        look = Look(watches, namespace)
        assert await look.names() == ["a", "b", "c"]
        control_plane.stop_api()
        await eventually(lambda: bool(look.told), "the loss is told")
        # without an await: the watch finds nothing of this before the history is gone
        control_plane.start_api()
        control_plane.request("DELETE", f"/api/v1/namespaces/{namespace}/pods/b", {"gracePeriodSeconds": 0})
        control_plane.compact()
        requests.clear()
        await look.until_reason(None, timeout=20)
        await look.until(lambda found: sorted(one.name for one in found) == ["a", "c"], "listed anew")
        assert ("GET", 200) in requests
        await pods.delete("c")
        await look.until(lambda found: [one.name for one in found] == ["a"], "watched anew")


async def test_the_api_server_dies_and_comes_back(
    control_plane: ControlPlane, watches: PodWatches, pods: Pods, namespace: str, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(podwatch, "LOST_AFTER", 1.0)
    await pods.create("a", good())
    look = Look(watches, namespace)
    assert await look.names() == ["a"]
    control_plane.stop_api()
    try:
        began = time.monotonic()
        assert await look.names() == ["a"]  # for a moment it is believed still
        await eventually(lambda: bool(look.told), "the loss is told")
        await look.until_reason(Reason.CLUSTER_UNAVAILABLE)
        assert time.monotonic() - began > 0.9
        await eventually(lambda: len(look.told) >= 2, "told when it is believed no longer")
        with pytest.raises(ProbeError, match=r"how the pods are is not known: the .* does not answer|broke off"):
            await look.view.pods()
        late = Look(watches, namespace, "app=late")
        assert await late.reason() is Reason.CLUSTER_UNAVAILABLE
        look.told.clear()
    finally:
        control_plane.start_api()
    await look.until_reason(None, timeout=20)
    await eventually(lambda: bool(look.told), "told that it is back")
    await late.until_reason(None, timeout=20)
    await pods.create("b")
    await look.until(lambda found: len(found) == 2, "watched again")


async def test_the_api_server_falls_silent(
    control_plane: ControlPlane, watches: PodWatches, pods: Pods, namespace: str, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(podwatch, "LOST_AFTER", 0.5)
    monkeypatch.setattr(reflector, "SILENCE", 1.0)
    look = Look(watches, namespace)
    assert await look.names() == []
    control_plane.pause()
    try:
        await look.until_reason(Reason.CLUSTER_UNAVAILABLE)
    finally:
        control_plane.resume()
    await look.until_reason(None, timeout=20)


async def test_no_api_server_at_all(control_plane: ControlPlane, tmp_path: Path):
    kubeconfig = tmp_path / "kubeconfig"
    there = control_plane.kubeconfig.read_text()
    kubeconfig.write_text(there.replace(control_plane.url, f"https://127.0.0.1:{free_port()}"))
    async with nothing_left(), watches_with(kubeconfig) as watches:
        assert await Look(watches, "default").reason() is Reason.CLUSTER_UNAVAILABLE


async def test_a_selector_that_the_api_server_refuses(watches: PodWatches, namespace: str):
    with pytest.raises(ProbeError, match=r"400 BadRequest: .*unable to parse requirement") as refused:
        await Look(watches, namespace, "-a-=x").view.pods()
    assert refused.value.reason is Reason.CLUSTER_UNAVAILABLE


async def test_forbidden_and_the_line_that_grants_it(control_plane: ControlPlane, pods: Pods, namespace: str):
    await pods.create("a")
    async with watches_with(account(control_plane, namespace, "prober")) as watches:
        look = Look(watches, namespace)
        with pytest.raises(ProbeError) as refused:
            await look.view.pods()
        assert refused.value.reason is Reason.PODS_FORBIDDEN
        said = refused.value.message
        assert said.startswith(f"may not watch pods in namespace {namespace}: ")
        for line in said.partition("to grant it: ")[2].split(";"):
            program, *arguments = shlex.split(line)
            assert program == "kubectl"
            control_plane.kubectl(*arguments)
        await look.until_reason(None)
        await eventually(lambda: bool(look.told), "told that it is granted")
        assert await look.names() == ["a"]
        grant = control_plane.kubectl("-n", namespace, "get", "roles", "-o", "jsonpath={.items[*].rules}")
        assert re.search(r'"verbs":\["list","watch"\]', grant)


@pytest.mark.parametrize("verb", ["list", "watch"])
async def test_one_of_the_two_verbs_is_not_enough(control_plane: ControlPlane, namespace: str, verb: str):
    admin = ["-n", namespace, "create"]
    control_plane.kubectl(*admin, "role", "half", f"--verb={verb}", "--resource=pods")
    control_plane.kubectl(*admin, "rolebinding", "half", "--role=half", f"--serviceaccount={namespace}:half")
    async with watches_with(account(control_plane, namespace, "half")) as watches:
        look = Look(watches, namespace)
        assert await look.reason() is Reason.PODS_FORBIDDEN
        ends = asyncio.get_running_loop().time() + 1.5  # it tries again meanwhile
        while asyncio.get_running_loop().time() < ends:
            assert await look.reason() is Reason.PODS_FORBIDDEN
            await asyncio.sleep(0.01)
        assert look.told == []


async def test_a_fault_of_our_own_is_raised_and_ends_no_other_watch(
    watches: PodWatches, pods: Pods, namespace: str, monkeypatch: pytest.MonkeyPatch
):
    await pods.create("a")
    with monkeypatch.context() as broken:
        broken.setattr(podwatch, "pod_of", lambda _: pod_of({"metadata": {"name": "a"}}))
        looks = [Look(watches, namespace), Look(watches, namespace)]
        for look in looks:
            with pytest.raises(KeyError, match="uid"):
                await look.view.pods()
        await eventually(lambda: all(look.told for look in looks), "told")
        looks[0].view.close()
    again = Look(watches, namespace)
    assert await again.names() == ["a"]
    looks[1].view.close()
    assert await again.names() == ["a"]
    assert len(watches) == 1
