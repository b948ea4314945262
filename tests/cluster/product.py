"""The product's own image, built by the repository's Dockerfile on a base made of Debian packages: no image registry.

Both are kept in the cache directory, keyed by what went into them.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from tests.cluster.images import write_archive
from tests.servers.process import ServerFailed, cache_dir, find_binary

NAME = "localhost/backendhealth:e2e"
_ROOT = Path(__file__).parents[2]
_PACKAGES = "python3,python3-venv,ca-certificates"
_NEEDLESS = ("usr/share/doc", "usr/share/man", "usr/share/locale", "usr/share/info", "var/cache/apt", "var/lib/apt")
_PIP_SETTINGS = {"index-url", "extra-index-url", "cert", "trusted-host", "proxy", "timeout"}
_LAYOUT = 2  # one more when the same packages make another base
_MAX_STORAGE = 4 << 30  # bytes
_CERTIFICATES = Path("/etc/ssl/certs/ca-certificates.crt")

Say = Callable[[str], None]


def missing() -> str:
    """What keeps this machine from building the image, in one line; empty when nothing does."""
    if os.geteuid() != 0:
        return "building an image needs root"
    if shutil.which("buildah") is None:
        return "buildah is not installed"
    if os.environ.get("BACKENDHEALTH_E2E_BASE"):
        return ""
    if _release().get("ID") != "debian":
        return "not Debian: name a base image with Python 3.11 or newer in BACKENDHEALTH_E2E_BASE"
    return "" if shutil.which("debootstrap") else "debootstrap is not installed"


def archive(say: Say = lambda _: None) -> Path:
    """The image as an OCI archive that is called NAME inside; built when anything it is made of has changed.

    On BACKENDHEALTH_E2E_BASE where that names an image, else on a base from the machine's own Debian mirror. Raises
    ServerFailed when debootstrap or buildah fails; ask `missing` first.
    """
    base = os.environ.get("BACKENDHEALTH_E2E_BASE") or f"oci-archive:{_base(say)}"
    digest = hashlib.sha256(base.encode())
    for path in _context():
        digest.update(f"{path.relative_to(_ROOT)}\n".encode() + path.read_bytes())
    target = _folder() / f"product-{digest.hexdigest()[:16]}.tar"
    with _alone("product"):
        if not target.exists():
            say("building the product's image …")
            for old in _folder().glob("product-*.tar"):
                old.unlink()
            build(base, NAME, target)
    return target


def build(base: str, name: str, target: Path, *options: str) -> None:
    """Build the repository's Dockerfile on the image `base` into the OCI archive `target`, which holds `name`.

    `options` go to `buildah build`. Raises ServerFailed with what was printed.
    """
    buildah = find_binary("buildah", env="BUILDAH", remedy="apt-get install buildah")
    folder = tempfile.TemporaryDirectory(prefix="bh-build-", dir=_folder())
    with _alone("storage"), _whole_storage(), folder as work:
        storage = _storage(buildah)
        arguments = [f"--build-arg=BASE={base}", *_network(Path(work)), *options, f"--tag={name}", str(_ROOT)]
        _run([*storage, "build", "--layers", "--isolation=chroot", "--format=oci", *arguments], "the image's build")
        _run(
            [*storage, "push", "--quiet", name, f"oci-archive:{work}/image.tar:{name}"],
            "buildah push",
        )
        Path(work, "image.tar").rename(target)


@contextlib.contextmanager
def _whole_storage() -> Iterator[None]:
    """What a build that was killed has left half done is thrown away: every later one would stumble over it."""
    begun = _folder() / "storage-begun"
    if begun.exists():
        shutil.rmtree(_folder() / "storage", ignore_errors=True)
    begun.touch()
    try:
        yield
    finally:
        begun.unlink()


def _storage(buildah: str) -> list[str]:
    """buildah on a storage of its own, where steps that have not changed are kept, within limits.

    In a mount namespace: a build that is killed leaves nothing mounted.
    """
    root = _folder() / "storage"
    if root.exists() and sum(file.lstat().st_size for file in root.rglob("*")) > _MAX_STORAGE:
        shutil.rmtree(root)
    own = ["unshare", "--mount", buildah, "--root", str(root), "--runroot", f"{root}-run", "--storage-driver"]
    overlay = subprocess.run([*own, "overlay", "info"], capture_output=True, check=False)
    return [*own, "vfs" if overlay.returncode else "overlay"]  # vfs works everywhere, and copies everything each time


def _context() -> Iterator[Path]:
    """What the Dockerfile may copy, itself included: .dockerignore excludes all, then names what is let in."""
    first, *others = (_ROOT / ".dockerignore").read_text().split()
    if first != "*":
        raise ServerFailed(".dockerignore must exclude everything first")
    named = ["Dockerfile", ".dockerignore", *(line[1:] for line in others if line.startswith("!"))]
    for path in map(_ROOT.joinpath, named):
        inside = sorted(path.rglob("*")) if path.is_dir() else [path]
        yield from (file for file in inside if file.is_file() and file.suffix != ".pyc")


def _network(work: Path) -> list[str]:
    """Let pip inside the build use the package index that pip uses here, and trust what this machine trusts."""
    told = subprocess.run(
        [find_binary("python3", env="PYTHON", remedy="install Python"), "-m", "pip", "config", "list"],
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )
    settings = dict(re.findall(r"^(?:global|:env:)\.([a-z-]+)='(.*)'$", told.stdout, re.MULTILINE))
    lines = [f"{name} = {value}" for name, value in settings.items() if name in _PIP_SETTINGS]
    (work / "pip.conf").write_text("\n".join(["[global]", *lines, ""]))
    mounted = {work / "pip.conf": Path("/etc/pip.conf"), _CERTIFICATES: _CERTIFICATES}
    if "cert" in settings:
        mounted[Path(settings["cert"])] = Path(settings["cert"])
    return [f"--volume={source}:{target}:ro" for source, target in mounted.items() if source.exists()]


def _base(say: Say) -> Path:
    """A small Debian with Python, as an OCI archive."""
    mirror, suite = _mirror()
    target = _folder() / f"base-{suite}-{_recipe()}.tar"
    with _alone("base"):
        if not target.exists():
            say(f"making a base image of Debian packages ({suite}), about a minute, once …")
            _bootstrap(mirror, suite, target)
    return target


def _recipe() -> str:
    """Changes with what a base is made of."""
    return hashlib.sha256(repr((_LAYOUT, _PACKAGES, _NEEDLESS)).encode()).hexdigest()[:8]


def _bootstrap(mirror: str, suite: str, target: Path) -> None:
    debootstrap = find_binary("debootstrap", env="DEBOOTSTRAP", remedy="apt-get install debootstrap")
    with tempfile.TemporaryDirectory(prefix="bh-base-", dir=_folder()) as work:
        root, layer = Path(work, "root"), Path(work, "layer.tar")
        _run([debootstrap, "--variant=minbase", f"--include={_PACKAGES}", suite, str(root), mirror], "debootstrap")
        for path in _NEEDLESS:
            shutil.rmtree(root / path, ignore_errors=True)
        _run(["tar", "--create", "--one-file-system", f"--directory={root}", f"--file={layer}", "."], "tar")
        config = {"Env": ["PATH=/usr/local/bin:/usr/bin:/bin:/usr/sbin:/sbin"], "Cmd": ["/usr/bin/python3"]}
        write_archive("localhost/base:1", layer, config, Path(work, "base.tar")).rename(target)


def _mirror() -> tuple[str, str]:
    """URL and suite of the Debian archive that this machine installs from."""
    suite = _release()["VERSION_CODENAME"]
    template = ["--format", "$(REPO_URI) $(RELEASE)", "Created-By: Packages"]
    listed = subprocess.run(["apt-get", "indextargets", *template], capture_output=True, text=True, check=True)
    for line in listed.stdout.splitlines():
        uri, _, name = line.partition(" ")
        if name == suite and "debian" in uri:
            return uri, suite
    raise ServerFailed(f"apt knows no mirror of Debian {suite}")


def _release() -> dict[str, str]:
    text = Path("/etc/os-release").read_text()
    return dict(re.findall(r"^(\w+)=\"?([^\"\n]*)", text, re.MULTILINE))


def _folder() -> Path:
    folder = cache_dir() / "images"
    folder.mkdir(parents=True, exist_ok=True)
    return folder


@contextlib.contextmanager
def _alone(name: str) -> Iterator[None]:
    with (_folder() / f"{name}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def _run(argv: Sequence[str], what: str) -> None:
    done = subprocess.run(argv, capture_output=True, text=True, stdin=subprocess.DEVNULL, check=False)
    if done.returncode != 0:
        raise ServerFailed(f"{what} failed:\n{(done.stdout + done.stderr)[-4000:]}")


def main() -> int:
    """`python -m tests.cluster.product`: 0 when the image is there, 1 with the reason when it could not be built."""
    if absent := missing():
        print(f"{absent}: the tests on the product's image will be skipped")
        return 0
    try:
        print(f"the product's image is {archive(lambda line: print(line, flush=True))}")
    except ServerFailed as error:
        print(error, file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
