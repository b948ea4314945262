"""Builds a real Kubernetes out of its Go modules, once per version of the files in go/, into the cache directory.

One binary holds all parts and chooses by the name it is called by: linked one by one they take three times the space.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

from tests.servers.process import ServerFailed, cache_dir

SOURCES = Path(__file__).parent / "go"
PROGRAMS = (
    "etcd",
    "kube-apiserver",
    "kube-controller-manager",
    "kube-scheduler",
    "kube-proxy",
    "kubelet",
    "kubectl",
    "kwok",
)
_MULTICALL = "kube-all"
_MEMORY = Path("/dev/shm")
_MEMORY_NEEDED = 12 << 30  # bytes: the compiler's cache and temporary files of a cold build

Say = Callable[[str], None]


def version() -> str:
    """The version of Kubernetes that go.mod pins, without its v."""
    found = re.search(r"k8s\.io/kubernetes v(\S+)", (SOURCES / "kube" / "go.mod").read_text())
    assert found is not None
    return found[1]


def home() -> Path:
    """Where the binaries of these sources live, whether or not they are built."""
    digest = hashlib.sha256()
    for path in sorted(SOURCES.rglob("*")):
        if path.suffix in {".go", ".mod", ".sum"}:
            digest.update(f"{path.relative_to(SOURCES)}\n".encode() + path.read_bytes())
    return cache_dir() / f"kubernetes-{version()}-{digest.hexdigest()[:12]}"


def is_built() -> bool:
    """Whether `binaries` would answer at once."""
    return (home() / "complete").exists()


def missing() -> str:
    """What keeps this machine from building or having the binaries, in one line; empty when nothing does."""
    if sys.platform != "linux":
        return "a real Kubernetes needs Linux"
    return "" if is_built() or shutil.which("go") else "Go is not installed: Kubernetes is built from its modules"


def binaries(say: Say = lambda line: print(line, file=sys.stderr, flush=True)) -> Path:
    """The folder with kube-all, a link to it for each of PROGRAMS, and coredns; built first if need be.

    Safe under concurrent calls. Raises ServerFailed when Go is missing or the build fails.
    """
    root = home()
    if is_built():
        return root
    if absent := missing():
        raise ServerFailed(absent)
    root.parent.mkdir(parents=True, exist_ok=True)
    with root.with_name(f"{root.name}.lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            say("waiting for another build of Kubernetes to finish")
            fcntl.flock(lock, fcntl.LOCK_EX)
        if not is_built():
            say(f"building Kubernetes v{version()} from its Go modules: 7 to 17 minutes, once …")
            _build(root)
            say(f"Kubernetes v{version()} is in {root}")
    return root


def _build(root: Path) -> None:
    shutil.rmtree(root, ignore_errors=True)
    root.mkdir()
    scratch = _scratch(root)
    scratch.mkdir()
    try:
        _go_build(SOURCES / "kube", root / _MULTICALL, _stamp(), scratch)
        _go_build(SOURCES / "coredns", root / "coredns", "", scratch)
    finally:
        shutil.rmtree(scratch, ignore_errors=True)
    for program in PROGRAMS:
        (root / program).symlink_to(_MULTICALL)
    (root / "complete").touch()


def _scratch(root: Path) -> Path:
    """Where the compiler works: in memory where there is enough of it, which saves minutes; else beside the result."""
    if _MEMORY.is_dir() and shutil.disk_usage(_MEMORY).free > _MEMORY_NEEDED:
        return _MEMORY / f"bh-go-{os.getpid()}"
    return root / "work"


def _stamp() -> str:
    """Linker flags that set the version: without one the parts refuse to work with each other."""
    minor = version().split(".")[1]
    facts = {
        "gitVersion": f"v{version()}",
        "gitMajor": "1",
        "gitMinor": minor,
        "gitTreeState": "clean",
        "gitCommit": "0" * 40,
        "buildDate": "1970-01-01T00:00:00Z",
    }
    packages = ("k8s.io/component-base/version", "k8s.io/client-go/pkg/version")
    return " ".join(f"-X {package}.{name}={value}" for package in packages for name, value in facts.items())


def _go_build(source: Path, target: Path, stamp: str, scratch: Path) -> None:
    directories = {"GOTMPDIR": scratch / "tmp", "GOCACHE": scratch / "cache"}
    for directory in directories.values():
        directory.mkdir(exist_ok=True)
    done = subprocess.run(
        ["go", "build", "-trimpath", "-ldflags", f"-s -w {stamp}", "-o", str(target), "."],
        cwd=source,
        env={**os.environ, "CGO_ENABLED": "0"} | {name: str(path) for name, path in directories.items()},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode != 0:
        raise ServerFailed(f"go build of {source.name} failed:\n{(done.stdout + done.stderr)[-4000:]}")


def main() -> int:
    """0 when the binaries are there, 1 with the reason when they could not be built; `--check` builds nothing."""
    if "--check" in sys.argv[1:]:
        return 0 if is_built() else 1
    try:
        print(f"Kubernetes v{version()} is in {binaries()}" if is_built() else binaries())
    except ServerFailed as error:
        print(error, file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
