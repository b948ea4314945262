"""The BackendHealth resource: what to probe, how often, with which thresholds."""

from __future__ import annotations

from functools import cached_property
from typing import Annotated, Any, ClassVar, Literal

from pydantic import ConfigDict, Field

from backendhealth.core.durations import seconds
from backendhealth.core.spec.base import Model, Name, ObjectName, Raw, Rule, duration_between, exactly_one
from backendhealth.core.spec.generic import HttpProbe, PostgresProbe, TcpProbe
from backendhealth.core.spec.placeos import DriversProbe, PlaceosProbe
from backendhealth.core.spec.pods import PodsProbe
from backendhealth.core.spec.targets import ElasticsearchProbe, EtcdProbe, RedisProbe, RethinkdbProbe

GROUP = "backendhealth.dev"
VERSION = "v1alpha1"
API_VERSION = f"{GROUP}/{VERSION}"
KIND = "BackendHealth"

Target = (
    EtcdProbe
    | RethinkdbProbe
    | RedisProbe
    | ElasticsearchProbe
    | PostgresProbe
    | HttpProbe
    | TcpProbe
    | PodsProbe
    | PlaceosProbe
    | DriversProbe
)
MEMBERS: tuple[str, ...] = (
    *("etcd", "rethinkdb", "redis", "elasticsearch", "postgres"),
    *("http", "tcp", "pods", "placeos", "drivers"),
)

Interval = Annotated[str, duration_between("1s", "24h")]
RetryInterval = Annotated[str, duration_between("100ms", "24h")]
Timeout = Annotated[str, duration_between("10ms", "5m")]
InitialDelay = Annotated[str, duration_between("0s", "1h")]
Threshold = Annotated[int, Field(ge=1, le=100)]

DEFAULT_INTERVAL = "30s"
DEFAULT_RETRY_INTERVAL = "2s"
DEFAULT_TIMEOUT = "5s"
DEFAULT_FAILURE_THRESHOLD = 3
DEFAULT_SUCCESS_THRESHOLD = 2


def _timeout_within_interval(raw: Raw) -> bool:
    timeout, interval = raw.get("timeout"), raw.get("interval")
    return timeout is None or interval is None or seconds(timeout) <= seconds(interval)


def _retry_within_interval(raw: Raw) -> bool:
    retry, interval = raw.get("retryInterval"), raw.get("interval")
    return retry is None or interval is None or seconds(retry) <= seconds(interval)


_TIMING_RULES = (
    Rule(
        id="timeout-within-interval",
        message="timeout must not be longer than interval",
        cel="!has(self.timeout) || !has(self.interval) || duration(self.timeout) <= duration(self.interval)",
        fields=("timeout", "interval"),
        holds=_timeout_within_interval,
        field="timeout",
    ),
    Rule(
        id="retry-within-interval",
        message="retryInterval must not be longer than interval",
        cel=(
            "!has(self.retryInterval) || !has(self.interval) || duration(self.retryInterval) <= duration(self.interval)"
        ),
        fields=("retryInterval", "interval"),
        holds=_retry_within_interval,
        field="retryInterval",
    ),
)


class Timing(Model):
    """When to probe and how many attempts decide. A probe's own value goes before the resource's."""

    interval: Interval | None = Field(default=None, description="Time between attempts while nothing changes (30s).")
    retry_interval: RetryInterval | None = Field(
        default=None, description="Time between attempts after a change of outcome, until the thresholds decide (2s)."
    )
    timeout: Timeout | None = Field(
        default=None, description="Deadline of one attempt: look-up, connect, TLS, authentication and reading (5s)."
    )
    failure_threshold: Threshold | None = Field(
        default=None,
        description="Consecutive attempts that are worse before the verdict gets worse (3; for `pods`, whose facts"
        " don't waver, 1 unless the probe sets it).",
    )
    success_threshold: Threshold | None = Field(
        default=None,
        description="Consecutive attempts that are better before the verdict gets better (2; for `pods` 1 unless the"
        " probe sets it).",
    )
    initial_delay: InitialDelay | None = Field(default=None, description="Time before the first attempt (0s).")
    suspend: bool | None = Field(default=None, description="Stop probing; the verdict becomes Unknown (Suspended).")


class Probe(Timing):
    """One dependency to probe: exactly one of its members is set."""

    name: Name = Field(description="Name of the probe, unique in the resource.")
    component: Name | None = Field(
        default=None, description="Component that it speaks for; several probes may share one. Default: the name."
    )
    # no descriptions here: the models' docstrings are the members' descriptions in the schema
    etcd: EtcdProbe | None = None
    rethinkdb: RethinkdbProbe | None = None
    redis: RedisProbe | None = None
    elasticsearch: ElasticsearchProbe | None = None
    postgres: PostgresProbe | None = None
    http: HttpProbe | None = None
    tcp: TcpProbe | None = None
    pods: PodsProbe | None = None
    placeos: PlaceosProbe | None = None
    drivers: DriversProbe | None = None
    rules: ClassVar[tuple[Rule, ...]] = (exactly_one("one-probe-member", MEMBERS), *_TIMING_RULES)

    @cached_property
    def kind(self) -> str:
        """Name of the member that is set."""
        return next(member for member in MEMBERS if getattr(self, member) is not None)

    @property
    def target(self) -> Target:
        """The member that is set."""
        target: Target = getattr(self, self.kind)
        return target

    @cached_property
    def parts(self) -> tuple[str, ...]:
        """Names of the parts that a finding has beside its own: `symptom/NAME`, `component/NAME`."""
        match self.target:
            case PlaceosProbe() | DriversProbe() as target:
                return target.parts
            case _:
                return ()

    @property
    def uses_secrets(self) -> bool:
        """Whether it names a Secret, so that it matters as whom it is read."""
        return "secret_ref" in self.target.model_dump_json(exclude_unset=True)

    @property
    def component_name(self) -> str:
        """The component that this probe speaks for."""
        return self.component or self.name


class FlapDetection(Model):
    """When a component counts as flapping: it changes between failing and working too often."""

    changes: Annotated[int, Field(ge=2, le=20)] = Field(
        default=5, description="More changes than this within the window, and the component is held at Flapping."
    )
    window: Annotated[str, duration_between("10s", "24h")] = Field(default="10m", description="Length of the window.")


class ProfileRef(Model):
    """Which DiagnosisProfile says what a failure means: exactly one of its fields is set."""

    built_in: Name | None = Field(default=None, description="Name of a built-in one: see `backendhealth profiles`.")
    name: ObjectName | None = Field(default=None, description="Name of a DiagnosisProfile in this namespace.")
    rules: ClassVar[tuple[Rule, ...]] = (exactly_one("one-profile", ("builtIn", "name")),)


def condition_prefix(component: str) -> str:
    """CamelCase of a component's name, as its condition's type begins: `search-ingest` gives `SearchIngest`."""
    return "".join(part[:1].upper() + part[1:] for part in component.split("-"))


def _paired(raw: Raw, probe: Raw) -> bool:
    """Whether timeout and interval are set at the same level, where the rule of that level speaks of them."""
    own = [probe.get(field) is not None for field in ("timeout", "interval")]
    inherited = [raw.get(field) is not None for field in ("timeout", "interval")]
    return all(own) or (not any(own) and all(inherited))


def _late_timeouts(raw: Raw) -> list[tuple[str | int, ...]]:
    return [
        (index, *[field for field in ("timeout", "interval") if field in probe][:1])
        for index, probe in enumerate(raw["probes"])
        if not _paired(raw, probe)
        and seconds(probe.get("timeout") or raw.get("timeout") or DEFAULT_TIMEOUT)
        > seconds(probe.get("interval") or raw.get("interval") or DEFAULT_INTERVAL)
    ]


def _colliding(raw: Raw) -> list[tuple[str | int, ...]]:
    first: dict[str, str] = {}
    found: list[tuple[str | int, ...]] = []
    for index, probe in enumerate(raw["probes"]):
        component = probe.get("component") or probe["name"]
        if first.setdefault(component.replace("-", ""), component) != component:
            found.append((index, "component" if "component" in probe else "name"))
    return found


class BackendHealthSpec(Timing):
    """What to probe, and the timing that probes inherit."""

    probes: Annotated[list[Probe], Field(min_length=1, max_length=100)] = Field(
        description="The dependencies to probe.",
        json_schema_extra={"x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["name"]},
    )
    profile_ref: ProfileRef | None = Field(
        default=None, description="The platform's DiagnosisProfile; default: the built-in `generic`, which knows none."
    )
    service_account_name: ObjectName | None = Field(
        default=None,
        description=(
            "ServiceAccount of this namespace that reads the Secrets named here; the operator impersonates it."
            " Needed as soon as a probe names a Secret."
        ),
    )
    flap_detection: FlapDetection | None = Field(default=None, description="When a component counts as flapping.")
    rules: ClassVar[tuple[Rule, ...]] = (
        *_TIMING_RULES,
        Rule(
            id="probe-timeout-within-interval",
            message="the timeout in force (5s if not set) is longer than the interval in force (30s if not set)",
            cel=(
                "self.probes.all(p, has(p.timeout) && has(p.interval) ||"
                " !has(p.timeout) && !has(p.interval) && has(self.timeout) && has(self.interval) ||"
                " duration(has(p.timeout) ? p.timeout : has(self.timeout) ? self.timeout : '5s')"
                " <= duration(has(p.interval) ? p.interval : has(self.interval) ? self.interval : '30s'))"
            ),
            fields=("timeout", "interval", "probes.timeout", "probes.interval"),
            holds=lambda raw: not _late_timeouts(raw),
            field="probes",
            where=_late_timeouts,
        ),
        Rule(
            id="condition-names-collide",
            message="two components give the same condition name (CamelCase of the name): rename one",
            # the API server has no CamelCase: dashes are what two names may differ by and still collide
            cel=(
                "self.probes.all(p, self.probes.all(q,"
                " (has(p.component) ? p.component : p.name) == (has(q.component) ? q.component : q.name) ||"
                " (has(p.component) ? p.component : p.name).replace('-', '') !="
                " (has(q.component) ? q.component : q.name).replace('-', '')))"
            ),
            fields=("probes.name", "probes.component"),
            holds=lambda raw: not _colliding(raw),
            field="probes",
            where=_colliding,
        ),
    )


class ObjectMeta(Model):
    """The part of an object's metadata that is read; the rest is kept as it is."""

    model_config = ConfigDict(extra="allow", frozen=True, strict=True)
    name: ObjectName = Field(description="Name of the object.")
    namespace: Name = "default"
    generation: Annotated[int, Field(ge=0)] = 1
    labels: dict[str, str] = Field(default_factory=dict)
    annotations: dict[str, str] = Field(default_factory=dict)


class BackendHealth(Model):
    """Probes a platform's backends and reports their health."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)
    api_version: Literal["backendhealth.dev/v1alpha1"] = Field(alias="apiVersion")
    kind: Literal["BackendHealth"]
    metadata: ObjectMeta
    spec: BackendHealthSpec
    status: Any = None

    @property
    def key(self) -> str:
        """`namespace/name`."""
        return f"{self.metadata.namespace}/{self.metadata.name}"
