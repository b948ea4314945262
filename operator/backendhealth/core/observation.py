"""What one attempt found, as data: the seam between probes (I/O) and verdicts (pure)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from backendhealth.core.reasons import Reason
from backendhealth.core.verdict import Verdict

Fact = str | int | float | bool
Facts = Mapping[str, Fact]

MAX_MESSAGE = 1024
"""Characters of a message; the rest is cut."""
MAX_SUBJECTS = 64


def clip(text: str, limit: int = MAX_MESSAGE) -> str:
    """`text` on one line, without control characters, cut to `limit` characters."""
    if len(text) <= limit and text.isprintable():
        return text
    head = text[: 2 * limit]  # the rest can't show, and going over it costs
    line = " ".join("".join(c if c.isprintable() else " " for c in head).split())
    return line if len(line) <= limit and head == text else line[: limit - 1] + "…"


@dataclass(frozen=True, slots=True)
class SubjectFinding:
    """What was found about one part of a target: an endpoint, member, table or index.

    `subject` is stable from attempt to attempt, e.g. `endpoint/10.0.0.1:2379` or `table/place.mod`.
    """

    subject: str
    reason: Reason
    message: str
    facts: Facts = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Finding:
    """What one attempt found about one target.

    `steps` are seconds by step in the order they were taken (resolve, connect, tls, auth, …).
    `contact` is whether anything at all came back from the target (a connection, a refusal, a reply): proof that
    our own network works.
    `parts` are findings that are judged by themselves, each against the probe's thresholds: `symptom/NAME` answers a
    symptom of the profile, `component/NAME` speaks for another component than the probe's own. A probe answers with
    the parts that its target declares, all of them each time; parts have none.
    """

    reason: Reason
    message: str
    subjects: tuple[SubjectFinding, ...] = ()
    facts: Facts = field(default_factory=dict)
    steps: Mapping[str, float] = field(default_factory=dict)
    contact: bool = True
    parts: Mapping[str, Finding] = field(default_factory=dict)

    @property
    def verdict(self) -> Verdict:
        """The verdict that the reason stands for."""
        return self.reason.verdict


@dataclass(frozen=True, slots=True)
class Observation:
    """A finding with its place and time: what is recorded, replayed and judged.

    `resource` is `namespace/name`; `at` is when the attempt ended and `started` when it began, both in seconds
    since the epoch.
    """

    resource: str
    generation: int
    probe: str
    started: float
    at: float
    finding: Finding
