"""Models of the probes for anything that speaks HTTP, TCP or PostgreSQL."""

from __future__ import annotations

import re
from typing import Annotated, ClassVar, Literal

from pydantic import Field

from backendhealth.core.spec.base import (
    Host,
    JsonPath,
    Model,
    Port,
    Regex,
    Rule,
    Text,
    duration_between,
    meaning,
    url_of,
)
from backendhealth.core.spec.common import Auth, Tls, tls_needs

HttpUrl = Annotated[str, url_of("http", "https", path=True, example="https://api:3000/healthz")]
HeaderName = Annotated[
    str, Field(min_length=1, max_length=128, pattern=meaning("a header's name", r"^[-!#$%&'*+.^_`|~0-9A-Za-z]+$"))
]
StatusRange = Annotated[
    str,
    Field(
        min_length=3,
        max_length=7,
        pattern=meaning(
            "a status, a range or a class: 200, 200-299, 2xx", r"^([1-5][0-9][0-9](-[1-5][0-9][0-9])?|[1-5]xx)$"
        ),
    ),
]

CREDENTIAL_HEADER = "(?i)^(proxy-)?authorization$|^cookie$|(^|[-_])(api-?key|token|secret|password)$"
"""Names of headers that carry credentials."""


class HttpHeader(Model):
    """A header to send."""

    name: HeaderName = Field(description="Name of the header.")
    value: Text = Field(description="Its value. Not for secrets: use auth.")
    rules: ClassVar[tuple[Rule, ...]] = (
        Rule(
            id="no-secret-header",
            message="credentials don't belong in the spec: put them in a Secret and name it in auth.secretRef",
            cel=f"!self.name.matches('{CREDENTIAL_HEADER}')",
            fields=("name",),
            holds=lambda raw: not re.search(CREDENTIAL_HEADER, raw["name"]),
            field="name",
        ),
    )


class HttpExpectedHeader(Model):
    """A header that the answer must have."""

    name: HeaderName = Field(description="Name of the header.")
    regex: Regex | None = Field(
        default=None, description="RE2 expression that its value must match; default: any value."
    )


class HttpExpectedJson(Model):
    """A value that the answer's JSON must have."""

    path: JsonPath = Field(description="JSONPath (RFC 9535), e.g. `$.status`.")
    equals: Text | None = Field(default=None, description="Text of the value (a string as is, others as JSON).")
    regex: Regex | None = Field(default=None, description="RE2 expression that the text of the value must match.")


class HttpExpect(Model):
    """What a good answer looks like."""

    status: Annotated[list[StatusRange], Field(min_length=1, max_length=16)] = Field(
        default=["2xx"], description="Accepted statuses: `200`, `200-299` or `2xx`."
    )
    headers: Annotated[list[HttpExpectedHeader], Field(max_length=16)] = Field(
        default=[],
        description="Headers that must be there.",
        json_schema_extra={"x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["name"]},
    )
    body_regex: Regex | None = Field(default=None, description="RE2 expression that the body's first MiB must match.")
    json_path: Annotated[list[HttpExpectedJson], Field(max_length=16)] = Field(
        default=[],
        description="Values that the JSON body must have, at every place that the path selects.",
        json_schema_extra={"x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["path"]},
    )


class HttpProbe(Model):
    """HTTP: status, headers, body and JSON of one request, over redirects, with the certificate's remaining days."""

    url: HttpUrl = Field(description="URL to request.")
    method: Literal["GET", "HEAD", "POST", "OPTIONS"] = Field(default="GET", description="HTTP method.")
    headers: Annotated[list[HttpHeader], Field(max_length=32)] = Field(
        default=[],
        description="Headers to send.",
        json_schema_extra={"x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["name"]},
    )
    body: Annotated[str, Field(min_length=1, max_length=65536)] | None = Field(
        default=None, description="Body to send."
    )
    max_redirects: Annotated[int, Field(ge=0, le=20)] = Field(
        default=0, description="Redirects to follow; with 0 a redirect is the answer."
    )
    expect: HttpExpect | None = Field(default=None, description="What a good answer looks like; default: status 2xx.")
    auth: Auth | None = Field(
        default=None,
        description="`username` and `password` (Basic) or `token` (Bearer); not sent to another host after a redirect.",
    )
    api_key_header: HeaderName | None = Field(
        default=None, description="Send auth's `token` in this header, as is, instead of `Authorization: Bearer`."
    )
    tls: Tls | None = Field(default=None, description="TLS settings for an https URL.")
    rules: ClassVar[tuple[Rule, ...]] = (
        tls_needs(("https",), "url"),
        Rule(
            id="api-key-needs-auth",
            message="apiKeyHeader sends auth's token: set auth",
            cel="!has(self.apiKeyHeader) || has(self.auth)",
            fields=(),
            holds=lambda raw: raw.get("apiKeyHeader") is None or raw.get("auth") is not None,
            field="apiKeyHeader",
        ),
    )


class TcpProbe(Model):
    """TCP: a connection and, on request, an exchange of bytes."""

    host: Host = Field(description="Host to connect to.")
    port: Port = Field(description="Port to connect to.")
    tls: Tls | None = Field(default=None, description="Speak TLS; plain when absent.")
    send: Annotated[str, Field(min_length=1, max_length=4096)] | None = Field(
        default=None, description="Text to send; write \\r\\n in a double-quoted YAML string."
    )
    expect: Regex | None = Field(
        default=None, description="RE2 expression that the first 64 KiB of the reply must match."
    )


class PostgresProbe(Model):
    """PostgreSQL: connect, query, role and replication lag."""

    host: Host = Field(description="Host of the server.")
    port: Port = Field(default=5432, description="Port of the server.")
    database: Text = Field(default="postgres", description="Database to connect to.")
    role: Literal["primary", "replica", "any"] = Field(
        default="primary", description="primary: must be writable. replica: must be a standby."
    )
    query: Text | None = Field(
        default=None, description="A query that must succeed; it runs in a read-only transaction."
    )
    expect: Text | None = Field(
        default=None,
        description="Text of the first column of the query's first row; `true`, `false` and `null` as in JSON.",
    )
    max_replication_lag: Annotated[str, duration_between("1s", "24h")] | None = Field(
        default=None, description="A standby that is further behind is Degraded (ReplicationLag)."
    )
    auth: Auth | None = Field(
        default=None, description="`username` and `password`; default: user postgres, no password."
    )
    tls: Tls | None = Field(default=None, description="Ask for TLS and verify; plain when absent.")
    rules: ClassVar[tuple[Rule, ...]] = (
        Rule(
            id="expect-needs-query",
            message="expect is compared with the query's result: set query",
            cel="!has(self.expect) || has(self.query)",
            fields=(),
            holds=lambda raw: raw.get("expect") is None or raw.get("query") is not None,
            field="expect",
        ),
        Rule(
            id="lag-needs-standby",
            message="a primary has no replication lag: set role to replica or any",
            cel="!has(self.maxReplicationLag) || (has(self.role) && self.role != 'primary')",
            fields=("role",),
            holds=lambda raw: raw.get("maxReplicationLag") is None or raw.get("role", "primary") != "primary",
            field="maxReplicationLag",
        ),
    )
