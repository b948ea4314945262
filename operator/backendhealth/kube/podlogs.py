"""The last lines of pods' logs. They may hold secrets: the operator reads as the BackendHealth's ServiceAccount."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Sequence
from http import HTTPStatus

from backendhealth.core.grants import remedy
from backendhealth.core.logreading import Log, chosen
from backendhealth.core.observation import clip
from backendhealth.core.spec.backendhealth import BackendHealth, Probe
from backendhealth.engine.ports import Logged
from backendhealth.kube.api import Api, ApiError, ApiUnavailable
from backendhealth.probes.exchange import ProbeError
from backendhealth.probes.podsource import PodSource

MAX_BYTES = 64 << 10
"""Bytes of one log."""
TIMEOUT = 5.0
"""Seconds for all logs of one probe."""
_CAN_NOT_TELL = (HTTPStatus.BAD_REQUEST, HTTPStatus.NOT_FOUND)
"""What the API server answers for a pod that is just starting, or gone, or was not started before."""


class PodLogs:
    """Reads for the engine. `told` takes what keeps it from reading, each time; empty when nothing does.

    `own_rights`: reads as who `api` is, a person, instead of as the ServiceAccount that the resource names.
    """

    def __init__(
        self, api: Api, pods: PodSource, told: Callable[[BackendHealth, Probe, str], None], *, own_rights: bool = False
    ) -> None:
        self._api = api
        self._pods = pods
        self._told = told
        self._own_rights = own_rights

    async def read(self, resource: BackendHealth, probe: Probe) -> Logged:
        """See engine.ports.ReadLogs."""
        lines: list[bytes] = []
        problem = ""
        try:
            async with asyncio.timeout(TIMEOUT):
                await self._read(resource, probe, lines)
        except TimeoutError:
            problem = f"the logs were not read within {TIMEOUT:g} s"
        except ProbeError as error:
            problem = error.message
        except ApiUnavailable as error:
            problem = str(error)
        except ApiError as error:
            problem = _refused(resource, error)
        self._told(
            resource, probe, clip(f"pods' logs are not looked through for {probe.name}: {problem}") if problem else ""
        )
        return Logged(lines, unread=bool(problem))

    async def _read(self, resource: BackendHealth, probe: Probe, lines: list[bytes]) -> None:
        target, account = probe.pods, resource.spec.service_account_name
        if target is None or target.logs is None:
            return
        if account is None and not self._own_rights:
            told = "logs may hold secrets: set spec.serviceAccountName to a ServiceAccount that may get pods/log"
            raise ApiError(HTTPStatus.FORBIDDEN, "NoServiceAccount", told)
        view = self._pods.watch(resource.metadata.namespace, target.selector.text, lambda: None)
        try:
            pods = await view.pods()
        finally:
            view.close()
        for log in chosen(pods, target.logs.container, time.time()):
            lines += await self._log(resource.metadata.namespace, account or "", log, target.logs.lines)

    async def _log(self, namespace: str, account: str, log: Log, lines: int) -> Sequence[bytes]:
        query = {"container": log.container, "tailLines": str(lines), "limitBytes": str(MAX_BYTES)}
        query |= {"previous": "true"} if log.previous else {}
        path = f"/api/v1/namespaces/{namespace}/pods/{log.pod}/log"
        headers = {} if self._own_rights else {"Impersonate-User": f"system:serviceaccount:{namespace}:{account}"}
        try:
            return (await self._api.text(path, query, headers=headers, timeout=TIMEOUT)).splitlines()
        except ApiError as error:
            if error.status in _CAN_NOT_TELL:
                return ()
            raise


def _refused(resource: BackendHealth, error: ApiError) -> str:
    account = resource.spec.service_account_name or ""
    name = account if "cannot impersonate" in error.message else ""
    return f"{error.message}{remedy(resource.metadata.namespace, error.message, name=name)}"
