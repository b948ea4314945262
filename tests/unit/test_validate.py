"""What is said about a wrong field: the remedy, what was meant, where the field belongs; never the value."""

from __future__ import annotations

import copy
from typing import Any

import pytest

from backendhealth.core.spec.backendhealth import BackendHealth
from backendhealth.core.validate import Problem, validate
from backendhealth.core.wording import OWN_RULES, closest, path_text

GOOD: dict[str, Any] = {
    "apiVersion": "backendhealth.dev/v1alpha1",
    "kind": "BackendHealth",
    "metadata": {"name": "x"},
    "spec": {"probes": [{"name": "redis", "redis": {"url": "redis://redis"}}]},
}
PROBE = ("spec", "probes", 0)


def problems(*changes: tuple[tuple[str | int, ...], Any]) -> list[Problem]:
    """What is wrong once each (place, value) is put into a good resource."""
    raw = copy.deepcopy(GOOD)
    for loc, value in changes:
        holder: Any = raw
        for key in loc[:-1]:
            holder = holder[key]
        holder[loc[-1]] = value
    resource, found = validate(raw)
    assert (resource is None) == bool(found)
    return found


def only(loc: tuple[str | int, ...], value: Any) -> Problem:
    (problem,) = problems((loc, value))
    return problem


def test_a_good_resource_is_given_back() -> None:
    resource, found = validate(GOOD)
    assert found == []
    assert isinstance(resource, BackendHealth)
    assert resource.key == "default/x"


@pytest.mark.parametrize(
    ("loc", "value", "suggestion"),
    [
        (("spec", "intervall"), "30s", "interval"),
        (("spec", "failure_threshold"), 3, "failureThreshold"),
        (("spec", "FailureThreshold"), 3, "failureThreshold"),
        ((*PROBE, "redis", "write-check"), True, "writeCheck"),
        (("specs",), {}, "spec"),
        (("spec", "interval"), 5, "5s"),
        (("spec", "interval"), "5", "5s"),
        (("spec", "interval"), "30 sec", "30s"),
        (("spec", "interval"), "2 hours", "2h"),
        (("spec", "interval"), "1day", "24h"),
        (("spec", "interval"), "500MS", "500ms"),
        ((*PROBE, "redis", "role"), "PRIMARY", "primary"),
        ((*PROBE, "redis", "role"), "replicas", "replica"),
        ((*PROBE, "name"), "My_Redis", "my-redis"),
        (("metadata", "name"), "My.Redis", "my.redis"),
        (("kind",), "Backendhealth", "BackendHealth"),
    ],
)
def test_what_was_meant_is_suggested(loc: tuple[str | int, ...], value: Any, suggestion: str) -> None:
    assert only(loc, value).suggestion == suggestion


@pytest.mark.parametrize(
    ("loc", "value", "told"),
    [
        ((*PROBE, "url"), "redis://x", "it belongs to spec.probes[].redis.url or spec.probes[].http.url"),
        (("spec", "redis"), {}, "it belongs to spec.probes[].redis"),
        ((*PROBE, "redis", "timeout"), "1s", "it belongs to spec.probes[].timeout or spec.timeout"),
        (("probes",), [], "it belongs to spec.probes"),
        (
            (*PROBE, "redis", "auth"),
            {"name": "x", "secretRef": {"name": "x"}},
            "it belongs to spec.probes[].redis.auth.secretRef.name",
        ),
        ((*PROBE, "redis", "zzz"), 1, "known here: auth, cluster, role, sentinel, tls, url, writeCheck"),
        ((*PROBE, "redis"), "redis://redis", "its fields: url, sentinel, cluster, role, writeCheck, auth, tls"),
        (("spec", "failureThreshold"), "3", "must be a whole number, not text: remove the quotes"),
        (("spec", "failureThreshold"), 1.5, "must be a whole number, not a fraction"),
        (("spec", "suspend"), "yes", "must be true or false, not text: remove the quotes"),
        (("spec", "failureThreshold"), 0, "must be from 1 to 100"),
        (("spec", "interval"), "25h", "must be from 1s to 24h"),
        (("spec", "probes"), {}, "must be a list, not a mapping: begin each item with a dash"),
        (("spec", "probes"), [], "must have from 1 to 100 items, not 0"),
        (("metadata", "labels"), {"on": True}, "must be text, not true or false: put it in quotes"),
        (("metadata", "name"), "x" * 254, "must have from 1 to 253 characters, not 254"),
        ((*PROBE, "redis"), {"cluster": {"endpoints": ["redis"]}}, "must be host:port, e.g. redis-0:6379"),
        ((*PROBE, "redis"), {"cluster": {"endpoints": ["redis:65536"]}}, "must be host:port, e.g. redis-0:6379"),
        ((*PROBE, "redis", "url"), "redis://a..b", "not a URL of the form redis://redis:6379/0"),
        ((*PROBE, "redis", "url"), "redis://a:0", "not a URL of the form redis://redis:6379/0"),
    ],
)
def test_the_remedy_is_told(loc: tuple[str | int, ...], value: Any, told: str) -> None:
    assert told in only(loc, value).message


def test_no_message_holds_the_value() -> None:
    planted = "pl4nted-s3cret"
    wrong = [
        planted,
        [planted],
        {planted: planted},
        f"redis://:{planted}@redis",
        f"{planted}\n",
        f"http://{planted} {planted}",
    ]
    for value in wrong:
        for loc in [
            ("spec", "interval"),
            ("spec", "probes"),
            ("spec", "suspend"),
            PROBE,
            (*PROBE, "redis"),
            (*PROBE, "redis", "url"),
        ]:
            for problem in problems((loc, value)):
                assert planted not in problem.message, (loc, problem.rule)
        for loc in [
            (*PROBE, "redis", "role"),
            (*PROBE, "redis", "auth"),
            (*PROBE, "component"),
            ("kind",),
            ("metadata",),
        ]:
            for problem in problems((loc, value)):
                assert planted not in problem.message, (loc, problem.rule)


def test_null_is_as_good_as_absent_where_a_field_is_known() -> None:
    nulls: list[tuple[tuple[str | int, ...], Any]] = [
        (("spec", "interval"), None),
        (("metadata", "namespace"), None),
        (("status",), None),
        ((*PROBE, "tcp"), None),
        ((*PROBE, "redis", "writeCheck"), None),
    ]
    assert problems(*nulls) == []
    assert [(p.path, p.rule) for p in problems(((*PROBE, "name"), None))] == [("spec.probes[0].name", "required")]
    assert [(p.path, p.rule) for p in problems(((*PROBE, "other"), None))] == [
        ("spec.probes[0].other", "unknown-field")
    ]


def test_too_many_items_do_not_hide_what_is_wrong_in_them() -> None:
    probes = [{"name": f"p{n}", "tcp": {"host": "h", "port": 0 if n == 7 else 1}} for n in range(101)]
    probes[3]["http"] = {"url": "http://x", "headers": [{"value": "x"}] * 33}
    found = {(problem.path, problem.rule) for problem in problems((("spec", "probes"), probes))}
    assert ("spec.probes", "length") in found
    assert ("spec.probes[7].tcp.port", "range") in found
    assert ("spec.probes[3]", "one-probe-member") in found
    assert ("spec.probes[3].http.headers", "length") in found
    assert ("spec.probes[3].http.headers[31].name", "required") in found


def test_rules_are_silent_about_fields_that_are_wrong_anyway() -> None:
    assert [p.rule for p in problems((("spec", "interval"), "1s"), (("spec", "timeout"), "x"))] == ["duration"]
    found = problems(((*PROBE, "redis"), {"url": "http://x", "tls": {}}))
    assert [p.rule for p in found] == ["url"]


def test_paths_are_written_as_kubernetes_does() -> None:
    assert path_text(()) == ""
    assert path_text(("spec", "probes", 2, "redis", "url")) == "spec.probes[2].redis.url"
    assert path_text(("metadata", "annotations", "example.com/x")) == "metadata.annotations.example.com/x"
    assert path_text(("spec", "bad key\x1b[0m")) == "spec.?"


def test_words_are_compared_whatever_their_spelling() -> None:
    assert closest("BACKEND-HEALTH", ["BackendHealth"]) == "BackendHealth"
    assert closest("", ["interval"]) == ""
    assert closest("zzz", ["interval"]) == ""


def test_the_models_raise_no_rule_that_has_no_words() -> None:
    """An error type of the models' own that is not listed would be told as a wrong type."""
    import inspect
    import re

    from backendhealth.core.spec import base, moments, remediationpolicy

    source = "".join(map(inspect.getsource, (base, moments, remediationpolicy)))
    raised = set(re.findall(r'PydanticCustomError\("([a-z-]+)"', source)) | {"no-password-in-url"}
    assert raised == OWN_RULES
