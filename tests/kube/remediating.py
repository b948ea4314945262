"""Policies and Remediations as tests declare them."""

from __future__ import annotations

import urllib.error
from typing import Any

from backendhealth.core.spec.remediation import RemediationSpec
from tests.cluster.access import Admin

GROUP = "backendhealth.dev/v1alpha1"
SWITCH = "backendhealth-remediation"
Json = dict[str, Any]


def path(namespace: str, plural: str, name: str = "") -> str:
    """`remediations` or `remediationpolicies` of a namespace, or one of them."""
    return f"/apis/{GROUP}/namespaces/{namespace}/{plural}" + (f"/{name}" if name else "")


def policy_spec(**spec: Any) -> Json:
    """Restarts pods while redis of the BackendHealth `demo` is down."""
    rule = {"name": "restart", "when": {"component": "redis"}, "action": restart()}
    return {"backendHealths": ["demo"], "serviceAccountName": "remediator", "rules": [rule], **spec}


def restart() -> Json:
    return {"restartPods": {"podSelector": {"matchLabels": {"app": "redis"}}, "pods": "All"}}


def policy(namespace: str, name: str = "policy", **spec: Any) -> Json:
    return {
        "apiVersion": GROUP,
        "kind": "RemediationPolicy",
        "metadata": {"name": name, "namespace": namespace},
        "spec": policy_spec(**spec),
    }


def remediation_spec(**spec: Any) -> Json:
    """One that follows the policy's rule."""
    return {
        "policyRef": {"name": "policy", "uid": "policy-uid", "generation": 1},
        "rule": "restart",
        "cause": {
            "backendHealth": "demo",
            "uid": "demo-uid",
            "incident": "incident-1",
            "component": "redis",
            "reason": "ConnectionRefused",
            "message": "nobody listens",
        },
        "target": {"kind": "Pod", "name": "redis-0", "uid": "pod-uid"},
        "action": restart(),
        "notAfter": "2099-01-01T00:00:00Z",
        **spec,
    }


def wanted(**spec: Any) -> RemediationSpec:
    return RemediationSpec.model_validate(remediation_spec(**spec), by_alias=True, by_name=False)


def remediation(namespace: str, name: str, **spec: Any) -> Json:
    return {
        "apiVersion": GROUP,
        "kind": "Remediation",
        "metadata": {"name": name, "namespace": namespace},
        "spec": remediation_spec(**spec),
    }


def switch(plane: Admin, namespace: str, enabled: str | None = "true", **annotations: str) -> None:
    """Puts the ConfigMap there, in place of what was."""
    notes = {f"backendhealth.dev/{name}": value for name, value in annotations.items()}
    body = {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": {"name": SWITCH, "namespace": namespace, "annotations": notes},
        "data": {} if enabled is None else {"enabled": enabled},
    }
    there = f"/api/v1/namespaces/{namespace}/configmaps"
    try:
        plane.request("PUT", f"{there}/{SWITCH}", body)
    except urllib.error.HTTPError:
        plane.request("POST", there, body)
