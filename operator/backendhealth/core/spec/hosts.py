"""Which hosts a target names: two probes of one host say nothing about each other's network."""

from __future__ import annotations

import re

from backendhealth.core.spec.actions import DriverAction
from backendhealth.core.spec.backendhealth import Target
from backendhealth.core.spec.generic import HttpProbe, PostgresProbe, TcpProbe
from backendhealth.core.spec.placeos import DriversProbe, PlaceosProbe
from backendhealth.core.spec.pods import PodsProbe
from backendhealth.core.spec.targets import ElasticsearchProbe, EtcdProbe, RedisProbe, RethinkdbProbe

_PLACE = re.compile(r"(?:[a-z]+://)?(\[[^]]*\]|[^:/?#]*)")
"""The host of a URL or of `host:port`. The models' patterns let addresses through that urlsplit raises for."""


def hosts_of(target: Target | DriverAction) -> frozenset[str]:
    """Host names and addresses of the target, lower-case; none for pods, of which the API server tells."""
    places = _of_action(target) if isinstance(target, DriverAction) else _places(target)
    return frozenset(place.strip("[]").rstrip(".").lower() for place in places)


def _host(place: str) -> str:
    found = _PLACE.match(place)
    return found[1] if found else place


def _places(target: Target) -> list[str]:
    match target:
        case EtcdProbe():
            return [_host(place) for place in target.endpoints]
        case ElasticsearchProbe():
            return [_host(place) for place in target.urls]
        case HttpProbe():
            return [_host(target.url)]
        case RedisProbe():
            found = target.sentinel or target.cluster
            return [_host(place) for place in (found.endpoints if found else [target.url or ""])]
        case TcpProbe() | PostgresProbe() | RethinkdbProbe():
            return [target.host]
        case PodsProbe():
            return []
        case PlaceosProbe():
            return [_host(place) for place in (target.url, *target.services.values())]
        case DriversProbe():
            return [_host(place) for place in (target.url, *target.core_urls, *_discovery(target))]


def _of_action(action: DriverAction) -> list[str]:
    return [_host(place) for place in (action.url, action.auth_url or action.url)]


def _discovery(target: DriversProbe) -> list[str]:
    found = target.discovery
    if found is None:
        return []
    return [*(found.etcd.endpoints if found.etcd else ()), *([found.redis.url] if found.redis else ())]
