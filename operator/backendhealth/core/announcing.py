"""Which Events a change of status makes."""

from __future__ import annotations

from collections import OrderedDict, deque
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

from backendhealth.core.observation import clip
from backendhealth.core.reasons import Reason
from backendhealth.core.spec.status import BackendHealthStatus, Condition

MAX_NOTE = 1024
"""Bytes of UTF-8 that the API server takes."""
_MINUTE = 60.0
_MAX_OBJECTS = 4096
_OWN_WISH = {Reason.PENDING.value, Reason.SUSPENDED.value}
_GRAVE = {"Stalled"}  # conditions that are bad while they are true
_FOLLOWING = {"Degraded", "Reconciling"}  # other conditions tell of the same change
_GUARDED = "RemediationAllowed"


@dataclass(frozen=True, slots=True)
class Announcement:
    """One Event: its type, the condition that it is about, that condition's reason, and a note for people."""

    type: Literal["Normal", "Warning"]
    about: str
    reason: str
    note: str


def announcements(old: BackendHealthStatus | None, new: BackendHealthStatus) -> list[Announcement]:
    """The Events of a change, those on the whole resource first; `old` is None for a resource that had no status."""
    return [_announced(condition) for condition in _changed(old, new)]


def _changed(old: BackendHealthStatus | None, new: BackendHealthStatus) -> Iterator[Condition]:
    before = {condition.type: condition for condition in old.conditions} if old else {}
    now = {condition.type: condition.status for condition in new.conditions}
    stalled = "Stalled" in now and now.get("Ready") == "False"  # else probing goes on, with what is known of old
    for condition in sorted(new.conditions, key=_rank):
        was = before.get(condition.type)
        if was is not None and (was.status, was.reason) == (condition.status, condition.reason):
            continue
        if condition.type in _FOLLOWING or (stalled and condition.type != "Stalled"):
            continue
        if not _expected(was, condition):
            yield condition


def _expected(was: Condition | None, condition: Condition) -> bool:
    """Whether nobody needs to be told: a resource is accepted, probes begin, or are suspended and go on."""
    if condition.type == "Ready":
        return was is None and condition.status == "True"
    if condition.type == _GUARDED:  # a guard that holds is told; that none does shows in what is done
        return condition.status == "True"
    whole = condition.type == "Healthy"
    if condition.reason in _OWN_WISH:
        return not whole or condition.reason == Reason.PENDING
    begun = was is None or was.reason in _OWN_WISH
    return begun and not whole and _type(condition) == "Normal"


def _rank(condition: Condition) -> int:
    first = ("Stalled", "Ready", "Healthy")
    return first.index(condition.type) if condition.type in first else len(first)


def _type(condition: Condition) -> Literal["Normal", "Warning"]:
    if condition.type in _GRAVE or (condition.type == "Ready" and condition.status != "True"):
        return "Warning"
    fine = condition.type in {"Ready", _GUARDED} or condition.reason in {*_OWN_WISH, Reason.PROBE_SUCCEEDED.value}
    return "Normal" if fine else "Warning"


def _announced(condition: Condition) -> Announcement:
    note = f"{condition.type} is {condition.status}: {condition.message}"
    return Announcement(_type(condition), condition.type, condition.reason, cut_bytes(note, MAX_NOTE))


def cut_bytes(text: str, limit: int) -> str:
    """`text` on one line, in no more than `limit` bytes of UTF-8."""
    text = clip(text, limit)
    data = text.encode(errors="replace")
    if len(data) <= limit:
        return text
    return data[: limit - len("…".encode())].decode(errors="ignore") + "…"


class Once:
    """Which guards were told of an object in its incident: one that lets go and holds again is no news."""

    def __init__(self) -> None:
        self._told: OrderedDict[str, tuple[str, set[str]]] = OrderedDict()

    def news(self, uid: str, incident: str, said: Announcement) -> bool:
        """Whether to tell it of the object in this incident (empty: in none)."""
        if said.about != _GUARDED:
            return True
        before, guards = self._told.get(uid, ("", set()))
        if before != incident:
            guards = set()
        new = said.reason not in guards
        self._told[uid] = incident, {*guards, said.reason}
        self._told.move_to_end(uid)
        while len(self._told) > _MAX_OBJECTS:
            self._told.popitem(last=False)
        return new


class Budget:
    """How many Events may be written: per object a few at once and then one now and then, and in total per minute.

    Times are seconds of a monotonic clock.
    """

    BURST = 25
    REFILL = 300.0
    """Seconds until an object may have one more."""

    def __init__(self, per_minute: int) -> None:
        self._per_minute = per_minute
        self._last: deque[float] = deque(maxlen=per_minute)
        self._full_at: dict[str, float] = {}
        """When an object's budget is whole again; those whose is are left out."""

    def take(self, uid: str, now: float) -> bool:
        """Whether one more Event about the object may be written now; if so, it is counted."""
        if len(self._last) == self._per_minute and (not self._last or now - self._last[0] < _MINUTE):
            return False
        whole = max(self._full_at.get(uid, now), now) + self.REFILL
        if whole - now > self.BURST * self.REFILL:
            return False
        if len(self._full_at) >= _MAX_OBJECTS:
            self._full_at = {one: at for one, at in self._full_at.items() if at > now}
        self._full_at[uid] = whole
        self._last.append(now)
        return True
