"""One model for each backend whose client needs more than a line: etcd, RethinkDB, Redis, Elasticsearch."""

from __future__ import annotations

import re
from typing import Annotated, ClassVar, Literal

from pydantic import Field

from backendhealth.core.spec.base import (
    Endpoint,
    Host,
    Model,
    Port,
    Rule,
    Text,
    exactly_one,
    meaning,
    refused,
    refused_field,
    url_of,
)
from backendhealth.core.spec.common import Auth, Tls, tls_needs

EtcdUrl = Annotated[str, url_of("http", "https", path=False, example="http://etcd:2379")]
RedisUrl = Annotated[str, url_of("redis", "rediss", path=True, example="redis://redis:6379/0")]
_REDIS_DATABASE = "^rediss?://[^/]+(/[0-9]{0,4})?$"
ElasticUrl = Annotated[str, url_of("http", "https", path=True, example="http://elasticsearch:9200")]
TableName = Annotated[
    str,
    Field(
        min_length=1, max_length=128, pattern=meaning("letters, digits, dashes and underscores", r"^[-_A-Za-z0-9]+$")
    ),
]
IndexName = Annotated[
    str,
    Field(
        min_length=1,
        max_length=255,
        pattern=meaning('a name or pattern without spaces and "\\/|<>?,#', r"^[^\x00-\x20\x7f\"\\/|<>?,#]+$"),
    ),
]


class EtcdProbe(Model):
    """etcd: quorum, members, alarms and quota, by status, a linearizable read and the alarm list of each endpoint."""

    endpoints: Annotated[list[EtcdUrl], Field(min_length=1, max_length=16)] = Field(
        description="Client URLs of the members, all http or all https; port 2379 where none is given."
    )
    key: Text = Field(default="backendhealth", description="Key that is read, linearizably; it need not exist.")
    quota_bytes: Annotated[int, Field(ge=1 << 20, le=1 << 40)] = Field(
        default=2147483648, description="The server's --quota-backend-bytes, in bytes (etcd's default: 2 GiB)."
    )
    quota_warning_percent: Annotated[int, Field(ge=1, le=100)] = Field(
        default=80, description="Degraded (QuotaNearlyFull) when the database is larger than this share of the quota."
    )
    auth: Auth | None = Field(default=None, description="User and password; keys `username`, `password`.")
    tls: Tls | None = Field(default=None, description="TLS settings for https endpoints.")
    rules: ClassVar[tuple[Rule, ...]] = (
        refused(
            "etcd-no-skip-verify",
            "tls.insecureSkipVerify",
            "gRPC, which etcd speaks, can't skip verification: name the authority in tls.caSecretRef",
        ),
        tls_needs(("https",), "endpoints"),
        Rule(
            id="etcd-one-scheme",
            message="endpoints must be all http or all https",
            cel="self.endpoints.all(e, e.startsWith('https://')) || self.endpoints.all(e, e.startsWith('http://'))",
            fields=("endpoints",),
            holds=lambda raw: len({str(url).split("://")[0] for url in raw["endpoints"]}) == 1,
            field="endpoints",
        ),
    )


class RethinkdbProbe(Model):
    """RethinkDB: the database, its tables and their replicas, by the system tables and a real read."""

    host: Host = Field(description="Host of any server of the cluster.")
    port: Port = Field(default=28015, description="Client driver port.")
    database: TableName | None = Field(default=None, description="Database that must exist.")
    tables: Annotated[list[TableName], Field(max_length=64)] = Field(
        default=[], description="Tables of the database that must be ready; default: all that it has."
    )
    auth: Auth | None = Field(
        default=None,
        description="User and password; default: admin without a password. The user needs read on `rethinkdb`.",
    )
    tls: Tls | None = Field(default=None, description="Speak TLS; plain when absent.")
    rules: ClassVar[tuple[Rule, ...]] = (
        refused_field(
            "rethinkdb-no-client-certificate",
            "tls.certSecretRef",
            "RethinkDB's driver can't present a client certificate: remove tls.certSecretRef",
        ),
        Rule(
            id="tables-need-database",
            message="tables are looked for in a database: set database",
            cel="!has(self.tables) || self.tables.size() == 0 || has(self.database)",
            fields=("tables",),
            holds=lambda raw: not raw.get("tables") or raw.get("database") is not None,
            field="tables",
        ),
    )


class RedisSentinel(Model):
    """Sentinels that know where the primary is."""

    endpoints: Annotated[list[Endpoint], Field(min_length=1, max_length=16)] = Field(
        description="host:port of the Sentinels."
    )
    master_name: Text = Field(description="Name under which the Sentinels watch the primary.")
    auth: Auth | None = Field(default=None, description="Credentials for the Sentinels, if they ask for any.")


class RedisCluster(Model):
    """A Redis Cluster."""

    endpoints: Annotated[list[Endpoint], Field(min_length=1, max_length=16)] = Field(
        description="host:port of some of its nodes; the others are learnt from them."
    )


class RedisProbe(Model):
    """Redis: role, replication, memory, persistence and, on request, a write; standalone, by Sentinel or Cluster."""

    url: RedisUrl | None = Field(default=None, description="redis:// or rediss:// URL of one server.")
    sentinel: RedisSentinel | None = Field(default=None, description="Find the server by Sentinels.")
    cluster: RedisCluster | None = Field(default=None, description="Probe a Redis Cluster.")
    role: Literal["primary", "replica", "any"] = Field(
        default="primary", description="Role that the server must have; a replica must have its link up."
    )
    write_check: bool = Field(
        default=False,
        description="Also SET the key `backendhealth:probe` with an expiry of one minute; in a Cluster, "
        "one key `backendhealth:probe:N` for each primary.",
    )
    auth: Auth | None = Field(default=None, description="`password`, or `username` and `password` (ACL).")
    tls: Tls | None = Field(
        default=None, description="TLS settings: for rediss://, and to speak TLS to Sentinel or Cluster."
    )
    rules: ClassVar[tuple[Rule, ...]] = (
        exactly_one("redis-one-topology", ("url", "sentinel", "cluster")),
        tls_needs(("rediss",), "url"),
        Rule(
            id="redis-write-needs-primary",
            message="a write check needs a primary: set role to primary or remove writeCheck",
            cel="!has(self.writeCheck) || !self.writeCheck || !has(self.role) || self.role == 'primary'",
            fields=("writeCheck", "role"),
            holds=lambda raw: not raw.get("writeCheck") or raw.get("role", "primary") == "primary",
            field="writeCheck",
        ),
        Rule(
            id="redis-database-number",
            message="only a database number may follow the address: redis://redis:6379/0",
            cel=f"!has(self.url) || self.url.matches('{_REDIS_DATABASE}')",
            fields=("url",),
            holds=lambda raw: raw.get("url") is None or re.match(_REDIS_DATABASE, raw["url"]) is not None,
            field="url",
        ),
        Rule(
            id="redis-cluster-has-all-roles",
            message="a Cluster is probed as a whole: remove role",
            cel="!has(self.cluster) || !has(self.role) || self.role == 'primary'",
            fields=("role",),
            holds=lambda raw: raw.get("cluster") is None or raw.get("role", "primary") == "primary",
            field="role",
        ),
    )


class ElasticsearchSearch(Model):
    """A search that must succeed on all shards."""

    index: IndexName = Field(description="Index, alias or pattern to search.")
    query_string: Text = Field(
        default="*", description="Query in the query-string syntax; only the count is asked for."
    )
    min_hits: Annotated[int, Field(ge=0, le=2147483647)] = Field(default=0, description="Fewer hits are a failure.")


class ElasticsearchProbe(Model):
    """Elasticsearch: cluster health, master, indices and their blocks and, on request, a search."""

    urls: Annotated[list[ElasticUrl], Field(min_length=1, max_length=16)] = Field(description="URLs of the nodes.")
    indices: Annotated[list[IndexName], Field(max_length=64)] = Field(
        default=[],
        description="Indices and aliases, which must exist, or patterns; all must serve and be writable. Of the indices"
        " that a pattern finds, closed and write-protected ones don't count. Default: the cluster as a whole.",
    )
    minimum_status: Literal["yellow", "green"] = Field(
        default="yellow", description="green: a yellow cluster is Degraded (ClusterYellow). Red is always Unhealthy."
    )
    search: ElasticsearchSearch | None = Field(default=None, description="A search that must succeed.")
    auth: Auth | None = Field(
        default=None, description="`username` and `password`, or an API key or a bearer token in `token`."
    )
    tls: Tls | None = Field(default=None, description="TLS settings for https URLs.")
    rules: ClassVar[tuple[Rule, ...]] = (tls_needs(("https",), "urls"),)
