"""The tables of docs/benchmarks.md: a run of some parts leaves the others' figures as they are."""

from __future__ import annotations

from pathlib import Path

import pytest

from bench.figures import figure
from bench.measure import Effect, Lateness
from bench.report import PARTS, Report, text, update

DOCUMENT = Path(__file__).parents[2] / "docs" / "benchmarks.md"
MACHINE: dict[str, str | int | float] = {"cpu": "Some CPU", "cores": 2, "system": "Linux", "loadBefore": 0.5}


def report(p99: float = 250.0) -> Report:
    """One of the effect alone."""
    made = Report("asyncio", MACHINE)
    made.effect = Effect(100, figure([20.0, 30.0, 40.0]), 40.0, figure([100.0, 150.0, p99]), p99)
    made.judge()
    return made


def blocks(document: str) -> dict[str, str]:
    """What stands between the marks of each part."""
    return {
        part: document.partition(f"<!-- bench: {part}: begin -->\n")[2].partition(f"<!-- bench: {part}: end -->")[0]
        for part in PARTS
    }


def test_a_part_alone_is_updated_alone(tmp_path: Path):
    there = DOCUMENT.read_text(encoding="utf-8")
    copy = tmp_path / "benchmarks.md"
    copy.write_text(there, encoding="utf-8")
    update(copy, report())
    found = copy.read_text(encoding="utf-8")
    before, after = blocks(there), blocks(found)
    assert {part for part in PARTS if before[part] != after[part]} == {"effect"}
    assert "| product                            | 150 (100…250) | 250 |" in after["effect"]
    assert "- reached: from a failing verdict" in after["effect"]
    assert after["effect"].startswith("Some CPU, 2 cores")
    assert found.replace(after["effect"], "") == there.replace(before["effect"], "")


@pytest.mark.parametrize(("p99", "told"), [(1000.0, "- reached: "), (1000.1, "- MISSED: ")])
def test_what_is_missed_is_said(p99: float, told: str):
    assert f"{told}from a failing verdict to its effect takes at most 1000 ms" in text(report(p99))


def test_what_could_not_be_measured_is_said_of_its_part(tmp_path: Path):
    made = Report("asyncio", MACHINE, missing={"cpu redis": "it is not installed"})
    made.lateness = Lateness(*(figure([1.0]) for _ in range(6)))
    copy = tmp_path / "benchmarks.md"
    copy.write_text(DOCUMENT.read_text(encoding="utf-8"), encoding="utf-8")
    update(copy, made)
    found = blocks(copy.read_text(encoding="utf-8"))
    assert "- missing: cpu redis: it is not installed" in found["cpu"]
    assert "missing" not in found["lateness"]


def test_a_document_without_marks_is_refused(tmp_path: Path):
    copy = tmp_path / "benchmarks.md"
    copy.write_text("# Nothing\n", encoding="utf-8")
    with pytest.raises(ValueError, match="has no <!-- bench: effect: begin -->"):
        update(copy, report())
