"""Which hosts a target names."""

from __future__ import annotations

from typing import Any

import pytest

from backendhealth.core.spec.backendhealth import Probe
from backendhealth.core.spec.hosts import hosts_of

DRIVERS = {"url": "http://api:3000", "apiKeySecretRef": {"name": "key", "key": "key"}}


def hosts(**member: Any) -> frozenset[str]:
    return hosts_of(Probe.model_validate({"name": "x", **member}).target)


@pytest.mark.parametrize(
    ("member", "expected"),
    [
        ({"etcd": {"endpoints": ["http://a:2379", "http://B:2379", "http://10.0.0.1:2379"]}}, {"a", "b", "10.0.0.1"}),
        ({"elasticsearch": {"urls": ["https://es.example:9200/prefix"]}}, {"es.example"}),
        ({"http": {"url": "https://[2001:db8::1]:8443/a?b=http://c/#d"}}, {"2001:db8::1"}),
        ({"http": {"url": "http://host"}}, {"host"}),
        ({"redis": {"url": "rediss://Redis:6380/2"}}, {"redis"}),
        ({"redis": {"sentinel": {"endpoints": ["s1:26379", "[::1]:26379"], "masterName": "m"}}}, {"s1", "::1"}),
        ({"redis": {"cluster": {"endpoints": ["c1:7000", "c1:7001"]}}}, {"c1"}),
        ({"tcp": {"host": "fd00::1", "port": 1}}, {"fd00::1"}),
        ({"postgres": {"host": "db."}}, {"db"}),
        ({"rethinkdb": {"host": "DB"}}, {"db"}),
        (
            {"placeos": {"url": "http://api:3000", "services": {"core": "http://core:3000", "auth": "http://auth"}}},
            {"api", "core", "auth"},
        ),
        (
            {
                "drivers": DRIVERS
                | {"coreUrls": ["http://core-0:3000"], "discovery": {"etcd": {"endpoints": ["http://e:1"]}}}
            },
            {"api", "core-0", "e"},
        ),
        ({"drivers": DRIVERS | {"discovery": {"redis": {"url": "redis://r"}}}}, {"api", "r"}),
        ({"pods": {"selector": {"matchLabels": {"app": "core"}}}}, set()),
    ],
)
def test_hosts(member: dict[str, Any], expected: set[str]):
    assert hosts(**member) == expected


@pytest.mark.parametrize(
    "member",
    [
        {"http": {"url": "http://[1:2]:80/"}},
        {"tcp": {"host": "::::", "port": 1}},
        {"etcd": {"endpoints": ["http://[1.2]:1"]}},
    ],
)
def test_an_address_that_is_none_is_a_host_like_any_other(member: dict[str, Any]):
    assert len(hosts(**member)) == 1
