"""The DiagnosisProfiles that ship inside the package: one YAML file each, as a user would write it."""

from __future__ import annotations

from functools import cache
from importlib.resources import files

import yaml

from backendhealth.core.profileref import ProfileUnusableError
from backendhealth.core.reasons import Reason
from backendhealth.core.spec.profile import DiagnosisProfile, DiagnosisProfileSpec
from backendhealth.core.wording import closest

DEFAULT = "generic"
"""The profile of a BackendHealth that names none."""
_SUFFIX = ".yaml"
_LOADER: type[yaml.SafeLoader] = getattr(yaml, "CSafeLoader", yaml.SafeLoader)


class UnknownProfileError(LookupError):
    """There is no built-in profile of that name; `suggestion` is the one that was probably meant, or empty."""

    def __init__(self, name: str) -> None:
        self.suggestion = closest(name, names())
        hint = f'did you mean "{self.suggestion}"?' if self.suggestion else f"there are {', '.join(names())}"
        super().__init__(f"no built-in profile {name}: {hint}")


@cache
def names() -> tuple[str, ...]:
    """Names of the built-in profiles, sorted."""
    found = (one.name for one in files(__package__).iterdir())
    return tuple(sorted(name.removesuffix(_SUFFIX) for name in found if name.endswith(_SUFFIX)))


@cache
def built_in(name: str) -> DiagnosisProfile:
    """The built-in profile `name`. Raises UnknownProfileError."""
    if name not in names():
        raise UnknownProfileError(name)
    text = files(__package__).joinpath(f"{name}{_SUFFIX}").read_bytes()
    return DiagnosisProfile.model_validate(yaml.load(text, _LOADER), by_alias=True, by_name=False)  # noqa: S506


def spec_of(name: str) -> DiagnosisProfileSpec:
    """What the built-in profile `name` says. Raises ProfileUnusableError: a core.profileref.BuiltIn."""
    try:
        return built_in(name).spec
    except UnknownProfileError as error:
        raise ProfileUnusableError(Reason.PROFILE_NOT_FOUND, str(error)) from None
