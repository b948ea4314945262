"""What a writer of statuses knows of one object, and whether it must write. Times are seconds of a monotonic clock."""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from backendhealth.core.spec.status import BackendHealthStatus
from backendhealth.core.writing import STATUS_BYTES, fingerprint, heartbeat_in

ECHO = 30.0
"""Seconds within which the watch shows what we wrote; until then it may show what was before."""
MAX_OVERWRITTEN = 5
"""Overwritten this often within a minute, we leave the object as it is for one."""
MINUTE = 60.0
_LEAST_ROOM = 16 * 1024


@dataclass(slots=True)
class WriteState:
    """One object; statuses are told apart by their fingerprints, so that they need not be kept."""

    uid: str
    """Empty before the object was seen."""
    version: str
    shown: str
    """Of the object's status, as last seen."""
    beat_due: float
    wanted: BackendHealthStatus | None = None
    room: int = STATUS_BYTES
    stale: bool = False
    """Whether the object must be read before the next write."""
    rest_until: float = 0.0
    _sent: str = ""
    _answer: str = ""
    """What the API server made of `_sent`: an older CRD prunes what it does not know."""
    _rejected: str = ""
    _awaited: str = ""
    """Version of our own write that the watch has yet to show."""
    _awaited_until: float = 0.0
    _overwritten: deque[float] = field(default_factory=lambda: deque(maxlen=MAX_OVERWRITTEN))

    def saw(self, version: str, status: Mapping[str, Any] | None, now: float) -> bool:
        """Take what the watch shows; answers with whether the status is another one than before.

        What may be older than our own last write is left out; if it was not, the next write gets a conflict.
        """
        if self._awaited not in {"", version} and now < self._awaited_until:
            return False
        self._awaited = ""
        if version == self.version:
            return False
        before, self.version, self.shown = self.shown, version, fingerprint(status)
        return self.shown != before

    def read(self, version: str, status: Mapping[str, Any] | None, now: float) -> None:
        """Take what a read has answered, which the watch may show later."""
        self.stale = False
        if version != self.version:
            self._newest(version, now)
        self.shown = fingerprint(status)

    def wrote(self, sent: str, before: str, version: str, status: Mapping[str, Any] | None, now: float) -> None:
        """Take the answer to a write of the state `sent` over the version `before`."""
        self._sent, self._answer, self._rejected = sent, fingerprint(status), ""
        if self.version == before:  # else the watch was faster, and may know more
            self._newest(version, now)
            self.shown = self._answer

    def _newest(self, version: str, now: float) -> None:
        self.version = self._awaited = version
        self._awaited_until = now + ECHO

    def reject(self, state: str, *, too_large: bool) -> bool:
        """Take a refusal of `state`; answers with whether it is to be cut further. Else it is not tried again."""
        if too_large and self.room > _LEAST_ROOM:
            self.room //= 4
            return True
        self._rejected = state
        return False

    @property
    def rejected(self) -> bool:
        """Whether nothing was accepted since the last refusal."""
        return bool(self._rejected)

    def why_write(self, state: str, now: float, heartbeat: float) -> str:
        """Why to write `state` now: written (it is new), overwritten (by others) or heartbeat; empty: don't."""
        if state == self._rejected:
            return self._silent(now, heartbeat)
        if self.shown == state or (self._sent == state and self.shown == self._answer):
            return "heartbeat" if now >= self.beat_due else ""
        if self._sent == state and self._rests(now):
            return self._silent(now, heartbeat)
        return "overwritten" if self._sent == state else "written"

    def _silent(self, now: float, heartbeat: float) -> str:
        if now >= self.beat_due:  # left out, not to be due again at once
            self.beat_due = now + heartbeat
        return ""

    def _rests(self, now: float) -> bool:
        """Whether somebody overwrites us so often that writing would only add to it; else counts this time."""
        if now < self.rest_until:
            return True
        if len(self._overwritten) == MAX_OVERWRITTEN and now - self._overwritten[0] < MINUTE:
            self.rest_until = now + MINUTE
            self._overwritten.clear()
            return True
        self._overwritten.append(now)
        return False

    def next_look(self, now: float) -> float:
        """When to look again if nothing happens: at the heartbeat, or after a rest."""
        return min(self.beat_due, self.rest_until) if self.rest_until > now else self.beat_due

    def beat_after(self, age: float | None, every: float, key: str, now: float) -> None:
        """The heartbeat, counted from a write that is `age` seconds old; None: there was none."""
        self.beat_due = now + heartbeat_in(age, every, key)
