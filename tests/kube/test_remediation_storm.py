"""Much fails at once: the breaker holds, says so, and lets go in its time, over a restart of the operator, too."""

from __future__ import annotations

import datetime as dt
import os
import signal
import time
from collections.abc import Iterator

import pytest

from tests.kube.operator import Operator
from tests.kube.outages import DELETE, cleared, prepared
from tests.kube.test_remediation import Platform, stays
from tests.servers.kubernetes import ControlPlane
from tests.servers.process import LOOPBACK, wait_until
from tests.servers.redis import RedisServer

ALL = 60
COOLDOWN = 20
RULE = {**DELETE, "when": {"component": "redis", "for": "3s"}}
"""The first to fail does not know of the others yet."""
GUARD = "Storm"
METRIC = "backendhealth_remediation_holds"


@pytest.fixture
def platform(control_plane: ControlPlane, namespace: str) -> Iterator[Platform]:
    made = prepared(control_plane, namespace)
    yield made
    cleared(made)


def spread(platform: Platform, shared: RedisServer, other: RedisServer, sharing: int) -> None:
    """`demo` on its own port, so many BackendHealths on `shared`, the others on `other`."""
    for number in range(ALL - 1):
        port = shared.port if number < sharing else other.port
        probe = {"name": "a", "tcp": {"host": LOOPBACK, "port": port}}
        platform.resources.apply(f"bh-{number}", probe, failureThreshold=1, successThreshold=1)
    platform.declare(successThreshold=1)


def count(platform: Platform, state: str) -> int:
    where = f"/apis/backendhealth.dev/v1alpha1/namespaces/{platform.namespace}/backendhealths"
    items = platform.plane.request("GET", where)["items"]
    return sum((one.get("status", {}).get("summary") or {}).get("state") == state for one in items)


def until_states(platform: Platform, healthy: int, unhealthy: int) -> None:
    wait_until(lambda: count(platform, "Healthy") == healthy, 40, f"{healthy} are healthy")
    wait_until(lambda: count(platform, "Unhealthy") == unhealthy, 40, f"{unhealthy} are unhealthy")


def test_fifty_of_sixty_fail_at_once(control_plane: ControlPlane, namespace: str, platform: Platform):
    with RedisServer() as shared, RedisServer() as other, Operator(control_plane, namespace) as operator:
        with RedisServer(port=platform.port):
            spread(platform, shared, other, 49)
            until_states(platform, ALL, 0)
            breaker = {"unhealthyOver": "50%", "cooldown": f"{COOLDOWN}s"}
            platform.allow(mode="Enforce", rules=[RULE], stormBreaker=breaker)
            shared.kill()
        until_states(platform, 10, 50)
        platform.until_held(GUARD)
        allowed = platform.resources.condition("demo", "RemediationAllowed")
        assert (allowed["status"], allowed["reason"]) == ("False", GUARD)
        wait_until(lambda: GUARD in platform.events(), 10, "an Event")
        assert operator.metric(METRIC, guard=GUARD) == 1
        assert stays(lambda: platform.phases() == [] and platform.pod_is_there())
        shared.start()
        until_states(platform, ALL - 1, 1)
        over = time.time()

        def until() -> float:
            holds = (platform.resources.status("demo").get("remediation") or {}).get("holds") or [{}]
            told = holds[0].get("until") if holds[0].get("guard") == GUARD else None
            return dt.datetime.fromisoformat(told).timestamp() if told else 0.0

        wait_until(lambda: until() > 0, 10, "until when is told")
        before = until()
        os.kill(operator.pid, signal.SIGTERM)  # killed, its Lease would outlast the cool-down
        wait_until(lambda: not operator.running, 10, "it ends")
        operator.start()
        platform.resources.wait("demo", "Unhealthy")
        assert stays(lambda: platform.phases() == [] and platform.pod_is_there(), before - 2 - time.time())
        assert until() > before - 5, "no sooner than it would have"
        wait_until(lambda: not platform.pod_is_there(), 40, "it lets go")
        assert time.time() > over + COOLDOWN - 10
        assert time.time() >= before - 5


def test_just_the_share_is_no_storm(control_plane: ControlPlane, namespace: str, platform: Platform):
    with RedisServer() as shared, RedisServer() as other, Operator(control_plane, namespace):
        with RedisServer(port=platform.port):
            spread(platform, shared, other, ALL // 2 - 1)
            until_states(platform, ALL, 0)
            shared.kill()
        until_states(platform, ALL // 2, ALL // 2)
        platform.allow(mode="Enforce", rules=[RULE], stormBreaker={"unhealthyOver": "50%", "cooldown": "1h"})
        wait_until(lambda: not platform.pod_is_there(), 15, "it acts")
