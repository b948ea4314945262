"""Policies, situations and Remediations for the tests of what is decided. Times are seconds after START."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from backendhealth.core.remediation.names import remediation_name
from backendhealth.core.remediation.situation import Changed, Component, Past, Situation, Subject, World
from backendhealth.core.spec.remediation import RemediationSpec
from backendhealth.core.spec.remediationpolicy import RemediationPolicy
from backendhealth.core.statusof import timestamp
from backendhealth.core.verdict import Verdict

START = 1_767_225_600.0
"""2026-01-01T00:00:00Z."""
UID, BH_UID, INCIDENT = "policy-uid", "bh-uid", "incident-1"
KEY = "default/placeos"
H, D, N, U = Verdict.HEALTHY, Verdict.DEGRADED, Verdict.UNKNOWN, Verdict.UNHEALTHY
CORES = {"matchLabels": {"app": "core"}}
DEBUG_LOGS: dict[str, Any] = {"debugLogs": {"podSelector": CORES}}
RESTART_PODS: dict[str, Any] = {"restartPods": {"podSelector": CORES}}
ROLLOUT: dict[str, Any] = {"rolloutRestart": {"workload": {"kind": "StatefulSet", "name": "core"}}}
POD = "Pod/core-0/uid-0/core"
MINUTE = 60.0
HOUR = 3600.0
FAR = 10 * HOUR
CALM = World(unhealthy=1, total=100)


def rule(name: str = "restart", component: str = "core", **more: Any) -> dict[str, Any]:
    """A rule as in YAML; what is given for `when` is added to the component."""
    when = {"component": component, **more.pop("when", {})}
    return {"name": name, "when": when, "action": RESTART_PODS, **more}


def policy(*rules: Mapping[str, Any], generation: int = 1, name: str = "placeos", **spec: Any) -> RemediationPolicy:
    """A policy in force for the BackendHealth `placeos`, as in YAML."""
    return RemediationPolicy.model_validate(
        {
            "apiVersion": "backendhealth.dev/v1alpha1",
            "kind": "RemediationPolicy",
            "metadata": {"name": name, "namespace": "default", "generation": generation},
            "spec": {
                "backendHealths": ["placeos"],
                "mode": "Enforce",
                "serviceAccountName": "placeos-remediator",
                **spec,
                "rules": list(rules) or [rule()],
            },
        }
    )


def component(name: str = "core", verdict: Verdict = U, reason: str = "", since: float = 0, **more: Any) -> Component:
    """A component that was observed; a root cause when it is Unhealthy."""
    words = {H: "ProbeSucceeded", D: "MemberDown", N: "Blind", U: "CoreNotRegistered"}
    told = {"root": verdict is U, "message": "seen", **more}
    subjects = tuple(Subject(part, why) for part, why in told.pop("subjects", {}).items())
    return Component(name, verdict, reason or words[verdict], since=START + since, subjects=subjects, **told)


def situation(*components: Component, history: tuple[tuple[float, str, Verdict], ...] = (), **more: Any) -> Situation:
    """Of the BackendHealth `placeos` in an incident; `history` newest first."""
    told = {"uid": BH_UID, "incident": INCIDENT, "incident_since": START, **more}
    found = components or (component(),)
    return Situation(
        KEY,
        components={one.name: one for one in found},
        history=tuple(Changed(START + at, name, verdict) for at, name, verdict in history),
        **told,
    )


def past(phase: str = "NotHelpful", began: float = 0, ended: float | None = None, **more: Any) -> Past:
    """A Remediation of the rule `restart` on POD in this incident, unless told otherwise."""
    told: dict[str, Any] = {
        "policy": UID,
        "rule": "restart",
        "step": 0,
        "backend_health": BH_UID,
        "incident": INCIDENT,
        "target": POD,
        "created": began,
        **more,
    }
    told["name"] = told.get("name") or f"{told['rule']}-{told['step']}-{told['incident']}-{told['target']}"
    final = phase not in ("Pending", "AwaitingApproval", "Held", "Running", "Verifying")
    begun = phase not in ("Pending", "AwaitingApproval", "Held", "Expired", "Rejected")
    over = (began + 10 if ended is None else ended) + START if final else 0.0
    told["created"] += START
    return Past(phase=phase, began=told.pop("begun", START + began if begun else 0.0), ended=over, **told)


def spec(given: RemediationPolicy | None = None, **more: Any) -> RemediationSpec:
    """What `given` has decided: its first rule on the pod core-0."""
    given = given or policy()
    first = given.spec.remediation_rules[0]
    told = {
        "policyRef": {"name": given.metadata.name, "uid": UID, "generation": given.metadata.generation},
        "rule": first.name,
        "cause": {
            "backendHealth": "placeos",
            "uid": BH_UID,
            "incident": INCIDENT,
            "component": "core",
            "reason": "CoreNotRegistered",
            "message": "seen",
        },
        "mode": given.spec.mode,
        "target": {"kind": "Pod", "name": "core-0", "uid": "uid-0", "container": "core"},
        "action": first.action.model_dump(by_alias=True, exclude_none=True, mode="json"),
        "notAfter": timestamp(START + FAR),
        **more,
    }
    return RemediationSpec.model_validate({name: value for name, value in told.items() if value is not None})


def by_hand(**more: Any) -> RemediationSpec:
    """What a person has asked for."""
    return spec(rule=None, cause=None, mode="Enforce", requestedBy="ada", policyRef={"name": "placeos"}, **more)


def own_name(of: RemediationSpec) -> str:
    """The name of the Remediation."""
    assert of.rule is not None
    assert of.cause is not None
    dry = of.mode == "DryRun"
    return remediation_name(UID, of.rule, of.step, of.cause.incident, of.target.id, dry=dry)
