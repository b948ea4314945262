"""A BackendHealth in each state that a GitOps tool may find it in; the statuses are made by the product's own code."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from backendhealth.core.crd import crd
from backendhealth.core.observation import Finding
from backendhealth.core.probestate import SUSPENDED
from backendhealth.core.stalled import stalled_status
from backendhealth.core.statusof import status_of
from backendhealth.core.validate import validate
from tests.unit.support import DENIED, GOOD, REFUSED, RISKY, probe, resource
from tests.unit.test_resourcestate import put, start

GENERATION = 3
NOW = 1_700_000_000.0
Object = dict[str, Any]
DECLARED = resource(probe("a"), probe("b"), generation=GENERATION)


def _object(status: Any, **metadata: Any) -> Object:
    whole = DECLARED.model_dump(mode="json", by_alias=True, exclude_none=True)
    whole["metadata"] = {"name": "demo", "namespace": "default", "generation": GENERATION, **metadata}
    if not isinstance(status, dict):
        status = status.model_dump(mode="json", by_alias=True, exclude_none=True)
    return {**whole, "status": status}


def _believed(**findings: Finding) -> Object:
    return _object(status_of(put(start(DECLARED, NOW), NOW, **findings), None, NOW))


def _fresh() -> Object:
    schema = crd()["spec"]["versions"][0]["schema"]["openAPIV3Schema"]
    return _object(schema["properties"]["status"]["default"])


def _stalled() -> Object:
    _, problems = validate({"spec": {"probes": [{"name": "a", "telnet": {}}]}})
    return _object(stalled_status(GENERATION, problems, None, NOW))


STATES: dict[str, Callable[[], Object]] = {
    "just created": _fresh,
    "first attempts under way": lambda: _believed(a=GOOD),
    "healthy": lambda: _believed(a=GOOD, b=GOOD),
    "degraded": lambda: _believed(a=GOOD, b=RISKY),
    "unhealthy": lambda: _believed(a=REFUSED, b=GOOD),
    "unknown": lambda: _believed(a=GOOD, b=DENIED),
    "suspended": lambda: _believed(a=SUSPENDED, b=SUSPENDED),
    "one probe suspended": lambda: _believed(a=GOOD, b=SUSPENDED),
    "invalid": _stalled,
    "changed, not seen yet": lambda: {**_believed(a=GOOD, b=GOOD), **_next_generation()},
    "invalid, corrected, not seen yet": lambda: {**_stalled(), **_next_generation()},
}


def _next_generation() -> Object:
    return {"metadata": {"name": "demo", "namespace": "default", "generation": GENERATION + 1}}
