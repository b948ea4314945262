"""How `check` shows parts of probes and the diagnosis: tables, plain words, JUnit."""

from __future__ import annotations

import re
import xml.etree.ElementTree as ET
from pathlib import Path

import pytest

from backendhealth.cli.output import diagnosis_text, wrapped
from backendhealth.core.spec.status import Diagnosis
from tests.cli.support import lines_of, redis_probe, refused_probe, resource, run
from tests.servers.process import free_port
from tests.servers.redis import RedisServer


def api(name: str = "api") -> dict[str, object]:
    """A probe with parts, of a platform that isn't there."""
    url = f"http://127.0.0.1:{free_port()}"
    return {"name": name, "placeos": {"url": url, "services": {"triggers": url}}}


def check(tmp_path: Path, *probes: dict[str, object], form: str) -> str:
    path = tmp_path / "backends.yaml"
    path.write_text(resource(*probes))
    return run("check", "-f", path, "-o", form).stdout


def test_parts_are_indented_rows_below_their_probe(tmp_path: Path):
    lines = lines_of(check(tmp_path, api(), form="wide"))
    rows = [line for line in lines if line.startswith("  ") and "/" in line.split()[0]]
    cells = [re.split(r"\s{2,}", row.strip())[:4] for row in rows]
    assert ["symptom/reach", "Unhealthy", "ConnectionRefused"] in [row[:3] for row in cells]
    assert ["component/triggers", "triggers", "Unhealthy", "ConnectionRefused"] in cells
    own = next(place for place, line in enumerate(lines) if line.startswith("api "))
    assert lines.index(rows[0]) > own


def test_plain_tables_show_no_parts_and_no_section(tmp_path: Path):
    shown = check(tmp_path, api(), form="table")
    assert "symptom/" not in shown
    assert "DIAGNOSIS" not in shown


def test_wide_tells_the_diagnosis_in_plain_words_after_the_tables(tmp_path: Path):
    tables, _, section = check(tmp_path, refused_probe(), form="wide").partition("\nDIAGNOSIS\n")
    assert "PROBE" in tables
    assert re.match(r"Cause: gone \(ConnectionRefused\) since \d{4}-\d\d-\d\dT", section)


def test_wide_tells_no_diagnosis_while_all_is_well(tmp_path: Path):
    with RedisServer() as server:
        assert "DIAGNOSIS" not in check(tmp_path, redis_probe(server.port), form="wide")


def test_nothing_wrong_is_no_section():
    assert diagnosis_text(Diagnosis()) == ""


def test_parts_are_test_cases_of_junit(tmp_path: Path):
    suite = ET.fromstring(check(tmp_path, api(), form="junit"))[0]
    outcomes = {str(case.get("name")): [child.tag for child in case] for case in suite}
    assert outcomes["api"] == outcomes["api/symptom/reach"] == outcomes["api/component/triggers"] == ["failure"]
    skipped = [name for name, tags in outcomes.items() if tags == ["error"]]
    told = {name: int(str(suite.get(name))) for name in ("tests", "failures", "errors")}
    failed = [name for name, tags in outcomes.items() if tags == ["failure"]]
    assert told == {"tests": len(outcomes), "failures": len(failed), "errors": len(skipped)}


@pytest.mark.parametrize("columns", ["40", "500"])
def test_lines_are_wrapped_and_what_goes_on_is_indented(monkeypatch: pytest.MonkeyPatch, columns: str):
    monkeypatch.setenv("COLUMNS", columns)
    first, *rest = wrapped("  " + "word " * 60).splitlines()
    assert len(first) <= min(int(columns), 120)
    assert first.startswith("  word")
    assert rest
    assert all(line.startswith("      word") for line in rest)
