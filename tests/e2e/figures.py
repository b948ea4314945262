"""What the tests measured, for the end of the run's report."""

from __future__ import annotations

MEASURED: list[str] = []


def measured(what: str, value: float, unit: str = "s") -> None:
    """Keep a figure; conftest.py prints them all."""
    MEASURED.append(f"{what}: {value:.2f} {unit}")
