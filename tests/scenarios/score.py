"""The score as a page of the docs: pure."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from statistics import median

from tests.scenarios.truth import Fault, Timing

_HEAD = """# How right the diagnosis is

<!-- Written by `make score` and `make score-cluster`; do not edit. -->

A whole PlaceOS (a double that really uses real etcd, PostgreSQL, Redis and Elasticsearch) is broken by real means:
processes killed (*down*) or stopped so that nothing answers (*hangs*), drivers that crash or don't compile. What the
injector did is the truth. Every write of the status is judged, not only the last: a component that is named as a root
cause for a single write without reason is **false blame**.

- Right: the cause(s), and nothing else, named within `interval + retryInterval x failureThreshold + timeout` of the
  fault, and named until it is taken back; impact as PlaceOS's document has it. Here that is {interval:g} + {retry:g}
  x {threshold} + {timeout:g} = {bound:g} s. An attempt that hangs lasts longer than the retryInterval: then
  {interval:g} + {timeout:g} x {threshold} + {timeout:g} = {hanging:g} s. {allowance:g} s more are allowed for our own
  way to who reads it.
- Graces of minutes (`recoveryGrace`) are shortened to seconds.
- A fault is *masked* when a fault of something that its component depends on (or that a confounder suspects instead)
  began before it was decided, for as long as that one lasts and the grace after it, unless the reason that it shows
  is one of the component's `ownReasons`; not if the component was seen to work in between. It is *hidden* while it
  could only be seen through what is down (a driver through core). A masked or hidden fault may be named or not: from
  the outside, either is right; in the tables it is *not due*.
- A fault that is mended while something that its component needs is down may be named until that is back: no attempt
  in between could tell.
"""


@dataclass(frozen=True, slots=True)
class Row:
    """One scenario: `seconds` until each fault that had to be named was; how many writes blamed falsely."""

    scenario: str
    faults: tuple[str, ...]
    seconds: dict[str, float]
    false_blame: int
    wrong: tuple[str, ...]

    @property
    def right(self) -> bool:
        return not self.false_blame and not self.wrong


def page(rows: Sequence[Row], faults: Iterable[Fault], timing: Timing, seed: int, where: str) -> str:
    """The whole page, as Markdown."""
    bare = timing.allowance
    head = _HEAD.format(
        interval=timing.interval,
        retry=timing.retry_interval,
        threshold=timing.failure_threshold,
        timeout=timing.timeout,
        bound=timing.bound() - bare,
        hanging=timing.bound(hangs=True) - bare,
        allowance=bare,
    )
    right, blamed = sum(row.right for row in rows), sum(row.false_blame for row in rows)
    lines = [head, f"**{right} of {len(rows)} scenarios right, {blamed} false blames** (seed {seed}; {where}).", ""]
    lines += [
        "| failure | scenarios | right | seconds to right: median | most | false blame |",
        "|---|--:|--:|--:|--:|--:|",
    ]
    for fault in faults:
        having = [row for row in rows if fault.name in row.faults]
        if having:
            lines.append(_of_fault(fault.name, having))
    lines += ["", "| scenario | right | seconds to right | false blame |", "|---|---|---|--:|"]
    lines += [_of_scenario(row) for row in rows]
    return "\n".join(lines) + "\n"


def _of_fault(name: str, rows: Sequence[Row]) -> str:
    took = [row.seconds[name] for row in rows if name in row.seconds]
    middle, most = (f"{median(took):.1f}", f"{max(took):.1f}") if took else ("not due", "not due")
    right = sum(row.right for row in rows)
    return f"| {name} | {len(rows)} | {right} | {middle} | {most} | {sum(row.false_blame for row in rows)} |"


def _of_scenario(row: Row) -> str:
    took = ", ".join(f"{row.seconds[name]:.1f}" if name in row.seconds else "not due" for name in row.faults)
    told = "yes" if row.right else re.sub(r"\s+", " ", f"no: {'; '.join(row.wrong) or 'false blame'}").replace("|", "/")
    return f"| {row.scenario} | {told} | {took} | {row.false_blame} |"
