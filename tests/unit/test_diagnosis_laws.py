"""Laws of the diagnosis, on generated platforms and generated evidence."""

from __future__ import annotations

import json
import random
import re
from dataclasses import dataclass, replace
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from backendhealth.core.diagnosis.diagnosing import diagnose
from backendhealth.core.diagnosis.evidence import NEVER, Answer, Evidence, Outage, Seen
from backendhealth.core.observation import SubjectFinding
from backendhealth.core.reasons import Reason
from backendhealth.core.spec.profile import DiagnosisProfileSpec
from backendhealth.core.verdict import Verdict
from tests.unit.diagnosing import NOW, ask, causes, explained, profile, unexplained, up

NAMES = "abcdefgh"
REASONS = [
    *(
        Reason.PROBE_SUCCEEDED,
        Reason.MEMBER_DOWN,
        Reason.PENDING,
        Reason.SUSPENDED,
        Reason.BLIND,
        Reason.SECRET_INVALID,
    ),
    *(Reason.CONNECTION_REFUSED, Reason.TIMEOUT, Reason.FLAPPING),
]
TEXTS = ["fine", "bad host", "unknown key"]
times = st.integers(-400, 0).map(lambda at: NOW + at)


@st.composite
def outages(draw: st.DrawFn) -> Outage:
    last_good, onset, ended = sorted(draw(st.lists(times, min_size=3, max_size=3)))
    return Outage(onset, ended, draw(st.sampled_from([last_good, NEVER])))


@st.composite
def sights(draw: st.DrawFn) -> Seen:
    """Anything that could be believed, and some that could not."""
    reason = draw(st.sampled_from(REASONS))
    verdict = reason.verdict
    subject = SubjectFinding("x", draw(st.sampled_from(REASONS)), draw(st.sampled_from(TEXTS)))
    return Seen(
        verdict,
        reason,
        draw(st.sampled_from(TEXTS)),
        since=draw(times),
        onset=draw(times) if verdict is Verdict.UNHEALTHY else draw(st.none() | times),
        last_good=draw(st.just(NEVER) | times),
        settled=draw(st.just(NEVER) | times),
        deciding=draw(st.booleans()),
        outage=draw(st.none() | outages()),
        earlier=tuple(draw(st.lists(outages(), max_size=2))),
        subjects=draw(st.sampled_from([(), (subject,)])),
        texts=draw(st.sampled_from([(), ("bad host",)])),
    )


def some(draw: st.DrawFn, names: str, least: int = 0) -> list[str]:
    return draw(st.lists(st.sampled_from(names), unique=True, min_size=least, max_size=3)) if names else []


@st.composite
def profiles(draw: st.DrawFn) -> DiagnosisProfileSpec:
    """Up to 8 components that depend on earlier ones, with all that a profile may say besides."""
    names = NAMES[: draw(st.integers(1, 8))]
    fields: dict[str, Any] = {}
    for name in names:
        effect = {"feature": "f", "effect": draw(st.sampled_from(["Works", "Degraded", "Fails"])), "because": "so"}
        fields[name] = {
            "ownReasons": draw(st.sampled_from([[], ["Timeout"]])),
            "recoveryGrace": draw(st.sampled_from(["0s", "1m"])),
            "effects": draw(st.sampled_from([[], [effect]])),
        }
    confounders = [
        {"name": name, "component": name, "suspects": some(draw, names, 1), "because": "so", "allSubjects": every}
        for name, every in draw(st.lists(st.tuples(st.sampled_from(names), st.booleans()), max_size=3))
    ]
    symptoms = [
        {"name": name, "question": f"{name}?", "feature": "f", "implicates": some(draw, names, 1)}
        for name in draw(st.sampled_from([[], ["s"], ["s", "t"]]))
    ]
    signature = {"name": "x", "pattern": "bad host", "because": "so"}
    signatures = [{**signature, "implicates": some(draw, names), "clears": some(draw, names)}]
    return profile(
        *(f"{name}: {' '.join(some(draw, names[:place]))}" for place, name in enumerate(names)),
        fields=fields,
        features=[{"name": "f", "title": "F"}],
        symptoms=symptoms,
        confounders=confounders,
        signatures=draw(st.sampled_from([[], signatures])),
    )


components = st.dictionaries(st.sampled_from([*NAMES, "s", "odd"]), sights())
evidences = st.builds(Evidence, components, st.dictionaries(st.sampled_from(["s", "t", "odd"]), sights()))


def failing(seen: Evidence) -> list[str]:
    """Names, as a diagnosis tells them, of what is Unhealthy."""
    told = {**seen.components, **{f"symptom/{name}": one for name, one in seen.symptoms.items()}}
    return sorted(name for name, one in told.items() if one.verdict is Verdict.UNHEALTHY)


@given(profiles(), evidences)
def test_what_fails_is_in_one_place_and_what_does_not_in_none(spec: DiagnosisProfileSpec, seen: Evidence):
    answer = diagnose(spec, seen, NOW)
    assert sorted([*causes(answer), *explained(answer), *unexplained(answer)]) == failing(seen)
    assert all(name in seen.components for name in causes(answer))
    assert len(answer.diagnosis.impact) == (1 if failing(seen) else 0)
    for name, by in explained(answer).items():
        assert by
        assert name not in by
        assert not set(by) & set(explained(answer))  # the causes at the top, nothing in between


@given(profiles(), evidences, st.randoms(use_true_random=False))
def test_the_order_of_observations_does_not_matter(spec: DiagnosisProfileSpec, seen: Evidence, luck: random.Random):
    def shuffled(sights_: dict[str, Seen]) -> dict[str, Seen]:
        names = list(sights_)
        luck.shuffle(names)
        return {name: sights_[name] for name in names}

    other = Evidence(shuffled(dict(seen.components)), shuffled(dict(seen.symptoms)))
    assert diagnose(spec, other, NOW) == diagnose(spec, seen, NOW)


def timeless(answer: Answer) -> str:
    text = json.dumps(answer.diagnosis.model_dump(mode="json"), sort_keys=True)
    return re.sub(r"\d\d:\d\d:\d\d UTC|\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ", "TIME", text)


def moved_outage(one: Outage, by: float) -> Outage:
    return Outage(one.onset + by, one.ended + by, one.last_good + by)


def moved(one: Seen, by: float) -> Seen:
    return replace(
        one,
        since=one.since + by,
        onset=None if one.onset is None else one.onset + by,
        last_good=one.last_good + by,
        settled=one.settled + by,
        outage=one.outage and moved_outage(one.outage, by),
        earlier=tuple(moved_outage(each, by) for each in one.earlier),
    )


@given(profiles(), evidences, st.integers(-10_000, 10_000))
def test_another_day_is_the_same_diagnosis(spec: DiagnosisProfileSpec, seen: Evidence, by: int):
    later = Evidence(
        {name: moved(one, by) for name, one in seen.components.items()},
        {name: moved(one, by) for name, one in seen.symptoms.items()},
    )
    before, after = diagnose(spec, seen, NOW), diagnose(spec, later, NOW + by)
    assert timeless(before) == timeless(after)
    assert before.asked == after.asked
    assert (before.again_at is None) is (after.again_at is None)
    assert before.again_at is None or after.again_at == before.again_at + by


@given(profiles(), evidences, st.integers(1, 600))
def test_nothing_changes_by_time_alone_before_it_is_said_to(spec: DiagnosisProfileSpec, seen: Evidence, later: int):
    answer = diagnose(spec, seen, NOW)
    if answer.again_at is None or NOW + later < answer.again_at:
        assert diagnose(spec, seen, NOW + later) == answer
    if answer.again_at is not None:
        assert answer.again_at > NOW


@given(profiles(), evidences)
def test_nothing_is_waited_for_once_all_is_settled(spec: DiagnosisProfileSpec, seen: Evidence):
    def settled(one: Seen) -> Seen:
        first = one.reason is Reason.PENDING
        return replace(up() if first else one, deciding=False, settled=NOW)

    done = Evidence(
        {name: settled(one) for name, one in seen.components.items()},
        {name: settled(one) for name, one in seen.symptoms.items()},
    )
    answer = diagnose(spec, done, NOW)
    assert answer.asked == frozenset()
    assert not any(because.startswith("being determined") for because in unexplained(answer).values())


@dataclass(frozen=True)
class Platform:
    """A platform in which `faults` were injected, and what is seen once all has been probed."""

    below: dict[str, set[str]]
    spec: DiagnosisProfileSpec
    faults: frozenset[str]
    delays: dict[str, tuple[int, int, int]]

    def fails(self, name: str) -> bool:
        return bool(({name} | self.below[name]) & self.faults)

    def seen(self) -> dict[str, Seen]:
        """Each fails some seconds after all that it needs, is seen to fail later, and had worked before."""
        fell: dict[str, float] = {}
        found = {}
        for name in self.below:
            if not self.fails(name):
                found[name] = up()
                continue
            delay, before, after = self.delays[name]
            fell[name] = delay + max((fell[one] for one in self.below[name] if one in fell), default=NOW - 1000)
            found[name] = Seen(
                Verdict.UNHEALTHY,
                Reason.TIMEOUT,
                "no answer",
                since=fell[name] + after + 4,
                onset=fell[name] + after,
                last_good=fell[name] - before,
                settled=NOW,
            )
        return found

    def told(self) -> Answer:
        return ask(self.spec, self.seen())

    def first(self) -> set[str]:
        """Faults that no other fault is below."""
        return {name for name in self.faults if not self.below[name] & self.faults}


@st.composite
def platforms(draw: st.DrawFn) -> Platform:
    needs = {name: some(draw, NAMES[:place]) for place, name in enumerate(NAMES)}
    below: dict[str, set[str]] = {}
    for name, direct in needs.items():
        below[name] = set(direct).union(*(below[one] for one in direct))
    spec = profile(*(f"{name}: {' '.join(direct)}" for name, direct in needs.items()))
    seconds = st.integers(0, 30)
    delays = {name: draw(st.tuples(seconds, st.integers(1, 30), seconds)) for name in NAMES}
    return Platform(below, spec, draw(st.frozensets(st.sampled_from(NAMES))), delays)


@settings(max_examples=200)
@given(platforms())
def test_the_causes_are_the_faults_that_no_other_is_below(world: Platform):
    """A fault in something whose own dependency has failed before it can't be seen: it is masked, hence explained."""
    answer = world.told()
    assert set(causes(answer)) == world.first()
    assert unexplained(answer) == {}
    for name, by in explained(answer).items():
        assert set(by) == world.below[name] & world.first()


@given(platforms())
def test_a_fault_that_masks_none_is_mended_and_no_cause_comes_up(world: Platform):
    """Were it to mask another, then that one would come up, rightly: "fewer faults, fewer causes" holds for these only.

    And what comes up after one that masks others is always among them.
    """
    before = set(causes(world.told()))
    for name in world.faults:
        after = set(causes(replace(world, faults=world.faults - {name}).told()))
        masked = {other for other in world.faults if name in world.below[other]}
        assert after - before <= masked
        assert before - after <= {name}
