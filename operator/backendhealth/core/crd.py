"""The CustomResourceDefinitions, made from the models."""

from __future__ import annotations

from typing import Any

from backendhealth.core.spec.backendhealth import GROUP, KIND, VERSION, BackendHealth, BackendHealthSpec
from backendhealth.core.spec.base import Model
from backendhealth.core.spec.profile import PROFILE_KIND, DiagnosisProfile, DiagnosisProfileSpec
from backendhealth.core.spec.remediation import REMEDIATION_KIND, Remediation, RemediationSpec, RemediationStatus
from backendhealth.core.spec.remediationpolicy import POLICY_KIND, RemediationPolicy, RemediationPolicySpec
from backendhealth.core.spec.status import BackendHealthStatus
from backendhealth.core.structural import Schema, structural_schema

PLURAL = "backendhealths"
SHORT_NAME = "bh"
PROFILE_PLURAL = "diagnosisprofiles"
PROFILE_SHORT_NAME = "dprof"
POLICY_SHORT_NAME = "rpol"
REMEDIATION_SHORT_NAME = "rem"
POLICY_PLURAL = "remediationpolicies"
REMEDIATION_PLURAL = "remediations"

_Column = tuple[str, str, str, str, int]

_AGE: _Column = ("Age", "date", ".metadata.creationTimestamp", "Age of the resource.", 0)
_COLUMNS: tuple[_Column, ...] = (
    ("State", "string", ".status.summary.state", "The worst verdict of all components.", 0),
    ("Root Cause", "string", ".status.summary.rootCause", "The components that are the cause.", 0),
    ("Reason", "string", ".status.summary.reason", "Why, in one word.", 0),
    ("Impact", "string", ".status.summary.impact", "What users can't do meanwhile.", 0),
    ("Since", "date", ".status.summary.since", "Since when the state stands.", 0),
    _AGE,
    ("Message", "string", ".status.summary.message", "What was seen.", 1),
)
_POLICY_COLUMNS: tuple[_Column, ...] = (
    ("Mode", "string", ".spec.mode", "DryRun, Approve or Enforce.", 0),
    ("Account", "string", ".spec.serviceAccountName", "As whom everything is done.", 0),
    # there may be many: that there is one is what must not be overlooked
    ("Paused By", "string", ".spec.pauseRequests[0].by", "Who wants it to do nothing for now.", 0),
    _AGE,
)
_REMEDIATION_COLUMNS: tuple[_Column, ...] = (
    ("Phase", "string", ".status.phase", "How far it has come.", 0),
    ("Action", "string", ".spec.summary", "What is done.", 0),
    ("Target", "string", ".spec.target.name", "What it is done to.", 0),
    ("Rule", "string", ".spec.rule", "The policy's rule; none: a person asked for it.", 0),
    ("Component", "string", ".spec.cause.component", "What was unhealthy.", 0),
    ("Reason", "string", ".spec.cause.reason", "Why, in one word.", 0),
    _AGE,
    ("Requested By", "string", ".spec.requestedBy", "The person who asked for it.", 1),
    ("Message", "string", ".status.message", "What happened.", 1),
)
_PROFILE_COLUMNS: tuple[_Column, ...] = (("Title", "string", ".spec.title", "What it describes.", 0), _AGE)


def crd() -> dict[str, Any]:
    """The CustomResourceDefinition of BackendHealth. Raises SchemaError for a field without description or bound."""
    # the API server takes a fresh object's status for current unless it says that nothing was observed yet
    status = structural_schema(BackendHealthStatus) | {"default": {"observedGeneration": -1}}
    schema = _schema(BackendHealth, BackendHealthSpec)
    schema["properties"]["status"] = status
    return _definition(KIND, PLURAL, SHORT_NAME, schema, _COLUMNS)


def profile_crd() -> dict[str, Any]:
    """The CustomResourceDefinition of DiagnosisProfile, which has no status: who uses it says what is wrong with it."""
    schema = _schema(DiagnosisProfile, DiagnosisProfileSpec)
    return _definition(PROFILE_KIND, PROFILE_PLURAL, PROFILE_SHORT_NAME, schema, _PROFILE_COLUMNS)


def policy_crd() -> dict[str, Any]:
    """The CustomResourceDefinition of RemediationPolicy, which has no status: who is held by it says so."""
    schema = _schema(RemediationPolicy, RemediationPolicySpec)
    return _definition(POLICY_KIND, POLICY_PLURAL, POLICY_SHORT_NAME, schema, _POLICY_COLUMNS)


def remediation_crd() -> dict[str, Any]:
    """The CustomResourceDefinition of Remediation."""
    schema = _schema(Remediation, RemediationSpec)
    schema["properties"]["status"] = structural_schema(RemediationStatus) | {"default": {}}  # its phase is Pending
    return _definition(REMEDIATION_KIND, REMEDIATION_PLURAL, REMEDIATION_SHORT_NAME, schema, _REMEDIATION_COLUMNS)


def _definition(kind: str, plural: str, short: str, schema: Schema, columns: tuple[_Column, ...]) -> dict[str, Any]:
    return {
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "CustomResourceDefinition",
        "metadata": {"name": f"{plural}.{GROUP}"},
        "spec": {
            "group": GROUP,
            "names": {
                "kind": kind,
                "listKind": f"{kind}List",
                "plural": plural,
                "singular": kind.lower(),
                "shortNames": [short],
                # not the name of a kind: `kubectl get backendhealth NAME` would mean every kind of the category
                "categories": ["backendhealth-all"],
            },
            "scope": "Namespaced",
            "versions": [
                {
                    "name": VERSION,
                    "served": True,
                    "storage": True,
                    "schema": {"openAPIV3Schema": schema},
                    **({"subresources": {"status": {}}} if "status" in schema["properties"] else {}),
                    "additionalPrinterColumns": [
                        {
                            "name": name,
                            "type": type_,
                            "jsonPath": path,
                            "description": description,
                            "priority": priority,
                        }
                        for name, type_, path, description, priority in columns
                    ],
                }
            ],
        },
    }


def _schema(resource: type[Model], spec: type[Model]) -> Schema:
    return {
        "description": resource.__doc__,
        "type": "object",
        "required": ["spec"],
        "properties": {
            "apiVersion": {"description": "Version of the format.", "type": "string"},
            "kind": {"description": "Kind of the object.", "type": "string"},
            "metadata": {"type": "object"},
            "spec": structural_schema(spec),
        },
    }
