"""Probes PlaceOS's drivers, and whether its cores are where they are looked for."""

from __future__ import annotations

import asyncio
import ssl
import time
from collections.abc import Coroutine, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any, TypeVar

from backendhealth.core.durations import seconds
from backendhealth.core.observation import Finding, clip
from backendhealth.core.placeoscluster import Core
from backendhealth.core.reasons import Reason
from backendhealth.core.spec.placeos import DriversProbe
from backendhealth.core.verdict import Verdict
from backendhealth.probes import drivers_cluster as cluster
from backendhealth.probes import drivers_cores, drivers_judge
from backendhealth.probes.drivers_nodes import Node
from backendhealth.probes.endpoint import margin
from backendhealth.probes.exchange import LIST, ProbeError, failure
from backendhealth.probes.placeos_client import Client, without
from backendhealth.probes.placeos_login import Login
from backendhealth.probes.podsource import PodView
from backendhealth.probes.registry import Context
from backendhealth.probes.trace import Trace

if TYPE_CHECKING:
    from backendhealth.probes.drivers_discovery import Registry

_API_SHARE = 0.7
"""Of the attempt's time, for the API: what is left is for asking cores themselves."""
_DRIVERS_SHARE = 0.9
"""Of what is left for the API once it has listed the cores, for their drivers."""

_UNTROUBLED = (Reason.PROBE_SUCCEEDED, Reason.STEP_SKIPPED)

_T = TypeVar("_T")


def build(target: DriversProbe, context: Context) -> DriversExchange:
    """The exchange for `target`."""
    return DriversExchange(target, context)


class DriversExchange:
    """Keeps connections, and the launches that were counted."""

    def __init__(self, target: DriversProbe, context: Context) -> None:
        self._target = target
        self._context = context
        self._api = Client(target.url, context, target.tls, target.host)
        self._login = Login(target, context, self._api)
        self._cores = [Client(url, context, target.tls) for url in target.core_urls]
        self._registry = _registry(target, context)
        self._view: PodView | None = None
        self._launches: drivers_judge.Launches = {}
        self._turn = 0

    async def attempt(self, trace: Trace, timeout: float) -> Finding:
        """Ask for cores and drivers, and where cores register, at the same time; judge both."""
        clients = [self._api, self._login.auth, *self._cores]
        for client in clients:
            client.begin()
        deadline = timeout - margin(timeout)
        loop = asyncio.get_running_loop()
        ends = loop.time() + deadline
        async with asyncio.TaskGroup() as group:
            nodes = group.create_task(self._nodes(trace, deadline))
            pods = group.create_task(self._pods(trace, deadline))
            share = deadline * _API_SHARE
            with trace.step("api"):
                listed = await _outcome(self._listed(share), share, "the API", self._api.trace)
            cores, failed = (listed, None) if isinstance(listed, list) else ([], listed)
            answering, direct = await self._direct(cores, failed, ends - loop.time())
        part = drivers_cores.judged(_seen(self._target, listed, nodes.result(), pods.result(), answering))
        part = _ours(nodes.result(), pods.result()) or part if part.reason in _UNTROUBLED else part
        own = self._judged(direct or cores, None if direct else failed, all_seen=part.verdict is Verdict.HEALTHY)
        contact = any(client.trace.contact for client in clients)
        trace.contact = contact
        return without(replace(own, contact=contact, parts={"component/core": part}), self._api.secrets)

    async def close(self) -> None:
        """Close all sockets at once; what was counted is kept."""
        await self._login.close()
        for client in (self._api, *self._cores):
            await client.close()
        if self._registry is not None:
            await self._registry.close()
        if self._view is not None:
            self._view.close()
            self._view = None

    async def _listed(self, timeout: float) -> list[Core]:
        """The cores that the API knows, with their drivers. Raises ProbeError and what a broken connection raises."""
        loop = asyncio.get_running_loop()
        ends = loop.time() + timeout
        identity = await self._login.identity()
        try:
            cores = await cluster.listed(self._api, identity.headers)
        except ProbeError:
            self._login.forget()
            raise
        # ends before the caller's patience does, with what was told until then
        left = (ends - loop.time()) * _DRIVERS_SHARE
        return await cluster.with_drivers(self._api, identity.headers, cores, left)

    async def _direct(
        self, cores: Sequence[Core], failed: Finding | None, timeout: float
    ) -> tuple[list[str], list[Core]]:
        """URLs of the cores that answer by themselves, and what they tell where the API does not."""
        if failed is None and len(cores) >= len(self._cores):
            return [], []
        self._turn += 1
        told = await asyncio.gather(*(self._of_core(client, failed is not None, timeout) for client in self._cores))
        answering = [str(client.url) for client, one in zip(self._cores, told, strict=True) if one is not None]
        return answering, [one for one in told if isinstance(one, Core)]

    async def _of_core(self, client: Client, with_drivers: bool, timeout: float) -> Core | bool | None:
        """What the core tells; True when it is only asked whether it is ready; None when it isn't."""
        work: Coroutine[Any, Any, Core | bool] = (
            cluster.direct(client, self._turn) if with_drivers else cluster.ready(client)
        )
        found = await _outcome(work, timeout, f"core at {client.place}", client.trace)
        return None if isinstance(found, Finding) or found is False else found

    async def _nodes(self, trace: Trace, timeout: float) -> list[Node] | Finding | None:
        """What is registered; None where nobody knows where to look."""
        if self._registry is None:
            return None
        return await _outcome(self._registry.nodes(Trace()), timeout, "discovery", trace)

    async def _pods(self, trace: Trace, timeout: float) -> dict[str, str] | Finding | None:
        """Addresses, by name, of the ready pods that are cores."""
        cores = self._target.cores
        if cores is None or cores.selector is None:
            return None
        if self._context.pods is None:
            return Finding(Reason.NO_CLUSTER, "pods can't be seen: no cluster is known")
        if self._view is None:
            self._view = self._context.pods.watch(self._context.namespace, cores.selector.text, self._context.signal)
        with trace.step(LIST):
            pods = await _outcome(self._view.pods(), timeout, "the API server", trace)
        return pods if isinstance(pods, Finding) else {pod.name: pod.ip for pod in pods if pod.live and pod.ready}

    def _judged(self, cores: Sequence[Core], failed: Finding | None, *, all_seen: bool) -> Finding:
        if failed is not None:
            # whatever it is that fails, it is not the drivers
            ours = failed.verdict is Verdict.UNKNOWN
            told = failed.message if ours else f"drivers can't be seen: {failed.message}"
            return Finding(failed.reason if ours else Reason.API_UNAVAILABLE, clip(told))
        if not cores:
            return Finding(Reason.API_UNAVAILABLE, "drivers can't be seen: no core answers the API")
        now = time.monotonic()
        self._launches = drivers_judge.remembered(self._launches, cores, now, seconds(self._target.launch_window))
        return drivers_judge.judged(self._target, cores, self._launches, now, all_seen=all_seen)


def _registry(target: DriversProbe, context: Context) -> Registry | None:
    if target.discovery is None:
        return None
    from backendhealth.probes.drivers_discovery import Registry  # noqa: PLC0415 - only who reads it pays for Redis's client

    return Registry(target.discovery, context)


def _ours(*asked: object) -> Finding | None:
    """Why we could not look at all that the spec names, where that is our own failure; no cluster is none."""
    failed = (one for one in asked if isinstance(one, Finding) and one.verdict is Verdict.UNKNOWN)
    return next((one for one in failed if one.reason is not Reason.NO_CLUSTER), None)


def _seen(
    target: DriversProbe,
    listed: list[Core] | Finding,
    nodes: list[Node] | Finding | None,
    pods: dict[str, str] | Finding | None,
    answering: Sequence[str],
) -> drivers_cores.Seen:
    failed = nodes if isinstance(nodes, Finding) else listed if isinstance(listed, Finding) else None
    return drivers_cores.Seen(
        listed=listed if isinstance(listed, list) else None,
        nodes=nodes if isinstance(nodes, list) else None,
        pods=pods if isinstance(pods, dict) else None,
        answering=answering,
        expected=target.cores.expected if target.cores else None,
        unseen=failed.message if failed else "",
    )


async def _outcome(work: Coroutine[Any, Any, _T], timeout: float, what: str, connecting: Trace) -> _T | Finding:
    """What `work` gives, or the finding that its failure makes."""
    try:
        async with asyncio.timeout(max(timeout, 0)):
            return await work
    except TimeoutError as error:
        if error.errno is None:
            return Finding(Reason.TIMEOUT, f"{what}: no answer within {timeout:.3g} s")
        return failure(error, connecting)
    except (ProbeError, OSError, ssl.SSLError) as error:
        found = failure(error, connecting)
        return Finding(found.reason, clip(f"{what}: {found.message}"), contact=found.contact)
