"""All that is wrong with a resource as it stands in YAML, found in one go."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from itertools import islice
from types import NoneType, UnionType
from typing import Annotated, Any, TypeVar, Union, get_args, get_origin

from pydantic import ValidationError

from backendhealth.core.spec.backendhealth import BackendHealth
from backendhealth.core.spec.base import Model, Rule
from backendhealth.core.spec.diagnosistest import DiagnosisTest
from backendhealth.core.spec.policytest import RemediationPolicyTest
from backendhealth.core.spec.profile import DiagnosisProfile
from backendhealth.core.spec.remediation import Remediation
from backendhealth.core.spec.remediationpolicy import RemediationPolicy
from backendhealth.core.wording import METADATA, Loc, closest, path_text, said

LINT_ONLY = frozenset(
    {
        *("regex", "jsonpath", "json-list", "dependency-cycle", "cron", "time-zone", "windows-never-open"),
        *("matches-everything", "two-toggles", "contradicting-rules", "restart-loop"),
    }
)
"""Rules that the schema can't hold: it knows no syntax but its own and no calendar, can't walk a graph, and would have
to compare too much."""
_MAX_MEANT = 32
"""Places of one broken rule for which is looked what was meant: it takes longer than all else."""

_Resource = TypeVar("_Resource", bound=Model)


@dataclass(frozen=True, slots=True)
class Problem:
    """One thing that is wrong. `rule` is a kebab-case id; `suggestion` what was probably meant, or empty."""

    loc: Loc
    rule: str
    message: str
    suggestion: str = ""

    @property
    def path(self) -> str:
        """`spec.probes[2].redis.url`."""
        return path_text(self.loc)


def summed(problems: Sequence[Problem], most: int) -> str:
    """The first `most` problems in one line, and how many more there are; `backendhealth lint` names all."""
    told = "; ".join(f"{problem.path}: {problem.message}" for problem in problems[:most])
    more = len(problems) - most
    return f"{told}; and {more} more" if more > 0 else told


@dataclass(frozen=True, slots=True)
class _Shape:
    """What a field holds, as far as walking needs it."""

    model: type[Model] | None
    many: bool
    keys: tuple[str, ...]
    """What tells the items of a list apart; empty when the items themselves must differ or nothing must."""
    distinct: bool


def validate(raw: Any) -> tuple[BackendHealth | None, list[Problem]]:
    """The resource that `raw` describes, or None and everything that is wrong with it. Raises nothing for any input."""
    return _validated(BackendHealth, raw)


def validate_profile(raw: Any) -> tuple[DiagnosisProfile | None, list[Problem]]:
    """The profile that `raw` describes, or None and everything that is wrong with it. Raises nothing for any input."""
    return _validated(DiagnosisProfile, raw)


def validate_test(raw: Any) -> tuple[DiagnosisTest | None, list[Problem]]:
    """The test that `raw` describes, or None and everything that is wrong with it. Raises nothing for any input."""
    return _validated(DiagnosisTest, raw)


def validate_policy(raw: Any) -> tuple[RemediationPolicy | None, list[Problem]]:
    """The policy that `raw` describes, or None and everything that is wrong with it. Raises nothing for any input."""
    return _validated(RemediationPolicy, raw)


def validate_remediation(raw: Any) -> tuple[Remediation | None, list[Problem]]:
    """The same of a Remediation, whose status is not looked at."""
    return _validated(Remediation, raw)


def validate_policy_test(raw: Any) -> tuple[RemediationPolicyTest | None, list[Problem]]:
    """The test that `raw` describes, or None and everything that is wrong with it. Raises nothing for any input."""
    return _validated(RemediationPolicyTest, raw)


def _validated(model: type[_Resource], raw: Any) -> tuple[_Resource | None, list[Problem]]:
    raw = _without_nulls(model, raw) if isinstance(raw, Mapping) else raw
    resource, problems, raw = _fields(model, raw)
    invalid = [problem.loc for problem in problems]
    problems.extend(_relations(model, raw, (), invalid))
    return (None if problems else resource), sorted(
        problems, key=lambda problem: [str(part).zfill(4) for part in problem.loc]
    )


def _fields(model: type[_Resource], raw: Any) -> tuple[_Resource | None, list[Problem], Any]:
    """What is wrong with each field by itself, and `raw` with its lists and maps cut to the length that they may have.

    One that is too long hides what is wrong in its items, so these are asked for once more.
    """
    problems: dict[tuple[Loc, str], Problem] = {}
    while True:
        try:
            resource = model.model_validate(raw, by_alias=True, by_name=False)
        except ValidationError as error:
            errors = error.errors(include_url=False)
        else:
            return resource, list(problems.values()), raw
        for found in errors:
            loc: Loc = tuple(part for part in found["loc"] if part != "[key]")
            about = said(found["type"], loc, found["input"], found["msg"], model)
            problems.setdefault((loc, about.rule), Problem(loc, *about))
        cut = raw
        for found in errors:
            if found["type"] == "too_long":
                cut = _replaced(cut, found["loc"], _first(found["input"], found["ctx"]["max_length"]))
        if cut is raw:
            return None, list(problems.values()), raw
        raw = cut


def _first(items: Any, count: int) -> Any:
    return dict(islice(items.items(), count)) if isinstance(items, Mapping) else items[:count]


def _replaced(raw: Any, loc: Loc, value: Any) -> Any:
    if not loc:
        return value
    key, rest = loc[0], loc[1:]
    if isinstance(raw, list):
        return [_replaced(item, rest, value) if index == key else item for index, item in enumerate(raw)]
    return {name: _replaced(item, rest, value) if name == key else item for name, item in raw.items()}


@cache
def _shapes(model: type[Model]) -> dict[str, _Shape]:
    """Shape of each field by its name in YAML."""
    return {
        field.alias or name: _shape(field.annotation, field.json_schema_extra)
        for name, field in model.model_fields.items()
    }


def _shape(annotation: Any, extra: Any) -> _Shape:
    origin = get_origin(annotation)
    if origin is Annotated:
        return _shape(get_args(annotation)[0], extra)
    if origin in (Union, UnionType):
        return _shape(next(arg for arg in get_args(annotation) if arg is not NoneType), extra)
    if origin is list:
        item = _shape(get_args(annotation)[0], None)
        keys = tuple((extra or {}).get("x-kubernetes-list-map-keys", ())) if isinstance(extra, Mapping) else ()
        return _Shape(item.model, many=True, keys=keys, distinct=item.model is None)
    model = annotation if isinstance(annotation, type) and issubclass(annotation, Model) else None
    return _Shape(model, many=False, keys=(), distinct=False)


def _without_nulls(model: type[Model], raw: Any) -> Any:
    """`raw` without the fields that are null: for the API server, too, they are not there."""
    if not isinstance(raw, Mapping):
        return raw
    shapes = _shapes(model)
    kept = {}
    for key, value in raw.items():
        shape = shapes.get(key)
        if value is None and shape:
            continue
        if shape and shape.model and shape.many and isinstance(value, list):
            kept[key] = [_without_nulls(shape.model, item) for item in value]
        else:
            kept[key] = _without_nulls(shape.model, value) if shape and shape.model and not shape.many else value
    return kept


def _relations(model: type[Model], raw: Any, at: Loc, invalid: list[Loc]) -> Iterator[Problem]:
    """Rules over several fields, and items of a list that must differ, here and below."""
    if not isinstance(raw, Mapping):
        return
    for rule in model.rules:
        if not any(_concerns(rule, loc[len(at) :]) for loc in invalid if loc[: len(at)] == at) and not rule.holds(raw):
            yield from _broken(rule, raw, at)
    for key, shape in _shapes(model).items():
        value, loc = raw.get(key), (*at, key)
        if shape.many and isinstance(value, list):
            yield from _duplicates(shape, value, loc)
            for index, item in enumerate(value):
                yield from _relations(shape.model, item, (*loc, index), invalid) if shape.model else ()
        elif shape.model and not shape.many:
            yield from _relations(shape.model, value, loc, invalid)


def _concerns(rule: Rule, loc: Loc) -> bool:
    """Whether what is wrong at `loc`, below the rule's object, is among or around the fields that the rule looks at."""
    wrong = tuple(part for part in loc if isinstance(part, str))
    fields = (tuple(field.split(".")) for field in rule.fields)
    return any(wrong[: len(field)] == field[: len(wrong)] for field in fields)


def _broken(rule: Rule, raw: Mapping[str, Any], at: Loc) -> Iterator[Problem]:
    field: Loc = tuple(rule.field.split(".")) if rule.field else ()
    places = rule.where(raw) if rule.where else [()]
    details = rule.details(raw) if rule.details else [""] * len(places)
    known = rule.known(raw) if rule.known else ()
    for count, (below, detail) in enumerate(zip(places, details, strict=True)):
        loc = (*field, *below)
        meant = closest(str(_value(raw, loc)), known) if known and count < _MAX_MEANT else ""
        yield Problem((*at, *loc), rule.id, rule.message + detail, meant)


def _value(raw: Any, loc: Loc) -> Any:
    for part in loc:
        raw = raw[part]
    return raw


def _duplicates(shape: _Shape, items: list[Any], at: Loc) -> Iterator[Problem]:
    seen: dict[Any, int] = {}
    for index, item in enumerate(items):
        if shape.distinct and isinstance(item, str):
            identity, loc, rule = item, (*at, index), "duplicate-item"
        elif shape.keys and isinstance(item, Mapping) and all(isinstance(item.get(key), str) for key in shape.keys):
            identity, loc, rule = item[shape.keys[0]], (*at, index, shape.keys[0]), "duplicate-name"
        else:
            continue
        first = seen.setdefault(identity, index)
        if first != index:
            yield Problem(loc, rule, f"the same as in {path_text((*at, first))}: change or remove one")


def unknown_metadata(raw: Any) -> Iterator[Problem]:
    """Fields of the metadata that no Kubernetes knows. Not for objects from a cluster, which may be newer."""
    metadata = raw.get("metadata") if isinstance(raw, Mapping) else None
    for key in metadata if isinstance(metadata, Mapping) else ():
        if key not in METADATA:
            yield Problem(("metadata", key), *said("extra_forbidden", ("metadata", key), None, ""))
