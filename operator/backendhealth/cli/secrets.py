"""Where the command line finds Secrets: documents in the files, a directory, a cluster."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from http import HTTPStatus
from pathlib import Path

from backendhealth.core.reasons import Reason
from backendhealth.probes.exchange import ProbeError

SecretData = Mapping[str, bytes]
_CLUSTER_TIMEOUT = 3  # seconds; less than the default timeout of an attempt, so that the cause can be told


@dataclass(frozen=True, slots=True)
class ClusterAccess:
    """A kubeconfig file and, if not its current one, the context to use."""

    kubeconfig: str
    context: str | None = None


@dataclass(frozen=True, slots=True)
class SecretSources:
    """All places to look in, in this order."""

    documents: Mapping[tuple[str, str], SecretData] = field(repr=False, default_factory=dict)
    directory: Path | None = None
    cluster: ClusterAccess | None = None

    def of(self, namespace: str) -> NamespaceSecrets:
        """The Secrets of one namespace."""
        return NamespaceSecrets(namespace, self)


@dataclass(frozen=True, slots=True)
class NamespaceSecrets:
    """Reads Secrets of one namespace, anew each time: a rotated one is seen with the next connection."""

    namespace: str
    sources: SecretSources

    async def read(self, name: str) -> SecretData:
        """The Secret's data. Raises ProbeError (SecretNotFound, SecretForbidden, SecretUnavailable)."""
        found = self.sources.documents.get((self.namespace, name))
        if found is None and self.sources.directory is not None:
            found = _from_directory(self.sources.directory / self.namespace / name)
        if found is None and self.sources.cluster is not None:
            found = await _from_cluster(self.sources.cluster, self.namespace, name)
        if found is None:
            raise ProbeError(Reason.SECRET_NOT_FOUND, f"Secret {name} does not exist in namespace {self.namespace}")
        return found


def _from_directory(folder: Path) -> SecretData | None:
    if not folder.is_dir():
        return None
    # `..data` and its like are how Kubernetes swaps mounted Secrets, not keys
    return {path.name: path.read_bytes() for path in folder.iterdir() if path.is_file() and path.name[:2] != ".."}


async def _from_cluster(access: ClusterAccess, namespace: str, name: str) -> SecretData | None:
    from backendhealth.kube import api, secrets  # noqa: PLC0415  only --kubeconfig pays for these

    path = f"/api/v1/namespaces/{namespace}/secrets/{name}"
    try:
        async with await api.connect(access.kubeconfig, access.context) as server:
            return secrets.secret_data(await server.request("GET", path, timeout=_CLUSTER_TIMEOUT))
    except api.NoCluster:
        raise ProbeError(Reason.SECRET_UNAVAILABLE, f"{access.kubeconfig} is not a usable kubeconfig") from None
    except api.ApiError as error:
        if error.status == HTTPStatus.NOT_FOUND:
            return None
        raise _refusal(error.status, namespace, name) from None
    except api.ApiUnavailable:
        told = f"the API server of {access.kubeconfig} does not answer: Secret {name} can't be read"
        raise ProbeError(Reason.SECRET_UNAVAILABLE, told) from None


def _refusal(status: int, namespace: str, name: str) -> ProbeError:
    if status in (HTTPStatus.UNAUTHORIZED, HTTPStatus.FORBIDDEN):
        told = f"may not read Secret {name} in namespace {namespace} ({status}): grant get on secrets"
        return ProbeError(Reason.SECRET_FORBIDDEN, told)
    told = f"the API server answered {status}: Secret {name} can't be read"
    return ProbeError(Reason.SECRET_UNAVAILABLE, told)
