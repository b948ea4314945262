"""The base of all models: strict, frozen, camelCase; rules that Python and CEL both hold."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Any, ClassVar

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, GetJsonSchemaHandler, WithJsonSchema
from pydantic.alias_generators import to_camel
from pydantic.json_schema import JsonSchemaValue
from pydantic_core import CoreSchema, PydanticCustomError

from backendhealth.core.durations import DURATION_PATTERN, seconds

Raw = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Rule:
    """A rule over several fields of one object, written for Python and for the API server (CEL).

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


class Model(BaseModel):
    """A strict, frozen model whose YAML names are camelCase and whose rules are in the schema, too."""

    model_config = ConfigDict(
        extra="forbid", frozen=True, strict=True, alias_generator=to_camel, validate_by_name=True, validate_by_alias=True
    )
    rules: ClassVar[tuple[Rule, ...]] = ()

    @classmethod
    def __get_pydantic_json_schema__(cls, schema: CoreSchema, handler: GetJsonSchemaHandler) -> JsonSchemaValue:
        json_schema = handler.resolve_ref_schema(handler(schema))
        if cls.rules:
            json_schema["x-kubernetes-validations"] = [
                {"rule": rule.cel, "message": f"{rule.id}: {rule.message}"}
                | ({"fieldPath": f".{rule.field}"} if rule.field else {})
                for rule in cls.rules
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


def duration_between(low: str, high: str) -> Any:
    """The type of a duration field from `low` to `high`, checked in Python and in CEL alike."""
    message = f"must be from {low} to {high}"

    def check(value: str) -> str:
        if len(value) > MAX_DURATION_LENGTH:
            raise PydanticCustomError("length", f"at most {MAX_DURATION_LENGTH} characters")  # type: ignore[arg-type]
        if not re.fullmatch(DURATION_PATTERN, value, re.ASCII):
            raise PydanticCustomError("duration", "not a duration: a number with a unit, e.g. 30s, 500ms, 1m30s, 1h")
        if not seconds(low) <= seconds(value) <= seconds(high):
            raise PydanticCustomError("duration-range", message)  # type: ignore[arg-type]
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
    return Annotated[str, AfterValidator(check), WithJsonSchema(schema)]


Text = Annotated[str, Field(min_length=1, max_length=1024, pattern=r"^[^\x00-\x1f\x7f]*$")]
"""Free text on one line, without control characters."""
Name = Annotated[str, Field(min_length=1, max_length=63, pattern=r"^[a-z0-9]([-a-z0-9]*[a-z0-9])?$")]
"""A DNS label, as Kubernetes names are."""
SecretName = Annotated[str, Field(min_length=1, max_length=253, pattern=r"^[a-z0-9]([-a-z0-9.]*[a-z0-9])?$")]
SecretKey = Annotated[str, Field(min_length=1, max_length=253, pattern=r"^[-._a-zA-Z0-9]+$")]
Host = Annotated[str, Field(min_length=1, max_length=253, pattern=r"^[a-zA-Z0-9_]([-a-zA-Z0-9._]*[a-zA-Z0-9_.])?$|^[0-9a-fA-F:.]+$")]
"""A DNS name or an IP address (IPv6 without brackets)."""
Port = Annotated[int, Field(ge=1, le=65535)]


def _checked_regex(value: str) -> str:
    import re2  # noqa: PLC0415 - only specs with an expression pay for it

    options = re2.Options()
    options.log_errors = False
    try:
        re2.compile(value, options)
    except re2.error as error:
        detail = error.args[0].decode(errors="replace") if error.args else "syntax"
        raise PydanticCustomError("regex", "not an RE2 expression: {detail}", {"detail": detail}) from None
    return value


def _checked_jsonpath(value: str) -> str:
    import jsonpath  # noqa: PLC0415 - only specs with a path pay for it

    try:
        jsonpath.compile(value, strict=True)
    except jsonpath.JSONPathError as error:
        detail = str(error).split("\n", 1)[0] if value.startswith("$") else "it begins with $"
        raise PydanticCustomError("jsonpath", "not a JSONPath (RFC 9535): {detail}", {"detail": detail}) from None
    return value


Regex = Annotated[str, Field(min_length=1, max_length=1024), AfterValidator(_checked_regex)]
"""An RE2 expression; the API server can't check its syntax, so only Python does."""
JsonPath = Annotated[Text, AfterValidator(_checked_jsonpath)]
"""A JSONPath of RFC 9535; the API server can't check its syntax, so only Python does."""

_HOST_IN_URL = r"(\[[0-9a-fA-F:.]+\]|[a-zA-Z0-9_]([-a-zA-Z0-9._]*[a-zA-Z0-9_.])?)"
URL_WITH_PASSWORD = r"(?i)^[a-z]+://[^/?#]*@|[?&](user(name)?|pass(word|wd)?|pwd|token|secret|api_?key|access_token)="
MAX_URL_LENGTH = 512


def url_of(*schemes: str, path: bool, example: str) -> Any:
    """The type of a URL field with one of `schemes`; user and password in it are refused, `path` says if one may follow."""
    tail = r"(/[^\s\x00-\x1f\x7f]*)?$" if path else r"/?$"
    pattern = rf"^({'|'.join(schemes)})://{_HOST_IN_URL}(:[0-9]{{1,5}})?{tail}"
    no_password = "no-password-in-url"  # noqa: S105
    told = "a URL must not hold a user or password: put them in a Secret and name it in auth.secretRef"

    def check(value: str) -> str:
        if re.search(URL_WITH_PASSWORD, value):
            raise PydanticCustomError(no_password, told)
        if not 1 <= len(value) <= MAX_URL_LENGTH:
            raise PydanticCustomError("length", f"from 1 to {MAX_URL_LENGTH} characters")  # type: ignore[arg-type]
        if not re.fullmatch(pattern, value, re.ASCII):
            raise PydanticCustomError("url", f"not a URL of the form {example}")  # type: ignore[arg-type]
        return value

    schema = {
        "type": "string",
        "minLength": 1,
        "maxLength": MAX_URL_LENGTH,
        "pattern": pattern,
        "x-kubernetes-validations": [
            {"rule": f"!self.matches('{URL_WITH_PASSWORD}')", "message": f"{no_password}: {told}"}
        ],
    }
    return Annotated[str, AfterValidator(check), WithJsonSchema(schema)]
