"""`backendhealth simulate` on a recorded incident: what would be done, what held, and what another policy changes."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from backendhealth.cli.main import main
from backendhealth.cli.recording import Recorder
from backendhealth.core.observation import Finding
from backendhealth.core.reasons import Reason
from tests.policies.support import DRIVER, RESTART, VERSION, policy, rule, written
from tests.unit.support import seen

Capture = pytest.CaptureFixture[str]
START = 1_767_614_400.0
GOOD = Finding(Reason.PROBE_SUCCEEDED, "fine")
REFUSED = Finding(Reason.CONNECTION_REFUSED, "connection refused")
HEALTH = {
    "apiVersion": VERSION,
    "kind": "BackendHealth",
    "metadata": {"name": "mine"},
    "spec": {
        "profileRef": {"builtIn": "placeos-rethinkdb"},
        "probes": [{"name": name, "tcp": {"host": name, "port": 1}} for name in ("core", "redis", "drivers")],
    },
}


@pytest.fixture
def recording(tmp_path: Path) -> Path:
    """core fails from 60 s to 600 s; attempts every 10 s, for 15 minutes."""
    path = tmp_path / "incident.jsonl"
    recorder = Recorder(path, once=False)
    for at in range(0, 900, 10):
        for number, name in enumerate(("core", "redis", "drivers")):
            finding = REFUSED if name == "core" and 60 <= at < 600 else GOOD
            recorder(seen(finding, START + at + number / 10, probe=name, resource="default/mine"))
    recorder.close()
    return path


def simulated(folder: Path, capsys: Capture, recording: Path, acting: dict[str, Any], *more: str) -> tuple[int, str]:
    file = written(folder, HEALTH, acting)
    code = main(["simulate", "-f", file, "--from", str(recording), *more])
    told = capsys.readouterr()
    return code, told.out + told.err


def test_each_decision_with_its_why(tmp_path: Path, capsys: Capture, recording: Path):
    acting = policy(rule(when={"for": "1m"}, escalation=[{"after": "1m", "action": RESTART}]))
    code, told = simulated(tmp_path, capsys, recording, acting)
    assert code == 0
    decisions = [line.split("  ", 3)[3].split(":")[0] for line in told.splitlines()]
    assert decisions == [
        "held by NotLongEnough",
        "step 1 debugLogs on Pod core → Verifying",
        "step 1 debugLogs on Pod core → Succeeded",
        "held by CoolingDown",
        "step 2 rolloutRestart on Workload StatefulSet/core → Verifying",
        "held by NotObserved",  # it works again, and is not believed yet
        "step 2 rolloutRestart on Workload StatefulSet/core → Succeeded",
    ]
    assert "core is Unhealthy (ConnectionRefused): connection refused" in told
    assert "not yet for 60s (until 2026-01-05T12:02:20Z)" in told.replace("1m", "60s")


def test_a_dry_run_is_simulated_as_if_enforced_unless_told_otherwise(tmp_path: Path, capsys: Capture, recording: Path):
    assert "→ Verifying" in simulated(tmp_path, capsys, recording, policy(mode="DryRun"))[1]
    assert "→ DryRun" in simulated(tmp_path, capsys, recording, policy(mode="DryRun"), "--mode", "DryRun")[1]
    assert "→ AwaitingApproval" in simulated(tmp_path, capsys, recording, policy(), "--mode", "Approve")[1]


def test_json(tmp_path: Path, capsys: Capture, recording: Path):
    code, told = simulated(tmp_path, capsys, recording, policy(), "-o", "json")
    first = json.loads(told)[0]
    assert code == 0
    assert (first["backend_health"], first["policy"], first["rule"]) == ("default/mine", "acting", "debug")
    assert first["at"] == "2026-01-05T12:01:20Z"


def test_against_shows_only_what_changes(tmp_path: Path, capsys: Capture, recording: Path):
    old = written(tmp_path, policy(), name="old.yaml")
    assert simulated(tmp_path, capsys, recording, policy(), "--against", old) == (0, "the same 3 decisions\n")
    code, told = simulated(tmp_path, capsys, recording, policy(rule(when={"for": "5m"})), "--against", old)
    assert code == 1
    assert {line[0] for line in told.splitlines()} == {"+", "-"}
    assert "+ 2026-01-05T12:01:20Z  default/mine  acting/debug  held by NotLongEnough" in told


def test_nothing_matched(tmp_path: Path, capsys: Capture, recording: Path):
    acting = policy(rule("drivers", "drivers", DRIVER))
    assert simulated(tmp_path, capsys, recording, acting) == (0, "no rule matched at any time\n")


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["-f", "{health}", "--from", "{recording}"], "no RemediationPolicy in"),
        (["-f", "{policy}", "--from", "{recording}"], "no BackendHealth in"),
        (["-f", "{both}", "--from", "{health}"], "not JSON"),
        (["-f", "{both}", "--from", "{recording}", "--against", "{health}"], "no RemediationPolicy in"),
        (["-f", "{both}", "--from", "{recording}", "--against", "{recording}x"], "can't be read"),
        (["-f", "{both}", "--from", "{recording}x"], "No such file"),
    ],
)
def test_bad_input(tmp_path: Path, capsys: Capture, recording: Path, arguments: list[str], told: str):
    names = {
        "health": written(tmp_path, HEALTH, name="health.yaml"),
        "policy": written(tmp_path, policy(), name="policy.yaml"),
        "both": written(tmp_path, HEALTH, policy(), name="both.yaml"),
        "recording": str(recording),
    }
    assert main(["simulate", *(one.format(**names) for one in arguments)]) == 2
    assert told in capsys.readouterr().err
