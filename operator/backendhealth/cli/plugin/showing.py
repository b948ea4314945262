"""How things are shown: colours on a terminal, tables, times."""

from __future__ import annotations

import json
import os
import re
import sys
from collections.abc import Sequence
from typing import TextIO

import yaml

from backendhealth.cli.output import columns
from backendhealth.core.durations import human
from backendhealth.core.remediation.situations import instant

RED, GREEN, YELLOW, DIM = "31", "32", "33", "2"
_PREFIXES = ("36", "33", "32", "35", "34", "96", "93", "92", "95", "94")
_COLOURS = {
    "Unhealthy": RED,
    "Failed": RED,
    "Rejected": RED,
    "NotHelpful": RED,
    "Healthy": GREEN,
    "Succeeded": GREEN,
    "Degraded": YELLOW,
    "Unknown": YELLOW,
    "Held": YELLOW,
    "Expired": YELLOW,
    "AwaitingApproval": YELLOW,
}
_WORDS = re.compile(rf"\b({'|'.join(_COLOURS)})\b")


def coloured(stream: TextIO) -> bool:
    """Whether colours are wanted: on a terminal, unless NO_COLOR says otherwise."""
    return stream.isatty() and not os.environ.get("NO_COLOR") and os.environ.get("TERM") != "dumb"


def paint(text: str, colour: str, stream: TextIO | None = None) -> str:
    """`text` in a colour where colours are wanted."""
    return f"\x1b[{colour}m{text}\x1b[0m" if coloured(stream or sys.stdout) else text


def prefix_colour(index: int) -> str:
    """One of several colours, as different as they get."""
    return _PREFIXES[index % len(_PREFIXES)]


def word(text: str) -> str:
    """A state, verdict or phase in its colour."""
    return paint(text, _COLOURS[text]) if text in _COLOURS else text


def table(rows: Sequence[Sequence[str]]) -> str:
    """Rows as kubectl aligns them, the first state of each line in its colour."""
    text = columns(rows)
    if not coloured(sys.stdout):
        return text
    head, *lines = text.splitlines()
    return "\n".join([head, *(_WORDS.sub(lambda found: word(found[0]), line, count=1) for line in lines)]) + "\n"


def plain(value: object, form: str) -> str:
    """`value` as JSON or YAML, ending in a newline."""
    if form == "json":
        return json.dumps(value, indent=2, ensure_ascii=False) + "\n"
    return yaml.safe_dump(value, sort_keys=False, allow_unicode=True, width=120)


def age(since: str | None, now: float) -> str:
    """How long ago, as kubectl prints ages; empty for no time."""
    return human(max(0.0, now - instant(since))) if since else ""


def say(line: str) -> None:
    """Tell a person how it goes, beside what is shown."""
    print(line, file=sys.stderr, flush=True)
