"""Policies and Remediations as the operator sees and writes them, on a real API server."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator

import pytest

from backendhealth.core.remediation.limits import counted
from backendhealth.core.remediation.situation import Past
from backendhealth.core.remediation.situations import past_of
from backendhealth.core.spec.remediation import RemediationStatus
from backendhealth.engine.remediation.ports import Conflict, Stored, Unavailable
from backendhealth.kube.api import Api, connect
from backendhealth.kube.remediations import Remediations
from tests.kube.remediating import path, policy, remediation, wanted
from tests.kube.writing import eventually, outage
from tests.servers.kubernetes import ControlPlane

NAME = "restart-0123456789abcdef"


class Seen:
    """A store that runs, and the namespaces that it has told of."""

    def __init__(self, api: Api, namespace: str) -> None:
        self.namespace = namespace
        self.told: list[str] = []
        self.store = Remediations(api, [namespace], self.told.append)

    @property
    def settled(self) -> bool:
        return self.store.settled(self.namespace)

    def names(self) -> set[str]:
        return {one.remediation.metadata.name for one in self.store.remediations(self.namespace)}

    def phase(self, name: str = NAME) -> str:
        found = [one for one in self.store.remediations(self.namespace) if one.remediation.metadata.name == name]
        return found[0].status.phase if found else ""

    def policies(self) -> list[str]:
        return [one.policy.metadata.name for one in self.store.policies(self.namespace)]


@contextlib.asynccontextmanager
async def running(api: Api, namespace: str) -> AsyncIterator[Seen]:
    seen = Seen(api, namespace)
    task = asyncio.create_task(seen.store.run())
    try:
        yield seen
    finally:
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task


@pytest.fixture
async def seen(api: Api, namespace: str) -> AsyncIterator[Seen]:
    async with running(api, namespace) as found:
        await eventually(lambda: found.settled, 5, "settled")
        yield found


async def test_settled_only_when_both_kinds_were_listed(api: Api, namespace: str):
    found = Seen(api, namespace)
    assert not found.settled
    assert not found.store.settled("another")
    async with running(api, namespace) as found:
        assert not found.settled
        await eventually(lambda: found.settled, 5, "settled")


async def test_created_and_written_is_known_at_once_and_never_undone_by_the_watch(seen: Seen, api: Api):
    stored = await seen.store.create(seen.namespace, NAME, wanted())
    for phase in ("Pending", "Held", "Running", "Verifying", "Succeeded"):
        stored = await seen.store.write(stored, RemediationStatus(phase=phase))
        assert seen.phase() == phase
    marker = await seen.store.create(seen.namespace, "marker", wanted())
    await seen.store.delete(marker)
    deadline = time.monotonic() + 1.0
    while time.monotonic() < deadline:  # all events of the watch come meanwhile
        assert seen.phase() == "Succeeded"
        assert seen.names() == {NAME}
        await asyncio.sleep(0.01)
    assert stored.created == pytest.approx(time.time(), abs=5)
    there = await api.request("GET", path(seen.namespace, "remediations", NAME))
    assert there["status"]["phase"] == "Succeeded"


async def test_the_second_creator_gets_a_conflict(seen: Seen, api: Api):
    await seen.store.create(seen.namespace, NAME, wanted())
    async with running(api, seen.namespace) as other:
        with pytest.raises(Conflict):
            await other.store.create(seen.namespace, NAME, wanted())


async def test_of_two_writers_one_gets_a_conflict(seen: Seen):
    stored = await seen.store.create(seen.namespace, NAME, wanted())
    await seen.store.write(stored, RemediationStatus(phase="Running"))
    with pytest.raises(Conflict):
        await seen.store.write(stored, RemediationStatus(phase="Running"))
    with pytest.raises(Conflict):
        await seen.store.delete(stored)


async def test_what_others_do_is_seen_and_told(seen: Seen, api: Api, namespace: str):
    created = await api.request("POST", path(namespace, "remediationpolicies"), body=policy(namespace))
    await eventually(lambda: seen.policies() == ["policy"], 5, "the policy")
    now = await seen.store.policy_now(namespace, "policy")
    assert now is not None
    assert (now.uid, now.policy.spec.mode) == (created["metadata"]["uid"], "DryRun")
    await api.request("POST", path(namespace, "remediations"), body=remediation(namespace, "by-hand"))
    await eventually(lambda: seen.names() == {"by-hand"}, 5, "the Remediation")
    await api.request("DELETE", path(namespace, "remediations", "by-hand"))
    await api.request("DELETE", path(namespace, "remediationpolicies", "policy"))
    await eventually(lambda: not seen.names() and not seen.policies(), 5, "gone")
    assert await seen.store.policy_now(namespace, "policy") is None
    assert set(seen.told) == {namespace}


async def test_deleted_by_another_is_a_conflict(seen: Seen, api: Api, namespace: str):
    stored = await seen.store.create(namespace, NAME, wanted())
    await api.request("DELETE", path(namespace, "remediations", NAME))
    with pytest.raises(Conflict):
        await seen.store.write(stored, RemediationStatus(phase="Running"))
    assert not seen.names()


async def test_an_api_server_that_is_away_begins_nothing(seen: Seen, control_plane: ControlPlane, namespace: str):
    stored = await seen.store.create(namespace, NAME, wanted())
    async with outage(control_plane):
        with pytest.raises(Unavailable):
            await seen.store.create(namespace, "another", wanted())
        with pytest.raises(Unavailable):
            await seen.store.write(stored, RemediationStatus(phase="Running"))
        with pytest.raises(Unavailable):
            await seen.store.policy_now(namespace, "policy")
        assert seen.names() == {NAME}


async def test_after_a_doubt_nothing_is_settled_until_it_is_listed_anew(seen: Seen, api: Api):
    audited = len(seen.told)
    seen.store.doubt()
    assert not seen.settled
    await eventually(lambda: seen.settled, 5, "settled again")
    await api.request("POST", path(seen.namespace, "remediations"), body=remediation(seen.namespace, "later"))
    await eventually(lambda: seen.names() == {"later"}, 5, "the watch goes on")
    assert len(seen.told) > audited


def counts(seen: Seen) -> int:
    """What the policy's limit counts."""
    past = [past_from(one) for one in seen.store.remediations(seen.namespace)]
    return len(counted(past, ("policy-uid", "policy"), dry=False).acted)


def past_from(one: Stored) -> Past:
    return past_of(one.remediation.metadata.name, one.remediation.spec, one.status, one.created)


UNREADABLE = {"debugLogs": {"podSelector": {"matchLabels": {"app": "core"}}, "confirm": "(unclosed"}}
"""The schema of the kind takes it."""


async def test_one_that_cannot_be_read_counts_as_one_that_acted(seen: Seen, api: Api, namespace: str):
    body = remediation(namespace, "newer", action=UNREADABLE)
    await api.request("POST", path(namespace, "remediations"), body=body)
    await eventually(lambda: seen.phase("newer") == "Unknown", 5, "it is there")
    assert counts(seen) == 1
    assert seen.settled


async def test_a_policy_that_cannot_be_used_is_told_to_those_that_it_names(seen: Seen, api: Api, namespace: str):
    rule = {"name": "logs", "when": {"component": "redis"}, "action": UNREADABLE}
    body = policy(namespace, rules=[rule])
    await api.request("POST", path(namespace, "remediationpolicies"), body=body)
    await eventually(lambda: seen.store.holds(namespace, "demo"), 5, "held")
    (hold,) = seen.store.holds(namespace, "demo")
    assert (hold.policy, hold.guard) == ("policy", "PolicyUnusable")
    assert "rules[0].action.debugLogs.confirm" in hold.message
    assert seen.policies() == []
    assert await seen.store.policy_now(namespace, "policy") is None
    assert not seen.store.holds(namespace, "another")


async def test_without_the_right_to_see_what_was_done_nothing_is_begun(
    control_plane: ControlPlane, api: Api, namespace: str
):
    control_plane.kubectl("-n", namespace, "create", "serviceaccount", "poor")
    grant = ("create", "role", "poor", "--verb=list,watch,get", "--resource=remediationpolicies.backendhealth.dev")
    control_plane.kubectl("-n", namespace, *grant)
    binding = ("create", "rolebinding", "poor", "--role=poor", f"--serviceaccount={namespace}:poor")
    control_plane.kubectl("-n", namespace, *binding)
    await api.request("POST", path(namespace, "remediationpolicies"), body=policy(namespace))
    poor = await connect(str(control_plane.token_kubeconfig(namespace, "poor")), None)
    async with poor, running(poor, namespace) as seen:
        await eventually(lambda: seen.store.holds(namespace, "demo"), 10, "it is told")
        (hold,) = seen.store.holds(namespace, "demo")
        assert hold.guard == "RecordsUnknown"
        assert "--verb=list,watch --resource=remediations.backendhealth.dev" in hold.message
        assert not seen.settled
        line = hold.message.partition("to grant it: ")[2]
        for command in line.split("; "):
            control_plane.kubectl(*command.split()[1:])
        await eventually(lambda: seen.settled, 15, "settled")
        assert not seen.store.holds(namespace, "demo")
