"""Models of the probes that speak PlaceOS's own interfaces: its REST API as users see it, and its drivers."""

from __future__ import annotations

from typing import Annotated, ClassVar

from pydantic import Field

from backendhealth.core.spec.base import (
    Host,
    JsonList,
    Model,
    Raw,
    Rule,
    Text,
    at_most_one,
    duration_between,
    exactly_one,
    meaning,
    needs,
    url_of,
)
from backendhealth.core.spec.common import Auth, SecretKeyRef, Tls, tls_needs
from backendhealth.core.spec.pods import LabelSelector
from backendhealth.core.spec.targets import EtcdUrl, RedisUrl

ServiceUrl = Annotated[str, url_of("http", "https", path=False, example="http://api:3000")]
SystemId = Annotated[
    str,
    Field(
        min_length=1,
        max_length=128,
        pattern=meaning("letters, digits, dashes and underscores, e.g. sys-probe", r"^[-_A-Za-z0-9]+$"),
    ),
]
ModuleName = Annotated[
    str,
    Field(
        min_length=1,
        max_length=128,
        pattern=meaning("a module with its index, e.g. Probe_1", r"^[A-Za-z0-9][-_.A-Za-z0-9]*_[1-9][0-9]{0,3}$"),
    ),
]
FunctionName = Annotated[
    str,
    Field(
        min_length=1,
        max_length=128,
        pattern=meaning("the name of a function or variable, e.g. ping", r"^[A-Za-z_][A-Za-z0-9_]*[?!]?$"),
    ),
]
DriverKey = Annotated[
    str,
    Field(
        min_length=1,
        max_length=253,
        pattern=meaning("the key of a driver, as the cluster API has it", r"^[-_.+:A-Za-z0-9]+$"),
    ),
]

SERVICES: dict[str, str] = {
    "auth": "/auth/authority?health=true",
    "build": "/api/build/v1",
    "core": "/api/core/v1/",
    "dispatch": "/api/dispatch/v1/healthz",
    "frontend-loader": "/api/frontend-loader/v1",
    "search-ingest": "/api/search-ingest/v1",
    "source": "/api/source/v1",
    "staff": "/api/staff/v1",
    "triggers": "/api/triggers/v2/",
}
"""The path at which each service tells its health."""

_ONE_CREDENTIAL = at_most_one(
    "one-credential", ("apiKeySecretRef", "auth"), "apiKeySecretRef and auth are two ways to log in: set one of them"
)
_CREDENTIALS = "has(self.apiKeySecretRef) || has(self.auth)"


def _has_credentials(raw: Raw) -> bool:
    return raw.get("apiKeySecretRef") is not None or raw.get("auth") is not None


def _bad_services(raw: Raw) -> list[tuple[str | int, ...]]:
    return [(name,) for name in raw.get("services") or {} if name not in SERVICES]


class PlaceosApi(Model):
    """How PlaceOS's REST API is reached, and as whom."""

    url: ServiceUrl = Field(description="URL of the REST API, or of what stands before it, without a path.")
    host: Host | None = Field(
        default=None,
        description="Domain that is asked for (the header Host); default: that of the URL. PlaceOS answers only for"
        " domains that it knows (`authority not found`).",
    )
    api_key_secret_ref: SecretKeyRef | None = Field(
        default=None, description="Key of a Secret whose value is an API key, sent as `X-API-Key`."
    )
    auth: Auth | None = Field(
        default=None, description="`username` and `password` of a user who logs in by OAuth's password grant."
    )
    client_id: Text | None = Field(
        default=None, description="OAuth's client ID, where the auth service wants one for the password grant."
    )
    auth_url: ServiceUrl | None = Field(
        default=None, description="URL of the auth service, where it isn't reached by `url`."
    )
    tls: Tls | None = Field(default=None, description="TLS settings for https URLs.")

    @property
    def logs_in(self) -> bool:
        """Whether it has credentials."""
        return self.api_key_secret_ref is not None or self.auth is not None


API_RULES = (
    _ONE_CREDENTIAL,
    needs("client-id-needs-auth", "clientId", "auth", "clientId belongs to the password grant: set auth"),
    needs("auth-url-needs-auth", "authUrl", "auth", "authUrl belongs to the password grant: set auth"),
    tls_needs(("https",), "url"),
)


class PlaceosProbe(PlaceosApi):
    """PlaceOS as its users see it: log-in, listing, modules, execute, WebSockets, and the health of its services."""

    system: SystemId | None = Field(
        default=None, description="ID of a system whose modules are listed; log-in and listing are tried without it."
    )
    module: ModuleName | None = Field(
        default=None, description="Module of the system, with its index, whose functions are listed."
    )
    function: FunctionName | None = Field(
        default=None,
        description="Function of the module that is executed in each attempt. Name one that is safe: it is really run.",
    )
    arguments: JsonList | None = Field(default=None, description="Arguments of the function, as a JSON list.")
    websocket: bool = Field(
        default=True, description="Whether a variable of the module is bound over WebSockets, where a module is set."
    )
    binding: FunctionName = Field(
        default="connected", description="Variable of the module that is bound; every driver has `connected`."
    )
    services: Annotated[dict[str, ServiceUrl], Field(max_length=16)] = Field(
        default={},
        description="URL of services whose health is asked for, without a path, by name: "
        f"{', '.join(SERVICES)}. Each speaks for the component of its name.",
    )
    rules: ClassVar[tuple[Rule, ...]] = (
        *API_RULES,
        Rule(
            id="system-needs-credentials",
            message="nothing of a system is shown to a stranger: set apiKeySecretRef or auth",
            cel=f"!has(self.system) || {_CREDENTIALS}",
            fields=(),
            holds=lambda raw: raw.get("system") is None or _has_credentials(raw),
            field="system",
        ),
        needs("module-needs-system", "module", "system", "a module belongs to a system: set system"),
        needs("function-needs-module", "function", "module", "a function belongs to a module: set module"),
        needs("arguments-need-function", "arguments", "function", "arguments belong to a function: set function"),
        Rule(
            id="known-service",
            message=f"services known here: {', '.join(SERVICES)}",
            cel=f"!has(self.services) || self.services.all(k, k in {list(SERVICES)})",
            fields=("services",),
            holds=lambda raw: not _bad_services(raw),
            field="services",
            where=_bad_services,
        ),
    )

    @property
    def parts(self) -> tuple[str, ...]:
        """Symptoms in the order of triage, then the services."""
        enabled = {
            "reach": True,
            "login": self.logs_in,
            "systems": self.logs_in,
            "modules": self.system is not None,
            "execute": self.function is not None,
            "websocket-open": self.websocket and self.module is not None,
            "websocket-new": self.websocket and self.module is not None,
            "triggers": "triggers" in self.services,
        }
        symptoms = (f"symptom/{name}" for name, on in enabled.items() if on)
        return (*symptoms, *(f"component/{name}" for name in self.services))


class EtcdDiscovery(Model):
    """Where cores register in etcd."""

    endpoints: Annotated[list[EtcdUrl], Field(min_length=1, max_length=16)] = Field(
        description="Client URLs of etcd's members; the first that answers is asked."
    )
    namespace: Text = Field(default="service", description="PlaceOS's HD_SERVICE_NAMESPACE: what the keys begin with.")
    auth: Auth | None = Field(default=None, description="User and password; keys `username`, `password`.")
    tls: Tls | None = Field(default=None, description="TLS settings for https endpoints.")
    rules: ClassVar[tuple[Rule, ...]] = (tls_needs(("https",), "endpoints"),)


class RedisDiscovery(Model):
    """Where cores register in Redis."""

    url: RedisUrl = Field(description="PlaceOS's REDIS_URL.")
    auth: Auth | None = Field(default=None, description="`password`, and `username` where Redis has users.")
    tls: Tls | None = Field(default=None, description="TLS settings for a rediss URL.")
    rules: ClassVar[tuple[Rule, ...]] = (tls_needs(("rediss",), "url"),)


class CoreDiscovery(Model):
    """Where cores register: exactly one of its members is set."""

    etcd: EtcdDiscovery | None = None
    redis: RedisDiscovery | None = None
    rules: ClassVar[tuple[Rule, ...]] = (exactly_one("one-discovery", ("etcd", "redis")),)


class Cores(Model):
    """Which cores there should be: exactly one of its members is set."""

    selector: LabelSelector | None = Field(
        default=None, description="Pods of the resource's namespace that are cores: each ready one must be registered."
    )
    expected: Annotated[int, Field(ge=1, le=100)] | None = Field(
        default=None, description="How many cores must be registered, where pods can't be seen."
    )
    rules: ClassVar[tuple[Rule, ...]] = (exactly_one("one-way-to-count", ("selector", "expected")),)


class DriversProbe(PlaceosApi):
    """PlaceOS's drivers: running, launched again and again, compiled, their modules loaded; and cores' registration."""

    core_urls: Annotated[list[ServiceUrl], Field(max_length=16)] = Field(
        default=[], description="URLs of cores, without a path, that are asked directly while the API can't tell."
    )
    required: Annotated[list[DriverKey], Field(max_length=64)] = Field(
        default=[], description="Keys of drivers, or what their keys begin with, that must run on some core."
    )
    maximum_launches: Annotated[int, Field(ge=1, le=1000)] = Field(
        default=2, description="A driver that is launched more often within `launchWindow` is DriverCrashLooping."
    )
    launch_window: Annotated[str, duration_between("10s", "24h")] = Field(
        default="10m", description="Time over which launches are counted."
    )
    discovery: CoreDiscovery | None = Field(
        default=None, description="Where cores register, to find registrations of cores that are dead."
    )
    cores: Cores | None = Field(default=None, description="Which cores there should be; default: any.")
    rules: ClassVar[tuple[Rule, ...]] = (
        *API_RULES,
        Rule(
            id="drivers-need-credentials",
            message="the API shows drivers to administrators only: set apiKeySecretRef or auth",
            cel=_CREDENTIALS,
            fields=(),
            holds=_has_credentials,
        ),
    )

    @property
    def parts(self) -> tuple[str, ...]:
        """What is found of the cores."""
        return ("component/core",)
