"""Names of Remediations: whatever tells one from another is in the hash, so that creating it is the claim."""

from __future__ import annotations

import hashlib
import json

_DIGITS = 16
_LABEL = 63
"""Characters of a DNS label."""


def remediation_name(  # noqa: PLR0913 - all that it is the hash of
    policy_uid: str, rule: str, step: int, incident: str, target: str, *, dry: bool = False
) -> str:
    """Name of the Remediation of a rule's step on a target (RemediationTarget.id) in an incident.

    A dry run claims nothing: it has another name than the real one.
    """
    return _named(rule, "remediation", policy_uid, rule, step, incident, target, dry)


def toggle_key(uid: str, container: str, restart_count: int) -> str:
    """Key of the state of a container's process that a signal toggles; a restart makes it another."""
    return f"{uid}/{container}/{restart_count}"


def revert_name(toggle: str, epoch: int) -> str:
    """Name of the Remediation that takes back what was toggled by the key `toggle`, for the `epoch`-th time."""
    return _named("revert", "revert", toggle, epoch)


def _named(prefix: str, *parts: object) -> str:
    digest = hashlib.sha256(json.dumps(parts).encode()).hexdigest()[:_DIGITS]
    return f"{prefix[: _LABEL - _DIGITS - 1].rstrip('-')}-{digest}"
