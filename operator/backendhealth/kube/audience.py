"""Who is told what happens to resources: metrics, Events, the log."""

from __future__ import annotations

import logging

from backendhealth.core.announcing import MAX_NOTE, Announcement, cut_bytes
from backendhealth.core.remediation.situations import instant
from backendhealth.core.spec.backendhealth import API_VERSION, KIND, BackendHealth
from backendhealth.core.spec.remediation import FINAL, REMEDIATION_KIND, RemediationTarget
from backendhealth.core.spec.status import BackendHealthStatus
from backendhealth.engine.remediation.ports import Stored
from backendhealth.kube.api import Json
from backendhealth.kube.events import EventRecorder
from backendhealth.kube.logs import log_change
from backendhealth.kube.metrics import Metrics

log = logging.getLogger(__name__)

_GRAVE = frozenset({"NotHelpful", "Failed", "Unknown"})
"""Phases of a Remediation that somebody should look at."""
_WORDLESS = "asked for, not begun yet"
"""A Remediation whose status tells nothing is new."""


class Audience:
    """Hands on what happens, at once and in the event loop."""

    def __init__(self, metrics: Metrics, events: EventRecorder) -> None:
        self._metrics = metrics
        self._events = events
        self._timed: set[str] = set()
        """UIDs of Remediations that are being verified: how soon they had their effect was told."""

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

    def remediated(self, stored: Stored, since: float | None) -> None:
        """A Remediation has come to another phase; `since` is when its component got its verdict, if that is known."""
        remediation, status = stored.remediation, stored.status
        spec, meta, phase = remediation.spec, remediation.metadata, status.phase
        self._metrics.remediations.reached(phase, spec.action.kind, spec.mode)
        if since is not None and spec.revert is None:
            self._timed_effect(stored, since)
        note = f"{spec.action.kind} on {_target(spec.target)}: {status.message or _WORDLESS} ({_where(stored)})"
        grave = phase in _GRAVE
        log.log(logging.WARNING if grave else logging.INFO, "%s %s: %s", remediation.key, phase, note)
        said = Announcement(
            "Warning" if grave else "Normal", meta.name, f"Remediation{phase}", cut_bytes(note, MAX_NOTE)
        )
        self._events.tell(_about(stored), said)

    def _timed_effect(self, stored: Stored, since: float) -> None:
        status, kind = stored.status, stored.remediation.spec.action.kind
        if stored.uid not in self._timed and status.effect_at and status.phase in {"Verifying", "Succeeded"}:
            self._metrics.remediations.took_effect(kind, max(0.0, instant(status.effect_at) - since))
            self._timed.add(stored.uid)
        if status.phase in FINAL:
            self._timed.discard(stored.uid)

    def written(self, key: str, at: float) -> None:
        """The API server shows that a status was last written `at`, in seconds since the epoch."""
        self._metrics.status_written(key, at)

    def forgot(self, key: str) -> None:
        """A resource is gone, or no longer ours."""
        self._metrics.forgot(key)


def _where(stored: Stored) -> str:
    spec, name = stored.remediation.spec, stored.remediation.metadata.name
    why = f"rule {spec.rule}" if spec.rule else f"asked for by {spec.requested_by or 'hand'}"
    return f"{REMEDIATION_KIND} {name}, policy {spec.policy_ref.name}, {why}, mode {spec.mode}"


def _target(target: RemediationTarget) -> str:
    return f"{target.kind} {target.name}" + (f" on core {target.core}" if target.core else "")


def _about(stored: Stored) -> Json:
    """How an Event refers to the BackendHealth that it is about; by hand, to the Remediation itself."""
    cause, meta = stored.remediation.spec.cause, stored.remediation.metadata
    whole = {"apiVersion": API_VERSION, "namespace": meta.namespace}
    if cause is None:
        return {**whole, "kind": REMEDIATION_KIND, "name": meta.name, "uid": stored.uid}
    return {**whole, "kind": KIND, "name": cause.backend_health, "uid": cause.uid}
