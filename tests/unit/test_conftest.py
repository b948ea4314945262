"""A skipped test is a failure in CI, and says what is missing."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
ONE = "import pytest\ndef test_it(): pytest.skip('no such tool')\n"
ALL = "import pytest\npytest.skip('no such tool', allow_module_level=True)\n"
MARKED = "import pytest\n@pytest.mark.skipif(True, reason='no such tool')\ndef test_it(): pass\n"


def _run(folder: Path, source: str, ci: str) -> subprocess.CompletedProcess[str]:
    (folder / "test_some.py").write_text(source)
    env = {**os.environ, "CI": ci, "PYTHONPATH": str(ROOT), "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"}
    argv = [sys.executable, "-m", "pytest", "-p", "tests.conftest", "-p", "no:cacheprovider", "-c", os.devnull, "."]
    return subprocess.run(argv, cwd=folder, env=env, capture_output=True, text=True, timeout=60, check=False)


@pytest.mark.parametrize("source", [ONE, ALL, MARKED])
def test_a_skip_fails_in_ci_and_names_its_reason(tmp_path: Path, source: str):
    done = _run(tmp_path, source, "true")
    assert done.returncode in (1, 2), done.stdout
    assert "nothing may be skipped" in done.stdout
    assert "no such tool" in done.stdout


@pytest.mark.parametrize("source", [ONE, ALL])
def test_a_skip_is_one_elsewhere(tmp_path: Path, source: str):
    done = _run(tmp_path, source, "")
    assert done.returncode in (0, 5), done.stdout
    assert "1 skipped" in done.stdout
