"""What is told of remediation in a BackendHealth's status, laid over what the engine believes."""

from __future__ import annotations

from collections.abc import Callable

from backendhealth.core.remediation.viewing import with_remediation
from backendhealth.core.spec.status import BackendHealthStatus, RemediationHold, RemediationView
from backendhealth.engine.ports import WallClock

MOST = 64
"""Holds in a status."""
Holds = Callable[[str, str], list[RemediationHold]]
"""See Remediations.holds."""


class Overlay:
    """By `namespace/name`, what the Remediator has told last; after a restart what stood in the status, until then."""

    def __init__(self, holds: Holds, clock: WallClock) -> None:
        self._holds = holds
        self._clock = clock
        self._views: dict[str, RemediationView | None] = {}

    def restore(self, key: str, status: BackendHealthStatus) -> None:
        """Take what a former operator has told."""
        self._views.setdefault(key, status.remediation)

    def tell(self, key: str, view: RemediationView | None) -> None:
        """Take what is to be told from now on."""
        self._views[key] = view

    def forget(self, key: str) -> None:
        """It is gone, or no longer ours."""
        self._views.pop(key, None)

    def over(self, key: str, status: BackendHealthStatus, previous: BackendHealthStatus | None) -> BackendHealthStatus:
        """The status with it; `previous` is the one that was told before."""
        view = self._view(key)
        if view is None and status.remediation is None:
            return status
        return with_remediation(status, view, previous, self._clock())

    def _view(self, key: str) -> RemediationView | None:
        view = self._views.get(key)
        ours = self._holds(*key.split("/", 1))
        if not ours:
            return view
        others = [hold for hold in (view.holds if view else []) if hold not in ours]  # restored ones may be the same
        return RemediationView(holds=[*ours, *others][:MOST], active=view.active if view else [])
