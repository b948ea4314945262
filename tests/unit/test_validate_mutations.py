"""Whatever is done to a good resource, lint and the generated schema refuse the same of it."""

from __future__ import annotations

import copy
from typing import Any, cast

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from backendhealth.cli.documents import read_all
from backendhealth.core.crd import crd, profile_crd
from backendhealth.core.spec.backendhealth import KIND, MEMBERS
from backendhealth.core.spec.profile import PROFILE_KIND
from backendhealth.core.validate import LINT_ONLY, validate, validate_profile
from hack.generate import ROOT
from tests.unit.apiserver import ApiServer, all_rules

Loc = tuple[str | int, ...]

SERVERS = {KIND: ApiServer(crd()), PROFILE_KIND: ApiServer(profile_crd())}
VALIDATE = {KIND: validate, PROFILE_KIND: validate_profile}
GOOD: list[Any] = [
    document.raw
    for document in read_all(
        [str(ROOT / "tests" / "good" / name) for name in ("every-field.yaml", "placeos.yaml", "profile.yaml")]
    )[0]
]
ABOUT_ITEMS = {rule.id for rule in all_rules() if rule.where}


def _names(schema: dict[str, Any]) -> set[str]:
    below = [*schema.get("properties", {}).values(), *([schema["items"]] if "items" in schema else [])]
    return set(schema.get("properties", {})) | {name for part in below for name in _names(part)}


FIELDS = sorted(
    set[str]().union(*(_names(server.schema["properties"]["spec"]) for server in SERVERS.values()))
    | {"intervall", "failure_threshold", "x-other", ""}
)
VALUES: tuple[Any, ...] = (
    *(None, True, False, 0, -1, 1, 3, 65535, 65536, 2147483648, 1 << 62, 2.5, float("nan")),
    *(
        "",
        "x",
        "Upper",
        "a-b",
        "ab",
        "a_b",
        "a\n",
        "tab\t",
        "é",
        "\u2028",
        "a" * 63,
        "a" * 64,
        "x" * 2000,
        "on",
        "5",
        "0",
    ),
    *(
        "30s",
        "0s",
        "-5s",
        "5",
        "1d",
        "30",
        "10ms",
        "4s",
        "31s",
        "5m",
        "300.5s",
        "24h",
        "24h0.000000001s",
        "99999999999h",
        "1.s",
        "1s" * 17,
    ),
    *(
        "http://a",
        "https://a",
        "HTTP://a",
        "http://u:p@a",
        "http://a/@",
        "http://a?token=x",
        "http://a:99999",
        "redis://a",
        "rediss://a/0",
    ),
    *(
        "redis://:x@a",
        "redis://a/zero",
        "http://[::1]",
        "http://[::1",
        "a:1",
        "[::1]:6379",
        "2xx",
        "299-200",
        "primary",
        "replica",
        "red",
    ),
    *(
        [],
        {},
        [None],
        [""],
        ["x"],
        ["x", "x"],
        [1],
        [[]],
        [{}],
        {"name": "x"},
        {"x": 1},
        [{"name": "x"}, {"name": "x"}],
    ),
    *(
        {"url": "http://a"},
        {"host": "h", "port": 1},
        {"insecureSkipVerify": True},
        {"certSecretRef": {"name": "x"}},
        {"tls": {}},
    ),
    *(
        ["http://a", "https://a"],
        ["http://e"] * 17,
        [{"name": f"n{n}", "tcp": {"host": "h", "port": 1}} for n in range(101)],
        [{"name": "shop", "title": "t", "dependsOn": ["shop"]}, {"name": "b", "title": "t", "dependsOn": ["shop"]}],
        [{"name": "s", "pattern": "x", "because": "x", "implicates": ["shop"], "clears": ["shop", "database"]}],
        [{"feature": "search", "effect": "Works", "because": "x"}, {"feature": "x", "effect": "Works", "because": "x"}],
        *(["shop"], ["database", "shop"], "shop", "search", "search-0"),
    ),
)


def places(value: Any, at: Loc = ()) -> list[Loc]:
    """Every place below `value`."""
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    return [place for key, item in items for place in [(*at, key), *places(item, (*at, key))]]


def at(value: Any, loc: Loc) -> Any:
    key: Any
    for key in loc:
        value = value[key]
    return value


@st.composite
def mutated(draw: st.DrawFn) -> Any:
    """A good resource with up to four things done to its spec."""
    raw = copy.deepcopy(draw(st.sampled_from(GOOD)))
    for _ in range(draw(st.integers(1, 4))):
        here = [place for place in places(raw["spec"]) if len(place) < 12]
        if not here:
            break
        loc = draw(st.sampled_from(here))
        holder, key = at(raw["spec"], loc[:-1]), cast("Any", loc[-1])
        what = draw(st.sampled_from(["set", "set", "set", "text", "remove", "rename", "add", "copy", "repeat"]))
        value = copy.deepcopy(draw(st.sampled_from(VALUES)))
        if what == "set":
            holder[key] = value
        elif what == "text":
            holder[key] = draw(
                st.text(st.characters(codec="utf-8"), max_size=12) | st.from_regex(r"^[a-z0-9:./@?=-]{0,20}\Z")
            )
        elif what == "remove":
            del holder[key]
        elif what == "copy":
            holder[key] = copy.deepcopy(at(raw["spec"], draw(st.sampled_from(here))))
        elif isinstance(holder, list):
            holder.insert(draw(st.integers(0, len(holder))), copy.deepcopy(holder[key]) if what == "repeat" else value)
        elif what == "rename":
            holder[draw(st.sampled_from(FIELDS))] = holder.pop(key)
        else:
            holder[draw(st.sampled_from([*FIELDS, *MEMBERS]))] = value
    return raw


def by_lint(raw: Any, by_schema: set[tuple[str, str]]) -> set[tuple[str, str]]:
    """What lint refuses, with problems of single items lifted to their list, where the schema has them."""
    found = set()
    for problem in VALIDATE[raw["kind"]](raw)[1]:
        lists = [path for path, rule in by_schema if rule == problem.rule and problem.path.startswith(path)]
        found.add((lists[0] if problem.rule in ABOUT_ITEMS and lists else problem.path, problem.rule))
    return {(path, rule) for path, rule in found if rule not in LINT_ONLY}


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(mutated())
def test_lint_and_schema_agree(raw: Any) -> None:
    before = copy.deepcopy(raw)
    by_schema = SERVERS[raw["kind"]].refusals(raw)
    assert by_lint(raw, by_schema) == by_schema
    assert repr(raw) == repr(before)  # nobody changes what it is given


@pytest.mark.parametrize(
    "raw", [None, [], "", 5, {}, {"spec": None}, {"spec": []}, {"metadata": 5}, {1: 2}, {"kind": {}, "apiVersion": []}]
)
def test_anything_at_all_is_answered(raw: Any) -> None:
    for judge in (validate, validate_profile):
        resource, problems = judge(raw)
        assert resource is None
        assert problems
