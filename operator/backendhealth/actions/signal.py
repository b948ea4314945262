"""Any allowed signal to processes that have a handler for it."""

from __future__ import annotations

from collections.abc import Mapping

from backendhealth.actions import processes
from backendhealth.actions.ports import Acting, Outcome
from backendhealth.core.remediation.situation import Component
from backendhealth.core.spec.actions import AnyAction, SendSignal
from backendhealth.core.spec.remediation import RemediationSpec, RemediationTarget


class SignalPerformer:
    """See actions.ports.Performer."""

    async def targets(self, acting: Acting, action: AnyAction, component: Component) -> list[RemediationTarget]:  # noqa: ARG002
        """Running containers."""
        return await processes.targets(acting, _send_signal(action))

    async def perform(self, acting: Acting, spec: RemediationSpec) -> Outcome:
        """Send it."""
        action = _send_signal(spec.action.does)
        return await processes.deliver(acting, spec, action, action.signal.removeprefix("SIG"))

    async def verified(self, acting: Acting, spec: RemediationSpec, facts: Mapping[str, str]) -> str | None:
        """Whether each process has logged the line; when none is looked for, that it was sent is enough."""
        action = _send_signal(spec.action.does)
        if action.confirm is None:
            return ""
        return await processes.confirmed(acting, spec.target, facts, processes.Confirmation(action.confirm))


def _send_signal(action: AnyAction) -> SendSignal:
    if not isinstance(action, SendSignal):
        raise TypeError("not signal")
    return action
