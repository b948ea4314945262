"""Verbose logs on and off again, by SIGUSR1: the same signal both times, and the log says which it was."""

from __future__ import annotations

from collections.abc import Mapping

from backendhealth.actions import processes
from backendhealth.actions.ports import Acting, Outcome
from backendhealth.core.remediation.situation import Component
from backendhealth.core.spec.actions import AnyAction, DebugLogs
from backendhealth.core.spec.remediation import RemediationSpec, RemediationTarget


class DebugLogsPerformer:
    """See actions.ports.Performer. A Remediation with `revert` turns them off."""

    async def targets(self, acting: Acting, action: AnyAction, component: Component) -> list[RemediationTarget]:  # noqa: ARG002
        """Running containers."""
        return await processes.targets(acting, _debug_logs(action))

    async def perform(self, acting: Acting, spec: RemediationSpec) -> Outcome:
        """Send the signal, on or off. A container that restarted needs no revert."""
        return await processes.deliver(acting, spec, _debug_logs(spec.action.does), "USR1")

    async def verified(self, acting: Acting, spec: RemediationSpec, facts: Mapping[str, str]) -> str | None:
        """Whether each process has logged the line."""
        action = _debug_logs(spec.action.does)
        lines = processes.Confirmation(action.confirm, action.confirm_off)
        if spec.revert is not None:
            lines = processes.Confirmation(lines.opposite, lines.wanted)
        return await processes.confirmed(acting, spec.target, facts, lines)


def _debug_logs(action: AnyAction) -> DebugLogs:
    if not isinstance(action, DebugLogs):
        raise TypeError("not debugLogs")
    return action
