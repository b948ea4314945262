"""Command lines of etcd and the API server: the same for the bare control plane and for the cluster with a node."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

from tests.cluster.pki import Pki
from tests.servers.certs import Pair
from tests.servers.process import LOOPBACK

SERVICE_NETWORK = "10.96.0.0/16"
ISSUER = "https://kubernetes.default.svc"


@dataclass(frozen=True, slots=True)
class Store:
    """Where etcd listens and keeps its data."""

    binary: Path
    data: Path
    client_port: int
    peer_port: int

    @property
    def url(self) -> str:
        """For clients."""
        return f"http://{LOOPBACK}:{self.client_port}"

    def arguments(self) -> list[str]:
        """The command line. Nothing is synced to disk: a killed process loses nothing all the same."""
        peer = f"http://{LOOPBACK}:{self.peer_port}"
        return [
            str(self.binary),
            "--name=test",
            f"--data-dir={self.data}",
            f"--listen-client-urls={self.url}",
            f"--advertise-client-urls={self.url}",
            f"--listen-peer-urls={peer}",
            f"--initial-advertise-peer-urls={peer}",
            f"--initial-cluster=test={peer}",
            "--unsafe-no-fsync",
            "--log-level=warn",
        ]


@dataclass(frozen=True, slots=True)
class ApiServer:
    """What both kinds of API server have in common; `audit_log` gets one JSON line a request."""

    binary: Path
    pki: Pki
    serving: Pair
    store: Store
    port: int
    audit_log: Path

    def arguments(self, *extra: str) -> list[str]:
        """The command line; writes the audit policy beside the log."""
        service_accounts = self.pki.service_account_key_file
        return [
            str(self.binary),
            f"--etcd-servers={self.store.url}",
            f"--secure-port={self.port}",
            f"--service-cluster-ip-range={SERVICE_NETWORK}",
            f"--tls-cert-file={self.serving.cert_file}",
            f"--tls-private-key-file={self.serving.key_file}",
            f"--client-ca-file={self.pki.ca_file}",
            f"--service-account-issuer={ISSUER}",
            f"--service-account-key-file={service_accounts}",
            f"--service-account-signing-key-file={service_accounts}",
            "--allow-privileged=true",
            "--profiling=false",
            f"--audit-policy-file={self._audit_policy()}",
            f"--audit-log-path={self.audit_log}",
            *extra,
        ]

    def _audit_policy(self) -> Path:
        policy = {
            "apiVersion": "audit.k8s.io/v1",
            "kind": "Policy",
            "omitStages": ["RequestReceived"],
            "rules": [{"level": "Metadata"}],
        }
        path = self.audit_log.with_name("audit-policy.yaml")
        path.write_text(json.dumps(policy))
        return path
