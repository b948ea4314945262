"""The base of all models: strict, frozen, camelCase; rules that Python and CEL both hold."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Any, ClassVar

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, GetCoreSchemaHandler, GetJsonSchemaHandler
from pydantic.alias_generators import to_camel
from pydantic.json_schema import JsonSchemaValue
from pydantic_core import CoreSchema, PydanticCustomError
from pydantic_core.core_schema import no_info_after_validator_function

from backendhealth.core.durations import DURATION_PATTERN, seconds

Raw = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Rule:
    """A rule over several fields of one object, written for Python and for the API server (CEL).

    An empty `cel` says that the API server can't hold it.

    `holds` gets the object as it stands in the YAML, without nulls, and is asked only when all of `fields` are valid
    by themselves. `fields` are those whose values are looked at, dotted: `tls.serverName`, `probes.name` (of any item).
    """

    id: str
    message: str
    cel: str
    fields: tuple[str, ...]
    holds: Callable[[Raw], bool]
    field: str = ""
    """The field that the problem is shown at, dotted; empty for the object itself."""
    where: Callable[[Raw], Sequence[tuple[str | int, ...]]] | None = None
    """Where below `field` the problems are, when it fails: lint can point at the item, the API server can't."""
    known: Callable[[Raw], Sequence[str]] | None = None
    """The names that are allowed in these places: lint says which one was probably meant."""
    details: Callable[[Raw], Sequence[str]] | None = None
    """What to say after the message at each of these places, in the same order."""


class Model(BaseModel):
    """A strict, frozen model whose YAML names are camelCase and whose rules are in the schema, too."""

    model_config = ConfigDict(
        extra="forbid",
        frozen=True,
        strict=True,
        alias_generator=to_camel,
        validate_by_name=True,
        validate_by_alias=True,
    )
    rules: ClassVar[tuple[Rule, ...]] = ()

    @classmethod
    def __get_pydantic_json_schema__(cls, schema: CoreSchema, handler: GetJsonSchemaHandler) -> JsonSchemaValue:
        json_schema = handler.resolve_ref_schema(handler(schema))
        if any(rule.cel for rule in cls.rules):
            json_schema["x-kubernetes-validations"] = [
                {"rule": rule.cel, "message": f"{rule.id}: {rule.message}"}
                | ({"fieldPath": f".{rule.field}"} if rule.field else {})
                for rule in cls.rules
                if rule.cel
            ]
        return json_schema


def exactly_one(rule_id: str, members: tuple[str, ...]) -> Rule:
    """The rule that exactly one of `members` is set."""
    return Rule(
        id=rule_id,
        message=f"set exactly one of {', '.join(members)}",
        cel=f"[{', '.join(f'has(self.{member})' for member in members)}].filter(x, x).size() == 1",
        fields=(),
        holds=lambda raw: sum(raw.get(member) is not None for member in members) == 1,
    )


def at_most_one(rule_id: str, members: tuple[str, ...], message: str) -> Rule:
    """The rule that no two of `members` are set; it is shown at the last of them."""
    return Rule(
        id=rule_id,
        message=message,
        cel=f"[{', '.join(f'has(self.{member})' for member in members)}].filter(x, x).size() <= 1",
        fields=(),
        holds=lambda raw: sum(raw.get(member) is not None for member in members) <= 1,
        field=members[-1],
    )


def needs(rule_id: str, field: str, other: str, message: str) -> Rule:
    """The rule that `field` goes with `other` only."""
    return Rule(
        id=rule_id,
        message=message,
        cel=f"!has(self.{field}) || has(self.{other})",
        fields=(),
        holds=lambda raw: raw.get(field) is None or raw.get(other) is not None,
        field=field,
    )


def refused(rule_id: str, field: str, message: str) -> Rule:
    """The rule that the boolean at `field` (dotted path of two) is not true: an option that a client can't honour."""
    outer, inner = field.split(".")
    return Rule(
        id=rule_id,
        message=message,
        cel=f"!has(self.{outer}) || !has(self.{outer}.{inner}) || !self.{outer}.{inner}",
        fields=(field,),
        holds=lambda raw: not (raw.get(outer) or {}).get(inner),
        field=field,
    )


def refused_field(rule_id: str, field: str, message: str) -> Rule:
    """The rule that the object at `field` (dotted path of two) is absent: an option that a client can't honour."""
    outer, inner = field.split(".")
    return Rule(
        id=rule_id,
        message=message,
        cel=f"!has(self.{outer}) || !has(self.{outer}.{inner})",
        fields=(),
        holds=lambda raw: not isinstance(raw.get(outer), Mapping) or raw[outer].get(inner) is None,
        field=field,
    )


MAX_DURATION_LENGTH = 32


@dataclass(frozen=True, slots=True, eq=False)
class Checked:
    """Metadata of an annotated string: how Python checks it, and its schema for the API server."""

    check: Callable[[str], str]
    schema: JsonSchemaValue

    def __get_pydantic_core_schema__(self, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        return no_info_after_validator_function(self.check, handler(source))

    def __get_pydantic_json_schema__(self, _: CoreSchema, __: GetJsonSchemaHandler) -> JsonSchemaValue:
        return dict(self.schema)


def duration_between(low: str, high: str) -> Checked:
    """Checks a duration from `low` to `high`, in Python and in CEL alike."""
    message = f"must be from {low} to {high}"

    def check(value: str) -> str:
        if len(value) > MAX_DURATION_LENGTH:
            raise PydanticCustomError("length", f"at most {MAX_DURATION_LENGTH} characters")
        if not re.fullmatch(DURATION_PATTERN, value, re.ASCII):
            raise PydanticCustomError("duration", "not a duration: a number with a unit, e.g. 30s, 500ms, 1m30s, 1h")
        if not seconds(low) <= seconds(value) <= seconds(high):
            raise PydanticCustomError("duration-range", message)
        return value

    schema = {
        "type": "string",
        "pattern": DURATION_PATTERN,
        "maxLength": MAX_DURATION_LENGTH,
        "x-kubernetes-validations": [
            {
                "rule": f"duration(self) >= duration('{low}') && duration(self) <= duration('{high}')",
                "message": f"duration-range: {message}",
            }
        ],
    }
    return Checked(check, schema)


PATTERN_MEANINGS: dict[str, str] = {}
"""What patterns ask for, for people."""


def meaning(told: str, pattern: str) -> str:
    """`pattern`, with what it asks for put down for messages."""
    PATTERN_MEANINGS[pattern] = told
    return pattern


_LABEL = r"[a-zA-Z0-9_]([-a-zA-Z0-9_]{0,61}[a-zA-Z0-9_])?"
_DNS_NAME = rf"{_LABEL}(\.{_LABEL})*\.?"
_IPV6 = r"[0-9a-fA-F:.]+"
_PORT = r"([1-9][0-9]{0,3}|[1-5][0-9]{4}|6[0-4][0-9]{3}|65[0-4][0-9]{2}|655[0-2][0-9]|6553[0-5])"
_DASHED = "lower-case letters, digits and dashes, with a letter or digit at both ends"

Text = Annotated[str, Field(min_length=1, max_length=1024, pattern=r"^[^\x00-\x1f\x7f]*$")]
"""Free text on one line, without control characters."""
Name = Annotated[str, Field(min_length=1, max_length=63, pattern=meaning(_DASHED, r"^[a-z0-9]([-a-z0-9]*[a-z0-9])?$"))]
"""A DNS label, as Kubernetes names are."""
ObjectName = Annotated[
    str,
    Field(min_length=1, max_length=253, pattern=meaning(f"{_DASHED}, and dots", r"^[a-z0-9]([-a-z0-9.]*[a-z0-9])?$")),
]
"""A DNS subdomain, as the names of most Kubernetes objects are."""
Host = Annotated[
    str,
    Field(
        min_length=1,
        max_length=253,
        pattern=meaning("a host name or an IP address, without scheme and port", rf"^{_DNS_NAME}$|^{_IPV6}$"),
    ),
]
"""A DNS name or an IP address (IPv6 without brackets)."""
Endpoint = Annotated[
    str,
    Field(
        min_length=3,
        max_length=260,
        pattern=meaning("host:port, e.g. redis-0:6379 or [::1]:6379", rf"^(\[{_IPV6}\]|{_DNS_NAME}):{_PORT}$"),
    ),
]
"""`host:port`."""
Port = Annotated[int, Field(ge=1, le=65535)]


def _checked_regex(value: str, *, signature: bool = False) -> str:
    from backendhealth.core import patterns  # noqa: PLC0415 - only specs with an expression pay for it

    try:
        (patterns.compiled_signature if signature else patterns.compiled)(value)
    except patterns.PatternError as error:
        detail = error.args[0].decode(errors="replace") if error.args else "syntax"
        raise PydanticCustomError("regex", "not an RE2 expression: {detail}", {"detail": detail}) from None
    return value


def _checked_signature(value: str) -> str:
    return _checked_regex(value, signature=True)


def _checked_jsonpath(value: str) -> str:
    from backendhealth.core import json_path  # noqa: PLC0415 - only specs with a path pay for it

    try:
        json_path.JsonPath(value)
    except ValueError as error:
        detail = str(error) if value.startswith("$") else "it begins with $"
        raise PydanticCustomError("jsonpath", "not a JSONPath (RFC 9535): {detail}", {"detail": detail}) from None
    return value


def _checked_json_list(value: str) -> str:
    try:
        holds_list = isinstance(json.loads(value), list)
    except (ValueError, RecursionError):
        holds_list = False
    if not holds_list:
        raise PydanticCustomError("json-list", "not a JSON list, e.g. '[1, \"on\"]'")
    return value


JsonList = Annotated[str, Field(min_length=2, max_length=4096), AfterValidator(_checked_json_list)]
"""The text of a JSON list; the API server can't check its syntax, so only Python does."""
Regex = Annotated[str, Field(min_length=1, max_length=1024), AfterValidator(_checked_regex)]
"""An RE2 expression; the API server can't check its syntax, so only Python does."""
SignatureRegex = Annotated[str, Field(min_length=1, max_length=1024), AfterValidator(_checked_signature)]
"""A small RE2 expression, one of many that a text is matched against."""
JsonPath = Annotated[Text, AfterValidator(_checked_jsonpath)]
"""A JSONPath of RFC 9535; the API server can't check its syntax, so only Python does."""

CREDENTIALS_IN_URL = r"(?i)^[a-z]+://[^/?#]*@|[?&][a-z_]*(pass[a-z]*|pwd|token|secret|api_?key)="
MAX_URL_LENGTH = 512
"""The API server refuses rules that might cost too much: the check for passwords is what a URL's length costs."""


def url_of(*schemes: str, path: bool, example: str) -> Checked:
    """Checks a URL with one of `schemes`; user and password in it are refused, `path` says if one may follow."""
    tail = r"(/[^\s\x00-\x1f\x7f]*)?$" if path else r"/?$"
    pattern = rf"^({'|'.join(schemes)})://(\[{_IPV6}\]|{_DNS_NAME})(:{_PORT})?{tail}"
    no_password = "no-password-in-url"  # noqa: S105
    told = "a URL must not hold a user or password: put them in a Secret and name it in auth.secretRef"

    def check(value: str) -> str:
        if re.search(CREDENTIALS_IN_URL, value):
            raise PydanticCustomError(no_password, told)
        if not 1 <= len(value) <= MAX_URL_LENGTH:
            raise PydanticCustomError("length", f"from 1 to {MAX_URL_LENGTH} characters")
        if not re.fullmatch(pattern, value, re.ASCII):
            raise PydanticCustomError("url", f"not a URL of the form {example}")
        return value

    schema = {
        "type": "string",
        "minLength": 1,
        "maxLength": MAX_URL_LENGTH,
        "pattern": pattern,
        "x-kubernetes-validations": [
            {"rule": f"!self.matches('{CREDENTIALS_IN_URL}')", "message": f"{no_password}: {told}"}
        ],
    }
    return Checked(check, schema)
