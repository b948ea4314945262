"""From what a resource says of its profile to what is known of its platform."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

from backendhealth.core.knowledge import NOTHING_KNOWN, Knowledge
from backendhealth.core.observation import clip
from backendhealth.core.reasons import Reason
from backendhealth.core.spec.backendhealth import BackendHealth
from backendhealth.core.spec.profile import PROFILE_KIND, DiagnosisProfileSpec
from backendhealth.core.validate import Problem, summed
from backendhealth.core.wording import closest

MAX_TOLD = 3
"""Fields of a profile that a message names; `backendhealth lint` names all."""


class ProfileUnusableError(Exception):
    """There is no such profile, or it can't be used: `reason` is PROFILE_NOT_FOUND or PROFILE_INVALID.

    `remedy` follows the message: empty, or `; to grant it: ` and a command line.
    """

    def __init__(self, reason: Reason, message: str, remedy: str = "") -> None:
        super().__init__(message)
        self.reason = reason
        self.message = message
        self.remedy = remedy


Find = Callable[[str, str], DiagnosisProfileSpec]
"""The profile of a namespace that has a name. Raises ProfileUnusableError."""
BuiltIn = Callable[[str], DiagnosisProfileSpec]
"""The profile of that name that ships with the program. Raises ProfileUnusableError."""


def knowledge_of(resource: BackendHealth, built_in: BuiltIn, find: Find, before: Knowledge | None = None) -> Knowledge:
    """What is known of the platform of `resource`.

    `before` is what was known of it so far: its profile stays in force while the one that is named can't be used.
    """
    ref = resource.spec.profile_ref
    if ref is None:
        return NOTHING_KNOWN
    try:
        if ref.built_in:
            return Knowledge(built_in(ref.built_in))
        return Knowledge(find(resource.metadata.namespace, ref.name or ""))
    except ProfileUnusableError as error:
        profile = before.profile if before else NOTHING_KNOWN.profile
        in_force = f"the last good one ({profile.title}) stays in force"
        if profile is NOTHING_KNOWN.profile:
            in_force = "until then nothing is known of the platform"
        return Knowledge(profile, error.reason, clip(f"{error.message}; {in_force}{error.remedy}"))


def not_there(namespace: str, name: str, beside: Iterable[str], built_in: Sequence[str]) -> ProfileUnusableError:
    """For a name that no profile of the namespace has; `beside` are those that there are, and `built_in` ours."""
    told = f"there is no {PROFILE_KIND} {name} in namespace {namespace}"
    if name in built_in:
        told = f"{told}, but a built-in one: profileRef: {{builtIn: {name}}}"
    elif meant := closest(name, list(beside)):
        told = f'{told}: did you mean "{meant}"?'
    return ProfileUnusableError(Reason.PROFILE_NOT_FOUND, told)


def not_usable(name: str, problems: Sequence[Problem]) -> ProfileUnusableError:
    """For a profile that is there, but wrong."""
    told = f"{PROFILE_KIND} {name} can't be used: {summed(problems, MAX_TOLD)}"
    return ProfileUnusableError(Reason.PROFILE_INVALID, told)
