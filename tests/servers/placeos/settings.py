"""What a service is told: the variables that PlaceOS itself reads, and below them the double's own, for quick tests."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal
from urllib.parse import quote

Database = Literal["rethinkdb", "postgres"]


@dataclass(frozen=True, slots=True)
class Settings:
    """One service's configuration. Times are seconds; None for a backend that this generation does not have."""

    service: str
    host: str
    port: int
    production: bool
    log_file: str | None
    # backends
    redis_url: str
    etcd_url: str | None
    etcd_ttl: int
    namespace: str
    elasticsearch_url: str | None
    postgres_url: str | None
    rethinkdb_host: str
    rethinkdb_port: int
    rethinkdb_db: str
    rethinkdb_user: str
    rethinkdb_password: str
    # the double's own: DOUBLE_…, and BIND, PORT (in a pod BIND is 0.0.0.0, and CORE_HOST_URI names the pod)
    listing: Literal["elasticsearch", "postgres"]
    discovery_ttl: int
    abort_after: float
    backend_timeout: float
    etcd_retry: float
    core_retry: float
    placement_cache: bool
    reregister: bool
    resubscribe: bool
    relaunch_delay: float
    redis_ping_interval: float
    liveness_interval: float
    trigger_interval: float
    query_timeout: float
    edges: Mapping[str, Sequence[str]]
    state: str
    core_uri: str
    jwt_secret: str

    @property
    def database(self) -> Database:
        """Which database server holds the configuration."""
        return "postgres" if self.postgres_url else "rethinkdb"


def read(service: str, port: int, env: Mapping[str, str] = os.environ) -> Settings:
    """The settings of `service`, whose HTTP port is PORT, by default `port`."""
    listen = int(env.get("PORT", port))
    host = env.get("BIND", "127.0.0.1")
    return Settings(
        service=service,
        host=host,
        port=listen,
        production=env.get("SG_ENV", "production") == "production",
        log_file=env.get("LOG_FILE"),
        redis_url=env.get("REDIS_URL", "redis://localhost:6379"),
        etcd_url=f"http://{env['ETCD_HOST']}:{env.get('ETCD_PORT', '2379')}" if env.get("ETCD_HOST") else None,
        etcd_ttl=int(env.get("ETCD_TTL", "15")),
        namespace=env.get("HD_SERVICE_NAMESPACE", "service"),
        elasticsearch_url=_elasticsearch(env),
        postgres_url=_postgres(env),
        rethinkdb_host=env.get("RETHINKDB_HOST", "localhost"),
        rethinkdb_port=int(env.get("RETHINKDB_PORT", "28015")),
        rethinkdb_db=env.get("RETHINKDB_DB", "place_production"),
        rethinkdb_user=env.get("RETHINKDB_USER", "admin"),
        rethinkdb_password=env.get("RETHINKDB_PASSWORD", ""),
        listing="postgres" if env.get("DOUBLE_LISTING") == "postgres" else "elasticsearch",
        discovery_ttl=int(env.get("DOUBLE_DISCOVERY_TTL", "20")),
        abort_after=_seconds(env, "DOUBLE_ABORT_AFTER", 60),
        backend_timeout=_seconds(env, "DOUBLE_BACKEND_TIMEOUT", 10),
        etcd_retry=_seconds(env, "DOUBLE_ETCD_RETRY", 30),
        core_retry=_seconds(env, "DOUBLE_CORE_RETRY", 180),
        placement_cache=_switch(env, "DOUBLE_PLACEMENT_CACHE", default=False),
        reregister=_switch(env, "REREGISTER", default=True),
        resubscribe=_switch(env, "RESUBSCRIBE", default=True),
        relaunch_delay=_seconds(env, "DOUBLE_RELAUNCH_DELAY", 1),
        redis_ping_interval=_seconds(env, "DOUBLE_REDIS_PING_INTERVAL", 55),
        liveness_interval=_seconds(env, "DOUBLE_LIVENESS_INTERVAL", 60),
        trigger_interval=_seconds(env, "DOUBLE_TRIGGER_INTERVAL", 10),
        query_timeout=_seconds(env, "DOUBLE_QUERY_TIMEOUT", 4),
        edges=json.loads(env.get("DOUBLE_EDGES", "{}")),  # ids of modules by the edge node that they are on
        state=env.get("DOUBLE_STATE", "."),
        core_uri=env.get("CORE_HOST_URI", f"http://{host}:{listen}"),
        jwt_secret=env.get("JWT_SECRET", "double"),
    )


def _seconds(env: Mapping[str, str], name: str, default: float) -> float:
    return float(env.get(name, default))


def _switch(env: Mapping[str, str], name: str, *, default: bool) -> bool:
    return env.get(name, str(default)).lower() in ("1", "true", "yes")


def _elasticsearch(env: Mapping[str, str]) -> str | None:
    if env.get("ES_URI"):
        return env["ES_URI"]
    if not env.get("ES_HOST"):
        return None
    scheme = "https" if env.get("ES_TLS", "false") == "true" else "http"
    return f"{scheme}://{env['ES_HOST']}:{env.get('ES_PORT', '9200')}"


def _postgres(env: Mapping[str, str]) -> str | None:
    if env.get("PG_DATABASE_URL"):
        return env["PG_DATABASE_URL"]
    if not env.get("PG_HOST"):
        return None
    user, password = quote(env.get("PG_USER", "postgres"), safe=""), quote(env.get("PG_PASSWORD", ""), safe="")
    name = env.get("PG_DB", "place_production")
    return f"postgresql://{user}:{password}@{env['PG_HOST']}:{env.get('PG_PORT', '5432')}/{name}"
