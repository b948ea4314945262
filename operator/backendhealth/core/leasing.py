"""Who may work on which shard: decisions on Lease records, by a monotonic time that is handed in.

A record is valid for as long as *we* have seen it unchanged, whatever times it holds: a clock that was stepped, here
or there, moves nothing. All times are seconds.
"""

from __future__ import annotations

import datetime as dt
import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

RELEASED_SECONDS = 1
"""leaseDurationSeconds of a Lease that its holder gave away, having stopped first: nobody need wait."""
_TELLING = 2e-6
"""Seconds that a MicroTime tells apart for sure: a float of today's size loses a part of a single microsecond."""


@dataclass(frozen=True, slots=True)
class Timing:
    """Durations of the election; raises ValueError where they could give two holders or none."""

    duration: float = 15.0
    """Others wait this long from the last change of a record that they saw."""
    renew_deadline: float = 10.0
    """The holder stops this long after the start of its last successful renewal."""
    renew_interval: float = 3.0
    retry_interval: float = 0.75
    """Between two looks at a Lease that is not ours, and after a failure."""
    request_timeout: float = 3.0
    sharing: float = 3.0
    """Who holds all other shards waits this long before it takes a free one, who holds half of them half as long."""
    handover: float = 1.0
    """The same where the former holder was seen to release it."""

    def __post_init__(self) -> None:
        if not 0 < self.renew_interval + self.request_timeout < self.renew_deadline < self.duration:
            raise ValueError("a Lease needs renew_interval + request_timeout < renew_deadline < duration")


@dataclass(frozen=True, slots=True)
class Record:
    """What a Lease says. Its times are for people: nothing is decided by them."""

    holder: str = ""
    duration: int = 0
    acquired: str = ""
    renewed: str = ""
    transitions: int = 0

    @property
    def released(self) -> bool:
        """Whether its holder gave it away, as opposed to a holder that somebody else blanked out."""
        return not self.holder and self.duration == RELEASED_SECONDS


@dataclass(frozen=True, slots=True)
class Sight:
    """What was read last (None: no such Lease), since when it has looked so, and whether that was a change."""

    record: Record | None
    since: float
    changed: bool


@dataclass(frozen=True, slots=True)
class Replica:
    """What a replica knows of itself: `holding`: the Lease is its own by the clock."""

    identity: str
    holding: bool
    elsewhere: float
    """The part (0 to 1) of all shards that it holds besides this one."""


def shard_of(namespace: str, shards: int) -> int:
    """The shard, from 0, of a namespace: the same in every process and version."""
    return int.from_bytes(hashlib.sha256(namespace.encode()).digest()[:8]) % shards


def seen(before: Sight | None, record: Record | None, now: float) -> Sight:
    """The sight after `record` was read; `now` is taken after the answer."""
    if before is None:
        return Sight(record, now, changed=False)
    return before if before.record == record else Sight(record, now, changed=True)


def take_in(sight: Sight, us: Replica, now: float, timing: Timing) -> float:
    """Seconds until we write our name into the Lease, or renew it; not above 0: at once."""
    record = sight.record
    if record.holder == us.identity if record else us.holding:
        return 0.0
    free = record.released if record else not sight.changed
    # A Lease that vanished, or whose holder was blanked out by hand, still has a holder who may not know it yet.
    free_at = sight.since + (0.0 if free else timing.duration)
    handed_over = sight.changed and record is not None and record.released
    return free_at + us.elsewhere * (timing.handover if handed_over else timing.sharing) - now


def claimed(record: Record | None, identity: str, at: float, timing: Timing) -> Record:
    """The record with our name in it; `at` is the wall clock's time, which it tells people."""
    time = micro_time(at)
    if record is None:
        return Record(identity, round(timing.duration) or 1, time, time)
    if record.holder != identity:
        return Record(identity, round(timing.duration) or 1, time, time, record.transitions + 1)
    # A wall clock that stands still must not make this a write that changes nothing: others would see no renewal.
    return replace(record, renewed=time if time != record.renewed else micro_time(at + _TELLING))


def released(record: Record, at: float) -> Record:
    """The record that nobody holds."""
    return replace(record, holder="", duration=RELEASED_SECONDS, renewed=micro_time(at))


def record_of(lease: Mapping[str, Any]) -> Record:
    """What the JSON of a Lease says; every field may be missing."""
    spec = lease.get("spec") or {}
    return Record(
        holder=spec.get("holderIdentity") or "",
        duration=spec.get("leaseDurationSeconds") or 0,
        acquired=spec.get("acquireTime") or "",
        renewed=spec.get("renewTime") or "",
        transitions=spec.get("leaseTransitions") or 0,
    )


def with_record(lease: Mapping[str, Any], record: Record) -> dict[str, Any]:
    """The JSON of a Lease that says `record`; all else in it stays."""
    fields = {
        "holderIdentity": record.holder,
        "leaseDurationSeconds": record.duration,
        "acquireTime": record.acquired or None,
        "renewTime": record.renewed or None,
        "leaseTransitions": record.transitions,
    }
    return {**lease, "spec": {**(lease.get("spec") or {}), **fields}}


def micro_time(at: float) -> str:
    """`at` (seconds since the epoch) as Kubernetes writes a MicroTime."""
    return dt.datetime.fromtimestamp(at, dt.UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")
