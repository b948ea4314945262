"""Whether a status told the truth, in every write of it: pure.

Whatever names a component that it may not is false blame, be it for one write. A span is a time between two acts of
the injector: in it the cause that must be named has to be, no later than the bound says, and what users notice too.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any

from backendhealth.core.spec.profile import DiagnosisProfileSpec
from tests.scenarios.truth import Injected, Truth


@dataclass(frozen=True, slots=True)
class Write:
    """One write of the status, as it was received; `status` as in JSON."""

    at: float
    status: Mapping[str, Any]

    @property
    def causes(self) -> frozenset[str]:
        """The components that it names."""
        return frozenset(one["component"] for one in self._diagnosis.get("rootCauses", ()))

    @property
    def impact(self) -> dict[str, str]:
        """Effect by the feature's title."""
        return {one["feature"]: one["effect"] for one in self._diagnosis.get("impact", ())}

    @property
    def _diagnosis(self) -> Mapping[str, Any]:
        return self.status.get("diagnosis") or {}


@dataclass(slots=True)
class Verdict:
    """What came of one scenario. `seconds`: from each fault that had to be named to the write that did, by its name."""

    seconds: dict[str, float] = field(default_factory=dict)
    false_blame: list[str] = field(default_factory=list)
    wrong: list[str] = field(default_factory=list)

    @property
    def right(self) -> bool:
        return not self.false_blame and not self.wrong

    @property
    def told(self) -> str:
        """All that was not right, a line each."""
        return "\n".join([*(f"false blame: {one}" for one in self.false_blame), *self.wrong])


def judge(truth: Truth, writes: Sequence[Write], until: float) -> Verdict:
    """The verdict on a scenario that was over at `until` (seconds since the epoch); `writes` in the order received."""
    found = Verdict()
    start = min((one.began for one in truth.log), default=0.0)
    for write in writes:
        blamed = write.causes - truth.may(write.at)
        if blamed:
            found.false_blame.append(f"{write.at - start:.1f} s: {', '.join(sorted(blamed))}")
    for one in truth.log:
        _in_time(truth, one, writes, found)
    for span in _spans(truth, until):
        _span(truth, span, writes, found)
    return found


def _in_time(truth: Truth, one: Injected, writes: Sequence[Write], found: Verdict) -> None:
    """Whether the fault was named in time, where it had to be: as soon as its bound was over."""
    if truth.bound(one) >= one.ending or one not in truth.due(truth.bound(one)):
        return
    first = next((w.at for w in writes if w.at >= one.began and one.fault.component in w.causes), None)
    if first is None:
        found.wrong.append(f"{one.fault.name}: {one.fault.component} was never named")
        return
    took = max(0.0, first - one.done)
    found.seconds[one.fault.name] = took
    if first > truth.bound(one):
        found.wrong.append(f"{one.fault.name}: named after {took:.1f} s, allowed {truth.bound(one) - one.done:.1f} s")


def _spans(truth: Truth, until: float) -> Iterable[tuple[float, float]]:
    acts = {moment for one in truth.log for moment in (one.began, one.done, one.ending, one.ended)}
    return pairwise(sorted({moment for moment in acts if moment < until} | {until}))


def _span(truth: Truth, span: tuple[float, float], writes: Sequence[Write], found: Verdict) -> None:
    """What stood at the span's end, and stays all the time from when it had to."""
    (begin, end), start = span, min(one.began for one in truth.log)
    due = truth.due(end - 1e-6)
    if not due:
        return
    told = [w for w in writes if w.at < end]
    standing = told[-1] if told else Write(begin, {})
    must = {one.fault.component for one in due}
    if missing := must - standing.causes:
        found.wrong.append(f"{end - start:.1f} s: {', '.join(sorted(missing))} not named; named: {_listed(standing)}")
        return
    for write in (w for w in told if w.at >= begin):
        if missing := truth.must(write.at) - write.causes:
            found.wrong.append(f"{write.at - start:.1f} s: {', '.join(sorted(missing))} no longer named")
    if truth.may(end - 1e-6) != must:
        return  # what a fault adds to the impact that may be named or not is as open as its name
    titles = _titles(truth.profile)
    for feature, effect in sorted(truth.impact(end - 1e-6).items()):
        seen = standing.impact.get(titles[feature], "nothing")
        if seen != effect and (effect, seen) != (
            "Degraded",
            "Fails",
        ):  # measured, it may be worse than the document says
            found.wrong.append(f"{end - start:.1f} s: {titles[feature]}: told {seen}, true is {effect}")


def _listed(write: Write) -> str:
    return ", ".join(sorted(write.causes)) or "nothing"


def _titles(profile: DiagnosisProfileSpec) -> dict[str, str]:
    return {feature.name: feature.title for feature in profile.features}
