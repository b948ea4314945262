"""What a verb needs that probes: Secrets from files, a directory or a cluster, and pods from a cluster."""

from __future__ import annotations

import argparse
import contextlib
import os
from collections.abc import AsyncIterator
from pathlib import Path

from backendhealth.cli.load import Loaded
from backendhealth.cli.secrets import ClusterAccess, SecretSources
from backendhealth.core.spec.backendhealth import BackendHealth, Probe
from backendhealth.engine.ports import OpenProber, Signal
from backendhealth.probes.dialer import Dialer
from backendhealth.probes.podsource import PodSource
from backendhealth.probes.prober import Prober
from backendhealth.probes.registry import Context, build


class KubeconfigError(Exception):
    """A kubeconfig that can't be used."""


def add_access(parser: argparse.ArgumentParser) -> None:
    """Add `--secrets`, `--kubeconfig` and `--context`."""
    parser.add_argument(
        "--secrets", metavar="DIR", type=Path, help="directory with Secrets as files: DIR/namespace/name/key"
    )
    parser.add_argument("--kubeconfig", metavar="FILE", help="read Secrets and watch pods in this kubeconfig's cluster")
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
async def pods_of(args: argparse.Namespace, loaded: Loaded) -> AsyncIterator[PodSource | None]:
    """The pods of the kubeconfig's cluster; None without one, or when nobody asks for pods. Raises KubeconfigError."""
    asked = any(probe.pods for resource in loaded.resources for probe in resource.spec.probes)
    if not args.kubeconfig or not asked:
        yield None
        return
    from backendhealth.kube.api import NoCluster, connect  # noqa: PLC0415 - only who asks for pods pays for these
    from backendhealth.kube.podwatch import PodWatches  # noqa: PLC0415

    try:
        api = await connect(args.kubeconfig, args.context)
    except NoCluster as error:
        raise KubeconfigError(str(error)) from None
    async with api, PodWatches(api) as watches:
        yield watches


def opener(args: argparse.Namespace, loaded: Loaded, pods: PodSource | None) -> OpenProber:
    """What opens a probe with what the options and the files give it."""
    cluster = ClusterAccess(args.kubeconfig, args.context) if args.kubeconfig else None
    sources = SecretSources(loaded.secrets, args.secrets, cluster)
    dialer = Dialer()

    def open_prober(resource: BackendHealth, probe: Probe, changed: Signal) -> Prober:
        namespace = resource.metadata.namespace
        return Prober(build(probe, Context(dialer, sources.of(namespace), namespace, pods, changed)))

    return open_prober
