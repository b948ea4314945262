"""Which hosts a target names: two probes of one host say nothing about each other's network."""

from __future__ import annotations

from urllib.parse import urlsplit

from backendhealth.core.spec.backendhealth import Target
from backendhealth.core.spec.generic import HttpProbe, PostgresProbe, TcpProbe
from backendhealth.core.spec.targets import ElasticsearchProbe, EtcdProbe, RedisProbe, RethinkdbProbe


def hosts_of(target: Target) -> frozenset[str]:
    """Host names and addresses of the target, lower-case."""
    return frozenset(urlsplit(place if "//" in place else f"//{place}").hostname or "" for place in _places(target))


def _places(target: Target) -> list[str]:
    match target:
        case EtcdProbe():
            return list(target.endpoints)
        case ElasticsearchProbe():
            return list(target.urls)
        case HttpProbe():
            return [target.url]
        case RedisProbe():
            found = target.sentinel or target.cluster
            return list(found.endpoints) if found else [target.url or ""]
        case TcpProbe() | PostgresProbe() | RethinkdbProbe():
            return [f"//[{target.host}]" if ":" in target.host else target.host]
