"""What matters of a BackendHealth as it stands in the cluster, besides its spec."""

from __future__ import annotations

import datetime as dt
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from backendhealth.core.annotations import PROBE_REQUESTED_AT, SUSPENDED_UNTIL
from backendhealth.kube.api import Json


@dataclass(frozen=True, slots=True)
class Known:
    """An object that we serve: what of it matters to us, and how Events refer to it."""

    uid: str
    generation: int
    asked: tuple[str | None, ...]
    """What is asked by annotation."""
    ref: Json


def key_of(raw: Mapping[str, Any]) -> str:
    """`namespace/name`."""
    return f"{raw['metadata']['namespace']}/{raw['metadata']['name']}"


def created_at(raw: Json) -> float:
    """In seconds since the epoch."""
    return dt.datetime.fromisoformat(raw["metadata"]["creationTimestamp"]).timestamp()


def incident_in(raw: Json) -> str:
    """ID of the incident that the object's status tells; empty without one, or where no operator wrote it."""
    found = (raw.get("status") or {}).get("incident")
    told = found.get("id") if isinstance(found, dict) else None
    return told if isinstance(told, str) else ""


def known_of(raw: Json) -> Known:
    """What of an object matters to us."""
    meta = raw["metadata"]
    annotations = meta.get("annotations") or {}
    ref = {
        "apiVersion": raw["apiVersion"],
        "kind": raw["kind"],
        "namespace": meta["namespace"],
        "name": meta["name"],
        "uid": meta["uid"],
    }
    asked = tuple(annotations.get(name) for name in (SUSPENDED_UNTIL, PROBE_REQUESTED_AT))
    return Known(meta["uid"], meta.get("generation", 1), asked, ref)
