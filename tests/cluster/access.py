"""Ways to talk to a test's API server: kubectl, and plain JSON requests as admin."""

from __future__ import annotations

import functools
import json
import os
import ssl
import subprocess
import urllib.error
import urllib.request
from http import HTTPStatus
from pathlib import Path
from typing import Any

from tests.cluster.pki import Pki
from tests.servers.certs import Pair
from tests.servers.process import ServerFailed, wait_until

CRDS = Path(__file__).parents[2] / "crds"
_SECONDS = 30.0


class Kubectl:
    """kubectl on one kubeconfig, whatever the caller's environment says."""

    def __init__(self, binary: str | Path, kubeconfig: Path, cache: Path) -> None:
        self.kubeconfig = kubeconfig
        self._binary = str(binary)
        self._cache = cache

    @property
    def binary(self) -> str:
        """The program."""
        return self._binary

    def kubectl(
        self,
        *arguments: str,
        input: str | None = None,  # noqa: A002 - as subprocess calls it
        check: bool = True,
        timeout: float = 60.0,
    ) -> str:
        """What kubectl printed. Raises ServerFailed with its complaint; with `check` off that is part of the answer."""
        done = subprocess.run(
            [self._binary, *arguments],
            input=input or "",
            capture_output=True,
            text=True,
            timeout=timeout,
            env={**os.environ, "KUBECONFIG": str(self.kubeconfig), "KUBECACHEDIR": str(self._cache)},
            check=False,
        )
        if done.returncode == 0:
            return done.stdout
        if check:
            raise ServerFailed(f"kubectl {' '.join(arguments)}: {done.stderr.strip()}")
        return done.stdout + done.stderr


class Admin(Kubectl):
    """A member of system:masters on an API server of our own."""

    def __init__(self, binary: Path, pki: Pki, admin: Pair, url: str) -> None:
        super().__init__(binary, pki.kubeconfig("admin", url, admin), pki.directory / "kubectl-cache")
        self.url = url
        self._pki = pki
        self._tls = ssl.create_default_context(cafile=str(pki.ca_file))
        self._tls.load_cert_chain(admin.cert_file, admin.key_file)

    def answers(self) -> bool:
        """Whether the API server calls itself ready."""
        try:
            with urllib.request.urlopen(f"{self.url}/readyz", timeout=5, context=self._tls) as answer:
                return bool(answer.status == 200)
        except OSError:  # an HTTP error included
            return False

    def request(self, method: str, path: str, body: Any = None) -> Any:
        """One JSON request. Raises urllib.error.HTTPError."""
        data = None if body is None else json.dumps(body).encode()
        request = urllib.request.Request(f"{self.url}{path}", data, {"Content-Type": "application/json"}, method=method)
        with urllib.request.urlopen(request, timeout=_SECONDS, context=self._tls) as answer:
            return json.load(answer)

    def apply_crds(self) -> None:
        """Create or update the kinds of crds/, and wait until they are served."""
        self.kubectl("apply", "--server-side", "--force-conflicts", "-k", str(CRDS))
        self.wait_for_kinds()

    def wait_for_kinds(self) -> None:
        """A kind's storage is opened by the first request, which is told 429 until then."""
        for crd in self.request("GET", "/apis/apiextensions.k8s.io/v1/customresourcedefinitions")["items"]:
            spec = crd["spec"]
            path = f"/apis/{spec['group']}/{spec['versions'][0]['name']}/{spec['names']['plural']}?limit=1"
            wait_until(functools.partial(self._serves, path), _SECONDS, f"{spec['names']['plural']} served")

    def token_kubeconfig(self, namespace: str, service_account: str) -> Path:
        """A kubeconfig with a fresh token of an existing ServiceAccount."""
        token = self.kubectl("create", "token", service_account, "-n", namespace, "--duration=2h").strip()
        return self._pki.kubeconfig(f"{namespace}-{service_account}", self.url, token)

    def _serves(self, path: str) -> bool:
        try:
            self.request("GET", path)
        except urllib.error.HTTPError as error:
            if error.code not in {HTTPStatus.NOT_FOUND, HTTPStatus.TOO_MANY_REQUESTS}:
                raise
            return False
        return True
