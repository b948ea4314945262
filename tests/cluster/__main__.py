"""`python -m tests.cluster up|down|status|images FOLDER`: a cluster to try things on, until it is taken down."""

from __future__ import annotations

import argparse
import fcntl
import json
import os
import re
import shutil
import signal
import subprocess
import sys
from pathlib import Path

from tests.cluster import build, images, product
from tests.cluster.cluster import Cluster, missing
from tests.servers.process import ServerFailed, cache_dir, wait_until

_ROOT = Path(__file__).parents[2]
_START_SECONDS = 120.0


def directory() -> Path:
    """Where the files of the cluster are that `up` starts."""
    return cache_dir() / "cluster"


def up() -> int:
    """Start it in a process of its own, and say how to use it."""
    if absent := missing():
        return _complain(absent)
    if keeper := _keeper():
        return _complain(f"a cluster is up already (process {keeper}): `make cluster-down` first")
    build.binaries()
    if absent := product.missing():
        print(f"without the product's image: {absent}")
    else:
        product.archive(print)
    shutil.rmtree(directory(), ignore_errors=True)
    directory().mkdir(parents=True)
    log = directory() / "keeper.log"
    with log.open("wb") as output:
        process = subprocess.Popen(
            [sys.executable, "-m", "tests.cluster", "keep"],
            cwd=_ROOT,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            start_new_session=True,
        )
    try:
        wait_until(lambda: _state_file().exists() or process.poll() is not None, _START_SECONDS, "the cluster")
    except TimeoutError as error:
        process.terminate()
        return _complain(f"{error}\n{log.read_text()}")
    if process.poll() is not None:
        return _complain(log.read_text())
    print(log.read_text(), end="")
    state = json.loads(_state_file().read_text())
    print(f"\nexport KUBECONFIG={state['kubeconfig']}")
    print(f"export PATH={Path(state['kubectl']).parent}:$PATH  # kubectl")
    print("kubectl apply -k manifests/overlays/cluster-wide")
    return 0


def keep() -> int:
    """Run it in this process until SIGTERM; what `up` starts."""
    signals = {signal.SIGTERM, signal.SIGINT}
    signal.pthread_sigmask(signal.SIG_BLOCK, signals)
    with _lock_file().open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        lock.write(str(os.getpid()))
        lock.flush()
        with Cluster(directory(), say=lambda line: print(line, flush=True)) as cluster:
            if not product.missing():
                cluster.load_image(product.archive())
                cluster.tag_image(product.NAME, f"docker.io/library/{_image_of_manifests()}")
            state = {"kubeconfig": str(cluster.kubeconfig), "kubectl": str(build.binaries() / "kubectl")}
            written = _state_file().with_suffix(".new")
            written.write_text(json.dumps(state))
            written.rename(_state_file())
            signal.sigwait(signals)
    return 0


def _image_of_manifests() -> str:
    """As they name it: `backendhealth:0.1.0`."""
    found = re.search(r"image: (\S+)", (_ROOT / "manifests" / "base" / "deployment.yaml").read_text())
    assert found is not None
    return found[1]


def down() -> int:
    """End it; no complaint when there is none."""
    keeper = _keeper()
    if not keeper:
        print("no cluster is up")
        return 0
    os.kill(keeper, signal.SIGTERM)
    wait_until(lambda: not _keeper(), 60, "the cluster's end")
    print("down")
    return 0


def status() -> int:
    """Say whether one is up: 0 when it is."""
    if not _keeper() or not _state_file().exists():
        return _complain("no cluster is up")
    print(f"up: export KUBECONFIG={json.loads(_state_file().read_text())['kubeconfig']}")
    return 0


def write_images(folder: Path, *, with_product: bool) -> int:
    """Write every image that the tests use as an OCI archive, for a cluster made otherwise."""
    folder.mkdir(parents=True, exist_ok=True)
    for recipe in images.RECIPES.values():
        image = recipe()
        print(images.write(image, folder / images.file_name(image.name)))
    if with_product:
        print(shutil.copy(product.archive(print), folder / images.file_name(product.NAME)))
    return 0


def _lock_file() -> Path:
    return cache_dir() / "cluster.lock"


def _state_file() -> Path:
    return directory() / "state.json"


def _keeper() -> int:
    """The process that holds the cluster; 0 when there is none."""
    _lock_file().parent.mkdir(parents=True, exist_ok=True)
    with _lock_file().open("a+") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            lock.seek(0)
            return int(lock.read() or 0)
    return 0


def _complain(reason: str) -> int:
    print(reason.strip(), file=sys.stderr)
    return 1


def main() -> int:
    """The command line."""
    parser = argparse.ArgumentParser(prog="python -m tests.cluster")
    commands = parser.add_subparsers(required=True)
    for name, command in (("up", up), ("down", down), ("status", status), ("keep", keep)):
        commands.add_parser(name, help=command.__doc__).set_defaults(run=lambda _arguments, command=command: command())
    folder = commands.add_parser("images", help=write_images.__doc__)
    folder.add_argument("folder", type=Path)
    folder.add_argument("--without-product", dest="with_product", action="store_false")
    folder.set_defaults(run=lambda arguments: write_images(arguments.folder, with_product=arguments.with_product))
    arguments = parser.parse_args()
    try:
        return int(arguments.run(arguments))
    except (ServerFailed, TimeoutError) as error:
        return _complain(str(error))


if __name__ == "__main__":
    sys.exit(main())
