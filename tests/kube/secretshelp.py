"""What the tests of Secrets on a real API server share: identities, Secrets, and running the lines that we print."""

from __future__ import annotations

import asyncio
import base64
import os
import subprocess
import time
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

from backendhealth.core.reasons import Reason
from backendhealth.kube.api import connect
from backendhealth.kube.secrets import ClusterSecrets, SecretReader
from backendhealth.probes.exchange import ProbeError
from tests.servers.kubernetes import ControlPlane

ACCOUNT = "probes"
BACKENDHEALTH = "placeos"


@dataclass
class World:
    """A namespace with a Secret's owner, and an operator whose clock goes by hand."""

    plane: ControlPlane
    namespace: str
    reader: SecretReader
    clock: Clock
    reads: list[int]
    """The status of each request for a Secret, 0 where none came."""

    def secrets(
        self, *hosts: str, account: str | None = ACCOUNT, name: str = BACKENDHEALTH, namespace: str = ""
    ) -> ClusterSecrets:
        """What a BackendHealth is handed."""
        return self.reader.of(namespace or self.namespace, name, account, frozenset(hosts))

    def put(self, name: str, data: Mapping[str, str], **annotations: str) -> None:
        """Create the Secret or replace it; the annotations are `allow` and `allow_hosts`."""
        keys = {f"backendhealth.dev/{key.replace('_', '-')}": value for key, value in annotations.items()}
        secret = {
            "apiVersion": "v1",
            "kind": "Secret",
            "metadata": {"name": name, "annotations": keys},
            "data": {key: base64.b64encode(value.encode()).decode() for key, value in data.items()},
        }
        path = f"/api/v1/namespaces/{self.namespace}/secrets"
        there = self.plane.request("GET", path)["items"]
        method, at = ("PUT", f"{path}/{name}") if name in {one["metadata"]["name"] for one in there} else ("POST", path)
        self.plane.request(method, at, secret)

    def kubectl(self, *arguments: str) -> str:
        """As admin, in the namespace."""
        return self.plane.kubectl("-n", self.namespace, *arguments)

    def run(self, message: str) -> None:
        """Run the command that a message ends with, as it stands, in a shell."""
        assert message.endswith("`"), message
        path = f"{self.plane._binaries}:{os.environ['PATH']}"
        environment = {**os.environ, "KUBECONFIG": str(self.plane.kubeconfig), "PATH": path}
        line = message.split("`")[1]
        subprocess.run(["sh", "-c", line], check=True, capture_output=True, text=True, timeout=60, env=environment)

    async def attempt(self, secrets: ClusterSecrets, name: str) -> ProbeError | None:
        """What reading ends in now."""
        try:
            await secrets.read(name)
        except ProbeError as error:
            return error
        return None

    async def outcome(self, secrets: ClusterSecrets, name: str, was: Reason | None = None) -> ProbeError | None:
        """What reading ends in, later than all cached refusals; waits until it is no longer for the reason `was`."""
        deadline = time.monotonic() + 20
        while True:
            self.clock.now += 10
            error = await self.attempt(secrets, name)
            if error is None or error.reason is not was or time.monotonic() > deadline:
                return error
            await asyncio.sleep(0.05)  # the API server learns of a new grant in its own time


@dataclass
class Clock:
    """Seconds that pass when a test says so."""

    now: float = field(default=1000.0)

    def __call__(self) -> float:
        return self.now


@asynccontextmanager
async def world(plane: ControlPlane, namespace: str, *, granted: bool = True) -> AsyncIterator[World]:
    """An operator that is a ServiceAccount of its own; unless `granted`, nobody may do anything yet."""
    plane.kubectl("-n", "default", "create", "serviceaccount", f"operator-{namespace}")
    clock, reads = Clock(), list[int]()

    def observe(_method: str, about: str, status: int) -> None:
        if about == "secrets":
            reads.append(status)

    async with await connect(str(plane.token_kubeconfig("default", f"operator-{namespace}")), None, observe) as api:
        reader = SecretReader(api, clock=clock)
        found = World(plane, namespace, reader, clock, reads)
        if granted:
            found.kubectl("create", "role", "grants", "--verb=impersonate", "--resource=serviceaccounts")
            operator = f"--serviceaccount=default:operator-{namespace}"
            found.kubectl("create", "rolebinding", "grants", "--role=grants", operator)
            found.kubectl("create", "role", "reads", "--verb=get", "--resource=secrets")
            found.kubectl("create", "rolebinding", "reads", "--role=reads", f"--serviceaccount={namespace}:{ACCOUNT}")
            failed = await found.outcome(found.secrets(), "no-such-secret", Reason.SECRET_FORBIDDEN)
            assert failed is not None
            assert failed.reason is Reason.SECRET_NOT_FOUND
            reads.clear()
        try:
            yield found
        finally:
            await reader.close()
    plane.kubectl("-n", "default", "delete", "serviceaccount", f"operator-{namespace}")
