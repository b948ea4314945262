"""The Dockerfile and what it pins. That the image can be built and runs is for the tests on a cluster."""

from __future__ import annotations

import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from tests.shipping.support import ROOT

BIN = Path(sys.executable).parent
DOCKERFILE = (ROOT / "Dockerfile").read_text()
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())
LOCKS = {
    "requirements.lock": PROJECT["project"]["dependencies"],
    "requirements-build.lock": [*PROJECT["dependency-groups"]["build"], *PROJECT["build-system"]["requires"]],
}


def pinned(lock: str) -> dict[str, tuple[str, list[str]]]:
    """Version and hashes of each package."""
    entries = re.sub(r"\\\n\s*", "", (ROOT / lock).read_text()).splitlines()
    found = [
        re.match(r"(\S+)==([^\s;]+)(?: ; [^-]*?)?((?: *--hash=sha256:[0-9a-f]{64})*) *$", line) for line in entries
    ]
    assert all(found), [line for line, match in zip(entries, found, strict=True) if not match]
    return {canonicalize_name(one[1]): (one[2], one[3].split()) for one in found if one}


def test_hadolint_finds_nothing():
    done = subprocess.run([BIN / "hadolint", ROOT / "Dockerfile"], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (0, ""), done.stdout


def test_hadolint_would_find_something(tmp_path: Path):
    (tmp_path / "Dockerfile").write_text(f"{DOCKERFILE}RUN sudo true\n")
    done = subprocess.run([BIN / "hadolint", tmp_path / "Dockerfile"], capture_output=True, text=True, check=False)
    assert "DL3004" in done.stdout


@pytest.mark.parametrize("lock", LOCKS)
def test_a_lock_holds_what_the_project_asks_for(lock: str):
    packages = pinned(lock)
    for wanted in map(Requirement, LOCKS[lock]):
        version, _ = packages[canonicalize_name(wanted.name)]
        assert wanted.specifier.contains(version), f"{wanted}, locked {version}: run `make lock`"


@pytest.mark.parametrize("lock", LOCKS)
def test_everything_in_a_lock_has_hashes(lock: str):
    assert not [name for name, (_, hashes) in pinned(lock).items() if not hashes]


@pytest.mark.parametrize("lock", LOCKS)
def test_a_lock_names_no_place_to_get_it_from(lock: str):
    assert not re.search(r"https?:|--index|--find-links", (ROOT / lock).read_text())


def test_the_operator_runs_with_what_is_locked():
    """What the tests ran with has the same major versions, so that a lock left behind is noticed."""
    done = subprocess.run(
        [BIN / "python", "-m", "pip", "list", "--format=freeze"], capture_output=True, text=True, check=True
    )
    here = dict(line.split("==", 1) for line in done.stdout.splitlines() if "==" in line)
    installed = {canonicalize_name(name): version for name, version in here.items()}
    for wanted in map(Requirement, LOCKS["requirements.lock"]):
        name = canonicalize_name(wanted.name)
        assert pinned("requirements.lock")[name][0].split(".")[0] == installed[name].split(".")[0], name


def test_the_image_runs_as_nobody_and_says_what_it_is():
    assert re.search(r"^ARG BASE=docker\.io/library/python:3\.13-slim$", DOCKERFILE, re.MULTILINE)
    last = DOCKERFILE.rpartition("\nFROM ")[2]
    assert re.search(r"^USER 65532:65532$", last, re.MULTILINE)
    version = PROJECT["project"]["version"]
    assert f"ARG VERSION={version}\n" in last
    for label in ("title", "description", "version", "revision"):
        assert f"org.opencontainers.image.{label}=" in last
    assert " pip " not in last.replace("pip*", "")


def test_only_what_the_image_needs_is_sent_to_the_builder():
    kept = {line[1:] for line in (ROOT / ".dockerignore").read_text().splitlines() if line.startswith("!")}
    copied = set(" ".join(re.findall(r"^COPY (?!--from)(.+) /src/", DOCKERFILE, re.MULTILINE)).split())
    assert kept == copied
