"""The tests of the built-in profiles, which `backendhealth test tests/profiles` runs: each case is one here, too."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

from backendhealth import profiles
from backendhealth.cli.load import load
from backendhealth.cli.policybench import run_policy_case
from backendhealth.cli.policyjudging import policy_faults
from backendhealth.cli.policynames import PreparedPolicy, prepare_policies
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
_HELP = "All the services support being toggled to output more verbose logs which might help shed light on an issue."
_SIGNALS = "tests/actions/test_signals.py::"
DONE_BY = {
    _HELP: (f"{_SIGNALS}test_verbose_logs_on_and_off_again", "tests/kube/test_plugin.py::test_debug_logs_of"),
    "To toggle log levels you send a signal to the service: kill -USR1 <process_pid>": (
        f"{_SIGNALS}test_verbose_logs_on_and_off_again",
        f"{_SIGNALS}test_what_must_not_be_signalled_is_not",
        "tests/remediation/test_toggles.py::test_two_policies_and_two_people",
    ),
    "As you typically cannot shell into the containers, you'll have to run this command from the host.": (
        f"{_SIGNALS}test_verbose_logs_on_and_off_again",
        f"{_SIGNALS}test_without_a_helper_image_a_container_without_a_shell_is_left_alone",
    ),
    "You must be running as root and you can find the process pid by running:": (
        "tests/actions/test_grants.py::test_signals_by_both_ways",
    ),
    "ps aux | grep <staff|api|triggers|etc>": ("tests/actions/test_script.py::test_all_look_at_the_same_things",),
}
"""The claims that are actions: what does them in a person's place, on real processes. What is told, the cases say."""
LOADED = load([str(HERE)])
CASES, PROBLEMS = prepare(LOADED)
POLICY_CASES, POLICY_PROBLEMS = prepare_policies(LOADED)


def sentences(text: str) -> list[str]:
    """The document's lines, sentence by sentence; two lines of it have lost the break between them."""
    apart = re.sub(r"(?<=etcd)(?=If the error says)", "\n", text)
    return [
        one.strip() for line in apart.splitlines() for one in re.split(r"(?<=[.?]) +(?=[A-Z])", line) if one.strip()
    ]


def test_the_files_are_good():
    assert LOADED.problems == []
    assert PROBLEMS + POLICY_PROBLEMS == []


@pytest.mark.parametrize("one", CASES, ids=[one.name for one in CASES])
def test_case(one: Prepared):
    found = faults(one.profile, one.case, run_case(one.resource, one.profile, one.targets, one.case))
    assert not found, "\n".join(f"{fault.when}: {each}" for fault in found for each in fault.differences)


@pytest.mark.parametrize("one", POLICY_CASES, ids=[one.name for one in POLICY_CASES])
def test_policy_case(one: PreparedPolicy):
    found = policy_faults(one.case, run_policy_case(one.policy, one.resource, one.profile, one.targets, one.case))
    assert not found, "\n".join(f"{fault.when}: {each}" for fault in found for each in fault.differences)


def test_the_manifest_has_no_hole():
    said = set(sentences(DOCUMENT.read_text(encoding="utf-8")))
    claims = (*(one.case.claim for one in CASES), *(one.case.claim for one in POLICY_CASES))
    claimed = {claim for claim in claims if claim}
    assert said - claimed - NO_CLAIMS.keys() == set(), "sentences that no case is named by"
    assert claimed - said == set(), "claims that the document does not make"
    assert NO_CLAIMS.keys() - said == set()
    assert NO_CLAIMS.keys() & claimed == set()


def test_what_a_person_would_do_is_told_and_is_done():
    text = DOCUMENT.read_text(encoding="utf-8")
    assert DONE_BY.keys() == set(sentences(text.partition("Enable debug logs")[2])) - NO_CLAIMS.keys()
    told = {one.case.claim for one in CASES if all(expected.next_steps for expected in one.case.expect)}
    assert DONE_BY.keys() <= told
    assert not [one.name for one in CASES if "later" in one.name]


@pytest.mark.parametrize("test", sorted({test for tests in DONE_BY.values() for test in tests}))
def test_what_does_it_is_tested(test: str):
    file, _, name = test.partition("::")
    tree = ast.parse((HERE.parents[1] / file).read_text(encoding="utf-8"))
    assert name in {one.name for one in tree.body if isinstance(one, ast.FunctionDef | ast.AsyncFunctionDef)}


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
