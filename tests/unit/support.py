"""Resources, findings and observations for the tests of verdicts and of the engine."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from backendhealth.core.observation import Finding, Observation, SubjectFinding
from backendhealth.core.reasons import Reason
from backendhealth.core.spec.backendhealth import BackendHealth

GOOD = Finding(Reason.PROBE_SUCCEEDED, "fine")
RISKY = Finding(Reason.CLUSTER_YELLOW, "yellow")
REFUSED = Finding(Reason.CONNECTION_REFUSED, "connection refused")
SILENT = Finding(Reason.TIMEOUT, "no answer within 5 s", contact=False)
NO_SECRET = Finding(Reason.SECRET_NOT_FOUND, "Secret x does not exist", contact=False)
DENIED = Finding(Reason.AUTHENTICATION_FAILED, "wrong password")


def probe(name: str, host: str = "", port: int = 80, **more: Any) -> dict[str, Any]:
    """A TCP probe as in YAML; its host is its name unless given."""
    return {"name": name, "tcp": {"host": host or name, "port": port}, **more}


def resource(
    *probes: Mapping[str, Any], name: str = "demo", namespace: str = "default", generation: int = 1, **spec: Any
) -> BackendHealth:
    """A BackendHealth as in YAML."""
    return BackendHealth.model_validate(
        {
            "apiVersion": "backendhealth.dev/v1alpha1",
            "kind": "BackendHealth",
            "metadata": {"name": name, "namespace": namespace, "generation": generation},
            "spec": {**spec, "probes": list(probes)},
        }
    )


def seen(
    finding: Finding, at: float, *, took: float = 0.1, probe: str = "a", resource: str = "default/demo"
) -> Observation:
    """An attempt that ended at `at` after `took` seconds."""
    return Observation(resource, 1, probe, at - took, at, finding)


def with_subjects(finding: Finding, **subjects: Reason) -> Finding:
    """The finding with subjects: name=reason."""
    parts = tuple(SubjectFinding(f"member/{name}", reason, "seen") for name, reason in subjects.items())
    return Finding(finding.reason, finding.message, parts, finding.facts, finding.steps, finding.contact)
