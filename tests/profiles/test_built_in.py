"""The tests of the built-in profiles, which `backendhealth test tests/profiles` runs: each case is one here, too."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from backendhealth import profiles
from backendhealth.cli.load import load
from backendhealth.cli.testbench import run_case
from backendhealth.cli.testjudging import faults
from backendhealth.cli.testnames import Prepared, prepare
from backendhealth.core.resourcestate import component_members

HERE = Path(__file__).parent
DOCUMENT = HERE / "troubleshooting-backend-failures.txt"
NO_CLAIMS = {
    "Troubleshooting Backend Failures": "title",
    "This document outlines possible areas of failure and how they impact users": "says what the document is",
    "Points of failure": "heading",
    "etcd Failure": "heading",
    "RethinkDB Failure": "heading",
    "Redis Failure": "heading",
    "Elasticsearch failure": "heading",
    "Driver compilation issue / crash": "heading",
    "Troubleshooting": "heading",
    "If the error says": "begins a sentence whose two halves are claims: the text, and what it means",
    "Enable debug logs": "heading",
    "Last updated": "footer of the page that it was taken from",
}
"""What the document says that can't be true or false of a diagnosis, and why."""
LATER = "later: remediation"
"""How the names of cases begin whose claim is an action: what is tested of it is what a person is told."""
CASES, PROBLEMS = prepare(load([str(HERE)]))


def sentences(text: str) -> list[str]:
    """The document's lines, sentence by sentence; two lines of it have lost the break between them."""
    apart = re.sub(r"(?<=etcd)(?=If the error says)", "\n", text)
    return [
        one.strip() for line in apart.splitlines() for one in re.split(r"(?<=[.?]) +(?=[A-Z])", line) if one.strip()
    ]


def test_the_files_are_good():
    assert load([str(HERE)]).problems == []
    assert PROBLEMS == []


@pytest.mark.parametrize("one", CASES, ids=[one.name for one in CASES])
def test_case(one: Prepared):
    found = faults(one.profile, one.case, run_case(one.resource, one.profile, one.targets, one.case))
    assert not found, "\n".join(f"{fault.when}: {each}" for fault in found for each in fault.differences)


def test_the_manifest_has_no_hole():
    said = set(sentences(DOCUMENT.read_text(encoding="utf-8")))
    claimed = {one.case.claim for one in CASES if one.case.claim}
    assert said - claimed - NO_CLAIMS.keys() == set(), "sentences that no case is named by"
    assert claimed - said == set(), "claims that the document does not make"
    assert NO_CLAIMS.keys() - said == set()
    assert NO_CLAIMS.keys() & claimed == set()


def test_what_is_left_to_remediation_is_told_all_the_same():
    later = {one.case.claim for one in CASES if one.case.name.startswith(LATER)}
    text = DOCUMENT.read_text(encoding="utf-8")
    assert later == set(sentences(text.partition("Enable debug logs")[2])) - NO_CLAIMS.keys()
    assert all(told.next_steps for one in CASES if one.case.name.startswith(LATER) for told in one.case.expect)


def test_every_case_says_who_may_be_blamed():
    assert [one.name for one in CASES if one.case.blamed is None] == []


@pytest.mark.parametrize("profile", profiles.names())
def test_every_built_in_profile_has_tests(profile: str):
    assert any(one.profile == profiles.built_in(profile).spec for one in CASES)


@pytest.mark.parametrize("profile", profiles.names())
def test_every_backend_that_is_watched_is_a_cause_in_some_case(profile: str):
    """What nothing else explains: if no case blames it, nothing holds what the profile says of it."""
    spec = profiles.built_in(profile).spec
    own = {one.name for one in spec.components if not one.depends_on}
    about = [one for one in CASES if one.profile == spec]
    watched = {name for one in about for name in component_members(one.resource)}
    assert own & watched <= {name for one in about for name in one.case.blamed or ()}
