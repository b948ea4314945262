"""What people ask of a BackendHealth by annotation, where Git owns its spec."""

from __future__ import annotations

import datetime as dt
from collections.abc import Mapping
from dataclasses import dataclass

from backendhealth.core.observation import clip

SUSPENDED_UNTIL = "backendhealth.dev/suspended-until"
PROBE_REQUESTED_AT = "backendhealth.dev/probe-requested-at"


def suspended_until(annotations: Mapping[str, str]) -> float | None:
    """Until when probing is suspended, in seconds since the epoch; None when nothing valid is asked for."""
    try:
        until = dt.datetime.fromisoformat(annotations.get(SUSPENDED_UNTIL, ""))
    except ValueError:
        return None
    return until.timestamp() if until.tzinfo else None


def probe_requested_at(annotations: Mapping[str, str]) -> str:
    """The request to probe now, whatever its text; empty without one."""
    return clip(annotations.get(PROBE_REQUESTED_AT, ""), 253)


def notice(annotations: Mapping[str, str]) -> str:
    """What is wrong with the annotations, for people; empty when nothing is."""
    if annotations.get(SUSPENDED_UNTIL) and suspended_until(annotations) is None:
        return f"ignored: the annotation {SUSPENDED_UNTIL} is not a time with its zone, such as 2026-01-31T18:00:00Z"
    return ""


@dataclass(frozen=True, slots=True)
class Request:
    """The request to probe now: its text, when it came, the probes that have not made an attempt since.

    `answered` is the text of the last one that all probes have answered.
    """

    wanted: str = ""
    at: float = 0.0
    unanswered: frozenset[str] = frozenset()
    answered: str = ""

    def asked(self, wanted: str, active: frozenset[str], now: float) -> Request:
        """The request after the annotation was seen as `wanted` while the probes `active` were not suspended."""
        if wanted == self.wanted:
            return self._settled(wanted, self.at, self.unanswered & active)
        return self._settled(wanted, now, active if wanted not in ("", self.answered) else frozenset())

    def attempted(self, probe: str, started: float) -> Request:
        """The request after the probe's attempt that began at `started`; the same object when that changes nothing."""
        if probe not in self.unanswered or started < self.at:
            return self
        return self._settled(self.wanted, self.at, self.unanswered - {probe})

    def _settled(self, wanted: str, at: float, unanswered: frozenset[str]) -> Request:
        return Request(wanted, at, unanswered, self.answered if unanswered else wanted or self.answered)
