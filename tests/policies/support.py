"""A policy for PlaceOS and cases of it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml

from backendhealth.cli.main import main

VERSION = "backendhealth.dev/v1alpha1"
CORE = {"matchLabels": {"app.kubernetes.io/name": "core"}}
DEBUG = {"debugLogs": {"podSelector": CORE}}
RESTART = {"rolloutRestart": {"workload": {"kind": "StatefulSet", "name": "core"}}}
DRIVER = {"restartDriver": {"url": "http://api:3000", "apiKeySecretRef": {"name": "admin", "key": "key"}}}


def rule(name: str = "debug", component: str = "core", action: Any = None, **fields: Any) -> dict[str, Any]:
    when = {"component": component, **fields.pop("when", {})}
    return {"name": name, "when": when, "action": action or DEBUG, **fields}


def policy(*rules: dict[str, Any], **spec: Any) -> dict[str, Any]:
    """In Enforce, with room for a lot."""
    limits = {"max": 100, "maxConcurrent": 10, "cooldown": "0s", **spec.pop("limits", {})}
    fields = {"backendHealths": ["mine"], "mode": "Enforce", "serviceAccountName": "remediator", "limits": limits}
    return {
        "apiVersion": VERSION,
        "kind": "RemediationPolicy",
        "metadata": {"name": "acting"},
        "spec": {**fields, **spec, "rules": list(rules) or [rule()]},
    }


def died(at: str = "30s", **see: Any) -> dict[str, Any]:
    return {"at": at, "see": see or {"core": "ConnectionRefused"}}


def checked(*cases: dict[str, Any], **spec: Any) -> dict[str, Any]:
    return {
        "apiVersion": VERSION,
        "kind": "RemediationPolicyTest",
        "metadata": {"name": "test"},
        "spec": {"policy": "acting", "profileRef": {"builtIn": "placeos-rethinkdb"}, "cases": list(cases), **spec},
    }


def case(*expect: dict[str, Any], steps: list[dict[str, Any]] | None = None, **fields: Any) -> dict[str, Any]:
    return {"name": "one", "steps": steps or [died()], "expect": list(expect), **fields}


def written(folder: Path, *documents: dict[str, Any], name: str = "all.yaml") -> str:
    path = folder / name
    path.write_text(yaml.safe_dump_all(documents), encoding="utf-8")
    return str(path)


def verdict(folder: Path, capsys: Any, *documents: dict[str, Any]) -> tuple[int, str]:
    """Exit code and all that `backendhealth test` prints."""
    code = main(["test", written(folder, *documents)])
    told = capsys.readouterr()
    return code, told.out + told.err
