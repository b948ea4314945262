"""Figures: several values of one quantity, told by their least, middle and greatest."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from statistics import median


@dataclass(frozen=True, slots=True)
class Figure:
    """One quantity, measured several times, in the unit that its name or place says."""

    min: float
    median: float
    max: float

    def shown(self, digits: int = 0) -> str:
        """The median, and the range where there is one: `61 (58…70)`."""
        if self.min == self.max:
            return f"{self.median:.{digits}f}"
        return f"{self.median:.{digits}f} ({self.min:.{digits}f}…{self.max:.{digits}f})"


def figure(values: Iterable[float], scale: float = 1.0, digits: int = 1) -> Figure:
    """The figure for `values`, times `scale`, rounded."""
    known = [value * scale for value in values]
    return Figure(round(min(known), digits), round(median(known), digits), round(max(known), digits))


def percentile(rising: list[float], percent: float) -> float:
    """The value that `percent` of `rising` (in rising order) do not exceed."""
    return rising[min(len(rising) - 1, int(len(rising) * percent / 100))]
