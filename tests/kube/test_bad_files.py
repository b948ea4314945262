"""What lint refuses, a real API server refuses at the same path and by the same rule; what it takes, lint takes.

What they can't agree on is listed here, and each entry of the lists must still be needed.
"""

from __future__ import annotations

import copy
import json
import re
import urllib.error
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from http import HTTPStatus
from pathlib import Path
from typing import Any

import pytest

from backendhealth import profiles as shipped
from backendhealth.cli.documents import Document, FileProblem, read_all
from backendhealth.cli.load import load
from backendhealth.core.crd import PLURAL, POLICY_PLURAL, PROFILE_PLURAL, REMEDIATION_PLURAL
from backendhealth.core.durations import DURATION_PATTERN
from backendhealth.core.spec.backendhealth import API_VERSION, KIND
from backendhealth.core.spec.profile import PROFILE_KIND
from backendhealth.core.spec.remediation import REMEDIATION_KIND
from backendhealth.core.spec.remediationpolicy import POLICY_KIND
from backendhealth.core.validate import LINT_ONLY
from backendhealth.core.wording import closest, path_text
from tests.servers.kubernetes import ControlPlane
from tests.unit.apiserver import all_rules
from tests.unit.profilemaking import greatest_profile
from tests.unit.test_bad_yaml import BAD, EXPECTED, GOOD, KINDS

Refusals = set[tuple[str, str]]
PLURALS = {
    KIND: PLURAL,
    PROFILE_KIND: PROFILE_PLURAL,
    POLICY_KIND: POLICY_PLURAL,
    REMEDIATION_KIND: REMEDIATION_PLURAL,
}

ITS_OWN_WORDS = {
    "api-version-missing.yaml": "the API version in the data () does not match",
    "api-version-misspelt.yaml": "the API version in the data (backendheath.dev/v1alpha1) does not match",
    "api-version-other.yaml": 'BackendHealth in version "v1" cannot be handled',
    "api-version-without-group.yaml": "the API version in the data (v1alpha1) does not match",
    "kind-lowercase.yaml": 'kind: Invalid value: "backendhealth": must be BackendHealth',
    "kind-missing.yaml": "Object 'Kind' is missing",
    "kind-misspelt.yaml": 'kind: Invalid value: "BackendHeath": must be BackendHealth',
    "kind-of-our-group.yaml": 'kind: Invalid value: "Redis": must be BackendHealth',
    "namespace-too-long.yaml": f'namespaces "{64 * "n"}" not found',
    "no-name.yaml": "metadata.name: Required value",
    "policy-kind-misspelt.yaml": 'kind: Invalid value: "RemediationPolcy": must be RemediationPolicy',
    "profile-kind-misspelt.yaml": 'kind: Invalid value: "DiagnosisProfil": must be DiagnosisProfile',
    "resource-name-uppercase.yaml": 'metadata.name: Invalid value: "Bad": a lowercase RFC 1123 subdomain',
    "secret-bad-base64.yaml": "illegal base64 data",
    "secret-base64-with-space.yaml": "illegal base64 data",
    "secret-data-list.yaml": "cannot unmarshal array into Go struct field Secret.data",
    "secret-number.yaml": "cannot unmarshal number into Go struct field Secret.stringData",
    "secret-without-name.yaml": "metadata.name: Required value",
    "type-label.yaml": "cannot unmarshal bool into Go struct field ObjectMeta.labels",
    "type-text-for-metadata.yaml": "cannot unmarshal string into Go value of type v1.ObjectMeta",
    "unknown-field-of-metadata.yaml": 'unknown field "metadata.lables"',
}
"""Kind, metadata and Secrets: the API server refuses them, too, before any schema and in words of its own."""

MENDED = {"everything-at-once.yaml": {("spec", "interval"): "1m", ("spec", "probes", 2, "tcp", "port"): 80}}
"""Rules are not evaluated while a type is wrong: with these values in place, the rest is refused."""

FOLLOWS = {
    "probe-timeout-within-interval": ("spec.interval", "duration-zero.yaml"),
    "tls-needs-encrypted-url": ("spec.probes[0].redis.url", "everything-at-once.yaml"),
}
"""Rules that only the API server names, because of what both refuse at another place; and a file where it does."""

_NOT_CHECKED = "some validation rules were not checked because the object was invalid"
_RULE_IDS = sorted(
    {rule.id for rule in all_rules()} | {"duration-range", "no-password-in-url", "timestamp"}, key=len, reverse=True
)
_BY_REASON = {
    "FieldValueRequired": "required",
    "FieldValueTypeInvalid": "type",
    "FieldValueNotSupported": "enum",
    "FieldValueTooLong": "length",
    "FieldValueTooMany": "length",
}


@dataclass(frozen=True, slots=True)
class Answer:
    """What the API server said of an object; an empty message: it takes it."""

    message: str
    causes: tuple[Mapping[str, str], ...] = ()

    @property
    def incomplete(self) -> bool:
        """Whether there may be more that is wrong."""
        return _NOT_CHECKED in self.message or "strict decoding error" in self.message

    @property
    def refusals(self) -> Refusals:
        """(path, rule id) of each refusal, the rule told as lint calls it."""
        unknown = re.search(r"strict decoding error: (.*)", self.message)
        if unknown:
            found = re.findall(r'unknown field "([^"]+)"', unknown[1])
            return {(path, "unknown-field") for path in found}
        return set(_refusals(self.causes))


def _refusals(causes: Iterable[Mapping[str, str]]) -> Iterator[tuple[str, str]]:
    for cause in causes:
        field, message = cause["field"], cause["message"]
        if field == "<nil>":  # says again of a number what its own field says, or that rules were not checked
            assert _NOT_CHECKED in message or "must be of type" in message
        elif cause["reason"] == "FieldValueDuplicate":
            named = re.search(r"Duplicate value: \{\"(\w+)\":", message)  # items with a key: lint points at the key
            yield (f"{field}.{named[1]}", "duplicate-name") if named else (field, "duplicate-item")
        else:
            yield field, _BY_REASON.get(cause["reason"]) or _rule(message)


def _rule(message: str) -> str:
    pattern = re.search(r"in body should match '(.*)'$", message)
    if pattern:
        value = re.search(r"Invalid value: (\".*\"): spec", message)
        assert value is not None
        return _pattern_rule(pattern[1], json.loads(value[1]))
    if re.search(r"should have at least \d+ items|should be at least \d+ chars long", message):
        return "length"
    if re.search(r"should be (greater|less) than or equal to", message):
        return "range"
    return next(rule for rule in _RULE_IDS if re.search(rf"(^|\s){rule}: ", message))


def _pattern_rule(pattern: str, value: str) -> str:
    if re.search(r"[\x00-\x1f\x7f]", value):
        return "control-character"
    if pattern == DURATION_PATTERN:
        return "duration"
    return "url" if "://" in pattern else "pattern"


def _path(kind: str) -> str:
    """Where objects go whose kind is this, or is one misspelt."""
    meant = closest(kind, PLURALS) or KIND
    return f"/apis/{API_VERSION}/namespaces/{{}}/{PLURALS[meant]}"


class Judge:
    """Asks the API server about objects without creating them."""

    def __init__(self, plane: ControlPlane, namespace: str) -> None:
        self._plane = plane
        self._namespace = namespace

    def __call__(self, raw: Any, *, strict: bool = True) -> Answer:
        """Its answer to `raw`; unless `strict`, unknown fields are dropped silently, and the rest is judged."""
        placed, namespace = self._placed(raw)
        kind = str(raw.get("kind"))
        path = "/api/v1/namespaces/{}/secrets" if kind == "Secret" else _path(kind)
        query = f"dryRun=All&fieldValidation={'Strict' if strict else 'Ignore'}"
        try:
            self._plane.request("POST", f"{path.format(namespace)}?{query}", placed)
        except urllib.error.HTTPError as error:
            if error.code >= HTTPStatus.INTERNAL_SERVER_ERROR:
                raise
            status = json.loads(error.read())
            return Answer(status["message"], tuple((status.get("details") or {}).get("causes", ())))
        return Answer("")

    def _placed(self, raw: Any) -> tuple[Any, str]:
        """The object in our namespace, unless its own can't be one."""
        metadata = raw.get("metadata")
        if not isinstance(metadata, dict):
            return raw, self._namespace
        if len(metadata.get("namespace", "")) > 63:
            return raw, metadata["namespace"]
        return {**raw, "metadata": {**metadata, "namespace": self._namespace}}, self._namespace

    def refusals(self, name: str, raw: Any) -> Refusals:
        """All that it refuses, asked as often as one mistake may hide others."""
        answer = self(raw)
        found = answer.refusals
        if answer.incomplete:
            again = self(raw, strict=False)
            assert again.refusals or found, "it told of something, and then of nothing"
            found |= again.refusals
        if name in MENDED:
            assert answer.incomplete, "nothing is hidden: no need to mend it"
            mended = copy.deepcopy(raw)
            for place, value in MENDED[name].items():
                _replace(mended, place, value)
            found |= self(mended, strict=False).refusals
        return found


def _replace(raw: Any, place: tuple[str | int, ...], value: Any) -> None:
    *around, last = place
    for key in around:
        raw = raw[key]
    raw[last] = value


@pytest.fixture(scope="module")
def judge(control_plane: ControlPlane) -> Iterator[Judge]:
    name = "bad-files"
    control_plane.kubectl("create", "namespace", name)
    yield Judge(control_plane, name)
    control_plane.kubectl("delete", "namespace", name, "--wait=false")


def documents(name: str) -> list[Document]:
    """What of a bad file reaches an API server."""
    return [document for document in read_all([str(BAD / name)])[0] if isinstance(document.raw, Mapping)]


def by(name: str) -> set[str]:
    """Who else refuses what is wrong with a bad file."""
    return {want.get("by", "schema") for want in EXPECTED[name]}


def same(told: Refusals, linted: Refusals) -> bool:
    """Whether both refuse the same, which is asserted. Rules about all items are at the list for the API server."""
    about_items = {rule.id for rule in all_rules() if rule.where}
    lists = {(path, rule) for path, rule in told if rule in about_items}
    lifted = {
        next(((at, of) for at, of in lists if of == rule and path.startswith(at)), (path, rule))
        for path, rule in linted
    }
    wrong = {path for path, _ in linted}
    surplus = {
        (path, rule) for path, rule in told - lifted if path not in wrong and FOLLOWS.get(rule, ("",))[0] not in wrong
    }
    # what has the wrong type is told of first by its fields, which nobody knows
    surplus -= {one for one in surplus if one[1] == "unknown-field" and (_owner(one[0], wrong), "type") in linted}
    assert surplus == set(), "the API server alone refuses it"
    assert lifted - told == set(), "lint alone refuses it"
    return True


def _owner(path: str, wrong: Iterable[str]) -> str:
    return next((place for place in wrong if path.startswith(place)), "")


@pytest.mark.parametrize("name", [name for name in EXPECTED if "schema" in by(name)])
def test_the_api_server_refuses_what_lint_refuses(name: str, judge: Judge):
    told: Refusals = set()
    for document in documents(name):
        prefix = path_text(document.prefix)
        told |= {(f"{prefix}.{path}" if prefix else path, rule) for path, rule in judge.refusals(name, document.raw)}
    linted = {
        (problem.path, problem.rule)
        for problem in load([str(BAD / name)]).problems
        if not is_of_the_text(name, problem) and problem.rule not in LINT_ONLY
    }
    assert linted
    assert same(told, linted)


def is_of_the_text(name: str, problem: FileProblem) -> bool:
    """Whether only who reads the YAML can see it."""
    return any(
        (want["path"], want["rule"], want.get("by")) == (problem.path, problem.rule, "reader")
        for want in EXPECTED[name]
    )


@pytest.mark.parametrize("name", [name for name in EXPECTED if by(name) in ({"lint"}, {"names"})])
def test_what_no_schema_can_hold_is_taken(name: str, judge: Judge):
    assert by(name) == {"names"} or {want["rule"] for want in EXPECTED[name]} <= LINT_ONLY
    assert [said for document in documents(name) if (said := judge(document.raw).message)] == []


@pytest.mark.parametrize("name", ITS_OWN_WORDS)
def test_kind_metadata_and_secrets_are_refused_in_its_own_words(name: str, judge: Judge):
    assert by(name) == {"apiserver"}
    (document,) = documents(name)
    assert ITS_OWN_WORDS[name] in judge(document.raw).message


def test_no_bad_file_is_left_out():
    assert {name for name in EXPECTED if "apiserver" in by(name)} == set(ITS_OWN_WORDS)


@pytest.mark.parametrize("name", [name for name in EXPECTED if by(name) == {"reader"}])
def test_of_what_is_no_yaml_nothing_bad_reaches_the_api_server(name: str, judge: Judge):
    """Whatever can be read of it, one object at a time, is good, or there is nothing."""
    assert [judge(document.raw).message for document in documents(name)] == [""] * len(documents(name))


def test_the_values_that_mend_a_file_are_needed(judge: Judge):
    for name, places in MENDED.items():
        (document,) = documents(name)
        for place in places:
            others = copy.deepcopy(document.raw)
            for other in places.keys() - {place}:
                _replace(others, other, places[other])
            assert _NOT_CHECKED in judge(others, strict=False).message, place


@pytest.mark.parametrize("rule", FOLLOWS)
def test_what_follows_from_another_mistake_does_so(rule: str, judge: Judge):
    place, name = FOLLOWS[rule]
    (document,) = documents(name)
    told = judge.refusals(name, document.raw)
    assert rule in {one for _, one in told}
    assert place in {path for path, _ in told}
    assert rule not in {want["rule"] for want in EXPECTED[name]}


@pytest.mark.parametrize("path", GOOD, ids=lambda path: path.stem)
def test_good_files_and_examples_are_taken(path: Path, judge: Judge):
    for document in read_all([str(path)])[0]:
        if document.raw["kind"] in {*KINDS, "Secret"}:
            assert not judge(document.raw).message, document.raw["metadata"]


@pytest.mark.parametrize("name", shipped.names())
def test_built_in_profiles_are_taken(name: str, judge: Judge):
    assert not judge(shipped.built_in(name).model_dump(mode="json", by_alias=True, exclude_unset=True)).message


def test_the_greatest_profile_costs_the_api_server_not_too_much(judge: Judge):
    assert not judge(greatest_profile()).message


@pytest.mark.parametrize(
    ("name", "words"),
    [
        (
            "timeout-over-interval.yaml",
            "spec.timeout: Invalid value: timeout-within-interval: timeout must not be longer than interval",
        ),
        (
            "two-probe-members.yaml",
            'The BackendHealth "bad" is invalid: spec.probes[0]: Invalid value: one-probe-member: set exactly one of',
        ),
        ("unknown-field-of-probe.yaml", 'strict decoding error: unknown field "spec.probes[0].failureTreshold"'),
        ("kind-misspelt.yaml", 'no matches for kind "BackendHeath" in version "backendhealth.dev/v1alpha1"'),
        (
            "profile-unknown-component.yaml",
            "spec.components: Invalid value: unknown-component: the profile has no component of this name",
        ),
        ("port-zero.yaml", "spec.probes[0].tcp.port in body should be greater than or equal to 1"),
        ("duration-too-short.yaml", 'spec.retryInterval: Invalid value: "99ms": duration-range: must be from 100ms to'),
    ],
)
def test_kubectl_tells_people_what_is_wrong(name: str, words: str, control_plane: ControlPlane):
    said = control_plane.kubectl("apply", "-f", str(BAD / name), check=False)
    assert words in said
    assert "created" not in said
