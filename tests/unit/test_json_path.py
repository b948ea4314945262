from __future__ import annotations

import re

import pytest

from backendhealth.core.json_path import MAX_VISITS, JsonPath, TooMuchWorkError

DOCUMENT = {"items": [{"name": "a", "ok": True}, {"name": "b", "ok": False}], "n": 1}


@pytest.mark.parametrize(
    ("path", "found"),
    [
        ("$", [("$", DOCUMENT)]),
        ("$.n", [("$['n']", 1)]),
        ("$.items[-1].name", [("$['items'][1]['name']", "b")]),
        ("$.items[*].name", [("$['items'][0]['name']", "a"), ("$['items'][1]['name']", "b")]),
        ("$..ok", [("$['items'][0]['ok']", True), ("$['items'][1]['ok']", False)]),
        ("$.items[?@.ok == false].name", [("$['items'][1]['name']", "b")]),
        ("$.items[?@.ok && search(@.name, '[a]')].name", [("$['items'][0]['name']", "a")]),
        ("$.items[?match(@.name, '(')]", []),
        ("$.nothing", []),
    ],
)
def test_what_is_found(path: str, found: list[tuple[str, object]]) -> None:
    assert JsonPath(path).find(DOCUMENT) == found


@pytest.mark.parametrize(
    ("path", "told"),
    [
        ("items", "expected 'TOKEN_ROOT'"),
        ("$.items[", "unexpected end of query"),
        ("$[?" + "(" * 500 + "@.a" + ")" * 500 + "]", "maximum recursion depth exceeded"),
        ("$[?nope(@.a) == 1]", "nope"),
        ("$[?$.n == 1]", "a filter can't start at the root"),
        ("$[?count(@.*) > 1]", "count"),
        ("$[?@.* == 1]", "non-singular query is not comparable"),
        ("$[?@..a]", "must select one value at most"),
        ("$[?@[?@.a]]", "must select one value at most"),
        ("$[1e400]", "invalid literal"),
        ("$[?length(1e400) == 1]", "too large"),
        ("$[?@.a =~ /(a*)*b/]", "unexpected token"),
    ],
)
def test_what_is_refused(path: str, told: str) -> None:
    with pytest.raises(ValueError, match=re.escape(told)) as error:
        JsonPath(path)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("path", ["$[*]", "$[*,*][*,*]", "$..*", "$[?@ == 1]"])
def test_no_more_work_than_allowed(path: str) -> None:
    few, many = [1, 1, 1], [[1, 1, 1]] * MAX_VISITS
    assert JsonPath(path).find(few) is not None
    with pytest.raises(TooMuchWorkError):
        JsonPath(path).find(many)


def test_a_document_that_is_too_deep() -> None:
    deep: list[object] = []
    for _ in range(500):
        deep = [deep]
    with pytest.raises(TooMuchWorkError):
        JsonPath("$..*").find(deep)
