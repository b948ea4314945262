"""What the tests of the command line share."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

import yaml

from tests.servers.process import free_port

ROOT = Path(__file__).parents[2]


def resource(*probes: Mapping[str, object], name: str = "demo", **spec: object) -> str:
    """A BackendHealth in YAML with quick timing."""
    timing = {"interval": "1s", "retryInterval": "100ms", "timeout": "500ms"}
    return yaml.safe_dump(
        {
            "apiVersion": "backendhealth.dev/v1alpha1",
            "kind": "BackendHealth",
            "metadata": {"name": name},
            "spec": {**timing, **spec, "probes": list(probes)},
        }
    )


def secret(name: str, values: Mapping[str, str], namespace: str = "default") -> str:
    """A Secret in YAML."""
    return "---\n" + yaml.safe_dump(
        {
            "apiVersion": "v1",
            "kind": "Secret",
            "metadata": {"name": name, "namespace": namespace},
            "stringData": dict(values),
        }
    )


def redis_probe(port: int, name: str = "redis", **target: object) -> dict[str, object]:
    """A Redis probe on loopback."""
    return {"name": name, "redis": {"url": f"redis://127.0.0.1:{port}", **target}}


def refused_probe(name: str = "gone") -> dict[str, object]:
    """A probe of a port that nobody listens on."""
    return {"name": name, "tcp": {"host": "127.0.0.1", "port": free_port()}}


def command(*arguments: str | Path) -> list[str]:
    """The command line that runs `backendhealth` from this checkout."""
    return [sys.executable, "-m", "backendhealth", *map(str, arguments)]


def environment() -> dict[str, str]:
    """The environment for it."""
    return {**os.environ, "PYTHONPATH": os.environ.get("PYTHONPATH") or str(ROOT / "operator"), "COLUMNS": "200"}


def run(*arguments: str | Path, stdin: str | None = None) -> subprocess.CompletedProcess[str]:
    """Run `backendhealth` to its end."""
    return subprocess.run(
        command(*arguments), input=stdin, capture_output=True, text=True, timeout=60, check=False, env=environment()
    )


def lines_of(text: str) -> Sequence[str]:
    """The lines that are not empty."""
    return [line for line in text.splitlines() if line.strip()]
