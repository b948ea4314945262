"""Judges pods by what the API server tells of them; a change in them asks for an attempt at once."""

from __future__ import annotations

import asyncio
import time

from backendhealth.core.durations import seconds
from backendhealth.core.observation import Finding
from backendhealth.core.podstate import Restarts, judged, next_look, remembered
from backendhealth.core.reasons import Reason
from backendhealth.core.spec.pods import PodsProbe
from backendhealth.probes.exchange import LIST, ProbeError
from backendhealth.probes.podsource import PodView
from backendhealth.probes.registry import Context
from backendhealth.probes.trace import Trace

_MARGIN = 0.05
"""Seconds by which a look for a change that time makes comes later, so as not to come before it."""


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
        self._again: asyncio.TimerHandle | None = None

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
        now, window = time.time(), seconds(self._target.restart_window)
        self._restarts = remembered(self._restarts, pods, now, window)
        self._look_again_in(next_look(pods, self._restarts, now, window))
        return judged(self._target, pods, self._restarts, now)

    def _look_again_in(self, wait: float | None) -> None:
        """Ask for an attempt when time has made a difference: the watch won't, and the interval may be long."""
        if self._again is not None:
            self._again.cancel()
        loop = asyncio.get_running_loop()
        self._again = None if wait is None else loop.call_later(wait + _MARGIN, self._context.signal)

    async def close(self) -> None:
        """End the watch; what was counted is kept for the next one."""
        self._look_again_in(None)
        if self._view is not None:
            self._view.close()
            self._view = None
