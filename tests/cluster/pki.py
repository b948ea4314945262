"""A throw-away authority: the certificates and kubeconfigs of a control plane or cluster."""

from __future__ import annotations

import base64
from pathlib import Path
from typing import Any

import trustme
import yaml

from tests.servers.certs import Pair

ADMIN_GROUP = "system:masters"


class Pki:
    """One certificate authority; all files live below `directory`."""

    def __init__(self, directory: Path) -> None:
        directory.mkdir(parents=True, exist_ok=True)
        self.directory = directory
        self._ca = trustme.CA()
        self.ca_file = directory / "ca.crt"
        self.ca_key_file = directory / "ca.key"
        self._ca.cert_pem.write_to_path(self.ca_file)
        self._secret(self.ca_key_file, self._ca.private_key_pem.bytes())
        # only its key is used: it signs the tokens of ServiceAccounts
        self.service_account_key_file = self.server("service-accounts", "localhost").key_file

    def server(self, file: str, *names: str, user: str | None = None, group: str | None = None) -> Pair:
        """A serving pair for host `names` and addresses."""
        return self._issue(file, names, user, group)

    def client(self, user: str, group: str | None = None) -> Pair:
        """A client pair: the API server takes the common name for the user, the organization for the group."""
        # the name means nothing, but Go refuses trustme's certificates when they have none
        return self._issue(user.replace(":", "-"), ("client.invalid",), user, group)

    def kubeconfig(self, file: str, url: str, credentials: Pair | str) -> Path:
        """A kubeconfig file for the API server at `url`, signed in with a client pair or a token."""
        if isinstance(credentials, str):
            user = {"token": credentials}
        else:
            user = {"client-certificate-data": _text(credentials.cert), "client-key-data": _text(credentials.key)}
        cluster = {"server": url, "certificate-authority-data": _text(self.ca_file.read_bytes())}
        content: dict[str, Any] = {
            "apiVersion": "v1",
            "kind": "Config",
            "current-context": "test",
            "clusters": [{"name": "test", "cluster": cluster}],
            "users": [{"name": file, "user": user}],
            "contexts": [{"name": "test", "context": {"cluster": "test", "user": file}}],
        }
        path = self.directory / f"{file}.kubeconfig"
        self._secret(path, yaml.safe_dump(content).encode())
        return path

    def _issue(self, file: str, names: tuple[str, ...], user: str | None, group: str | None) -> Pair:
        issued = self._ca.issue_cert(*names, common_name=user, organization_name=group)
        cert = b"".join(blob.bytes() for blob in issued.cert_chain_pems)
        key = issued.private_key_pem.bytes()
        cert_file, key_file = self.directory / f"{file}.crt", self.directory / f"{file}.key"
        cert_file.write_bytes(cert)
        self._secret(key_file, key)
        return Pair(cert, key, cert_file, key_file)

    @staticmethod
    def _secret(path: Path, content: bytes) -> None:
        path.touch(mode=0o600)
        path.write_bytes(content)


def _text(content: bytes) -> str:
    return base64.b64encode(content).decode()
