"""Recordings: one JSON object a line, a header first. They hold no Secret and need no network to be replayed."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from io import RawIOBase
from pathlib import Path
from typing import Any, cast

from backendhealth.core.observation import Finding, Observation, SubjectFinding
from backendhealth.core.reasons import Reason

FORMAT_VERSION = 1


class RecordingError(ValueError):
    """A recording that can't be written or read; the message names the file, and the line."""


class Recorder:
    """Writes observations to a new file; `once` tells replay that one attempt decided. Raises RecordingError."""

    def __init__(self, path: Path, *, once: bool) -> None:
        self._path = path
        # what is there already may be last night's recording, or the resources themselves; devices and pipes are fine
        mode = "wb" if path.exists() and not path.is_file() else "xb"
        try:
            # without a buffer what was seen is on disk when the process is killed
            self._stream = cast("RawIOBase", path.open(mode, buffering=0))
        except OSError as error:
            raise self._failed(error) from None
        self._write({"version": FORMAT_VERSION, "kind": "Recording", "once": once})

    def __call__(self, seen: Observation) -> None:
        """Write one observation."""
        self._write(to_dict(seen))

    def close(self) -> None:
        """Close the file."""
        self._stream.close()

    def _write(self, line: Mapping[str, Any]) -> None:
        data = (json.dumps(line, separators=(",", ":"), ensure_ascii=False) + "\n").encode()
        try:
            while data:
                data = data[self._stream.write(data) or 0 :]
        except OSError as error:
            raise self._failed(error) from None

    def _failed(self, error: OSError) -> RecordingError:
        return RecordingError(f"--record {self._path}: {error.strerror}")


def to_dict(seen: Observation) -> dict[str, Any]:
    """An observation as JSON holds it."""
    return {
        "kind": "Observation",
        "resource": seen.resource,
        "generation": seen.generation,
        "probe": seen.probe,
        "started": round(seen.started, 6),
        "at": round(seen.at, 6),
        **_finding_to_dict(seen.finding),
    }


def _finding_to_dict(finding: Finding) -> dict[str, Any]:
    parts = {name: _finding_to_dict(part) for name, part in finding.parts.items()}
    return {
        "reason": finding.reason.value,
        "message": finding.message,
        "contact": finding.contact,
        "facts": dict(finding.facts),
        "steps": {step: round(seconds, 6) for step, seconds in finding.steps.items()},
        "subjects": [
            {"subject": s.subject, "reason": s.reason.value, "message": s.message, "facts": dict(s.facts)}
            for s in finding.subjects
        ],
        **({"parts": parts} if parts else {}),
    }


def from_dict(line: Mapping[str, Any]) -> Observation:
    """The observation of a line. Raises KeyError, TypeError or ValueError for another shape."""
    return Observation(
        str(line["resource"]),
        int(line["generation"]),
        str(line["probe"]),
        float(line["started"]),
        float(line["at"]),
        _finding_from_dict(line, deep=True),
    )


def _finding_from_dict(line: Mapping[str, Any], *, deep: bool) -> Finding:
    subjects = tuple(
        SubjectFinding(s["subject"], Reason(s["reason"]), s["message"], s["facts"]) for s in line["subjects"]
    )
    told = line.get("parts", {}) if deep else {}  # parts have none
    parts = {str(name): _finding_from_dict(part, deep=False) for name, part in told.items()}
    contact = bool(line["contact"])
    return Finding(Reason(line["reason"]), str(line["message"]), subjects, line["facts"], line["steps"], contact, parts)


def read(path: Path) -> tuple[bool, Iterator[Observation]]:
    """Whether one attempt decided, and the observations. Raises RecordingError, also while iterating."""
    lines = _lines(path)
    empty: dict[str, Any] = {}
    number, header = next(lines, (1, empty))
    if header.get("kind") != "Recording":
        raise RecordingError(f"{path}:{number}: not a recording: its first line must have kind Recording")
    if header.get("version") != FORMAT_VERSION:
        raise RecordingError(
            f"{path}:{number}: version {header.get('version')} is not known: version {FORMAT_VERSION} is"
        )
    return bool(header.get("once")), _observations(path, lines)


def _observations(path: Path, lines: Iterator[tuple[int, Any]]) -> Iterator[Observation]:
    for number, line in lines:
        try:
            yield from_dict(line)
        except (AttributeError, KeyError, TypeError, ValueError) as error:
            raise RecordingError(f"{path}:{number}: not an observation: {error}") from None


def _lines(path: Path) -> Iterator[tuple[int, Any]]:
    with path.open(encoding="utf-8") as stream:
        for number, line in enumerate(stream, 1):
            try:
                parsed = json.loads(line)
            except ValueError:
                raise RecordingError(f"{path}:{number}: not JSON") from None
            if not isinstance(parsed, dict):
                raise RecordingError(f"{path}:{number}: not a JSON object")
            yield number, parsed
