"""`explain` and the reference say of every reason what the table says."""

from __future__ import annotations

import json

import pytest

from backendhealth.cli.main import main
from backendhealth.core.reasons import Reason
from backendhealth.core.verdict import Verdict
from hack.generate import reasons_page


@pytest.mark.parametrize("reason", Reason)
def test_every_reason_is_explained(reason: Reason, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["explain", reason.swapcase()]) == 0
    told = " ".join(capsys.readouterr().out.split())
    info = reason.info
    for part in (reason.value, info.verdict.value, info.given_by, info.meaning, info.found_by, info.look_at):
        assert " ".join(part.split()) in told


def test_all_reasons_are_listed_by_verdict(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    assert main(["explain"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert max(map(len, lines)) <= 80
    heads = [line for line in lines if line and not line.startswith(" ")]
    assert heads == [
        verdict.value for verdict in (Verdict.UNHEALTHY, Verdict.UNKNOWN, Verdict.DEGRADED, Verdict.HEALTHY)
    ]
    for reason in Reason:
        (line,) = (number for number, line in enumerate(lines) if line.startswith(f"  {reason.value} "))
        above = [head for head in lines[:line] if head in list(Verdict)]
        assert above[-1] == reason.verdict.value


def test_json_is_for_machines(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["explain", "-o", "json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert [entry["reason"] for entry in told] == [reason.value for reason in Reason]
    assert main(["explain", "quorumlost", "-o", "json"]) == 0
    one = json.loads(capsys.readouterr().out)
    assert one["reason"] == "QuorumLost"
    assert one["verdict"] == "Unhealthy"
    assert set(one) == {"reason", "verdict", "givenBy", "meaning", "foundBy", "lookAt"}


@pytest.mark.parametrize(
    ("word", "hint"), [("QuorumLos", '"QuorumLost"'), ("out_of_memory", '"OutOfMemory"'), ("xyzzy", "lists all")]
)
def test_an_unknown_reason_is_refused_with_a_hint(word: str, hint: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["explain", word]) == 2
    out = capsys.readouterr()
    assert out.out == ""
    assert out.err.startswith(f"error: there is no reason {word}")
    assert hint in out.err


def test_the_reference_has_every_reason() -> None:
    page = reasons_page()
    for reason in Reason:
        assert page.count(f"| `{reason.value}` |") == 1
        assert reason.info.meaning.replace("|", "\\|") in page
