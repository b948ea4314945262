"""What is known before a person is asked: the platform's profile, and what probes have found."""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from http import HTTPStatus
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from backendhealth import profiles as shipped
from backendhealth.cli.load import Loaded, load
from backendhealth.cli.probing import InCluster, in_cluster, opener
from backendhealth.core.diagnosis.evidence import Evidence
from backendhealth.core.knowledge import Knowledge
from backendhealth.core.profileref import ProfileUnusableError
from backendhealth.core.restoring import written_status
from backendhealth.core.spec.backendhealth import API_VERSION, BackendHealth, ObjectMeta
from backendhealth.core.spec.profile import DiagnosisProfile
from backendhealth.core.triage import evidence_told
from backendhealth.core.validate import Problem, validate, validate_profile
from backendhealth.core.wording import closest
from backendhealth.engine.engine import Engine

if TYPE_CHECKING:
    from backendhealth.kube.api import Api

Choose = Callable[[Sequence[str]], str]
"""One of the names of profiles, when nothing says which. Raises Unusable when nobody is there to choose."""
NOTHING = Evidence({})


class Unusable(Exception):  # noqa: N818 - what is said of the input
    """What a person gave can't be used; the message says why and what to do."""


@dataclass(frozen=True, slots=True)
class Known:
    """The profile, what probes have found by it, and sentences for people about where that comes from."""

    profile: DiagnosisProfile
    evidence: Evidence = NOTHING
    notes: tuple[str, ...] = ()


def from_nothing(args: argparse.Namespace, choose: Choose) -> Known:
    """A profile that ships inside this program, and no probe. Raises Unusable."""
    return Known(_built_in(args.profile or choose(shipped.names())))


async def from_files(args: argparse.Namespace, choose: Choose) -> Known:
    """One round of the probes in the files. Raises Unusable, KubeconfigError."""
    loaded = load(args.files)
    if loaded.problems:
        raise Unusable("\n".join(map(str, loaded.problems)))
    resource = _resource(loaded, args.name)
    if resource is None:
        return Known(_profile(args.profile, resource, loaded, choose))
    async with in_cluster(args, loaded) as cluster:
        _take_profile(loaded, resource, cluster)
        profile = _profile(args.profile, resource, loaded, choose)
        engine = Engine(
            open_prober=opener(args, loaded, cluster.pods),
            clock=time.time,
            sink=lambda _resource, _status: None,
            read_logs=cluster.read_logs,
            once=True,
        )
        try:
            await engine.apply(resource, knowledge=Knowledge(profile.spec))
            await engine.run_once()
            evidence = evidence_told(resource, engine.status(resource.key), time.time())
        finally:
            await engine.close()
    return Known(profile, evidence, (f"Probed {len(resource.spec.probes)} backends of {resource.key} once.",))


def _take_profile(loaded: Loaded, resource: BackendHealth, cluster: InCluster) -> None:
    """Put the profile that the cluster has beside those of the files. Raises Unusable where it can't be used."""
    namespace, ref = resource.metadata.namespace, resource.spec.profile_ref
    found = cluster.profiles.get((namespace, ref.name)) if ref and ref.name else None
    if isinstance(found, ProfileUnusableError):
        raise Unusable(f"{found.message}{found.remedy}")
    if found is not None and ref is not None and ref.name is not None:
        metadata = ObjectMeta(name=ref.name, namespace=namespace)
        loaded.profiles.append(
            DiagnosisProfile(
                api_version="backendhealth.dev/v1alpha1", kind="DiagnosisProfile", metadata=metadata, spec=found
            )
        )


async def from_cluster(args: argparse.Namespace, choose: Choose) -> Known:
    """What the operator has written into the BackendHealth's status; nothing is probed. Raises Unusable."""
    from backendhealth.kube.api import ApiUnavailable, NoCluster, connect  # noqa: PLC0415 - only who asks for a cluster

    try:
        async with await connect(args.kubeconfig, args.context) as api:
            raw = await _object(api, args.namespace, "backendhealths", args.name)
            resource, problems = validate({name: value for name, value in raw.items() if name != "status"})
            if resource is None:
                raise Unusable(_told(f"BackendHealth {args.namespace}/{args.name}", problems))
            profile = await _profile_there(api, args, resource, choose)
    except (ApiUnavailable, NoCluster) as error:
        names = ", ".join(shipped.names())
        raise Unusable(f"{error}. Without a cluster: `backendhealth triage --profile P`, P of {names}") from None
    status, now = written_status(raw.get("status")), time.time()
    if status is None:
        return Known(profile, notes=(f"{resource.key} has no status yet: does the operator run?",))
    written = f", written at {status.heartbeat_time}" if status.heartbeat_time else ""
    return Known(profile, evidence_told(resource, status, now), (f"From the status of {resource.key}{written}.",))


async def _object(api: Api, namespace: str, plural: str, name: str) -> dict[str, Any]:
    from backendhealth.kube.api import ApiError  # noqa: PLC0415

    try:
        return await api.request("GET", f"/apis/{API_VERSION}/namespaces/{quote(namespace)}/{plural}/{quote(name)}")
    except ApiError as error:
        if error.status == HTTPStatus.NOT_FOUND:
            raise Unusable(f"there is no {plural} {name} in the namespace {namespace}: {error.message}") from None
        raise Unusable(str(error)) from None


async def _profile_there(
    api: Api, args: argparse.Namespace, resource: BackendHealth, choose: Choose
) -> DiagnosisProfile:
    ref = resource.spec.profile_ref
    name = args.profile or (ref.name if ref else None)
    if name is None or args.profile in shipped.names():
        return _profile(args.profile, resource, Loaded(), choose)
    raw = await _object(api, resource.metadata.namespace, "diagnosisprofiles", name)
    profile, problems = validate_profile({key: value for key, value in raw.items() if key != "status"})
    if profile is None:
        raise Unusable(_told(f"DiagnosisProfile {name}", problems))
    return profile


def _resource(loaded: Loaded, name: str | None) -> BackendHealth | None:
    """The one to triage; None when the files hold profiles only."""
    found = [one for one in loaded.resources if name in (None, one.metadata.name, one.key)]
    if len(found) == 1:
        return found[0]
    listed = ", ".join(one.key for one in loaded.resources)
    if len(found) > 1:
        raise Unusable(f"the files hold several BackendHealths: name one of {listed}")
    if name is not None:
        raise Unusable(f"no BackendHealth {name} in the files: there are {listed or 'none'}")
    if not loaded.profiles:
        raise Unusable("neither a BackendHealth nor a DiagnosisProfile in the files")
    return None


def _profile(name: str | None, resource: BackendHealth | None, loaded: Loaded, choose: Choose) -> DiagnosisProfile:
    beside = {one.metadata.name: one for one in loaded.profiles if resource in (None, _of(resource, one))}
    ref = resource.spec.profile_ref if resource else None
    if name is None and ref:
        if ref.name and ref.name not in beside:
            raise Unusable(f"profileRef names {ref.name}, which is not in the files: add its file, or use --profile")
        return beside[ref.name] if ref.name else _built_in(ref.built_in or shipped.DEFAULT)
    if name is None and resource is None and len(beside) == 1:
        return next(iter(beside.values()))
    wanted = name or choose(tuple(dict.fromkeys((*beside, *shipped.names()))))
    return beside.get(wanted) or _built_in(wanted, tuple(beside))


def _of(resource: BackendHealth | None, profile: DiagnosisProfile) -> BackendHealth | None:
    """`resource`, if the profile is of its namespace."""
    return resource if resource and resource.metadata.namespace == profile.metadata.namespace else None


def _built_in(name: str, beside: Sequence[str] = ()) -> DiagnosisProfile:
    try:
        return shipped.built_in(name)
    except shipped.UnknownProfileError:
        names = [*beside, *shipped.names()]
        meant = closest(name, names)
        hint = f'did you mean "{meant}"?' if meant else f"there are {', '.join(names)}"
        raise Unusable(f"there is no profile {name}: {hint}") from None


def _told(what: str, problems: Sequence[Problem]) -> str:
    return f"{what} can't be used: " + "; ".join(f"{one.path}: {one.message}" for one in problems[:3])
