"""What a Kubernetes API server says of an object, by the generated CRD alone: lint must agree with it.

Unknown fields are errors, as under `kubectl --validate=strict`. A path and a rule id stand for each refusal.
"""

from __future__ import annotations

import copy
import functools
import itertools
from collections.abc import Iterator, Mapping
from typing import Any

import cel
import jsonschema
import re2

from backendhealth.core.durations import DURATION_PATTERN
from backendhealth.core.spec.base import Model, Rule
from backendhealth.core.structural import Schema
from backendhealth.core.wording import path_text

Loc = tuple[str | int, ...]
Refusal = tuple[Loc, str]

_BY_KEYWORD = {
    "type": "type",
    "enum": "enum",
    "minLength": "length",
    "maxLength": "length",
    "minItems": "length",
    "maxItems": "length",
    "maxProperties": "length",
    "minimum": "range",
    "maximum": "range",
    "required": "required",
}
_TOO_MANY = ("maxItems", "maxProperties")
_FIRST = ("no-password-in-url", "type", "required", "enum", "length", "control-character", "range")
"""At one place the first of these hides what follows from it; lint names one, the API server all."""


class ApiServer:
    """Judges objects by a CRD's schema."""

    def __init__(self, crd: Mapping[str, Any]) -> None:
        self.schema: Schema = crd["spec"]["versions"][0]["schema"]["openAPIV3Schema"]
        checks = jsonschema.validators.extend(
            jsonschema.Draft202012Validator,
            {"pattern": _pattern},
            type_checker=jsonschema.Draft202012Validator.TYPE_CHECKER.redefine(
                "integer", lambda _, value: isinstance(value, int) and not isinstance(value, bool)
            ),
        )
        self._validator = checks(self.schema)

    def refusals(self, raw: Any) -> set[tuple[str, str]]:
        """(path, rule id) of all that is refused in `raw`."""
        raw = _defaulted(copy.deepcopy(raw), self.schema)
        too_long = {(loc, rule) for loc, rule, keyword in self._structural(raw) if keyword in _TOO_MANY}
        raw = _cut(raw, self.schema)  # who has too many items is told so, not what is wrong with the surplus
        fields = (
            too_long | {(loc, rule) for loc, rule, _ in self._structural(raw)} | set(_unknown(raw, self.schema, ()))
        )
        fields |= set(_rules(raw, self.schema, (), {loc for loc, _ in fields}, of="string"))
        fields |= set(_rules(raw, self.schema, (), {loc for loc, _ in fields}, of="object"))
        return {(path_text(loc), rule) for loc, rule in _collapsed(fields | set(_duplicates(raw, self.schema, ())))}

    def _structural(self, raw: Any) -> Iterator[tuple[Loc, str, str]]:
        for error in self._validator.iter_errors(raw):
            loc: Loc = tuple(error.absolute_path)
            if error.validator == "required":
                loc = (*loc, error.message.split("'")[1])
            yield (
                loc,
                _of_pattern(error) if error.validator == "pattern" else _BY_KEYWORD[error.validator],
                error.validator,
            )


def _pattern(_validator: Any, pattern: str, instance: Any, _schema: Schema) -> Iterator[jsonschema.ValidationError]:
    """Go's regular expressions are RE2: Python's differ, e.g. in what `$` matches."""
    if isinstance(instance, str) and not _compiled(pattern).search(instance):
        yield jsonschema.ValidationError("no match")


@functools.cache
def _compiled(pattern: str) -> Any:
    return re2.compile(pattern)


def _of_pattern(error: jsonschema.ValidationError) -> str:
    if any(ord(character) < 0x20 or ord(character) == 0x7F for character in str(error.instance)):
        return "control-character"
    if error.schema["pattern"] == DURATION_PATTERN:
        return "duration"
    return "url" if "://" in error.schema["pattern"] else "pattern"


def _collapsed(found: set[Refusal]) -> Iterator[Refusal]:
    for loc in {loc for loc, _ in found}:
        rules = {rule for at, rule in found if at == loc}
        first = next((rule for rule in _FIRST if rule in rules), None)
        for rule in rules:
            if first is None or rule == first or rule not in {*_FIRST, "pattern", "url", "duration"}:
                yield loc, rule


def _defaulted(value: Any, schema: Schema) -> Any:
    """Nulls that nothing allows are as absent; then defaults are filled in."""
    if isinstance(value, dict) and schema["type"] == "object":
        for name, field in schema.get("properties", {}).items():
            if value.get(name, 0) is None:
                del value[name]
            if name not in value and "default" in field:
                value[name] = copy.deepcopy(field["default"])
            if name in value:
                value[name] = _defaulted(value[name], field)
    if isinstance(value, list) and schema["type"] == "array":
        return [_defaulted(item, schema["items"]) for item in value]
    return value


def _cut(value: Any, schema: Schema) -> Any:
    if isinstance(value, dict):
        fields = schema.get("properties", {})
        if "additionalProperties" in schema:
            return dict(itertools.islice(value.items(), schema["maxProperties"]))
        return {name: _cut(item, fields[name]) if name in fields else item for name, item in value.items()}
    if isinstance(value, list) and "items" in schema:
        return [_cut(item, schema["items"]) for item in value[: schema["maxItems"]]]
    return value


def _unknown(value: Any, schema: Schema, loc: Loc) -> Iterator[Refusal]:
    for name, item in value.items() if isinstance(value, dict) and "properties" in schema else ():
        if name not in schema["properties"]:
            yield (*loc, name), "unknown-field"
        else:
            yield from _unknown(item, schema["properties"][name], (*loc, name))
    for index, item in enumerate(value) if isinstance(value, list) and "items" in schema else ():
        yield from _unknown(item, schema["items"], (*loc, index))


def _below(value: Any, schema: Schema, loc: Loc) -> Iterator[tuple[Any, Schema, Loc]]:
    if isinstance(value, dict):
        for name, field in schema.get("properties", {}).items():
            if name in value:
                yield value[name], field, (*loc, name)
    if isinstance(value, list) and "items" in schema:
        for index, item in enumerate(value):
            yield item, schema["items"], (*loc, index)


def _duplicates(value: Any, schema: Schema, loc: Loc) -> Iterator[Refusal]:
    kind = schema.get("x-kubernetes-list-type")
    seen = set()
    for index, item in enumerate(value) if isinstance(value, list) and kind in ("map", "set") else ():
        if kind == "set":
            identity, rule, at = item, "duplicate-item", (*loc, index)
        else:
            (key,) = schema["x-kubernetes-list-map-keys"]
            identity = item.get(key) if isinstance(item, dict) else None
            rule, at = "duplicate-name", (*loc, index, key)
        if isinstance(identity, str):
            if identity in seen:
                yield at, rule
            seen.add(identity)
    for item, field, at in _below(value, schema, loc):
        yield from _duplicates(item, field, at)


def _rules(value: Any, schema: Schema, loc: Loc, wrong: set[Loc], of: str) -> Iterator[Refusal]:
    """What CEL refuses of objects or strings. As in lint, rules about fields that are wrong anyway are silent."""
    right_type = schema["type"] == of and isinstance(value, {"string": str, "object": dict}[of])
    for validation in schema.get("x-kubernetes-validations", ()) if right_type else ():
        if "oldSelf" in validation["rule"]:
            continue  # about a change: there is none
        expression, rule = validation["rule"], validation["message"].split(": ")[0]
        if _about_wrong(expression, loc, wrong):
            continue
        holds = evaluates(expression, value)
        if holds is None and any(at[: len(loc)] == loc for at in wrong):
            continue  # what can't be evaluated because of a wrong type has been refused already
        if not holds:
            yield (*loc, *validation.get("fieldPath", "").split(".")[1:]), rule
    for item, field_schema, at in _below(value, schema, loc):
        yield from _rules(item, field_schema, at, wrong, of)


def _about_wrong(expression: str, loc: Loc, wrong: set[Loc]) -> bool:
    fields = rules_by_expression().get(expression)
    if fields is None:  # a value's own: whether it is a password must be known of what is no URL, too
        return loc in wrong and "matches" not in expression
    for at in wrong:
        below = tuple(part for part in at[len(loc) :] if isinstance(part, str))
        for field in fields if at[: len(loc)] == loc else ():
            shared = min(len(below), len(field))
            if below[:shared] == field[:shared]:
                return True
    return False


def evaluates(expression: str, value: Any) -> bool | None:
    """Whether the CEL expression holds for `self`; None when it can't be evaluated."""
    context = cel.Context()
    context.add_variable("self", value)
    context.add_function("replace", lambda text, old, new: text.replace(old, new))  # of Kubernetes' string library
    try:
        return bool(cel.evaluate(expression, context))
    except (RuntimeError, ValueError, KeyError, TypeError):
        return None


@functools.cache
def rules_by_expression() -> dict[str, tuple[tuple[str, ...], ...]]:
    """The fields that each rule of the models looks at, by its CEL."""
    return {rule.cel: tuple(tuple(field.split(".")) for field in rule.fields) for rule in all_rules() if rule.cel}


def all_rules() -> list[Rule]:
    """Every rule of every model."""
    models: list[type[Model]] = [Model]
    found: list[Rule] = []
    while models:
        model = models.pop()
        models.extend(model.__subclasses__())
        found.extend(model.rules)
    return found
