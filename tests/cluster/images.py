"""Small container images made of this machine's own programs, without any registry: OCI archives written by hand."""

from __future__ import annotations

import hashlib
import io
import json
import os
import re
import shutil
import subprocess
import tarfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tests.servers.etcd import etcd_binary
from tests.servers.process import ServerFailed
from tests.servers.redis import binary as redis_binary

PAUSE, BUSYBOX, REDIS, ETCD = "localhost/pause:1", "localhost/busybox:1", "localhost/redis:1", "localhost/etcd:1"
_APPLETS = (
    "awk", "cat", "date", "echo", "env", "false", "grep", "head", "hostname", "httpd", "id", "ip", "kill", "ls",
    "mkdir", "nc", "nslookup", "ps", "rm", "sed", "sh", "sleep", "tail", "test", "timeout", "touch", "true", "wget",
)  # fmt: skip
_OCI = "application/vnd.oci.image"


@dataclass(frozen=True, slots=True)
class Image:
    """What one image holds: files by their path inside, links, and the command."""

    name: str
    command: Sequence[str]
    files: Mapping[str, Path]
    links: Mapping[str, str] = field(default_factory=dict)
    entrypoint: Sequence[str] = ()


def busybox() -> Image:
    """A shell and the usual small tools, one program."""
    return _image(BUSYBOX, {}, command=["/bin/sh"])


def pause() -> Image:
    """What holds a pod's namespaces."""
    return _image(PAUSE, {}, command=["/bin/sleep", "infinity"])


def redis() -> Image:
    """redis-server, open to all; arguments of the container are added to its own."""
    programs = {"redis-server": Path(redis_binary()).resolve()}
    if client := shutil.which("redis-cli"):
        programs["redis-cli"] = Path(client).resolve()
    serve = ["/bin/redis-server", "--bind", "0.0.0.0", "--protected-mode", "no", "--save", ""]
    return _image(REDIS, programs, entrypoint=serve)


def etcd() -> Image:
    """One etcd member; arguments of the container are added to its own."""
    urls = ["--listen-client-urls=http://0.0.0.0:2379", "--advertise-client-urls=http://0.0.0.0:2379"]
    serve = ["/bin/etcd", "--data-dir=/tmp/etcd", "--unsafe-no-fsync", *urls]
    return _image(ETCD, {"etcd": Path(etcd_binary())}, entrypoint=serve)


RECIPES: Mapping[str, Callable[[], Image]] = {PAUSE: pause, BUSYBOX: busybox, REDIS: redis, ETCD: etcd}


def file_name(image: str) -> str:
    """`redis-1.tar` of `localhost/redis:1`."""
    return f"{image.rpartition('/')[2].replace(':', '-')}.tar"


def write(image: Image, target: Path) -> Path:
    """Write the image as an OCI archive."""
    layer = target.with_suffix(".layer")
    with tarfile.open(layer, "w") as archive:
        for name, mode in (("tmp", 0o1777), ("etc", 0o755), ("bin", 0o755)):
            folder = tarfile.TarInfo(name)
            folder.type, folder.mode = tarfile.DIRTYPE, mode
            archive.addfile(folder)
        for name, source in sorted(image.files.items()):
            _add(archive, name, source.read_bytes())
        for name, aim in sorted(image.links.items()):
            link = tarfile.TarInfo(name)
            link.type, link.linkname = tarfile.SYMTYPE, aim
            archive.addfile(link)
    config = {"Entrypoint": list(image.entrypoint), "Cmd": list(image.command), "Env": ["PATH=/bin"]}
    return write_archive(image.name, layer, config, target)


def write_archive(name: str, layer: Path, config: Mapping[str, Any], target: Path) -> Path:
    """Write an OCI archive of one layer, an uncompressed tar that is deleted."""
    blobs: dict[str, bytes] = {}

    def blob(content: Any, media_type: str) -> dict[str, Any]:
        data = json.dumps(content, sort_keys=True).encode()
        digest = hashlib.sha256(data).hexdigest()
        blobs[f"blobs/sha256/{digest}"] = data
        return {"digest": f"sha256:{digest}", "size": len(data), "mediaType": f"{_OCI}.{media_type}"}

    with layer.open("rb") as content:
        digest = hashlib.file_digest(content, "sha256").hexdigest()
    rootfs = {"type": "layers", "diff_ids": [f"sha256:{digest}"]}
    described = {"digest": f"sha256:{digest}", "size": layer.stat().st_size, "mediaType": f"{_OCI}.layer.v1.tar"}
    whole = {
        "architecture": _architecture(),
        "os": "linux",
        "config": config,
        "rootfs": rootfs,
        "history": [{"created_by": "tests/cluster"}],  # buildah wants one entry for each layer
    }
    parts = {"config": blob(whole, "config.v1+json"), "layers": [described]}
    manifest = blob({"schemaVersion": 2, "mediaType": f"{_OCI}.manifest.v1+json", **parts}, "manifest.v1+json")
    manifest["annotations"] = {"io.containerd.image.name": name, "org.opencontainers.image.ref.name": name}
    with tarfile.open(target, "w") as archive:
        _add(archive, "oci-layout", b'{"imageLayoutVersion":"1.0.0"}')
        _add(archive, "index.json", json.dumps({"schemaVersion": 2, "manifests": [manifest]}).encode())
        for path, data in blobs.items():
            _add(archive, path, data)
        archive.add(layer, f"blobs/sha256/{digest}")
    layer.unlink()
    return target


def _add(archive: tarfile.TarFile, name: str, content: bytes) -> None:
    entry = tarfile.TarInfo(name)
    entry.mode, entry.size = 0o755, len(content)
    archive.addfile(entry, io.BytesIO(content))


def _image(
    name: str, programs: Mapping[str, Path], *, command: Sequence[str] = (), entrypoint: Sequence[str] = ()
) -> Image:
    """Programs with their libraries, beside busybox: an exec into any of these finds `sh` and `kill`."""
    files = {"bin/busybox": _busybox()} | {f"bin/{program}": path for program, path in programs.items()}
    links = {f"bin/{applet}": "busybox" for applet in _APPLETS}
    return Image(name, command, {**files, **_libraries(*files.values())}, links, entrypoint)


def _libraries(*programs: Path) -> dict[str, Path]:
    """The shared libraries that they need, at the paths where their loader looks for them."""
    found: dict[str, Path] = {}
    for program in programs:
        listed = subprocess.run(["ldd", str(program)], capture_output=True, text=True, timeout=20, check=False)
        for path in re.findall(r"(?:=> )?(/\S+) \(0x", listed.stdout):
            found[path.lstrip("/")] = Path(path).resolve()
    return found


def _busybox() -> Path:
    path = shutil.which("busybox")
    if path is None:
        raise ServerFailed("busybox is not installed: apt-get install busybox-static")
    return Path(path)


def _architecture() -> str:
    return {"x86_64": "amd64", "aarch64": "arm64"}.get(os.uname().machine, os.uname().machine)
