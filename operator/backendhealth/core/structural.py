"""Models as Kubernetes' structural schemas: nothing but what the API server takes, everything inlined and bounded."""

from __future__ import annotations

from functools import cache
from typing import Any

from backendhealth.core.spec.base import Model

Schema = dict[str, Any]

_DROPPED = frozenset(
    {"title", "additionalProperties", "$defs", "anyOf", "$ref", "const", "properties", "items", "default"}
)
_INT32 = (1 << 31) - 1


class SchemaError(Exception):
    """A model that can't become a structural schema: a field without description or bound."""


@cache
def structural_schema(model: type[Model]) -> Schema:
    """The schema of `model`. Raises SchemaError; the answer is shared: don't change it."""
    raw = model.model_json_schema(by_alias=True)
    return _node(raw, raw.get("$defs", {}), model.__name__)


def _node(raw: Schema, defs: dict[str, Schema], path: str) -> Schema:
    raw = _resolved(raw, defs, path)
    if raw.get("description"):  # docstrings keep their line breaks
        raw["description"] = " ".join(str(raw["description"]).split())
    node = {key: value for key, value in raw.items() if key not in _DROPPED}
    if "const" in raw:
        node["enum"] = [raw["const"]]
    if isinstance(raw.get("default"), dict) and raw.get("properties"):
        node["default"] = {}  # which its fields' own defaults fill
    elif raw.get("default") not in (None, [], {}):
        node["default"] = raw["default"]
    kinds = {"object": _object, "array": _array, "string": _string, "integer": _integer, "boolean": lambda *_: None}
    if raw.get("type") not in kinds:
        raise SchemaError(f"{path}: type {raw.get('type')!r}")
    kinds[raw["type"]](node, raw, defs, path)
    return node


def _resolved(raw: Schema, defs: dict[str, Schema], path: str) -> Schema:
    """`raw` without references and without the null that an optional field allows: absent fields are left out."""
    raw = dict(raw)
    if "anyOf" in raw:
        some = [option for option in raw.pop("anyOf") if option != {"type": "null"}]
        if len(some) != 1:
            raise SchemaError(f"{path}: a union of {len(some)} types")
        raw = _resolved(some[0], defs, path) | raw
    if "$ref" in raw:
        raw = _resolved(defs[raw.pop("$ref").removeprefix("#/$defs/")], defs, path) | raw
    return raw


def _object(node: Schema, raw: Schema, defs: dict[str, Schema], path: str) -> None:
    if isinstance(raw.get("additionalProperties"), dict):
        _map(node, raw, defs, path)
        return
    if not raw.get("properties"):
        raise SchemaError(f"{path}: an object without fields has no bound")
    node["properties"] = {}
    for name, field in raw["properties"].items():
        node["properties"][name] = made = _node(field, defs, f"{path}.{name}")
        if not made.get("description"):
            raise SchemaError(f"{path}.{name}: no description")


def _map(node: Schema, raw: Schema, defs: dict[str, Schema], path: str) -> None:
    node["additionalProperties"] = _node(raw["additionalProperties"], defs, f"{path}.*")
    if "maxProperties" not in raw:
        raise SchemaError(f"{path}: no maxProperties")


def _array(node: Schema, raw: Schema, defs: dict[str, Schema], path: str) -> None:
    node["items"] = _node(raw["items"], defs, f"{path}[]")
    if "maxItems" not in raw:
        raise SchemaError(f"{path}: no maxItems")
    node.setdefault("x-kubernetes-list-type", "atomic" if node["items"]["type"] == "object" else "set")


def _string(node: Schema, _raw: Schema, _defs: dict[str, Schema], path: str) -> None:
    if "maxLength" not in node and "enum" not in node:
        raise SchemaError(f"{path}: no maxLength")


def _integer(node: Schema, _raw: Schema, _defs: dict[str, Schema], _path: str) -> None:
    small = "maximum" in node and "minimum" in node and -_INT32 <= node["minimum"] <= node["maximum"] <= _INT32
    node["format"] = "int32" if small else "int64"
