"""Turns each detection of each reason off, in turn, and runs that reason's tests: one of them must fail.

`python -m tests.mutation [REASON…] [--jobs N] [--list]`; exit code 1 when a mutant survives.
The tests of a reason are those that tests/reasons/*.yaml names; `redis.yaml` is for mutants of probes/redis*.py and so
on, `pods.yaml` for those of any pod*.py, `profiles.yaml` for profile*.py, `common.yaml` for all others.
"""

from __future__ import annotations

import argparse
import os
import shutil
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import yaml

from backendhealth.core.reasons import Reason
from tests.mutation.mutants import PACKAGE, Mutant, mutants

ROOT = PACKAGE.parents[1]
REASONS = ROOT / "tests" / "reasons"
TEST_TIMEOUT = 300
_FAMILIES = ("pods", "profiles")
"""What is detected in several rooms: `pods.yaml` is for mutants of any pod*.py, and so on."""


def tests_for(mutant: Mutant) -> list[str]:
    """The tests that should notice the mutant."""
    name = Path(mutant.file).stem.partition("_")[0]
    name = next((family for family in _FAMILIES if name.startswith(family.removesuffix("s"))), name)
    own = REASONS / f"{name}.yaml"
    is_own = (mutant.file.startswith("probes/") or name in _FAMILIES) and own.exists()
    source = own if is_own else REASONS / "common.yaml"
    table: dict[str, list[str]] = yaml.safe_load(source.read_text()) if source.exists() else {}
    return table.get(Reason[mutant.reason].value, [])


def killed(mutant: Mutant) -> tuple[bool, str]:
    """Whether one of the mutant's tests fails, and the tail of the output otherwise."""
    tests = tests_for(mutant)
    if not tests:
        return False, "no test is named for it"
    with tempfile.TemporaryDirectory() as folder:
        overlay = Path(folder) / "operator"
        shutil.copytree(PACKAGE.parent, overlay, ignore=shutil.ignore_patterns("__pycache__"))
        (overlay / "backendhealth" / mutant.file).write_text(mutant.source)
        command = [
            sys.executable,
            "-m",
            "pytest",
            "-x",
            "-q",
            "-p",
            "no:cacheprovider",
            "-o",
            f"pythonpath={overlay} .",
        ]
        env = {**os.environ, "PYTHONPATH": str(overlay), "PYTHONDONTWRITEBYTECODE": "1"}
        try:
            done = subprocess.run(
                [*command, *tests], cwd=ROOT, env=env, capture_output=True, text=True, timeout=TEST_TIMEOUT, check=False
            )
        except subprocess.TimeoutExpired:
            return True, "timed out"
    # 1: a test failed. Anything else but 0 means that the run itself went wrong, which proves nothing
    return done.returncode == 1, done.stdout[-1500:]


def main() -> int:
    """Run; the exit code."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("reasons", nargs="*", help="only these reasons, CamelCase")
    parser.add_argument("--jobs", type=int, default=2)
    parser.add_argument("--list", action="store_true", help="list the mutants and stop")
    options = parser.parse_args()
    chosen = [one for one in mutants() if not options.reasons or Reason[one.reason].value in options.reasons]
    if options.list:
        for one in chosen:
            print(f"{Reason[one.reason].value}\t{one.file}:{one.line}\t{one.how}\t{len(tests_for(one))} tests")
        return 0
    began, survived = time.monotonic(), 0
    with ThreadPoolExecutor(options.jobs) as pool:
        for number, (one, (dead, told)) in enumerate(zip(chosen, pool.map(killed, chosen), strict=True), 1):
            name = f"{Reason[one.reason].value} at {one.file}:{one.line} ({one.how})"
            print(f"[{number}/{len(chosen)}] {'killed' if dead else 'SURVIVED'}  {name}", flush=True)
            if not dead:
                survived += 1
                print("    " + told.replace("\n", "\n    "), flush=True)
    print(f"{len(chosen) - survived} of {len(chosen)} mutants killed in {time.monotonic() - began:.0f} s")
    return 1 if survived else 0


if __name__ == "__main__":
    sys.exit(main())
