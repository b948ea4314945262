"""What is said about a field that is wrong: rule id, message with the remedy, and what was probably meant."""

from __future__ import annotations

import difflib
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import cache
from typing import Any, NamedTuple, get_args

from backendhealth.core.durations import DURATION_PATTERN
from backendhealth.core.spec.backendhealth import API_VERSION, BackendHealth, ObjectMeta
from backendhealth.core.spec.base import PATTERN_MEANINGS, Model
from backendhealth.core.structural import Schema, structural_schema

Loc = tuple[str | int, ...]

_SHOWN_KEY = re.compile(r"[A-Za-z0-9_./-]{1,80}")
_CONTROL = re.compile(r"[\x00-\x1f\x7f]")
_MAX_PLACES = 3
_MAX_LISTED = 12
_UNQUOTED = re.compile(r"(?i)-?[0-9]+|yes|no|on|off|true|false")
METADATA = (
    *("annotations", "creationTimestamp", "deletionGracePeriodSeconds", "deletionTimestamp", "finalizers"),
    *("generateName", "generation", "labels", "managedFields", "name", "namespace", "ownerReferences"),
    *("resourceVersion", "selfLink", "uid"),
)
"""Fields that the API server knows in any object's metadata."""
_RULES = {
    "missing": "required",
    "extra_forbidden": "unknown-field",
    "invalid_key": "unknown-field",
    "literal_error": "enum",
    "string_pattern_mismatch": "pattern",
    "string_too_short": "length",
    "string_too_long": "length",
    "too_short": "length",
    "too_long": "length",
    "greater_than_equal": "range",
    "less_than_equal": "range",
}
"""pydantic's types of errors; those that the models raise are rule ids already, all others mean a wrong type."""
OWN_RULES = frozenset(
    {
        *("duration", "duration-range", "url", "no-password-in-url", "length", "regex", "jsonpath", "json-list"),
        *("timestamp", "cron", "time-zone"),
    }
)
_DESCRIBED = {
    "object": "a mapping of fields",
    "array": "a list",
    "string": "text",
    "integer": "a whole number",
    "boolean": "true or false",
}


class Said(NamedTuple):
    """Rule id, message and suggestion."""

    rule: str
    message: str
    suggestion: str = ""


def path_text(loc: Sequence[str | int]) -> str:
    """`spec.probes[2].redis.url`; a key that is no name is shown as `?`, since it may hold anything."""
    text = ""
    for part in loc:
        if isinstance(part, int):
            text += f"[{part}]"
        else:
            text += ("." if text else "") + (part if _SHOWN_KEY.fullmatch(part) else "?")
    return text


def closest(word: str, known: Iterable[str]) -> str:
    """The one of `known` that `word` probably means, whatever its case and separators; empty when none is near."""
    plain = {re.sub(r"[-_ ]", "", name).lower(): name for name in known}
    found = difflib.get_close_matches(re.sub(r"[-_ ]", "", word).lower(), plain, n=1, cutoff=0.75)
    return plain[found[0]] if found else ""


def schema_at(loc: Loc, resource: type[Model] = BackendHealth) -> Schema:
    """The schema of the field at `loc` of a resource; empty for what no schema knows."""
    node = _root(resource)
    for part in loc:
        if isinstance(part, int):
            node = node.get("items", {})
        else:
            node = node.get("properties", {}).get(part) or node.get("additionalProperties") or {}
    return node


@cache
def _root(resource: type[Model]) -> Schema:
    kind, spec = (resource.model_fields[name].annotation for name in ("kind", "spec"))
    assert isinstance(spec, type) and issubclass(spec, Model)  # noqa: PT018, S101
    metadata = {name: {"type": "string"} for name in METADATA} | ObjectMeta.model_json_schema()["properties"]
    fields = {
        "apiVersion": {"type": "string", "enum": [API_VERSION], "description": "Version of the format."},
        "kind": {"type": "string", "enum": list(get_args(kind)), "description": "Kind of the object."},
        "metadata": {"type": "object", "properties": metadata, "description": "Name and namespace of the object."},
        "spec": structural_schema(spec),
        "status": {"type": "object", "properties": {}},
    }
    return {"type": "object", "properties": fields}


def said(kind: str, loc: Loc, value: Any, message: str, resource: type[Model] = BackendHealth) -> Said:
    """What to say of pydantic's error `kind` about `value` at `loc`; `message` is used for the models' own errors."""
    rule = _rule(kind, value)
    node = schema_at(loc, resource)
    if rule == "unknown-field":
        return _unknown(loc, resource)
    if rule in _TOLD:
        return _TOLD[rule](node, value)
    return Said(rule, message, _MEANT[rule](value) if rule in _MEANT else "")


def _rule(kind: str, value: Any) -> str:
    rule = _RULES.get(kind, kind if kind in OWN_RULES else "type")
    if rule == "enum" and not isinstance(value, str):
        return "type"
    if isinstance(value, str) and rule in ("pattern", "url", "duration") and _CONTROL.search(value):
        return "control-character"
    return rule


def _required(node: Schema, _value: Any) -> Said:
    return Said("required", f"set it: {_first_sentence(node) or 'it is needed'}")


def _control_character(_node: Schema, _value: Any) -> Said:
    return Said("control-character", "control characters and line breaks are not allowed: remove them")


def _not_listed(node: Schema, value: str) -> Said:
    known = [str(name) for name in node.get("enum", ())]
    return Said("enum", f"must be one of {', '.join(known)}", closest(value, known))


def _first_sentence(node: Schema) -> str:
    return str(node.get("description", "")).split(". ")[0].rstrip(".")


def _unknown(loc: Loc, resource: type[Model]) -> Said:
    name = str(loc[-1])
    known = schema_at(loc[:-1], resource).get("properties", {})
    suggestion = closest(name, known)
    if suggestion:
        return Said("unknown-field", "there is no such field", suggestion)
    places = _places(name, loc, resource)
    if places:
        return Said("unknown-field", f"there is no such field here: it belongs to {' or '.join(places)}")
    listed = ", ".join(sorted(known)) or "none"
    return Said("unknown-field", f"there is no such field; known here: {listed}")


def _places(name: str, loc: Loc, resource: type[Model]) -> list[str]:
    """Where else a field of this name is, nearest first."""
    wanted = _bare(loc[:-1])
    found = [place for place in _all_fields(schema_at(("spec",), resource), ("spec",)) if place[-1] == name]

    def distance(marked: tuple[str, ...]) -> int:
        place = tuple(part.removesuffix("[]") for part in marked)
        shared = next(
            (i for i, (a, b) in enumerate(zip(wanted, place, strict=False)) if a != b), min(len(wanted), len(place))
        )
        return len(wanted) + len(place) - 2 * shared

    return [".".join(place) for place in sorted(found, key=distance)[:_MAX_PLACES]]


def _bare(loc: Loc) -> tuple[str, ...]:
    return tuple(part for part in loc if isinstance(part, str))


def _all_fields(node: Schema, at: tuple[str, ...]) -> Iterable[tuple[str, ...]]:
    """Where each field below `node` is; on the way, what holds many is marked by `[]`."""
    inner = node.get("items", node)
    around = at if inner is node else (*at[:-1], f"{at[-1]}[]")
    for name, field in inner.get("properties", {}).items():
        yield (*around, name)
        yield from _all_fields(field, (*around, name))


def _wrong_type(node: Schema, value: Any) -> Said:
    wanted = str(node.get("type", ""))
    message = f"must be {_DESCRIBED.get(wanted, 'of another type')}, not {_kind(value)}"
    if wanted == "string" and isinstance(value, bool | int | float):
        if node.get("pattern") == DURATION_PATTERN:
            return Said("type", f"{message}: a duration has a unit, e.g. 30s", _duration_meant(value))
        return Said("type", f"{message}: put it in quotes")
    if wanted in ("integer", "boolean") and isinstance(value, str) and _UNQUOTED.fullmatch(value):
        return Said("type", f"{message}: remove the quotes")
    if wanted == "array" and isinstance(value, str | Mapping):
        return Said("type", f"{message}: begin each item with a dash")
    if wanted == "object" and isinstance(value, str) and 0 < len(node.get("properties", ())) < _MAX_LISTED:
        return Said("type", f"{message}; its fields: {', '.join(node['properties'])}")
    return Said("type", message)


def _kind(value: Any) -> str:
    names = {
        bool: "true or false",
        int: "a number",
        float: "a fraction",
        str: "text",
        list: "a list",
        dict: "a mapping",
    }
    return names.get(type(value), "nothing (null)")


def _range(node: Schema, _value: Any) -> Said:
    low, high = node.get("minimum"), node.get("maximum")
    if low is None or high is None:
        return Said("range", f"must be {'at least' if high is None else 'at most'} {low if high is None else high}")
    return Said("range", f"must be from {low} to {high}")


def _length(node: Schema, value: Any) -> Said:
    unit, low, high = _LENGTHS[type(value)]
    return Said("length", f"must have from {node.get(low, 0)} to {node.get(high)} {unit}, not {len(value)}")


_LENGTHS: dict[type[Any], tuple[str, str, str]] = {
    list: ("items", "minItems", "maxItems"),
    dict: ("entries", "minProperties", "maxProperties"),
    str: ("characters", "minLength", "maxLength"),
}


def _no_match(node: Schema, value: str) -> Said:
    pattern = str(node.get("pattern", ""))
    message = f"must be {PATTERN_MEANINGS.get(pattern, f'text that matches {pattern}')}"
    if not pattern.startswith("^[a-z0-9]"):
        return Said("pattern", message)
    meant = re.sub(r"[^a-z0-9.-]+" if "." in pattern else r"[^a-z0-9-]+", "-", value.lower()).strip("-.")
    return Said("pattern", message, meant[: node["maxLength"]])


def _duration_meant(value: Any) -> str:
    text = str(value).replace(" ", "").lower()
    if re.fullmatch(r"[0-9]{1,9}", text):
        return f"{text}s"
    if found := re.fullmatch(r"([0-9]{1,4})(d|days?)", text):
        return f"{int(found.group(1)) * 24}h"
    found = re.fullmatch(r"([0-9]{1,9})(ms|s|m|h)[a-z]*", text)
    return f"{found.group(1)}{found.group(2)}" if found else ""


def _zone_meant(value: Any) -> str:
    from backendhealth.core.remediation import windows  # noqa: PLC0415 - only who misspells a time zone pays for it

    zones = {zone.rpartition("/")[2]: zone for zone in windows.time_zones()}
    return closest(str(value), zones.values()) or zones.get(closest(str(value), zones), "")


_MEANT: dict[str, Callable[[Any], str]] = {"duration": _duration_meant, "time-zone": _zone_meant}
_TOLD: dict[str, Callable[[Schema, Any], Said]] = {
    "required": _required,
    "type": _wrong_type,
    "enum": _not_listed,
    "range": _range,
    "length": _length,
    "pattern": _no_match,
    "control-character": _control_character,
}
