"""The repository itself: linted, typed, generated files fresh, manifests without a hole."""

from __future__ import annotations

import ast
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from backendhealth.cli.load import load
from backendhealth.core.reasons import REASONS, Reason

ROOT = Path(__file__).parents[1]
BIN = Path(sys.executable).parent
# made by the engine or by the user's own wish: no detection that could be turned off
NOT_DETECTED = {Reason.PROBE_SUCCEEDED, Reason.PENDING, Reason.SUSPENDED, Reason.INVALID_SPEC}


def tracked(*endings: str) -> list[Path]:
    """Files that git tracks or would track, with one of the endings."""
    listed = subprocess.run(
        ["git", "ls-files", "--cached", "--others", "--exclude-standard"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    )
    return [ROOT / name for name in listed.stdout.splitlines() if name.endswith(endings) and (ROOT / name).is_file()]


def runs(*command: str | Path, timeout: float = 300) -> None:
    done = subprocess.run(
        [str(part) for part in command], cwd=ROOT, capture_output=True, text=True, timeout=timeout, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize(
    "command",
    [("ruff", "check", "."), ("ruff", "format", "--check", "."), ("mypy",), ("lint-imports",)],
    ids=" ".join,
)
@pytest.mark.timeout(300)
def test_lint(command: tuple[str, ...]):
    runs(BIN / command[0], *command[1:])


def test_generated_files_are_fresh():
    runs(sys.executable, "hack/generate.py", "--check")


@pytest.mark.timeout(90)
def test_the_demo_sees_every_fault():
    done = subprocess.run(
        [sys.executable, "examples/demo/demo.py", "--unattended"],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "every change was seen" in done.stdout


def test_the_examples_are_good():
    loaded = load([str(ROOT / "examples")])
    assert loaded.resources
    assert loaded.problems == []


def functions_of(path: Path) -> set[str]:
    tree = ast.walk(ast.parse(path.read_text()))
    return {node.name for node in tree if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)}


def exists(test: str) -> bool:
    """Whether a test id `path::function[parameters]`, or a path alone, names what is there."""
    path, _, function = test.partition("::")
    if not (ROOT / path).is_file():
        return False
    return not function or function.partition("[")[0] in functions_of(ROOT / path)


def test_every_row_of_the_client_tables_has_its_tests():
    required: dict[str, dict[str, int]] = yaml.safe_load((ROOT / "tests/rows/required.yaml").read_text())
    for backend, rows in required.items():
        have = yaml.safe_load((ROOT / f"tests/rows/{backend}.yaml").read_text())
        assert [row["test"] for row in have if not exists(row["test"])] == []
        tests = {name: {row["test"] for row in have if row["row"] == name} for name in rows}
        assert {name: len(tests[name]) for name, count in rows.items() if len(tests[name]) < count} == {}, backend


def test_every_reason_has_a_test_that_its_mutation_must_fail():
    named: set[str] = set()
    for path in sorted((ROOT / "tests/reasons").glob("*.yaml")):
        table: dict[str, list[str]] = yaml.safe_load(path.read_text())
        assert {test for tests in table.values() for test in tests if not exists(test)} == set(), path.name
        named |= {reason for reason, tests in table.items() if tests}
    assert {reason.value for reason in REASONS if reason not in NOT_DETECTED} - named == set()
    assert named <= {reason.value for reason in REASONS}


def test_every_reason_has_its_row():
    assert set(REASONS) == set(Reason)
    for reason, info in REASONS.items():
        assert all(text.strip() for text in (info.given_by, info.meaning, info.found_by, info.look_at)), reason


def test_links_in_the_docs_lead_somewhere():
    broken = [
        f"{path.relative_to(ROOT)}: {target}"
        for path in tracked(".md")
        for target in re.findall(r"\]\(([^)#:\s]+)(?:#[^)]*)?\)", path.read_text())
        if not (path.parent / target).exists()
    ]
    assert broken == []


def test_nothing_sits_where_it_would_shadow_the_standard_library():
    assert [path.name for path in (ROOT / "operator").iterdir() if path.name != "__pycache__"] == ["backendhealth"]


def test_files_stay_readable():
    """A table may be long; code is split."""
    most = {"operator": 330, "tests": 450}
    lines = {
        path.relative_to(ROOT): path.read_text().count("\n") for path in tracked(".py") if path.name != "reasons.py"
    }
    assert {str(path): count for path, count in lines.items() if count > most.get(path.parts[0], 330)} == {}


@pytest.mark.long
@pytest.mark.timeout(3600)
def test_every_detection_that_is_turned_off_is_noticed():
    runs(sys.executable, "-m", "tests.mutation", timeout=3500)
