"""The failures of PlaceOS's document, each with what it does to users: data."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from backendhealth.core.spec.profile import Effect
from tests.scenarios.truth import Fault
from tests.servers.placeos.platform import Generation

ETCD: Mapping[str, Effect] = {
    "login": "Works",
    "api-requests": "Works",
    "listing": "Works",
    "execute": "Fails",
    "new-websockets": "Fails",
    "triggers": "Fails",
    "driver-launch": "Fails",
    "core-joining": "Fails",
}
DATABASE: Mapping[str, Effect] = {"login": "Fails", "api-requests": "Fails", "existing-websockets": "Works"}
REDIS: Mapping[str, Effect] = {
    "login": "Works",
    "listing": "Works",
    "status-updates": "Fails",
    "modules": "Fails",
    "execute": "Degraded",
    "cross-driver-calls": "Degraded",
}
ELASTICSEARCH: Mapping[str, Effect] = {
    "listing": "Fails",
    "login": "Works",
    "api-requests": "Works",
    "execute": "Works",
    "modules": "Works",
    "new-websockets": "Works",
    "existing-websockets": "Works",
    "status-updates": "Works",
    "triggers": "Works",
    "cross-driver-calls": "Works",
}
DRIVERS: Mapping[str, Effect] = {"execute": "Degraded", "login": "Works", "listing": "Works", "api-requests": "Works"}
CORE: Mapping[str, Effect] = {"execute": "Fails", "login": "Works", "listing": "Works"}
API: Mapping[str, Effect] = {
    "access": "Fails",
    "api-requests": "Fails",
    "execute": "Fails",
    "new-websockets": "Fails",
    "listing": "Fails",
}
LOAD_BALANCER: Mapping[str, Effect] = {**API, "login": "Fails", "modules": "Fails"}

_LOOP = 21.0
"""Seconds without a launch until a driver counts as steady."""
_CORE = frozenset({"core"})

FAULTS: Mapping[str, Fault] = {
    fault.name: fault
    for fault in (
        Fault("etcd-down", "etcd", ETCD),
        Fault("etcd-hangs", "etcd", ETCD, hangs=True),
        Fault("database-down", "postgres", DATABASE),
        Fault("database-hangs", "postgres", DATABASE, hangs=True),
        Fault("redis-down", "redis", REDIS, forgotten_after=1.0),
        Fault("redis-hangs", "redis", REDIS, hangs=True, forgotten_after=1.0),
        Fault("elasticsearch-down", "elasticsearch", ELASTICSEARCH),
        Fault("elasticsearch-hangs", "elasticsearch", ELASTICSEARCH, hangs=True),
        Fault(
            "driver-crashes",
            "drivers",
            DRIVERS,
            "DriverCrashLooping",
            seen_through=_CORE,
            done_through=_CORE,
            forgotten_after=_LOOP,
        ),
        Fault(
            "driver-does-not-compile",
            "drivers",
            DRIVERS,
            "DriverCompileFailed",
            seen_through=_CORE,
            done_through=frozenset({"core", "postgres"}),
        ),
        Fault("core-down", "core", CORE),
        Fault("core-hangs", "core", CORE, hangs=True),
        Fault("core-not-registered", "core", CORE, "CoreNotRegistered", done_through=frozenset({"etcd"})),
        Fault("api-down", "api", API, cuts=True),
        Fault("api-hangs", "api", API, hangs=True, cuts=True),
        Fault("load-balancer-down", "load-balancer", LOAD_BALANCER, cuts=True),
        Fault("load-balancer-hangs", "load-balancer", LOAD_BALANCER, hangs=True, cuts=True),
    )
}
STAYS_OUT = Fault("core-stays-out", "core", CORE, "CoreNotRegistered")
"""A core of an older build, which never registers again after etcd came back: nothing needs to be done to it."""

PROFILES: Mapping[Generation, str] = {
    "postgres-etcd": "placeos-postgres-etcd",
    "rethinkdb": "placeos-rethinkdb",
    "postgres": "placeos-postgres",
}


def faults_of(generation: Generation) -> dict[str, Fault]:
    """FAULTS as they are in another generation of PlaceOS."""
    components = {"postgres": "rethinkdb"} if generation == "rethinkdb" else {}
    components |= {"etcd": "redis"} if generation == "postgres" else {}
    return {
        name: replace(
            fault,
            component=components.get(fault.component, fault.component),
            done_through=frozenset(components.get(one, one) for one in fault.done_through),
        )
        for name, fault in FAULTS.items()
        if generation != "postgres" or fault.component != "etcd"
    }
