"""DiagnosisProfiles for tests, as they stand in YAML."""

from __future__ import annotations

from typing import Any

from backendhealth.core.spec.backendhealth import API_VERSION
from backendhealth.core.spec.profile import PROFILE_KIND, DiagnosisProfileSpec, ProfileComponent, Signature


def profile(**spec: Any) -> dict[str, Any]:
    return {
        "apiVersion": API_VERSION,
        "kind": PROFILE_KIND,
        "metadata": {"name": "mine"},
        "spec": {"title": "Mine", **spec},
    }


def component(name: str, *depends_on: str, **fields: Any) -> dict[str, Any]:
    return {"name": name, "title": name, "dependsOn": list(depends_on), **fields}


def most(model: Any, field: str) -> int:
    """How many items the list may have."""
    return int(next(item.max_length for item in model.model_fields[field].metadata if hasattr(item, "max_length")))


def names(count: int, prefix: str = "n") -> list[str]:
    """Different names of the greatest length, which differ at the end."""
    return [f"{prefix}{number:062}" for number in range(count)]


def greatest_profile() -> dict[str, Any]:
    """As many of all as there may be, each name found last."""
    components = names(most(DiagnosisProfileSpec, "components"))
    features = names(most(DiagnosisProfileSpec, "features"), "f")
    last = components[-most(Signature, "implicates") :]
    depends = most(ProfileComponent, "depends_on")
    effects = [{"feature": one, "effect": "Fails", "because": "x"} for one in reversed(features)]
    return profile(
        features=[{"name": one, "title": "x"} for one in features],
        components=[
            component(one, *components[max(place + 1, len(components) - depends) :], effects=effects)
            for place, one in enumerate(components)
        ],
        symptoms=[
            {"name": one, "question": "x?", "feature": features[-1], "implicates": last}
            for one in names(most(DiagnosisProfileSpec, "symptoms"), "s")
        ],
        signatures=[
            {"name": one, "pattern": "x", "because": "x", "implicates": last, "clears": components[: len(last)]}
            for one in names(most(DiagnosisProfileSpec, "signatures"), "s")
        ],
        confounders=[
            {"name": one, "component": components[0], "suspects": last, "because": "x"}
            for one in names(most(DiagnosisProfileSpec, "confounders"), "c")
        ],
    )
