"""Who is told what happens to resources: metrics, Events, the log."""

from __future__ import annotations

import logging

from backendhealth.core.announcing import MAX_NOTE, Announcement, cut_bytes
from backendhealth.core.spec.backendhealth import BackendHealth
from backendhealth.core.spec.status import BackendHealthStatus
from backendhealth.kube.api import Json
from backendhealth.kube.events import EventRecorder
from backendhealth.kube.logs import log_change
from backendhealth.kube.metrics import Metrics

log = logging.getLogger(__name__)


class Audience:
    """Hands on what happens, at once and in the event loop."""

    def __init__(self, metrics: Metrics, events: EventRecorder) -> None:
        self._metrics = metrics
        self._events = events

    def declared(self, resource: BackendHealth) -> None:
        """A resource is new, or its spec has changed."""
        self._metrics.declared(resource)

    def changed(self, ref: Json, old: BackendHealthStatus | None, new: BackendHealthStatus) -> None:
        """A status was made; `ref` is how Events refer to the object.

        `old` is the one that was told before, by a former operator perhaps: it may say the same. None: there was none.
        """
        key = f"{ref['namespace']}/{ref['name']}"
        self._metrics.status_changed(key, new)
        self._events.changed(ref, old, new)
        log_change(key, old.summary if old else None, new)

    def logs_unread(self, ref: Json, why: str) -> None:
        """Pods' logs can't be looked through for a resource."""
        log.warning("%s/%s: %s", ref["namespace"], ref["name"], why)
        self._events.tell(ref, Announcement("Warning", "Logs", "LogsNotRead", cut_bytes(why, MAX_NOTE)))

    def written(self, key: str, at: float) -> None:
        """The API server shows that a status was last written `at`, in seconds since the epoch."""
        self._metrics.status_written(key, at)

    def forgot(self, key: str) -> None:
        """A resource is gone, or no longer ours."""
        self._metrics.forgot(key)
