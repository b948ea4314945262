"""A backend's client is imported only when something probes that backend: it is what start-up takes longest for."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from backendhealth.core.spec.backendhealth import MEMBERS
from tests.servers.process import LOOPBACK
from tests.servers.redis import RedisServer

CLIENTS = {
    "etcd": {"etcd3", "grpc", "google"},
    "rethinkdb": {"rethinkdb"},
    "redis": {"redis"},
    "elasticsearch": {"elasticsearch", "elastic_transport", "aiohttp"},
    "postgres": {"asyncpg"},
    "http": {"aiohttp"},
    "tcp": set[str](),
    "pods": set[str](),  # without a cluster
    "placeos": {"aiohttp"},
    "drivers": {"aiohttp"},  # Redis's only where cores register in it
}
NEVER_BY_A_CHECK = {"kopf", "kubernetes", "rich", "tenacity", "pkg_resources"}
ALL = set[str]().union(NEVER_BY_A_CHECK, *CLIENTS.values())
TARGETS = {
    "etcd": {"endpoints": ["http://127.0.0.1:1"]},
    "rethinkdb": {"host": LOOPBACK, "port": 1},
    "redis": {"url": "redis://127.0.0.1:1"},
    "elasticsearch": {"urls": ["http://127.0.0.1:1"]},
    "postgres": {"host": LOOPBACK, "port": 1},
    "http": {"url": "http://127.0.0.1:1"},
    "tcp": {"host": LOOPBACK, "port": 1},
    "pods": {"selector": {"matchLabels": {"app": "x"}}},
    "placeos": {"url": "http://127.0.0.1:1"},
    "drivers": {"url": "http://127.0.0.1:1", "apiKeySecretRef": {"name": "x", "key": "k"}},
}
RUN = """
import json, sys
from backendhealth.cli.main import main
code = main(sys.argv[1:])
print(json.dumps([code, sorted({name.partition(".")[0] for name in sys.modules})]))
"""


def run(*arguments: str) -> tuple[int, set[str], str]:
    """Exit code, the packages that were imported, and the output of the command in a process of its own."""
    done = subprocess.run(
        [sys.executable, "-c", RUN, *arguments], capture_output=True, text=True, check=False, timeout=60
    )
    assert done.returncode == 0, done.stderr
    output, _, last = done.stdout.rstrip().rpartition("\n")
    code, packages = json.loads(last)
    return code, set(packages), output


def resource(path: Path, member: str, target: object) -> str:
    path.write_text(
        json.dumps(
            {
                "apiVersion": "backendhealth.dev/v1alpha1",
                "kind": "BackendHealth",
                "metadata": {"name": "one"},
                "spec": {"timeout": "2s", "probes": [{"name": "probe", member: target}]},
            }
        )
    )
    return str(path)


def test_check_of_a_healthy_redis_imports_redis_alone(tmp_path: Path):
    with RedisServer() as server:
        file = resource(tmp_path / "one.yaml", "redis", {"url": f"redis://{server.address}"})
        code, packages, output = run("check", "-f", file)
    assert code == 0
    assert "ProbeSucceeded" in output
    assert packages & ALL == {"redis"}


def test_every_member_is_in_the_table():
    assert set(MEMBERS) == set(CLIENTS) == set(TARGETS)


@pytest.mark.parametrize("member", MEMBERS)
def test_check_imports_the_client_of_what_it_probes_and_no_other(tmp_path: Path, member: str):
    own = CLIENTS[member]
    code, packages, output = run("check", "-f", resource(tmp_path / "one.yaml", member, TARGETS[member]))
    told = {"pods": (3, "NoCluster"), "drivers": (3, "SecretNotFound")}.get(member, (1, "ConnectionRefused"))
    assert (code, told[1] in output) == (told[0], True)
    assert packages & ALL <= own
    assert packages & own or not own


def test_lint_imports_no_client(tmp_path: Path):
    code, packages, _ = run("lint", resource(tmp_path / "one.yaml", "redis", TARGETS["redis"]))
    assert code == 0
    assert packages & ALL == set()


def test_explain_imports_no_client():
    code, packages, output = run("explain", "QuorumLost")
    assert code == 0
    assert "QuorumLost" in output
    assert packages & ALL == set()
