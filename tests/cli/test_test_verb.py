"""`backendhealth test`: what holds, what fails and how that is told, and files that can't be used."""

from __future__ import annotations

import re
import xml.etree.ElementTree as ET
from pathlib import Path
from typing import Any

import pytest
import yaml

from backendhealth.cli import testbench
from backendhealth.cli.load import load
from backendhealth.cli.main import main
from backendhealth.core.spec.diagnosistest import (
    DiagnosisCase,
    DiagnosisTestSpec,
    Expected,
    ExpectedEffect,
    Never,
    See,
    Step,
)
from tests.cli.support import ROOT, run

EXAMPLES = [str(ROOT / "examples" / "profile.yaml"), str(ROOT / "examples" / "diagnosis-test.yaml")]
Capture = pytest.CaptureFixture[str]
VERSION = "backendhealth.dev/v1alpha1"


def step(at: str, **see: Any) -> dict[str, Any]:
    return {"at": at, "see": {name.replace("_", "-"): one for name, one in see.items()}}


def case(name: str = "one", *steps: dict[str, Any], **fields: Any) -> dict[str, Any]:
    """A case in which etcd dies, with core before it."""
    died = step("30s", core="NoCoreInstances", etcd="QuorumLost")
    return {"name": name, "steps": list(steps) or [died], "expect": [{"at": "1m", "rootCauses": ["etcd"]}], **fields}


def document(*cases: dict[str, Any], name: str = "etcd", **spec: Any) -> dict[str, Any]:
    return {
        "apiVersion": VERSION,
        "kind": "DiagnosisTest",
        "metadata": {"name": name},
        "spec": {"profileRef": {"builtIn": "placeos-rethinkdb"}, "cases": list(cases) or [case()], **spec},
    }


def health(*probes: dict[str, Any], **spec: Any) -> dict[str, Any]:
    return {
        "apiVersion": VERSION,
        "kind": "BackendHealth",
        "metadata": {"name": "mine"},
        "spec": {"probes": list(probes), **spec},
    }


def tcp(name: str, **fields: Any) -> dict[str, Any]:
    return {"name": name, "tcp": {"host": name, "port": 1}, **fields}


def code_of(tmp_path: Path, *documents: dict[str, Any], arguments: tuple[str, ...] = ()) -> int:
    (tmp_path / "test.yaml").write_text(yaml.safe_dump_all(documents, sort_keys=False), encoding="utf-8")
    return main(["test", str(tmp_path), *arguments])


def holds(tmp_path: Path, *documents: dict[str, Any]) -> None:
    assert code_of(tmp_path, *documents) == 0


def test_what_holds(tmp_path: Path, capsys: Capture):
    assert code_of(tmp_path, document(case(never={"rootCauses": ["core"]}, blamed=["etcd"]))) == 0
    assert capsys.readouterr().out == "1 case, none failed\n"


def test_verbose_names_all(tmp_path: Path, capsys: Capture):
    assert code_of(tmp_path, document(case("a"), case("b")), arguments=("-v",)) == 0
    assert capsys.readouterr().out.splitlines() == ["ok   etcd/a", "ok   etcd/b", "2 cases, none failed"]


def test_what_fails_is_told_with_the_diagnosis(tmp_path: Path, capsys: Capture, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("COLUMNS", "120")
    wrong = {
        "at": "1m",
        "state": "Healthy",
        "rootCauses": ["core"],
        "explained": {"core": ["redis"]},
        "impact": {"execute": "Works", "listing": "Works", "triggers": {"effect": "Fails", "because": "no such text"}},
        "conditions": {"EtcdHealthy": "True", "Stalled": "Absent"},
        "nextSteps": {"etcd": "reboot"},
        "told": ["nobody says that"],
        "suspects": ["redis"],
        "nextQuestion": "why?",
    }
    cases = (case("good"), case("bad", claim="Cores are the cause", expect=[wrong]))
    assert code_of(tmp_path, document(*cases)) == 1
    lines = capsys.readouterr().out.splitlines()
    place = str(tmp_path / "test.yaml")
    assert re.fullmatch(rf"FAIL etcd/bad \({re.escape(place)}:\d+\)", lines[0])
    assert lines[1:3] == ["    claim: Cores are the cause", "    at 1m (- expected, + told):"]
    differences = [line.strip() for line in lines if re.match(r"      [-+] ", line)]
    pairs = dict(zip(differences[::2], differences[1::2], strict=True))
    assert pairs["- state: Healthy"] == "+ state: Unhealthy"
    assert pairs["- rootCauses: core"] == "+ rootCauses: etcd"
    assert pairs["- explained.core: redis"] == "+ explained.core: etcd"
    assert pairs["- impact.execute: Works"] == "+ impact.execute: Fails"
    assert pairs["- conditions.EtcdHealthy: True"] == "+ conditions.EtcdHealthy: False"
    assert pairs["- suspects: redis"] == "+ suspects: nothing"
    assert pairs["- nextQuestion: … why? …"] == "+ nextQuestion: nothing"
    assert pairs["- told: … nobody says that …"] == "+ told: none of the lines below"
    assert [key.split(":")[0] for key in pairs] == [
        *("- state", "- rootCauses", "- explained.core", "- suspects", "- nextQuestion"),
        *("- impact.execute", "- impact.triggers.because", "- conditions.EtcdHealthy", "- nextSteps.etcd", "- told"),
    ]
    assert any("Cause: etcd (QuorumLost) since 1970-01-01T00:00:34Z" in line for line in lines)
    assert any("it explains that these fail: core" in line for line in lines)
    assert lines[-1] == "2 cases, 1 failed"
    assert all(len(line) <= 120 for line in lines[1:] if line.strip() not in differences)


@pytest.mark.parametrize(
    ("fields", "told"),
    [
        ({"never": {"rootCauses": ["redis"]}}, "never.rootCauses: redis"),
        ({"blamed": ["etcd"]}, "blamed: etcd, redis"),
        ({"blamed": ["etcd", "redis", "core"]}, "blamed: etcd, redis"),
    ],
)
def test_what_is_told_for_a_moment_only_is_seen(fields: dict[str, Any], told: str, tmp_path: Path, capsys: Capture):
    steps = [step("30s", redis="Timeout"), step("40s", redis="Healthy"), step("50s", etcd="Timeout")]
    assert (
        code_of(tmp_path, document(case("one", *steps, expect=[{"at": "2m", "rootCauses": ["etcd"]}], **fields))) == 1
    )
    assert f"+ {told}\n" in capsys.readouterr().out


def test_thresholds_and_waiting_are_those_of_the_operator(tmp_path: Path):
    expect = [
        {"at": "30s", "state": "Healthy", "rootCauses": []},
        {"at": "32s", "state": "Healthy"},
        {"at": "34s", "state": "Unhealthy", "rootCauses": ["etcd"]},
        {"at": "41s", "rootCauses": ["etcd"]},
        {"at": "43s", "rootCauses": [], "state": "Healthy"},
    ]
    steps = [step("30s", etcd="Timeout"), step("41s", etcd="Healthy")]
    holds(tmp_path, document(case("one", *steps, expect=expect)))


def test_what_is_asked_for_makes_its_attempt_at_once(tmp_path: Path):
    """Blame waits for etcd, whose next attempt by its interval would be at 31 s."""
    steps = [step("1s", etcd="Healthy"), step("10s", core="NoCoreInstances")]
    expect = [{"at": "9s", "state": "Healthy"}, {"at": "20s", "rootCauses": ["core"], "unexplained": []}]
    holds(tmp_path, document(case("one", *steps, expect=expect)))


def test_the_resource_of_the_files_has_its_own_thresholds(tmp_path: Path):
    mine = health(tcp("etcd", failureThreshold=1), tcp("core"), tcp("calm", component="redis", suspend=True))
    expect = [{"at": "30s", "rootCauses": ["etcd"], "conditions": {"CoreHealthy": "True", "RedisHealthy": "Unknown"}}]
    one = case("one", step("30s", etcd="Timeout", calm="Timeout"), expect=expect)
    holds(tmp_path, mine, document(one, backendHealth="mine"))


def test_parts_are_answered_by_their_probe(tmp_path: Path):
    placeos = {"url": "http://api:3000", "apiKeySecretRef": {"name": "x", "key": "k"}}
    mine = health({"name": "front", "component": "api", "placeos": placeos}, tcp("redis"), serviceAccountName="sa")
    cases = [
        case(
            "by part",
            step("30s", **{"symptom/login": "LoginFailed"}),
            expect=[open_ := {"at": "1m", "unexplained": ["symptom/login"]}],
        ),
        case("by name of the symptom", step("30s", login="LoginFailed"), expect=[open_]),
        case(
            "what can't be reached shows nothing",
            step("30s", api="ConnectionRefused"),
            expect=[{"at": "1m", "rootCauses": ["api"], "unexplained": [], "impact": {"login": "Degraded"}}],
        ),
    ]
    holds(tmp_path, mine, document(*cases, backendHealth="mine"))


def test_silence_everywhere_is_our_own_network(tmp_path: Path):
    silent = {"reason": "Timeout", "contact": False}
    one = case("one", step("30s", etcd=silent, redis=silent), expect=[{"at": "2m", "state": "Unknown"}], blamed=[])
    holds(tmp_path, document(one))


def test_the_profile_may_be_in_the_files(capsys: Capture):
    assert main(["test", *EXAMPLES]) == 0
    assert capsys.readouterr().out == "2 cases, none failed\n"
    assert load(EXAMPLES).problems == []


def test_only_those_that_match(tmp_path: Path, capsys: Capture):
    assert code_of(tmp_path, document(case("first"), case("second")), arguments=("--run", "etcd/sec", "-v")) == 0
    assert capsys.readouterr().out == "ok   etcd/second\n1 case, none failed\n"


def test_junit(tmp_path: Path, capsys: Capture):
    bad = case("bad", claim="<no>", expect=[{"at": "1m", "rootCauses": ["core"]}])
    documents = (document(case("good"), bad), document(case("other"), name="more"))
    assert code_of(tmp_path, *documents, arguments=("-o", "junit")) == 1
    suites = ET.fromstring(capsys.readouterr().out)
    told = [(suite.get("name"), suite.get("tests"), suite.get("failures")) for suite in suites]
    assert told == [("default/etcd", "2", "1"), ("default/more", "1", "0")]
    good, failed = suites[0]
    assert (good.get("name"), list(good)) == ("good", [])
    assert failed.get("file") == str(tmp_path / "test.yaml")
    assert failed[0].get("message") == "not as expected: rootCauses"
    assert "+ rootCauses: etcd" in str(failed[0].text)


def test_standard_input():
    done = run("test", "-", stdin=yaml.safe_dump(document()))
    assert (done.returncode, done.stdout, done.stderr) == (0, "1 case, none failed\n", "")


BAD: dict[str, tuple[dict[str, Any], str, str]] = {
    "unknown field": (document(case(expected=[])), "spec.cases[0].expected", "unknown-field"),
    "no expectation": (document(case(expect=[])), "spec.cases[0].expect", "length"),
    "same name": (document(case(), case()), "spec.cases[1].name", "duplicate-name"),
    "not a duration": (document(case("a", step("30", etcd="Timeout"))), "spec.cases[0].steps[0].at", "duration"),
    "too late": (document(case(expect=[{"at": "25h"}])), "spec.cases[0].expect[0].at", "duration-range"),
    "status not in quotes": (
        document(case(expect=[{"at": "1m", "conditions": {"EtcdHealthy": False}}])),
        "spec.cases[0].expect[0].conditions.EtcdHealthy",
        "type",
    ),
    "no such effect": (
        document(case(expect=[{"at": "1m", "impact": {"execute": "Broken"}}])),
        "spec.cases[0].expect[0].impact.execute.effect",
        "enum",
    ),
    "no such built-in profile": (
        document(profileRef={"builtIn": "placeos"}),
        "spec.profileRef.builtIn",
        "unknown-profile",
    ),
    "no such profile": (document(profileRef={"name": "shop"}), "spec.profileRef.name", "unknown-profile"),
    "no such resource": (document(backendHealth="their"), "spec.backendHealth", "unknown-resource"),
    "no such reason": (
        document(case("a", step("30s", etcd="QuorumLots"))),
        "spec.cases[0].steps[0].see.etcd.reason",
        "unknown-reason",
    ),
    "no such reason of a subject": (
        document(case("a", step("30s", etcd={"reason": "QuorumLost", "subjects": {"member/a": "Dead"}}))),
        "spec.cases[0].steps[0].see.etcd.subjects.member/a.reason",
        "unknown-reason",
    ),
    "no such component": (
        document(case("a", step("30s", ecd="QuorumLost"))),
        "spec.cases[0].steps[0].see.ecd",
        "unknown-component",
    ),
    "a symptom and a component": (
        document(case("a", step("30s", **{"symptom/triggers": "Timeout"}))),
        "spec.backendHealth",
        "ambiguous-name",
    ),
    "no such part": (
        document(case("a", step("30s", **{"symptom/login": "Timeout"})), backendHealth="mine"),
        "spec.cases[0].steps[0].see.symptom/login",
        "unknown-component",
    ),
    "no such cause": (
        document(case(expect=[{"at": "1m", "rootCauses": ["etdc"]}])),
        "spec.cases[0].expect[0].rootCauses[0]",
        "unknown-name",
    ),
    "never, but misspelt": (
        document(case(never={"rootCauses": ["cores"]})),
        "spec.cases[0].never.rootCauses[0]",
        "unknown-name",
    ),
    "blamed, but misspelt": (document(case(blamed=["etd"])), "spec.cases[0].blamed[0]", "unknown-name"),
    "no such feature": (
        document(case(expect=[{"at": "1m", "impact": {"excute": "Fails"}}])),
        "spec.cases[0].expect[0].impact.excute",
        "unknown-name",
    ),
    "no such condition": (
        document(case(expect=[{"at": "1m", "conditions": {"RedisHealthy": "True"}}])),
        "spec.cases[0].expect[0].conditions.RedisHealthy",
        "unknown-name",
    ),
    "explained by nobody": (
        document(case(expect=[{"at": "1m", "explained": {"core": ["edct"]}}])),
        "spec.cases[0].expect[0].explained.core[0]",
        "unknown-name",
    ),
    "no such version": (document() | {"apiVersion": "backendhealth.dev/v1"}, "apiVersion", "unknown-kind"),
    "no such kind": (document() | {"kind": "DiagnosisTests"}, "kind", "unknown-kind"),
}


@pytest.mark.parametrize("which", BAD)
def test_what_is_wrong_is_told_with_its_place(which: str, tmp_path: Path, capsys: Capture):
    raw, path, rule = BAD[which]
    assert code_of(tmp_path, health(tcp("etcd"), tcp("core")), raw) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    found = re.findall(
        rf"^{re.escape(str(tmp_path))}/test\.yaml:\d+:\d+: (\S+): \[([-a-z]+)\]", captured.err, re.MULTILINE
    )
    assert found == [(path, rule)]


def test_what_was_meant_is_told(tmp_path: Path, capsys: Capture):
    assert code_of(tmp_path, document(case("a", step("30s", etcd="QuorumLots"), never={"rootCauses": ["cor"]}))) == 2
    told = capsys.readouterr().err
    assert 'did you mean "QuorumLost"?' in told
    assert 'did you mean "core"?' in told


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("--run", "("), "error: --run (: not a regular expression"),
        (("--run", "nothing"), "error: --run nothing: no case has such a name"),
    ],
)
def test_options_that_can_not_be_used(arguments: tuple[str, ...], said: str, tmp_path: Path, capsys: Capture):
    assert code_of(tmp_path, document(), arguments=arguments) == 2
    assert said in capsys.readouterr().err


def test_files_without_a_test(tmp_path: Path, capsys: Capture):
    assert code_of(tmp_path, health(tcp("etcd"))) == 2
    assert f"error: no DiagnosisTest and no RemediationPolicyTest in {tmp_path}" in capsys.readouterr().err


def test_a_case_without_measure_is_refused(tmp_path: Path, capsys: Capture, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(testbench, "MAX_ATTEMPTS", 1000)
    one = case("for a day", step("30s", etcd="Timeout"), expect=[{"at": "24h", "rootCauses": ["etcd"]}])
    assert code_of(tmp_path, document(case(), one)) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    told = rf"error: {re.escape(str(tmp_path))}/test\.yaml:\d+: etcd/for a day: more than 1,000 attempts: shorten .*\n"
    assert re.fullmatch(told, captured.err)


def test_the_order_of_steps_and_expectations_is_that_of_their_times(tmp_path: Path):
    steps = [step("1m", etcd="Healthy"), step("30s", etcd="Timeout")]
    expect = [{"at": "2m", "state": "Healthy"}, {"at": "50s", "rootCauses": ["etcd"]}]
    holds(tmp_path, document(case("one", *steps, expect=expect)))


def test_lint_reads_tests_as_well(tmp_path: Path, capsys: Capture):
    (tmp_path / "test.yaml").write_text(yaml.safe_dump(document(case(expected=[]))), encoding="utf-8")
    assert main(["lint", str(tmp_path)]) == 2
    assert "spec.cases[0].expected: [unknown-field]" in capsys.readouterr().out


def test_the_help_holds_an_example_that_runs(tmp_path: Path, capsys: Capture):
    with pytest.raises(SystemExit):
        main(["test", "--help"])
    text = capsys.readouterr().out
    example = text.partition("A file for it:\n")[2].partition("\n\n")[0]
    assert code_of(tmp_path, yaml.safe_load(example)) == 0


def test_the_page_about_it_names_every_field_and_its_example_runs(tmp_path: Path):
    page = (ROOT / "docs" / "how-to" / "test-a-profile.md").read_text(encoding="utf-8")
    models = (DiagnosisTestSpec, DiagnosisCase, Step, See, Expected, ExpectedEffect, Never)
    fields = {field.alias or name for model in models for name, field in model.model_fields.items()}
    assert [name for name in sorted(fields) if not re.search(rf"\b{name}\b", page)] == []
    assert code_of(tmp_path, yaml.safe_load(page.partition("```yaml\n")[2].partition("```")[0])) == 0
