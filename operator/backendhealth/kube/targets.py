"""Which addresses are the cluster's own, so that no probe connects to a node or an API server unless it is allowed."""

from __future__ import annotations

import asyncio
import logging
import os
import socket
from collections.abc import Callable, Iterable, Mapping
from http import HTTPStatus
from urllib.parse import urlsplit

from backendhealth.core.hostlist import Address, address_of
from backendhealth.core.reach import Reach
from backendhealth.kube.api import Api, ApiError, ApiUnavailable, Json
from backendhealth.probes.dialer import Dialer
from backendhealth.probes.exchange import ProbeError
from backendhealth.probes.trace import Trace

log = logging.getLogger(__name__)

REFRESH = 300.0
"""Seconds between two looks at the cluster's nodes."""
RETRY = 2.0
"""Seconds until the next try while they could never be looked at."""
_LOOK_UP = 5.0  # seconds for the name of the API server
_NODES = "/api/v1/nodes"
_SLICE = "/apis/discovery.k8s.io/v1/namespaces/default/endpointslices/kubernetes"


class Targets:
    """The guard of the dialer: `allow`, `deny` and, by default, no special address and none of the cluster's own.

    Until the API server has answered once, with the nodes or with a refusal, every address that is not allowed
    expressly is refused. `environ` is where the pod is told of NODE_IP and KUBERNETES_SERVICE_HOST. Raises ValueError
    for an entry of the lists that can't be read.
    """

    def __init__(
        self, api: Api, *, allow: Iterable[str], deny: Iterable[str], environ: Mapping[str, str] = os.environ
    ) -> None:
        self._api = api
        self._allow, self._deny = tuple(allow), tuple(deny)
        self._environ = environ
        self._dialer = Dialer()
        self._known: dict[str, frozenset[Address]] = {}
        self._told: set[str] = set()
        self._reach = Reach(self._allow, self._deny, None)

    def guard(self, host: str, address: Address | None) -> str | None:
        """Why `host` must not be connected to at `address`, or None: probes.dialer.Guard."""
        return self._reach.refusal(host, address)

    async def run(self) -> None:
        """Keep the addresses up to date, until cancelled."""
        while True:  # noqa: ASYNC110 - by the clock
            await asyncio.sleep(REFRESH if await self.refresh() else RETRY)

    async def refresh(self) -> bool:
        """Look at the cluster once; whether nodes and API servers are known now, or known to be none of our business.

        What can't be asked about keeps the addresses that it had.
        """
        await self._look(_NODES, _of_node, "NODE_IP")
        await self._look(_SLICE, _of_slice, "KUBERNETES_SERVICE_HOST")
        known = self._known.keys() >= {_NODES, _SLICE}
        if known:
            cluster = frozenset().union(*self._known.values(), await self._of_server())
            self._reach = Reach(self._allow, self._deny, cluster)
        return known

    async def _look(self, path: str, addresses: Callable[[Json], Iterable[str]], variable: str) -> None:
        told = _addresses([self._environ.get(variable, "")])
        try:
            items = await self._items(path)
        except ApiUnavailable:
            return
        except ApiError as error:
            if error.status != HTTPStatus.FORBIDDEN:
                return
            self._known.setdefault(path, told)
            self._tell_once(path, variable, told)
        else:
            self._known[path] = told | _addresses(text for item in items for text in addresses(item))

    async def _items(self, path: str) -> list[Json]:
        """The nodes, or the API server's EndpointSlice by its name: that needs no right to see others."""
        if path == _NODES:
            return (await self._api.list(path))[0]
        try:
            return [await self._api.request("GET", path)]
        except ApiError as error:
            if error.status != HTTPStatus.NOT_FOUND:
                raise
            return []  # of an API server that does not tell where it is

    def _tell_once(self, path: str, variable: str, told: frozenset[Address]) -> None:
        if path not in self._told:
            self._told.add(path)
            what = ", ".join(sorted(map(str, told))) or "none of them"
            log.warning("may not read %s: of these addresses probes are kept from %s (%s)", path, what, variable)

    async def _of_server(self) -> frozenset[Address]:
        """The addresses of the API server that we talk to ourselves, as far as its name can be looked up."""
        host = urlsplit(self._api.host).hostname or ""
        try:
            async with asyncio.timeout(_LOOK_UP):
                found = await self._dialer.resolve(host, 0, Trace())
        except (TimeoutError, socket.gaierror, ProbeError):
            return frozenset()
        return _addresses(str(info[4][0]) for info in found)


def _of_node(node: Json) -> Iterable[str]:
    return [entry["address"] for entry in (node.get("status") or {}).get("addresses") or ()]


def _of_slice(endpoint_slice: Json) -> Iterable[str]:
    return [address for endpoint in endpoint_slice.get("endpoints") or () for address in endpoint["addresses"]]


def _addresses(texts: Iterable[str]) -> frozenset[Address]:
    """Those of `texts` that are addresses: a node's host name is none."""
    return frozenset(address for address in map(address_of, texts) if address is not None)
