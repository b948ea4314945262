"""What is in the image that the Dockerfile makes."""

from __future__ import annotations

import json
import re
import tarfile
from pathlib import Path, PurePosixPath
from typing import Any

import pytest
from packaging.utils import canonicalize_name

from tests.cluster import product
from tests.shipping.test_image import PROJECT, pinned

BUILD_TOOLS = {"pip", "pip3", "uv", "hatchling", "gcc", "cc", "g++", "c++", "make", "ld", "as", "cargo", "rustc", "git"}
HOME = "opt/backendhealth"


class Image:
    """Configuration and files of an OCI archive."""

    def __init__(self, archive: Path) -> None:
        with tarfile.open(archive) as self._archive:
            (described,) = self._json("index.json")["manifests"]
            manifest = self._blob(described)
            self.config: dict[str, Any] = self._blob(manifest["config"])["config"]
            self.files: dict[str, tarfile.TarInfo] = {}
            for layer in manifest["layers"]:
                self._lay(layer)

    def _json(self, name: str) -> Any:
        found = self._archive.extractfile(name)
        assert found is not None
        return json.load(found)

    def _blob(self, described: dict[str, Any]) -> Any:
        return self._json(f"blobs/{described['digest'].replace(':', '/')}")

    def _lay(self, described: dict[str, Any]) -> None:
        blob = self._archive.extractfile(f"blobs/{described['digest'].replace(':', '/')}")
        with tarfile.open(fileobj=blob) as layer:
            for entry in layer:
                path = PurePosixPath(entry.name.removeprefix("./"))
                if path.name.startswith(".wh."):
                    self._remove(str(path.with_name(path.name.removeprefix(".wh."))))
                else:
                    self.files[str(path)] = entry

    def _remove(self, path: str) -> None:
        for name in [name for name in self.files if name == path or name.startswith(f"{path}/")]:
            del self.files[name]


@pytest.fixture(scope="module")
def image() -> Image:
    if lacking := product.missing():
        pytest.skip(lacking)
    return Image(product.archive())


@pytest.mark.timeout(600)  # builds it where it is not there yet
def test_it_starts_the_operator_as_nobody(image: Image):
    assert image.config["User"] == "65532:65532"
    assert image.config["Entrypoint"] == [f"/{HOME}/bin/backendhealth"]
    assert image.config["ExposedPorts"] == {"8080/tcp": {}}
    assert f"{HOME}/bin/backendhealth" in image.files


@pytest.mark.timeout(600)
def test_it_says_what_it_is(image: Image):
    labels = image.config["Labels"]
    assert labels["org.opencontainers.image.title"] == PROJECT["project"]["name"]
    assert labels["org.opencontainers.image.version"] == PROJECT["project"]["version"]


@pytest.mark.timeout(600)
def test_nothing_that_builds_or_installs_is_left(image: Image):
    tools = [name for name in image.files if "bin" in name.split("/") and PurePosixPath(name).name in BUILD_TOOLS]
    packages = [name for name in image.files if re.search(r"/(pip|setuptools|ensurepip|hatchling)/__init__\.py$", name)]
    assert (tools, packages) == ([], [])
    left = [name for name in image.files if name.startswith(("src/", "wheels/", "root/.cache"))]
    assert not left + [name for name in image.files if name.endswith(".whl")]


@pytest.mark.timeout(600)
def test_it_holds_what_is_locked_and_nothing_else(image: Image):
    found = [
        re.search(rf"^{HOME}/.*/site-packages/([^/]+)-([^-/]+)\.dist-info/METADATA$", name) for name in image.files
    ]
    installed: dict[str, str] = {canonicalize_name(one[1]): one[2] for one in found if one}
    assert installed.pop("backendhealth") == PROJECT["project"]["version"]
    locked = {name: version for name, (version, _) in pinned("requirements.lock").items()}
    assert installed.items() <= locked.items()
    # a marker may keep some from this Python
    assert len(installed) > 0.9 * len(locked)


@pytest.mark.timeout(600)
def test_what_it_runs_is_nobodys_to_change(image: Image):
    ours = {name: entry for name, entry in image.files.items() if name.startswith(HOME)}
    assert not [name for name, entry in ours.items() if entry.uid != 0]
    assert not [name for name, entry in ours.items() if not entry.issym() and entry.mode & 0o022]
