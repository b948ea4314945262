"""What `/metrics` exports: one table, from which the series and the reference page are made."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True, slots=True)
class Series:
    """A metric: `bound` says how many series it can have, `labels` their label names."""

    name: str
    kind: Literal["gauge", "counter", "histogram"]
    labels: tuple[str, ...]
    meaning: str
    bound: str


_RESOURCE = ("namespace", "name")
_COMPONENT = (*_RESOURCE, "component")
_PROBE = (*_RESOURCE, "probe")

STATE = Series(
    *("backendhealth_state", "gauge", (*_RESOURCE, "state")),
    "1 for the state that the resource is in, 0 for the others.",
    "6 a resource",
)
VERDICT = Series(
    *("backendhealth_component_verdict", "gauge", (*_COMPONENT, "verdict", "reason")),
    "1 for the verdict on the component and its reason; only the present pair is there.",
    "1 a component",
)
ROOT_CAUSE = Series(
    *("backendhealth_root_cause", "gauge", _COMPONENT),
    "1 while the component is a root cause, not a symptom; absent otherwise.",
    "1 a component",
)
WRITTEN = Series(
    *("backendhealth_status_written_timestamp_seconds", "gauge", _RESOURCE),
    "When the status that the API server holds was written, in seconds since the epoch.",
    "1 a resource",
)
ATTEMPTS = Series(
    *("backendhealth_probe_attempts_total", "counter", (*_PROBE, "verdict")),
    "Attempts of a probe, by what each by itself found.",
    "4 a probe",
)
LAST_DURATION = Series(
    *("backendhealth_probe_last_duration_seconds", "gauge", _PROBE),
    "How long the probe's last attempt took.",
    "1 a probe",
)
DURATION = Series(
    *("backendhealth_probe_duration_seconds", "histogram", ("kind",)),
    "How long attempts took, by kind of probe.",
    "1 a kind",
)
STEP_DURATION = Series(
    *("backendhealth_probe_step_duration_seconds", "histogram", ("kind", "step")),
    "How long the steps of attempts took: resolve, connect, tls, auth and those of the kind of probe.",
    "1 a kind and step",
)
LATENESS = Series(
    *("backendhealth_scheduler_lateness_seconds", "histogram", ()),
    "How long after they were due attempts were started.",
    "1",
)
OVERDUE = Series(
    *("backendhealth_scheduler_overdue_seconds", "gauge", ()),
    "How long the attempt that waits longest has been due without being started.",
    "1",
)
LOOP_LAG = Series(
    *("backendhealth_event_loop_lag_seconds", "gauge", ()),
    "How late the event loop last woke up a task that had nothing to wait for but time.",
    "1",
)
WATCH_AGE = Series(
    *("backendhealth_watch_age_seconds", "gauge", ()),
    "Seconds since a comparison with a list last showed that the watch had delivered everything.",
    "1",
)
QUEUE = Series(
    *("backendhealth_status_queue_length", "gauge", ()),
    "Statuses that wait to be written.",
    "1",
)
STATUS_WRITES = Series(
    *("backendhealth_status_writes_total", "counter", ("result",)),
    "Writes of statuses: written, heartbeat, overwritten, conflict, forbidden, rejected, gone or postponed.",
    "1 a result",
)
EVENTS = Series(
    *("backendhealth_events_total", "counter", ("result",)),
    "Events: created, repeated (counted in the one that is there), dropped (beyond the budget) or failed.",
    "1 a result",
)
API_REQUESTS = Series(
    *("backendhealth_api_requests_total", "counter", ("method", "resource", "code")),
    "Requests to the API server; code `none`: there was no answer.",
    "1 a method, type of object and status code",
)
LEADER = Series(
    *("backendhealth_leader", "gauge", ("shard",)),
    "1 while this process holds the shard's Lease.",
    "1 a shard",
)
REMEDIATIONS = Series(
    *("backendhealth_remediations_total", "counter", ("phase", "action", "mode")),
    "Remediations that have come to a phase, by kind of action and mode.",
    "1 a phase, action and mode",
)
REMEDIATIONS_UNDER_WAY = Series(
    *("backendhealth_remediations_under_way", "gauge", ()),
    "Remediations that are at work, or whose success is waited for.",
    "1",
)
REMEDIATION_HOLDS = Series(
    *("backendhealth_remediation_holds", "gauge", ("guard",)),
    "How often a guard holds a rule of a policy back now, over all resources.",
    "1 a guard",
)
REMEDIATION_DELAY = Series(
    *("backendhealth_remediation_effect_delay_seconds", "histogram", ("action",)),
    "How long after the component's verdict the effect was over, to the second.",
    "1 a kind of action",
)
HEARTBEAT_INTERVAL = Series(
    *("backendhealth_heartbeat_interval_seconds", "gauge", ()),
    "The setting `heartbeat_interval`: an older status is stale.",
    "1",
)
BUILD = Series(
    *("backendhealth_build_info", "gauge", ("version",)),
    "1, with the version of the operator.",
    "1",
)
TABLE = (
    *(STATE, VERDICT, ROOT_CAUSE, WRITTEN, ATTEMPTS, LAST_DURATION, DURATION, STEP_DURATION),
    *(LATENESS, OVERDUE, LOOP_LAG, WATCH_AGE, QUEUE, STATUS_WRITES, EVENTS, API_REQUESTS),
    *(REMEDIATIONS, REMEDIATIONS_UNDER_WAY, REMEDIATION_HOLDS, REMEDIATION_DELAY),
    *(LEADER, HEARTBEAT_INTERVAL, BUILD),
)
