"""The operator's settings: the one truth from which flags, environment variables and the reference page are made."""

from __future__ import annotations

import argparse
import re
import socket
import uuid
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Annotated, Any, Literal, NamedTuple, Self

from pydantic import AfterValidator, BeforeValidator, ConfigDict, Field, ValidationError
from pydantic.fields import FieldInfo
from pydantic_core import PydanticCustomError

from backendhealth.core.durations import seconds
from backendhealth.core.hostlist import HostList
from backendhealth.core.observation import clip
from backendhealth.core.spec.base import PATTERN_MEANINGS, Checked, Model, Name, ObjectName, duration_between, meaning
from backendhealth.core.wording import closest

PREFIX = "BACKENDHEALTH_"
POD_NAMESPACE = Path("/var/run/secrets/kubernetes.io/serviceaccount/namespace")
"""Where Kubernetes tells a pod its namespace."""
_SERVICE_LINK = re.compile(r"(SERVICE_HOST|SERVICE_PORT(_.+)?|PORT(_[0-9].*)?)")
"""Ends of variables that Kubernetes sets in each pod for a Service whose name begins with ours."""
_TRUTHS = {"true": True, "1": True, "yes": True, "on": True, "false": False, "0": False, "no": False, "off": False}
_MAX_SHOWN = 80


class SettingsError(ValueError):
    """Settings that can't be used; `problems` has a line for each, with the flag or variable and the remedy."""

    def __init__(self, problems: list[str]) -> None:
        super().__init__("\n".join(problems))
        self.problems = problems


class Address(NamedTuple):
    """Where to listen; without a host: on all addresses, IPv4 and IPv6. Port 0: any that is free."""

    host: str | None
    port: int


def _items(value: Any) -> Any:
    parts = [part.strip() for part in value.split(",")] if isinstance(value, str) else value
    return tuple(dict.fromkeys(part for part in parts if part))


def _truth(value: Any) -> Any:
    if isinstance(value, str):
        if value.lower() not in _TRUTHS:
            raise PydanticCustomError("boolean", "must be true or false")
        return _TRUTHS[value.lower()]
    return value


def _target(value: str) -> str:
    try:
        HostList.parse([value])
    except ValueError:
        raise PydanticCustomError("target", "must be a network (10.0.0.0/8), an address or a name (*.db.svc)") from None
    return value


def _listen(value: str) -> str:
    host, colon, port = value.rpartition(":")
    bare = host.removeprefix("[").removesuffix("]")
    if not colon or not re.fullmatch(r"[0-9]{1,5}", port) or int(port) > 65535 or (":" in host and bare == host):
        raise PydanticCustomError("listen", "must be HOST:PORT or :PORT, e.g. :8080, 127.0.0.1:8080 or [::1]:8080")
    return value


def _field_manager(value: str) -> str:
    if value.startswith("kubectl"):
        raise PydanticCustomError(
            "field_manager",
            "must not begin with kubectl: Flux takes what such a manager wrote for somebody's edit and takes it back,"
            " so that every restart would be followed by another",
        )
    return value


NameOrNone = Annotated[
    str,
    Field(max_length=63, pattern=meaning("empty, or the name of a namespace", r"^([a-z0-9]([-a-z0-9]*[a-z0-9])?)?$")),
]
FieldManager = Annotated[
    str,
    Field(min_length=1, max_length=128, pattern=meaning("a name without spaces", r"^[!-~]+$")),
    AfterValidator(_field_manager),
]
Items = BeforeValidator(_items)
Targets = Annotated[tuple[Annotated[str, AfterValidator(_target)], ...], Items, Field(max_length=1000)]


class Settings(Model):
    """All settings of the operator. Durations are text; the properties that end in `_seconds` have them as numbers."""

    model_config = ConfigDict(strict=False, alias_generator=None, loc_by_alias=False)

    namespaces: Annotated[tuple[Name, ...], Items, Field(max_length=1000)] = Field(
        default=(), description="Namespaces to serve, separated by commas. Empty: the whole cluster."
    )
    leader_elect: Annotated[bool, BeforeValidator(_truth)] = Field(
        default=True,
        description="Serve a shard only while holding its Lease. Off: for a run by hand, when no other operator runs.",
    )
    shards: int = Field(
        default=1,
        ge=1,
        le=64,
        description="Parts that the namespaces are spread over, by hash; a Lease each. The same for all replicas.",
    )
    lease_namespace: NameOrNone = Field(
        default="", description="Namespace of the Leases. Empty: the one that the operator's pod runs in."
    )
    lease_name: Annotated[ObjectName, Field(max_length=240)] = Field(
        default="backendhealth", description="Name of the Leases, before `-shard-0`."
    )
    identity: Annotated[str, Field(max_length=253, pattern=meaning("text without spaces", r"^[!-~]*$"))] = Field(
        default="",
        description="Holder's name in the Leases; no two processes may share it. Empty: host name and a random word.",
    )
    heartbeat_interval: Annotated[str, duration_between("1s", "24h")] = Field(
        default="10m", description="How old `status.heartbeatTime` gets before an unchanged status is written again."
    )
    resync_interval: Annotated[str, duration_between("1s", "1h")] = Field(
        default="1m", description="How often what is known is compared with a list from the API server."
    )
    secret_ttl: Annotated[str, duration_between("1s", "1h")] = Field(
        default="1m", description="How long a Secret that was read is used before it is read again."
    )
    allow_targets: Targets = Field(
        default=(),
        description="Networks and names that probes may connect to although the defaults refuse them, e.g. "
        "`127.0.0.0/8,*.db.example`, separated by commas. A name lifts the ban on nodes and API servers only.",
    )
    deny_targets: Targets = Field(
        default=(),
        description="Networks and names that probes must not connect to, besides those refused by default, "
        "separated by commas.",
    )
    remediation: Annotated[bool, BeforeValidator(_truth)] = Field(
        default=True,
        description="Act as far as RemediationPolicies allow. Off: nothing is ever done, whatever the switch says.",
    )
    switch: Annotated[ObjectName, Field(max_length=240)] = Field(
        default="backendhealth-remediation",
        description='Name of the ConfigMap, in `lease_namespace`, without whose `enabled: "true"` nothing is done.',
    )
    helper_image: Annotated[str, Field(max_length=512, pattern=meaning("text without spaces", r"^[!-~]*$"))] = Field(
        default="",
        description="Image of the ephemeral container that sends signals where the target's own has no shell: the"
        " operator's own. Empty: that is not done.",
    )
    field_manager: FieldManager = Field(
        default="backendhealth",
        description="Field manager of what a rollout restart writes; not one that begins with `kubectl`, which GitOps"
        " tools take back.",
    )
    listen: Annotated[str, AfterValidator(_listen)] = Field(
        default=":8080", description="Address of `/metrics`, `/healthz` and `/readyz`. Without a host: all addresses."
    )
    log_format: Literal["text", "json"] = Field(default="text", description="Log lines for people, or as JSON.")
    log_level: Literal["debug", "info", "warning", "error"] = Field(
        default="info", description="The least grave lines that are logged."
    )
    events_per_minute: int = Field(
        default=300, ge=0, le=60_000, description="Events written per minute at most, over all resources. 0: none."
    )
    kubeconfig: str = Field(
        default="",
        description="Kubeconfig of the cluster. Empty: the pod's ServiceAccount, else KUBECONFIG or ~/.kube/config.",
    )
    context: str = Field(default="", description="Context of the kubeconfig. Empty: its current one.")

    @property
    def heartbeat_seconds(self) -> float:
        """`heartbeat_interval` in seconds."""
        return seconds(self.heartbeat_interval)

    @property
    def resync_seconds(self) -> float:
        """`resync_interval` in seconds."""
        return seconds(self.resync_interval)

    @property
    def secret_ttl_seconds(self) -> float:
        """`secret_ttl` in seconds."""
        return seconds(self.secret_ttl)

    @property
    def listen_address(self) -> Address:
        """`listen` in its parts."""
        host, _, port = self.listen.rpartition(":")
        return Address(host.removeprefix("[").removesuffix("]") or None, int(port))

    @classmethod
    def from_sources(cls, args: argparse.Namespace | None, environ: Mapping[str, str]) -> Self:
        """Settings of the flags in `args`, else of `environ`, else the defaults. Raises SettingsError.

        Reads the pod's namespace and makes up an identity where neither was given.
        """
        given = dict(_given(args, environ))
        given.setdefault("lease_namespace", ("", _pod_namespace()))
        given.setdefault("identity", ("", f"{socket.gethostname()}_{uuid.uuid4().hex[:8]}"))
        problems = [*_unknown_variables(environ), *_no_lease_namespace(given)]
        try:
            settings = cls.model_validate({field: value for field, (_, value) in given.items()})
        except ValidationError as error:
            raise SettingsError([*_told(error, given), *problems]) from None
        if problems:
            raise SettingsError(problems)
        return settings


def flag_of(field: str, *, off: bool = False) -> str:
    """`--heartbeat-interval` of `heartbeat_interval`."""
    return f"--{'no-' if off else ''}{field.replace('_', '-')}"


def variable_of(field: str) -> str:
    """`BACKENDHEALTH_HEARTBEAT_INTERVAL` of `heartbeat_interval`."""
    return PREFIX + field.upper()


def default_text(info: FieldInfo) -> str:
    """A field's default as it would be written in a flag."""
    if isinstance(info.default, bool):
        return str(info.default).lower()
    return ",".join(info.default) if isinstance(info.default, tuple) else str(info.default)


def kind_of(info: FieldInfo) -> str:
    """What a field's value is, in a word."""
    if any(isinstance(checked, Checked) for checked in info.metadata):
        return "duration"
    kinds = {bool: "true or false", int: "number", tuple: "list"}
    return kinds.get(type(info.default), "text")


def add_flags(parser: argparse.ArgumentParser) -> None:
    """Add a flag for each setting; those that aren't given stay None. Values are checked by `from_sources`."""
    group = parser.add_argument_group(
        "settings", f"Each may be given as a variable, too: {variable_of('log_format')}=json. Flags win."
    )
    for field, info in Settings.model_fields.items():
        told = f"{info.description}{f' (default: {default_text(info)})' if default_text(info) else ''}"
        help_text = told.replace("%", "%%").replace("`", "")
        if isinstance(info.default, bool):
            group.add_argument(flag_of(field), action=argparse.BooleanOptionalAction, default=None, help=help_text)
        else:
            group.add_argument(flag_of(field), metavar=kind_of(info).upper(), default=None, help=help_text)


def _given(args: argparse.Namespace | None, environ: Mapping[str, str]) -> Iterator[tuple[str, tuple[str, Any]]]:
    """Each field that was given, with how it was (for messages) and its value."""
    for field in Settings.model_fields:
        flag = getattr(args, field, None)
        if flag is not None:
            yield field, (f"{flag_of(field)} ", flag)
        elif environ.get(variable_of(field)):  # an empty one is how a manifest leaves a setting out
            yield field, (f"{variable_of(field)}=", environ[variable_of(field)])


def _no_lease_namespace(given: Mapping[str, tuple[str, Any]]) -> Iterator[str]:
    elects = given.get("leader_elect", ("", True))[1]
    if not given["lease_namespace"][1] and _TRUTHS.get(str(elects).lower(), True):
        yield (
            f"{flag_of('lease_namespace')} (or {variable_of('lease_namespace')}): not in a pod, so name the "
            f"namespace of the Leases, or switch them off with {flag_of('leader_elect', off=True)}"
        )


def _unknown_variables(environ: Mapping[str, str]) -> Iterator[str]:
    known = [field.upper() for field in Settings.model_fields]
    for variable in sorted(environ):
        name = variable.removeprefix(PREFIX)
        if name == variable or name in known or _SERVICE_LINK.fullmatch(name):
            continue
        meant = closest(name, known)
        if meant:  # others may be somebody else's
            yield f"{variable}: there is no such setting; did you mean {PREFIX}{meant}?"


def _told(error: ValidationError, given: Mapping[str, tuple[str, Any]]) -> Iterator[str]:
    for problem in error.errors():
        field, *item = problem["loc"]
        source, value = given[str(field)]
        pattern = problem.get("ctx", {}).get("pattern", "")
        message = f"must be {PATTERN_MEANINGS[pattern]}" if pattern in PATTERN_MEANINGS else problem["msg"]
        message = re.sub("^(Input|String|Value) should ", "must ", message)
        shown = problem["input"] if item and isinstance(item[0], int) else value
        yield f"{source}{clip(str(shown), _MAX_SHOWN)}: {message}"


def _pod_namespace() -> str:
    try:
        return POD_NAMESPACE.read_text(encoding="utf-8").strip()
    except OSError:
        return ""
