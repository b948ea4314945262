"""What a verb needs that probes: Secrets, and from a cluster pods, their logs and profiles as well."""

from __future__ import annotations

import argparse
import contextlib
import os
import sys
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from backendhealth.cli.knowing import There, missing_profiles
from backendhealth.cli.load import Loaded
from backendhealth.cli.secrets import ClusterAccess, SecretSources
from backendhealth.core.profileref import ProfileUnusableError
from backendhealth.core.spec.backendhealth import BackendHealth, Probe
from backendhealth.core.spec.profile import DiagnosisProfileSpec
from backendhealth.engine.ports import OpenProber, ReadLogs, Signal
from backendhealth.probes.dialer import Dialer
from backendhealth.probes.podsource import PodSource
from backendhealth.probes.prober import Prober
from backendhealth.probes.registry import Context, build

if TYPE_CHECKING:
    from backendhealth.kube.api import Api


class KubeconfigError(Exception):
    """A kubeconfig that can't be used."""


@dataclass(frozen=True, slots=True)
class InCluster:
    """What a cluster gives to who probes from outside, with the rights of a kubeconfig; nothing without one."""

    pods: PodSource | None = None
    read_logs: ReadLogs | None = None
    profiles: There = field(default_factory=dict)


def add_access(parser: argparse.ArgumentParser) -> None:
    """Add `--secrets`, `--kubeconfig` and `--context`."""
    parser.add_argument(
        "--secrets", metavar="DIR", type=Path, help="directory with Secrets as files: DIR/namespace/name/key"
    )
    parser.add_argument(
        "--kubeconfig",
        metavar="FILE",
        help="read Secrets, DiagnosisProfiles and pods' logs, and watch pods, in this kubeconfig's cluster",
    )
    parser.add_argument("--context", metavar="NAME", help="with --kubeconfig: the context to use")


def access_problem(args: argparse.Namespace) -> str:
    """What is wrong with these options; empty when nothing is."""
    if args.context and not args.kubeconfig:
        return "--context goes with --kubeconfig"
    if args.secrets and not args.secrets.is_dir():
        return f"--secrets {args.secrets}: not a directory"
    if args.kubeconfig and not os.access(args.kubeconfig, os.R_OK):
        return f"--kubeconfig {args.kubeconfig}: can't be read"
    return ""


@contextlib.asynccontextmanager
async def in_cluster(args: argparse.Namespace, loaded: Loaded) -> AsyncIterator[InCluster]:
    """What the kubeconfig's cluster gives; nothing without one, or when nobody asks for it. Raises KubeconfigError."""
    pods = any(_sees_pods(probe) for resource in loaded.resources for probe in resource.spec.probes)
    if not args.kubeconfig or not (pods or missing_profiles(loaded)):
        yield InCluster()
        return
    from backendhealth.kube.api import NoCluster, connect  # noqa: PLC0415 - only who asks for a cluster pays for these
    from backendhealth.kube.podlogs import PodLogs  # noqa: PLC0415
    from backendhealth.kube.podwatch import PodWatches  # noqa: PLC0415

    try:
        api = await connect(args.kubeconfig, args.context)
    except NoCluster as error:
        raise KubeconfigError(str(error)) from None
    async with api, PodWatches(api) as watches:
        logs = PodLogs(api, watches, _UnreadTold(), own_rights=True)
        yield InCluster(watches, logs.read, await _profiles(api, loaded))


def _sees_pods(probe: Probe) -> bool:
    cores = probe.drivers.cores if probe.drivers else None
    return probe.pods is not None or (cores is not None and cores.selector is not None)


class _UnreadTold:
    """Tells on standard error why logs can't be looked through, each why once."""

    def __init__(self) -> None:
        self._told: set[tuple[str, str]] = set()

    def __call__(self, resource: BackendHealth, _probe: Probe, problem: str) -> None:
        if problem and (resource.key, problem) not in self._told:
            self._told.add((resource.key, problem))
            print(f"warning: {resource.key}: {problem}", file=sys.stderr)


async def _profiles(api: Api, loaded: Loaded) -> There:
    from backendhealth.kube.profiles import profile_there  # noqa: PLC0415

    found: dict[tuple[str, str], DiagnosisProfileSpec | ProfileUnusableError] = {}
    for namespace, name in sorted(missing_profiles(loaded)):
        try:
            found[namespace, name] = await profile_there(api, namespace, name)
        except ProfileUnusableError as error:
            found[namespace, name] = error
    return found


def opener(args: argparse.Namespace, loaded: Loaded, pods: PodSource | None) -> OpenProber:
    """What opens a probe with what the options and the files give it."""
    cluster = ClusterAccess(args.kubeconfig, args.context) if args.kubeconfig else None
    sources = SecretSources(loaded.secrets, args.secrets, cluster)
    dialer = Dialer()

    def open_prober(resource: BackendHealth, probe: Probe, changed: Signal) -> Prober:
        namespace = resource.metadata.namespace
        return Prober(build(probe, Context(dialer, sources.of(namespace), namespace, pods, changed)))

    return open_prober
