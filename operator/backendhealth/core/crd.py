"""The CustomResourceDefinition, made from the models."""

from __future__ import annotations

from typing import Any

from backendhealth.core.spec.backendhealth import GROUP, KIND, VERSION, BackendHealth, BackendHealthSpec
from backendhealth.core.spec.status import BackendHealthStatus
from backendhealth.core.structural import Schema, structural_schema

PLURAL = "backendhealths"
SHORT_NAME = "bh"

_COLUMNS = (
    ("State", "string", ".status.summary.state", "The worst verdict of all components.", 0),
    ("Root Cause", "string", ".status.summary.rootCause", "The components that are the cause.", 0),
    ("Reason", "string", ".status.summary.reason", "Why, in one word.", 0),
    ("Impact", "string", ".status.summary.impact", "What users can't do meanwhile.", 0),
    ("Since", "date", ".status.summary.since", "Since when the state stands.", 0),
    ("Age", "date", ".metadata.creationTimestamp", "Age of the resource.", 0),
    ("Message", "string", ".status.summary.message", "What was seen.", 1),
)


def crd() -> dict[str, Any]:
    """The CustomResourceDefinition of BackendHealth. Raises SchemaError for a field without description or bound."""
    return {
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "CustomResourceDefinition",
        "metadata": {"name": f"{PLURAL}.{GROUP}"},
        "spec": {
            "group": GROUP,
            "names": {
                "kind": KIND,
                "listKind": f"{KIND}List",
                "plural": PLURAL,
                "singular": KIND.lower(),
                "shortNames": [SHORT_NAME],
                "categories": ["backendhealth"],
            },
            "scope": "Namespaced",
            "versions": [
                {
                    "name": VERSION,
                    "served": True,
                    "storage": True,
                    "schema": {"openAPIV3Schema": _schema()},
                    "subresources": {"status": {}},
                    "additionalPrinterColumns": [
                        {"name": name, "type": kind, "jsonPath": path, "description": description, "priority": priority}
                        for name, kind, path, description, priority in _COLUMNS
                    ],
                }
            ],
        },
    }


def _schema() -> Schema:
    # the API server takes a fresh object's status for current unless it says that nothing was observed yet
    status = structural_schema(BackendHealthStatus) | {"default": {"observedGeneration": -1}}
    return {
        "description": BackendHealth.__doc__,
        "type": "object",
        "required": ["spec"],
        "properties": {
            "apiVersion": {"description": "Version of the format.", "type": "string"},
            "kind": {"description": "Kind of the object.", "type": "string"},
            "metadata": {"type": "object"},
            "spec": structural_schema(BackendHealthSpec),
            "status": status,
        },
    }
