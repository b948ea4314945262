"""The four verdicts and how they combine."""

from __future__ import annotations

from collections.abc import Iterable
from enum import StrEnum


class Verdict(StrEnum):
    """What is believed of a component; listed from best to worst, which is how several combine.

    Unknown (we can't tell) beats Healthy and Degraded, never Unhealthy.
    """

    HEALTHY = "Healthy"
    DEGRADED = "Degraded"
    UNKNOWN = "Unknown"
    UNHEALTHY = "Unhealthy"

    @property
    def rank(self) -> int:
        """0 is best."""
        return _RANK[self]


_RANK = {verdict: rank for rank, verdict in enumerate(Verdict)}


def worst(verdicts: Iterable[Verdict]) -> Verdict:
    """The worst of `verdicts`; Unknown when there are none."""
    return max(verdicts, key=lambda verdict: verdict.rank, default=Verdict.UNKNOWN)
