"""The examples hold, and so do the files that they say are to be saved elsewhere."""

from __future__ import annotations

import pytest
import yaml

from backendhealth.cli.main import main
from tests.cli.support import ROOT

EXAMPLES = ROOT / "examples"


def test_the_example_of_a_test_holds(capsys: pytest.CaptureFixture[str]):
    assert main(["test", str(EXAMPLES / "policy.yaml"), str(EXAMPLES / "policy-test.yaml")]) == 0
    assert capsys.readouterr().out == "5 cases, none failed\n"


@pytest.mark.parametrize("name", ["policy.yaml", "policy-test.yaml", "placeos-policy.yaml"])
def test_lint_finds_nothing(name: str):
    assert main(["lint", str(EXAMPLES / name)]) == 0


def test_hooks_and_workflow_call_verbs_that_there_are():
    hooks = {one["id"]: one["entry"].split() for one in yaml.safe_load((ROOT / ".pre-commit-hooks.yaml").read_text())}
    used = yaml.safe_load((EXAMPLES / "ci" / "pre-commit-config.yaml").read_text())["repos"][0]["hooks"]
    assert {one["id"] for one in used} == set(hooks)
    workflow = yaml.safe_load((EXAMPLES / "ci" / "github-actions.yaml").read_text())
    steps = workflow["jobs"]["rules"]["steps"]
    lines = [line for step in steps for line in step.get("run", "").splitlines() if "backendhealth " in line]
    verbs = [line.split("backendhealth ", 1)[1].split()[0] for line in lines]
    assert verbs == ["lint", "test", "simulate"]
    for verb in {*verbs, *(entry[1] for entry in hooks.values())}:
        with pytest.raises(SystemExit) as ended:
            main([verb, "--help"])
        assert ended.value.code == 0
