"""Every write of a BackendHealth's status, as a raw watch receives it."""

from __future__ import annotations

import json
import subprocess
import threading
import time
from pathlib import Path
from typing import Self

from tests.cluster import build
from tests.scenarios.judge import Write

_PATH = "/apis/backendhealth.dev/v1alpha1/namespaces/{}/backendhealths?watch=1&fieldSelector=metadata.name%3D{}"


class StatusWatch:
    """`writes` are the statuses of one object, with the time of receipt; those of a former object are left out."""

    def __init__(self, kubeconfig: Path, namespace: str, name: str, uid: str) -> None:
        self.writes: list[Write] = []
        self._uid = uid
        path = _PATH.format(namespace, name)
        argv = [str(build.home() / "kubectl"), "--kubeconfig", str(kubeconfig), "get", "--raw", path]
        self._process = subprocess.Popen(argv, stdout=subprocess.PIPE, text=True)
        self._thread = threading.Thread(target=self._read, daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._process.kill()
        self._process.wait(10)
        self._thread.join(10)
        if self._process.stdout:
            self._process.stdout.close()

    def _read(self) -> None:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            found = json.loads(line)["object"]
            status = found.get("status") or {}
            # a change of anything else is no write of the status
            if found["metadata"]["uid"] == self._uid and (not self.writes or self.writes[-1].status != status):
                self.writes.append(Write(time.time(), status))
