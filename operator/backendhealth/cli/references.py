"""What one document names of another, or of this program: profiles, their components, reasons."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable, Iterator, Sequence

from backendhealth import profiles as shipped
from backendhealth.core.reasons import Reason
from backendhealth.core.spec.backendhealth import KIND, BackendHealth
from backendhealth.core.spec.profile import PROFILE_KIND, DiagnosisProfile, DiagnosisProfileSpec
from backendhealth.core.validate import Problem
from backendhealth.core.wording import Loc, closest

Identity = tuple[str, str, str]
"""Kind, namespace and name."""

_NEAR = 0.8
"""How alike two names must be for one to be taken for a slip of the other; 1 is the same."""


def unknown_built_in(resource: BackendHealth) -> Iterator[Problem]:
    """That the profile, were it to ship inside this program, does not."""
    ref = resource.spec.profile_ref
    if ref and ref.built_in and ref.built_in not in shipped.names():
        loc: Loc = ("spec", "profileRef", "builtIn")
        message = f"no built-in profile has this name: there are {', '.join(shipped.names())}"
        yield Problem(loc, "unknown-profile", message, closest(ref.built_in, shipped.names()))


def doubtful_names(
    resources: Iterable[BackendHealth], profiles: Sequence[DiagnosisProfile]
) -> Iterator[tuple[Identity, Problem]]:
    """Names that are probably slips. An API server takes them; a newer one, or another file, may know them."""
    for resource in resources:
        identity = (KIND, resource.metadata.namespace, resource.metadata.name)
        beside = [one for one in profiles if one.metadata.namespace == resource.metadata.namespace]
        for problem in (*_misspelt_profile(resource, beside), *_misspelt_components(resource, beside)):
            yield identity, problem
    for profile in profiles:
        for problem in unknown_reasons(profile.spec):
            yield (PROFILE_KIND, profile.metadata.namespace, profile.metadata.name), problem


def unknown_reasons(spec: DiagnosisProfileSpec) -> Iterator[Problem]:
    """Reasons that no probe of this version gives: they never match."""
    lists = [
        *((("spec", "components", index, "ownReasons"), one.own_reasons) for index, one in enumerate(spec.components)),
        *((("spec", "confounders", index, "reasons"), one.reasons) for index, one in enumerate(spec.confounders)),
    ]
    known = [reason.value for reason in Reason]
    for loc, names in lists:
        for index, name in enumerate(names):
            if name not in known:
                message = "no probe of this version gives this reason, so it never matches"
                yield Problem((*loc, index), "unknown-reason", message, closest(name, known))


def _misspelt_profile(resource: BackendHealth, beside: list[DiagnosisProfile]) -> Iterator[Problem]:
    """That a profile which is not among the files, and may be in the cluster, has nearly the name of one that is."""
    ref = resource.spec.profile_ref
    names = [one.metadata.name for one in beside]
    if ref and ref.name and ref.name not in names and (meant := near(ref.name, names)):
        message = "no DiagnosisProfile among the files has this name, but one has nearly the same"
        yield Problem(("spec", "profileRef", "name"), "unknown-profile", message, meant)


def _misspelt_components(resource: BackendHealth, beside: list[DiagnosisProfile]) -> Iterator[Problem]:
    spec = profile_of(resource, beside)
    known = [one.name for one in spec.components] if spec else []
    answered = {one.name for one in spec.symptoms} if spec else set()
    for index, probe in enumerate(resource.spec.probes):
        name = probe.component_name
        if name not in known and name not in answered and (meant := near(name, known)):
            message = "the profile has no component of this name, but one of nearly the same"
            field = "component" if probe.component else "name"
            yield Problem(("spec", "probes", index, field), "unknown-component", message, meant)


def profile_of(resource: BackendHealth, beside: Sequence[DiagnosisProfile]) -> DiagnosisProfileSpec | None:
    """The profile that the resource names, if it is a built-in one or among those of its namespace."""
    ref = resource.spec.profile_ref
    if ref is None:
        return None
    if ref.built_in:
        return shipped.built_in(ref.built_in).spec
    return next((one.spec for one in beside if one.metadata.name == ref.name), None)


def near(name: str, known: Iterable[str]) -> str:
    """The one of `known` that `name` is a slip of; `redis-2` is none of `redis`: numbers tell members apart."""
    plain = {one.replace("-", ""): one for one in known}
    found = difflib.get_close_matches(name.replace("-", ""), plain, n=1, cutoff=_NEAR)
    meant = plain[found[0]] if found else ""
    return "" if meant and re.sub("[0-9]", "", name).strip("-") == re.sub("[0-9]", "", meant).strip("-") else meant
