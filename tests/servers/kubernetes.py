"""A real Kubernetes control plane on loopback: etcd and kube-apiserver. No node, no controller: objects only.

So a namespace has no default ServiceAccount, a pod never starts, nothing is garbage-collected.
"""

from __future__ import annotations

import json
import shutil
import tempfile
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Self

from backendhealth.kube.api import Api, connect
from tests.cluster import build
from tests.cluster.access import Admin
from tests.cluster.apiserver import ApiServer, Store
from tests.cluster.pki import ADMIN_GROUP, Pki
from tests.servers.process import LOOPBACK, Process, ServerFailed, free_port

_PORT_ATTEMPTS = 3  # a port that was free may be taken by another program before the server has it
_SECONDS = 30.0


class ControlPlane(Admin):
    """etcd and an API server with RBAC and an audit log; `with` starts and ends them."""

    def __init__(self) -> None:
        self._binaries = build.binaries()
        self.directory = Path(tempfile.mkdtemp(prefix="bh-control-plane-"))
        self.audit_log = self.directory / "audit.log"
        """One JSON line for each request that was answered, without bodies."""
        self._store = Process("kube-etcd", [], ready=self._store_ready, parent=self.directory)
        self._server = Process("kube-apiserver", [], ready=self.answers, start_timeout=60, parent=self.directory)
        self._configure(Pki(self.directory / "pki"))

    def __enter__(self) -> Self:
        for left in reversed(range(_PORT_ATTEMPTS)):
            try:
                self._store.start()
                self._server.start()
            except ServerFailed as failed:
                if not left or "address already in use" not in str(failed):
                    self.close()
                    raise
                self._store.kill()
                self._configure(self._pki)
            except BaseException:
                self.close()
                raise
            else:
                break
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _configure(self, pki: Pki) -> None:
        port = free_port()
        super().__init__(
            self._binaries / "kubectl", pki, pki.client("admin", ADMIN_GROUP), f"https://{LOOPBACK}:{port}"
        )
        store = Store(self._binaries / "etcd", self.directory / "data", free_port(), free_port())
        serving = pki.server("apiserver", LOOPBACK, "localhost")
        server = ApiServer(self._binaries / "kube-apiserver", pki, serving, store, port, self.audit_log)
        self._store_url = store.url
        self._store.argv = store.arguments()
        self._server.argv = server.arguments(
            f"--bind-address={LOOPBACK}",
            f"--advertise-address={LOOPBACK}",
            "--endpoint-reconciler-type=none",  # no Endpoints may name a loopback address
            "--authorization-mode=RBAC",
            "--disable-admission-plugins=ServiceAccount",  # nobody makes the default one
        )

    def _store_ready(self) -> bool:
        try:
            with urllib.request.urlopen(f"{self._store_url}/health", timeout=2) as answer:
                return bool(answer.status == 200)
        except OSError:
            return False

    async def api(self) -> Api:
        """A client as admin; the caller closes it."""
        return await connect(str(self.kubeconfig), None)

    def stop_api(self) -> None:
        """kill -9 of the API server; etcd goes on."""
        self._server.kill()

    def start_api(self) -> None:
        """Start the API server again, on the same port and data, and wait until it is ready and serves all kinds."""
        self._server.start()
        self.wait_for_kinds()

    def pause(self) -> None:
        """SIGSTOP of the API server: connections stay open, nothing answers."""
        self._server.freeze()

    def resume(self) -> None:
        """SIGCONT of the API server; no harm if it runs."""
        self._server.resume()

    def compact(self) -> None:
        """Drop all history: compact etcd and restart the API server, whose own cache remembers the last events.

        Every watch breaks off, and one that comes back with an older resourceVersion gets 410 (Expired).
        """
        revision = self._store_request("/v3/kv/range", {"key": "AA==", "limit": "1"})["header"]["revision"]
        self._store_request("/v3/kv/compaction", {"revision": revision, "physical": True})
        self.stop_api()
        self.start_api()

    def _store_request(self, path: str, body: Any) -> Any:
        request = urllib.request.Request(f"{self._store_url}{path}", json.dumps(body).encode())
        with urllib.request.urlopen(request, timeout=_SECONDS) as answer:
            return json.load(answer)

    def audited(self, start: int = 0) -> Iterator[dict[str, Any]]:
        """The audit log's events from byte `start` on (its size at the time: `audit_log.stat().st_size`)."""
        with self.audit_log.open("rb") as log:
            log.seek(start)
            for line in log:
                yield json.loads(line)

    def close(self) -> None:
        """End both and delete what they stored."""
        self._server.kill()  # SIGTERM would wait for open watches
        self._store.kill()
        shutil.rmtree(self.directory, ignore_errors=True)
