"""What is known of a resource's platform, and what keeps us from knowing more."""

from __future__ import annotations

from dataclasses import dataclass

from backendhealth.core.reasons import Reason
from backendhealth.core.spec.profile import DiagnosisProfileSpec


@dataclass(frozen=True, slots=True)
class Knowledge:
    """The profile in force. With a `problem` it is not the one that the resource asks for, as it stands now.

    `problem` is PROFILE_NOT_FOUND or PROFILE_INVALID; `message` tells people which, and what to do.
    """

    profile: DiagnosisProfileSpec
    problem: Reason | None = None
    message: str = ""


NOTHING_KNOWN = Knowledge(DiagnosisProfileSpec(title="Nothing is known of the platform"))
"""For a resource that names no profile."""
