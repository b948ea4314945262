"""The CRDs are what Kubernetes takes: structural, bounded, documented, their rules compile; and the files are fresh."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Annotated, Any

import cel
import jsonschema
import pytest
import re2
import yaml
from pydantic import Field

from backendhealth.core.crd import crd, policy_crd, profile_crd, remediation_crd
from backendhealth.core.durations import seconds
from backendhealth.core.spec.backendhealth import BackendHealthSpec, Timing
from backendhealth.core.spec.base import Model
from backendhealth.core.spec.profilerules import SPEC_RULES
from backendhealth.core.structural import Schema, SchemaError, structural_schema
from backendhealth.core.validate import LINT_ONLY
from hack import generate
from hack.blockyaml import dumped
from tests.unit.apiserver import ApiServer, all_rules, rules_by_expression

FORBIDDEN = {
    *("$ref", "$defs", "definitions", "anyOf", "allOf", "oneOf", "not", "title", "const"),
    *(
        "patternProperties",
        "dependencies",
        "deprecated",
        "id",
        "uniqueItems",
        "readOnly",
        "writeOnly",
        "discriminator",
        "xml",
    ),
    *("exclusiveMinimum", "exclusiveMaximum", "examples", "prefixItems", "nullable"),
}
KNOWN = {
    *("type", "description", "properties", "required", "items", "enum", "format", "default", "pattern"),
    *("minLength", "maxLength", "minItems", "maxItems", "minimum", "maximum", "maxProperties"),
    "additionalProperties",  # of a map: text by name
    *("x-kubernetes-list-type", "x-kubernetes-list-map-keys", "x-kubernetes-validations"),
}
RULE_COST_LIMIT = 10_000_000
"""StaticEstimatedCostLimit of the API server."""


def version() -> dict[str, Any]:
    return crd()["spec"]["versions"][0]  # type: ignore[no-any-return]


def schema(made: dict[str, Any]) -> Schema:
    return made["spec"]["versions"][0]["schema"]["openAPIV3Schema"]  # type: ignore[no-any-return]


def nodes(node: Schema, path: str = "", times: int = 1) -> Iterator[tuple[str, Schema, int]]:
    """Every node with its path and how often it may be in one object at most."""
    yield path, node, times
    for name, field in node.get("properties", {}).items():
        yield from nodes(field, f"{path}.{name}", times)
    if "items" in node:
        yield from nodes(node["items"], f"{path}[]", times * node["maxItems"])
    if "additionalProperties" in node:
        yield from nodes(node["additionalProperties"], f"{path}.*", times * node["maxProperties"])


NODES = {path: (node, times) for path, node, times in nodes(schema(crd()))}
PROFILE_NODES = {f"profile{path}": (node, times) for path, node, times in nodes(schema(profile_crd()))}
POLICY_NODES = {f"policy{path}": (node, times) for path, node, times in nodes(schema(policy_crd()))}
REMEDIATION_NODES = {f"remediation{path}": (node, times) for path, node, times in nodes(schema(remediation_crd()))}
ALL_NODES = NODES | PROFILE_NODES | POLICY_NODES | REMEDIATION_NODES
"""Of all kinds; paths of the others begin with `profile`, `policy` or `remediation`."""


@pytest.mark.parametrize("path", ALL_NODES)
def test_every_node_is_structural(path: str) -> None:
    node, _ = ALL_NODES[path]
    path = path[path.find(".") :] if "." in path else ""
    assert not FORBIDDEN & set(node)
    assert set(node) <= KNOWN
    assert node["type"] in ("object", "array", "string", "integer", "boolean")
    if path.count(".") and not path.endswith(("[]", ".*")) and path != ".metadata":
        assert node["description"].strip()
    if "additionalProperties" in node:
        assert node["type"] == "object"
        assert "properties" not in node
        assert 0 < node["maxProperties"] <= 128
        assert node["additionalProperties"]["type"] == "string"
    elif node["type"] == "object" and path != ".metadata":
        assert node["properties"]
        assert set(node.get("required", ())) <= set(node["properties"])
        assert all(re.fullmatch(r"[a-z][A-Za-z0-9]*", name) for name in node["properties"])
    if node["type"] == "string" and path not in (".apiVersion", ".kind"):
        assert "maxLength" in node or "enum" in node
    if node["type"] == "integer":
        assert node["format"] in ("int32", "int64")
    if "pattern" in node:
        re2.compile(node["pattern"])
    if "default" in node:
        jsonschema.Draft202012Validator(node).validate(node["default"])


@pytest.mark.parametrize("path", [path for path, (node, _) in ALL_NODES.items() if node["type"] == "array"])
def test_lists_are_bounded_and_merge_well(path: str) -> None:
    node, _ = ALL_NODES[path]
    items = node["items"]
    assert 0 < node["maxItems"] <= 128
    kind = node["x-kubernetes-list-type"]
    if kind == "map":
        keys = node["x-kubernetes-list-map-keys"]
        assert set(keys) <= set(items["required"])
        assert all(items["properties"][key]["type"] == "string" for key in keys)
    else:
        # sentences may be alike, above all when they are cut: the API server would refuse the whole status
        told = path.endswith((".evidence", ".calls"))
        assert kind == ("set" if items["type"] == "string" and not told else "atomic")
        assert "name" not in items.get("required", ())
    if items["type"] == "object" and "default" in items:
        pytest.fail("items can't have defaults")


def test_nothing_that_a_probe_inherits_has_a_default() -> None:
    for field in structural_schema(Timing)["properties"]:
        for place in (f".spec.{field}", f".spec.probes[].{field}"):
            assert "default" not in NODES[place][0]


def test_a_fresh_object_is_not_taken_for_current() -> None:
    assert NODES[".status"][0]["default"] == {"observedGeneration": -1}
    jsonschema.Draft202012Validator(NODES[".status"][0]).validate(NODES[".status"][0]["default"])
    assert version()["subresources"] == {"status": {}}


def test_names_and_columns() -> None:
    names = crd()["spec"]["names"]
    assert crd()["metadata"]["name"] == f"{names['plural']}.{crd()['spec']['group']}"
    assert names["shortNames"] == ["bh"]
    columns = {column["name"].upper(): column for column in version()["additionalPrinterColumns"]}
    assert list(columns) == ["STATE", "ROOT CAUSE", "REASON", "IMPACT", "SINCE", "AGE", "MESSAGE"]
    assert columns["SINCE"]["type"] == columns["AGE"]["type"] == "date"
    assert columns["MESSAGE"]["priority"] == 1
    for column in columns.values():
        path = column["jsonPath"]
        if path != ".metadata.creationTimestamp":
            assert NODES[path][0]["type"] == "string"  # a list would show its first value only


def test_names_and_columns_of_profiles() -> None:
    names = profile_crd()["spec"]["names"]
    assert profile_crd()["metadata"]["name"] == f"{names['plural']}.{profile_crd()['spec']['group']}"
    assert (names["kind"], names["shortNames"], names["categories"]) == (
        "DiagnosisProfile",
        ["dprof"],
        ["backendhealth-all"],
    )
    (only,) = profile_crd()["spec"]["versions"]
    assert [column["name"] for column in only["additionalPrinterColumns"]] == ["Title", "Age"]
    assert "subresources" not in only
    assert "profile.status" not in PROFILE_NODES


def test_names_and_columns_of_policies_and_remediations() -> None:
    for made, short, columns, has_status in (
        (policy_crd(), "rpol", ["Mode", "Account", "Paused By", "Age"], False),
        (
            remediation_crd(),
            "rem",
            ["Phase", "Action", "Target", "Rule", "Component", "Reason", "Age", "Requested By", "Message"],
            True,
        ),
    ):
        names, (only,) = made["spec"]["names"], made["spec"]["versions"]
        assert made["metadata"]["name"] == f"{names['plural']}.{made['spec']['group']}"
        assert (names["shortNames"], names["categories"]) == ([short], ["backendhealth-all"])
        assert [column["name"] for column in only["additionalPrinterColumns"]] == columns
        assert ("subresources" in only) is has_status


def test_defaults_of_what_holds_defaults() -> None:
    """An empty object, which the API server fills with the fields' own defaults."""
    for path in ("limits", "stormBreaker", "rules[].unless"):
        assert POLICY_NODES[f"policy.spec.{path}"][0]["default"] == {}
    assert POLICY_NODES["policy.spec.limits.maxConcurrent"][0]["default"] == 1
    assert POLICY_NODES["policy.spec.rules[].when.for"][0]["default"] == "0s"
    assert REMEDIATION_NODES["remediation.status"][0]["default"] == {}
    assert REMEDIATION_NODES["remediation.status.phase"][0]["default"] == "Pending"


def validations() -> list[tuple[str, dict[str, str]]]:
    return [(path, rule) for path, (node, _) in ALL_NODES.items() for rule in node.get("x-kubernetes-validations", ())]


@pytest.mark.parametrize(("path", "rule"), validations(), ids=lambda value: value if isinstance(value, str) else "")
def test_every_rule_compiles(path: str, rule: dict[str, str]) -> None:
    cel.compile(rule["rule"])
    assert re.match(r"[a-z][-a-z0-9]+: \S", rule["message"])
    if "fieldPath" in rule:
        assert path + rule["fieldPath"] in ALL_NODES
    for pattern in re.findall(r"matches\('([^']*)'\)", rule["rule"]):
        re2.compile(pattern)


def test_every_rule_of_the_models_is_in_the_schema() -> None:
    assert {rule["rule"] for _, rule in validations()} >= set(rules_by_expression())
    assert {rule.id for rule in all_rules() if not rule.cel} <= LINT_ONLY


def test_fields_of_a_rule_are_those_whose_values_its_expression_reads() -> None:
    """`fields` decide when lint leaves a rule out: one too few, it judges nonsense; one too many, it is silent."""
    for rule in all_rules():
        if not rule.cel or rule in SPEC_RULES or "oldSelf" in rule.cel:
            continue
        bare = re.sub(r"has\([a-z][\w.]*\)", "", rule.cel)
        read = set(re.findall(r"\bself\.(\w+(?:\.\w+)*)", bare))
        read = {re.sub(r"\.(all|filter|map|size|startsWith|matches|exists)$", "", name) for name in read}
        items = re.search(r"self\.(\w+)\.all\(p,", bare)
        if items:
            read.discard(items.group(1))
            read |= {f"{items.group(1)}.{name}" for name in re.findall(r"\b[pq]\.(\w+)", bare)}
        assert set(rule.fields) == read, rule.id


def test_fields_of_a_rule_about_names_are_those_that_its_expression_reads() -> None:
    for rule in SPEC_RULES:
        gathered = re.match(r"!has\(self\.(\w+)\) \|\| \[has\(self\.(\w+)\) \?", rule.cel)
        if gathered is None:
            assert not rule.cel
            continue
        at, of = gathered.groups()
        inner = rule.cel.partition(".all(names, ")[2]
        read = {f"{at}.{field}" for field in re.findall(r"has\(p\.(\w+)\)", inner)}
        read = {f"{one}.{item[1]}" if (item := re.search(r"q\.(\w+)", inner)) else one for one in read}
        assert set(rule.fields) == {f"{of}.name", *read}, rule.fields


@pytest.mark.parametrize("path", [path for path, (node, _) in NODES.items() if "x-kubernetes-validations" in node])
def test_rules_cost_little_enough(path: str) -> None:
    """A coarse reckoning of the API server's: what a rule reads, times how often it runs, must stay below its limit."""
    node, times = NODES[path]
    for rule in node["x-kubernetes-validations"]:
        for pattern in re.findall(r"self\.matches\('([^']*)'\)", rule["rule"]):
            cost = (node["maxLength"] * 0.1 + 1) * (len(pattern) * 0.25 + 1) * times
            assert cost < RULE_COST_LIMIT * 0.8, rule["message"]
        if "self.probes.all(p, self.probes.all(q" in rule["rule"]:
            pairs = NODES[".spec.probes"][0]["maxItems"] ** 2
            name = NODES[".spec.probes[].name"][0]["maxLength"]
            assert pairs * (4 * name * 0.1 + 30) < RULE_COST_LIMIT * 0.8


def test_rules_hold_and_fail_in_python_as_in_cel() -> None:
    """The server's judgement of a resource that breaks nothing, and of one that breaks two rules in two objects."""
    server = ApiServer(crd())
    good: dict[str, Any] = {"spec": {"probes": [{"name": "a", "redis": {"url": "redis://a"}}]}}
    assert server.refusals(good) == set()
    good["spec"]["probes"][0] |= {"tcp": {"host": "h", "port": 1}, "interval": "1s", "timeout": "2s"}
    assert server.refusals(good) == {
        ("spec.probes[0]", "one-probe-member"),
        ("spec.probes[0].timeout", "timeout-within-interval"),
    }


def test_durations_are_equal_where_kubernetes_says_so() -> None:
    assert seconds("700ms") == seconds("0.7s")
    assert seconds("0.1s") + seconds("0.2s") != seconds("0.3s")  # why they are rounded
    assert seconds("1m0.3s") == seconds("60300ms")


def test_a_field_without_description_or_bound_is_refused() -> None:
    class Undescribed(Model):
        name: Annotated[str, Field(max_length=5)]

    class Unbounded(Model):
        name: str = Field(description="A name.")

    class UnboundedList(Model):
        names: list[Annotated[str, Field(max_length=5)]] = Field(description="Names.")

    class UnboundedMap(Model):
        labels: dict[str, Annotated[str, Field(max_length=5)]] = Field(description="Labels.")

    class Union(Model):
        either: Annotated[str, Field(max_length=5)] | int = Field(description="One or the other.")

    for model, said in (
        (Undescribed, "description"),
        (Unbounded, "maxLength"),
        (UnboundedList, "maxItems"),
        (UnboundedMap, "maxProperties"),
        (Union, "union"),
    ):
        with pytest.raises(SchemaError, match=said):
            structural_schema(model)


def test_the_files_are_fresh(capsys: pytest.CaptureFixture[str]) -> None:
    assert generate.check(generate.outputs()) == 0
    assert capsys.readouterr().out == ""


def test_a_stale_file_is_shown(capsys: pytest.CaptureFixture[str]) -> None:
    name = "docs/reference/reasons.md"
    made = generate.outputs()
    assert generate.check({name: made[name].replace("QuorumLost", "QuorumFound", 1)}) == 1
    out = capsys.readouterr()
    assert "QuorumFound" in out.out
    assert "make generate" in out.err


def test_the_yaml_means_the_same_to_every_reader() -> None:
    """YAML 1.1 readers such as kubectl's take a bare y or n for a boolean."""
    text = dumped({"n": 1, "y": "N", "on": "off", "a": "1"})
    assert text == "\"n\": 1\n\"y\": \"N\"\n'on': 'off'\na: '1'\n"
    for made in (crd(), profile_crd(), policy_crd(), remediation_crd()):
        file = f"backendhealth.dev_{made['spec']['names']['plural']}.yaml"
        assert yaml.safe_load((generate.ROOT / "crds" / file).read_text()) == made


def test_spec_is_small_enough_to_read() -> None:
    assert len(yaml.safe_dump(crd())) < 256 * 1024  # well below what `kubectl apply` keeps in an annotation
    assert BackendHealthSpec.__doc__
