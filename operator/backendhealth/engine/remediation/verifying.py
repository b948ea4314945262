"""Whether an action has helped: the performer sees that it worked, the diagnosis that what was broken is healthy."""

from __future__ import annotations

import asyncio
import logging

from backendhealth.actions.ports import Acting, Performer, Refused, Silent
from backendhealth.core.durations import human, seconds
from backendhealth.core.remediation.recheck import helped
from backendhealth.core.remediation.situations import instant
from backendhealth.core.spec.actions import AnyAction, DebugLogs, SendSignal
from backendhealth.core.spec.remediation import Phase, RemediationSpec
from backendhealth.engine.remediation.book import namespace_of
from backendhealth.engine.remediation.fencing import Around, Ports
from backendhealth.engine.remediation.ports import Stored

log = logging.getLogger(__name__)

EVERY = 1.0
"""Seconds between two looks."""


def own_time(does: AnyAction) -> float:
    """Seconds within which it shows that the action worked."""
    if isinstance(does, DebugLogs | SendSignal):
        return seconds(does.confirm_within)
    return seconds(getattr(does, "ready_within", "") or getattr(does, "running_within", "") or "0s")


def time_to_verify(spec: RemediationSpec) -> float:
    """Seconds, from the effect on, after which it has not helped."""
    return own_time(spec.action.does) + (seconds(spec.verify.within) if spec.verify else 0.0)


class Verifier:
    """Looks again and again; by the event loop's time, so that a step of the wall clock decides nothing."""

    def __init__(self, ports: Ports, around: Around) -> None:
        self._ports = ports
        self._around = around

    async def verdict(self, stored: Stored, acting: Acting, performer: Performer) -> tuple[Phase, str] | None:
        """Succeeded or NotHelpful, and why; None when the namespace is not ours any more."""
        spec, namespace = stored.remediation.spec, namespace_of(stored)
        loop = asyncio.get_running_loop()
        left = instant(stored.status.verify_by or "") - self._around.clock.now()
        end = loop.time() + max(0.0, min(left, time_to_verify(spec)))
        within = seconds(spec.verify.within) if spec.verify else 0.0
        shown, why = False, "it does not show that it worked"
        while self._ports.serves(namespace):
            late = loop.time() >= end  # one more look, however late
            if not shown:
                said = await self._shown(stored, acting, performer)
                if said:
                    return "NotHelpful", said
                shown = said == ""
                if shown:
                    await self._ports.at("shown")
                    end = min(end, loop.time() + within)
                elif loop.time() >= end - within:
                    return "NotHelpful", f"{why} within {human(own_time(spec.action.does))}"
            if shown and helped(spec.verify, spec.cause, self._around.situation(namespace, spec)):
                return "Succeeded", "it helped" if spec.verify else "it worked"
            if shown and late:
                return "NotHelpful", f"what must be healthy is not, within {human(within)}"
            await asyncio.sleep(max(0.01, min(EVERY, end - loop.time())))
        return None

    @staticmethod
    async def _shown(stored: Stored, acting: Acting, performer: Performer) -> str | None:
        try:
            return await performer.verified(acting, stored.remediation.spec, stored.status.facts)
        except (Refused, Silent) as error:
            log.info("it can't be seen yet what came of it: %s", error)
            return None
