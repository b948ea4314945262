"""Judges pods by what the API server tells of them; a change in them asks for an attempt at once."""

from __future__ import annotations

import time

from backendhealth.core.durations import seconds
from backendhealth.core.observation import Finding
from backendhealth.core.podstate import Restarts, judged, remembered
from backendhealth.core.reasons import Reason
from backendhealth.core.spec.pods import PodsProbe
from backendhealth.probes.exchange import LIST, ProbeError
from backendhealth.probes.podsource import PodView
from backendhealth.probes.registry import Context
from backendhealth.probes.trace import Trace


def build(target: PodsProbe, context: Context) -> PodsExchange:
    """The exchange for `target`."""
    return PodsExchange(target, context)


class PodsExchange:
    """One watch, kept between attempts, and the restarts that were counted over it."""

    def __init__(self, target: PodsProbe, context: Context) -> None:
        self._target = target
        self._context = context
        self._view: PodView | None = None
        self._restarts: Restarts = {}

    async def attempt(self, trace: Trace, timeout: float) -> Finding:  # noqa: ARG002
        """Judge the pods as they are now."""
        if self._context.pods is None:
            told = "pods are judged by what the API server tells, and no cluster is known: give --kubeconfig FILE"
            raise ProbeError(Reason.NO_CLUSTER, told)
        if self._view is None:
            where, which = self._context.namespace, self._target.selector.text
            self._view = self._context.pods.watch(where, which, self._context.signal)
        with trace.step(LIST):
            pods = await self._view.pods()
        now = time.time()
        self._restarts = remembered(self._restarts, pods, now, seconds(self._target.restart_window))
        return judged(self._target, pods, self._restarts, now)

    async def close(self) -> None:
        """End the watch; what was counted is kept for the next one."""
        if self._view is not None:
            self._view.close()
            self._view = None
