"""Each guard: when it holds, until when, and that no other does its work."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import pytest

from backendhealth.core.remediation import deciding, guards
from backendhealth.core.remediation import recheck as rechecking
from backendhealth.core.remediation.deciding import decide, room
from backendhealth.core.remediation.recheck import recheck
from backendhealth.core.remediation.ruling import Guard, Hold
from backendhealth.core.remediation.situation import Past, Situation, World
from backendhealth.core.remediation.situations import NEVER
from backendhealth.core.spec.remediation import RemediationSpec
from backendhealth.core.spec.remediationpolicy import RemediationPolicy
from backendhealth.core.statusof import timestamp
from tests.unit.remediating import (
    CALM,
    DEBUG_LOGS,
    FAR,
    HOUR,
    MINUTE,
    POD,
    ROLLOUT,
    START,
    UID,
    D,
    H,
    N,
    U,
    by_hand,
    component,
    own_name,
    past,
    policy,
    rule,
    situation,
    spec,
)

Expected = list[tuple[Guard, float | None]]
NOW = 30 * MINUTE


def decided(
    *rules: dict[str, Any],
    on: Situation | None = None,
    before: tuple[Past, ...] = (),
    world: World = CALM,
    now: float = NOW,
    **more: Any,
) -> tuple[Hold, ...]:
    """What holds the first rule."""
    (ruling, *_) = decide(policy(*rules, **more), UID, on or situation(), before, world, START + now)
    assert ruling.unmatched == ""
    assert ruling.acts is not bool(ruling.holds)
    assert ruling.again_at == min((one.until for one in ruling.holds if one.until is not None), default=None)
    return ruling.holds


def roomed(
    *before: Past, now: float = NOW, target: str = POD, incident: str = "incident-1", step: int = 0, **more: Any
) -> tuple[Hold, ...]:
    """What holds the first rule on a target."""
    given = policy(**more)
    first = given.spec.remediation_rules[0]
    return room(given, UID, first, target, before, START + now, incident=incident, step=step)


def checked(
    of: RemediationSpec | None = None,
    *,
    given: RemediationPolicy | None = None,
    on: Situation | None = None,
    before: tuple[Past, ...] = (),
    world: World = CALM,
    now: float = NOW,
    name: str = "",
) -> tuple[Hold, ...]:
    """What holds a Remediation that there is."""
    found = on or situation()
    return recheck(given or policy(), UID, of or spec(given), found, before, world, START + now, name=name)


def beside(*others: Any, **unless: Any) -> tuple[Hold, ...]:
    return decided(rule(unless=unless), on=situation(component(), *others))


def after(*others: Any, history: Any = (), now: float = NOW) -> tuple[Hold, ...]:
    """A rule that waits for etcd's return."""
    waiting = rule(after={"recovery": "etcd", "delay": "2m", "within": "1h"})
    return decided(waiting, on=situation(component(), *others, history=history), now=now)


BACK = ((20 * MINUTE, "etcd", H), (0.0, "etcd", U))
LIMITS = {"max": 2, "window": "1h", "maxConcurrent": 1, "cooldown": "0s", "maxCooldown": "0s"}
COOL = {"max": 100, "window": "1h", "maxConcurrent": 10, "cooldown": "10m", "maxCooldown": "1h"}
ELSEWHERE: dict[str, Any] = {"target": "Pod/core-1/uid-1/core", "incident": "earlier"}
STEPPED = rule(escalation=[{"action": ROLLOUT, "after": "30m"}])
LOUD = rule(action=DEBUG_LOGS, escalation=[{"action": ROLLOUT, "after": "10m"}])
APPROVE = policy(mode="Approve")
OFF = replace(CALM, switched_off="ConfigMap backendhealth-switch says off")
AWAY = replace(CALM, serves=False)
STORMY = World(unhealthy=51, total=100)


@dataclass(frozen=True)
class Row:
    name: str
    holds: Callable[[], tuple[Hold, ...]]
    expected: Expected

    def fits(self) -> bool:
        found = [(one.guard, None if one.until is None else one.until - START) for one in self.holds()]
        return found == self.expected


def row(name: str, holds: Callable[[], tuple[Hold, ...]], *expected: Guard | tuple[Guard, float]) -> Row:
    return Row(name, holds, [one if isinstance(one, tuple) else (one, None) for one in expected])


G = Guard
TABLE = [
    row("nothing holds", decided),
    row("switched off", lambda: decided(world=OFF), G.SWITCHED_OFF),
    row("not served", lambda: decided(world=AWAY), G.NOT_SERVED),
    row("suspended", lambda: decided(on=situation(suspended=True)), G.SUSPENDED),
    row("paused", lambda: decided(pauseRequests=[{"by": "ada", "reason": "move"}]), G.PAUSED),
    row("not observed", lambda: decided(on=situation(component(observed=False))), G.NOT_OBSERVED),
    row("not long", lambda: decided(rule(when={"for": "1h"})), (G.NOT_LONG_ENOUGH, HOUR)),
    row("just long", lambda: decided(rule(when={"for": "30m"}))),
    row(
        "unhealthy in the future, by a clock that was set back",
        lambda: decided(rule(when={"for": "10m"}), on=situation(component(since=HOUR))),
        (G.NOT_LONG_ENOUGH, HOUR + 10 * MINUTE),
    ),
    row("flapping", lambda: decided(on=situation(component(reason="Flapping"))), G.FLAPPING),
    row(
        "flapping does not matter",
        lambda: decided(rule(unless={"flapping": False}), on=situation(component(reason="Flapping"))),
    ),
    row("unless unhealthy", lambda: beside(component("redis"), unhealthy=["redis"]), G.UNLESS),
    row("unless: unknown is not healthy", lambda: beside(component("redis", N), unhealthy=["redis"]), G.UNLESS),
    row("unless: nobody knows it", lambda: beside(unhealthy=["rediss"]), G.UNLESS),
    row("unless: restored only", lambda: beside(component("redis", H, observed=False), unhealthy=["redis"]), G.UNLESS),
    row("unless: it is healthy", lambda: beside(component("redis", H), unhealthy=["redis"])),
    row("unless: it is degraded", lambda: beside(component("redis", D), unhealthy=["redis"])),
    row("unless unknown", lambda: beside(component("redis", N), unknown=["redis"]), G.UNLESS),
    row("unless unknown: nobody knows it", lambda: beside(unknown=["rediss"]), G.UNLESS),
    row("unless unknown: it is unhealthy", lambda: beside(component("redis"), unknown=["redis"])),
    row("recovery: still down", lambda: after(component("etcd", root=False)), G.AWAITING_RECOVERY),
    row("recovery: unknown", lambda: after(component("etcd", N), history=BACK), G.AWAITING_RECOVERY),
    row("recovery: nobody knows it", lambda: after(history=BACK), G.AWAITING_RECOVERY),
    row(
        "recovery: restored only",
        lambda: after(component("etcd", H, observed=False), history=BACK),
        G.AWAITING_RECOVERY,
    ),
    row(
        "recovery: a minute ago",
        lambda: after(component("etcd", H), history=BACK, now=21 * MINUTE),
        (G.AWAITING_RECOVERY, 22 * MINUTE),
    ),
    row("recovery: long enough ago", lambda: after(component("etcd", H), history=BACK)),
    row(
        "recovery: unknown in between",
        lambda: after(component("etcd", H), history=((29 * MINUTE, "etcd", H), (25 * MINUTE, "etcd", N), *BACK)),
        (G.AWAITING_RECOVERY, 31 * MINUTE),
    ),
    row(
        "recovery: degraded works",
        lambda: after(component("etcd", D), history=((29 * MINUTE, "etcd", D), *BACK)),
    ),
    row("storm", lambda: decided(world=STORMY), G.STORM),
    row("not more than the share", lambda: decided(world=World(50, 100))),
    row("too few for a storm", lambda: decided(world=World(4, 4))),
    row("after a storm", lambda: decided(world=World(1, 100, START + NOW - 60)), (G.STORM, NOW - 60 + 600)),
    row("long after a storm", lambda: decided(world=World(1, 100, START + NOW - 600))),
    row(
        "outside the window",
        lambda: decided(maintenanceWindows=[{"name": "night", "schedule": "0 22 * * *", "duration": "1h"}]),
        (G.OUTSIDE_WINDOW, 22 * HOUR),
    ),
    row(
        "limit reached",
        lambda: decided(before=(past(began=-300, **ELSEWHERE), past(began=-200, **ELSEWHERE)), limits=LIMITS),
        (G.LIMIT_REACHED, HOUR - 300),
    ),
    row(
        "limit: what waits keeps its place",
        lambda: decided(before=(past("Held", **ELSEWHERE), past(began=-200, **ELSEWHERE)), limits=LIMITS),
        (G.LIMIT_REACHED, HOUR - 200),
    ),
    row(
        "limit: out of the window",
        lambda: decided(before=(past(began=-HOUR, **ELSEWHERE), past(**ELSEWHERE)), limits=LIMITS),
    ),
    row(
        "too many at once",
        lambda: decided(before=(past("Verifying", **ELSEWHERE),), limits=LIMITS),
        G.TOO_MANY_AT_ONCE,
    ),
    row(
        "the next step waits",
        lambda: decided(STEPPED, before=(past(ended=10 * MINUTE),)),
        (G.COOLING_DOWN, 40 * MINUTE),
    ),
    row("the next step has waited", lambda: decided(STEPPED, before=(past(ended=10 * MINUTE),), now=40 * MINUTE)),
    row(
        "the step after verbose logs waits, though they came",
        lambda: decided(LOUD, before=(past("Succeeded", ended=20 * MINUTE),)),
        (G.COOLING_DOWN, 35 * MINUTE),
    ),
    row("the step after verbose logs", lambda: decided(LOUD, before=(past("Succeeded", ended=0),))),
    row(
        "limit: what was not needed has no part in it",
        lambda: decided(before=(past("Succeeded", needless=True, **ELSEWHERE), past(**ELSEWHERE)), limits=LIMITS),
    ),
    row(
        "room: no cooling down from what was not needed",
        lambda: roomed(past("Succeeded", needless=True, ended=25 * MINUTE, incident="earlier"), limits=COOL),
    ),
    row("room", roomed),
    row("room: in progress", lambda: roomed(past("Held"), limits=COOL), G.IN_PROGRESS),
    row("room: another has only begun", lambda: roomed(past("Held", rule="other"), limits=COOL)),
    row(
        "room: at work by another policy",
        lambda: roomed(past("Running", policy="other", rule="other")),
        G.IN_PROGRESS,
    ),
    row("room: done already", lambda: roomed(past("Rejected"), limits=COOL), G.ALREADY_DONE),
    row(
        "room: the pod that took its place",
        lambda: roomed(past(began=-HOUR), target="Pod/core-0/uid-9/core/3", limits=COOL, now=HOUR),
        G.ALREADY_DONE,
    ),
    row("room: another pod", lambda: roomed(past(), target="Pod/core-1/uid-1/core", limits=COOL)),
    row("room: another incident", lambda: roomed(past("Rejected"), incident="incident-2", limits=COOL)),
    row(
        "room: limit reached",
        lambda: roomed(past(**ELSEWHERE), past(began=60, **ELSEWHERE), limits=LIMITS),
        (G.LIMIT_REACHED, HOUR),
    ),
    row("room: too many", lambda: roomed(past("Pending", **ELSEWHERE), limits=LIMITS), G.TOO_MANY_AT_ONCE),
    row(
        "room: cooling down",
        lambda: roomed(past("Succeeded", ended=25 * MINUTE, incident="earlier"), limits=COOL),
        (G.COOLING_DOWN, 35 * MINUTE),
    ),
    row(
        "room: cooling down from a time to come, by a clock that was set back",
        lambda: roomed(past("Succeeded", ended=2 * HOUR, incident="earlier"), limits=COOL),
        (G.COOLING_DOWN, 2 * HOUR + 10 * MINUTE),
    ),
    row(
        "room: cooling down the longer, the more often it did not help",
        lambda: roomed(
            past(began=-2 * HOUR, ended=-2 * HOUR, incident="a"),
            past("Failed", ended=0, incident="b", target="Pod/core-0/uid-7/core"),
            past("Unknown", ended=20 * MINUTE, incident="c"),
            limits=COOL,
        ),
        (G.COOLING_DOWN, 60 * MINUTE),
    ),
    row(
        "room: cooling down no longer than is allowed",
        lambda: roomed(*(past(began=0, ended=number, incident=str(number)) for number in range(9)), limits=COOL),
        (G.COOLING_DOWN, 8 + HOUR),
    ),
    row(
        "room: an escalation does not cool down",
        lambda: roomed(past(ended=25 * MINUTE), step=1, limits=COOL),
    ),
    row("again", checked),
    row("again: itself does not matter", lambda: checked(before=(past("Held", name=own_name(spec())),))),
    row("again: switched off", lambda: checked(world=OFF), G.SWITCHED_OFF),
    row("again: not served", lambda: checked(world=AWAY), G.NOT_SERVED),
    row("again: incident over", lambda: checked(on=situation(incident="")), G.NOT_OBSERVED),
    row("again: another incident", lambda: checked(on=situation(incident="incident-2")), G.NOT_OBSERVED),
    row("again: another object", lambda: checked(on=situation(uid="other")), G.NOT_OBSERVED),
    row("again: healthy", lambda: checked(on=situation(component(verdict=H))), G.NOT_OBSERVED),
    row("again: unknown", lambda: checked(on=situation(component(verdict=N))), G.NOT_OBSERVED),
    row("again: restored only", lambda: checked(on=situation(component(observed=False))), G.NOT_OBSERVED),
    row("again: explained now", lambda: checked(on=situation(component(root=False))), G.NOT_OBSERVED),
    row("again: in progress", lambda: checked(before=(past("Running", rule="a", policy="b"),)), G.IN_PROGRESS),
    row(
        "again: done to the pod's forerunner",
        lambda: checked(given=policy(limits=COOL), before=(past(target="Pod/core-0/uid-9/core", ended=60),), now=HOUR),
        G.ALREADY_DONE,
    ),
    row(
        "again: cooling down",
        lambda: checked(before=(past("Succeeded", ended=25 * MINUTE, incident="earlier"),)),
        (G.COOLING_DOWN, 35 * MINUTE),
    ),
    row(
        "again: promises of others do not matter",
        lambda: checked(given=policy(limits=LIMITS), before=(past("AwaitingApproval", **ELSEWHERE),) * 5),
    ),
    row(
        "again: limit reached",
        lambda: checked(given=policy(limits=LIMITS), before=(past(**ELSEWHERE),) * 2),
        (G.LIMIT_REACHED, HOUR),
    ),
    row("again: too many at once", lambda: checked(before=(past("Running", **ELSEWHERE),)), G.TOO_MANY_AT_ONCE),
    row("again: nobody has approved", lambda: checked(given=APPROVE), G.AWAITING_APPROVAL),
    row(
        "again: approved",
        lambda: checked(spec(APPROVE, approval={"decision": "Approved", "by": "ada"}), given=APPROVE),
    ),
    row(
        "again: rejected",
        lambda: checked(spec(approval={"decision": "Rejected", "by": "ada"})),
        G.AWAITING_APPROVAL,
    ),
    row("again: another generation", lambda: checked(spec(), given=policy(generation=2)), G.POLICY_CHANGED),
    row("again: another mode", lambda: checked(spec(), given=policy(mode="DryRun")), G.POLICY_CHANGED),
    row("again: another policy", lambda: checked(spec(), given=policy(name="other")), G.POLICY_CHANGED),
    row("again: another action", lambda: checked(spec(action=DEBUG_LOGS)), G.POLICY_CHANGED),
    row("again: no such step", lambda: checked(spec(step=1)), G.POLICY_CHANGED),
    row("again: another rule", lambda: checked(spec(rule="other")), G.POLICY_CHANGED),
    row("again: too late", lambda: checked(now=FAR + 1), G.TOO_LATE),
    row("by hand", lambda: checked(by_hand(), given=policy(mode="DryRun"), on=situation(component(verdict=H)))),
    row("by hand: switched off", lambda: checked(by_hand(), world=OFF), G.SWITCHED_OFF),
    row("by hand: storm", lambda: checked(by_hand(), world=STORMY), G.STORM),
    row(
        "by hand: limit reached",
        lambda: checked(by_hand(), given=policy(limits=LIMITS), before=(past(**ELSEWHERE),) * 2),
        (G.LIMIT_REACHED, HOUR),
    ),
    row(
        "a revert is held by nothing",
        lambda: checked(
            spec(
                rule=None,
                cause=None,
                policyRef={"name": "placeos"},
                revert={"remediation": "a", "toggle": "b", "epoch": 0, "notBefore": timestamp(START)},
            ),
            given=policy(pauseRequests=[{"by": "ada", "reason": "move"}], limits=LIMITS),
            before=(past("Running"),) * 3,
            world=replace(STORMY, switched_off="off"),
        ),
    ),
    row(
        "a revert stays with who serves",
        lambda: checked(
            spec(revert={"remediation": "a", "toggle": "b", "epoch": 0, "notBefore": timestamp(START)}), world=AWAY
        ),
        G.NOT_SERVED,
    ),
]


@pytest.mark.parametrize("case", TABLE, ids=lambda case: case.name)
def test_guard(case: Row):
    found = case.holds()
    assert [(one.guard, None if one.until is None else one.until - START) for one in found] == case.expected
    assert all(one.because for one in found)


NOTHING = lambda *_, **__: None  # noqa: E731
NONE = lambda *_, **__: iter(())  # noqa: E731
PARTS = [
    *((deciding, name, NOTHING) for name in ("in_progress", "already_done", "limit_reached")),
    *((deciding, name, NOTHING) for name in ("too_many_at_once", "cooling_down")),
    *((rechecking, name, NOTHING) for name in ("in_progress", "already_done", "cooling_down", "_changed")),
    *((rechecking, name, NONE) for name in ("_approval", "_of_cause")),
    (rechecking, "instant", lambda _: NEVER - 1),
    (rechecking, "unmatched", lambda *_: ""),
    (deciding, "step_of", lambda *_: (0, 0.0)),
]


@pytest.mark.parametrize("number", range(len(guards.WIDE)), ids=[ask.__name__ for ask in guards.WIDE])
def test_a_guard_of_a_policy_that_is_taken_out_is_missed(number: int, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(guards, "WIDE", (*guards.WIDE[:number], *guards.WIDE[number + 1 :]))
    assert not all(case.fits() for case in TABLE)


@pytest.mark.parametrize("number", range(len(guards.OWN)), ids=[own.ask.__name__ for own in guards.OWN])
def test_a_guard_of_a_rule_that_is_taken_out_is_missed(number: int, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(guards, "OWN", (*guards.OWN[:number], *guards.OWN[number + 1 :]))
    assert not all(case.fits() for case in TABLE)


@pytest.mark.parametrize(("module", "name", "instead"), PARTS, ids=lambda one: getattr(one, "__name__", str(one)))
def test_a_guard_of_a_target_that_is_taken_out_is_missed(
    module: Any, name: str, instead: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(module, name, instead)
    assert not all(case.fits() for case in TABLE)


def test_the_table_fits_as_it_is():
    assert all(case.fits() for case in TABLE)


def test_every_guard_has_a_row_but_the_one_that_only_the_action_sees():
    held = {guard for case in TABLE for guard, _ in case.expected}
    assert set(Guard) - held == {Guard.TARGET_CHANGED}


def test_all_that_hold_are_told_in_order():
    world = World(51, 100, None, "off", serves=False)
    busy = (past("Running", **ELSEWHERE), past(**ELSEWHERE), past(name="x"))
    found = decided(
        rule(
            when={"for": "1h"},
            unless={"unhealthy": ["redis"]},
            after={"recovery": "etcd"},
            escalation=[{"action": ROLLOUT, "after": "2h"}],
        ),
        on=situation(component(reason="Flapping", observed=False), suspended=True),
        before=busy,
        world=world,
        limits=LIMITS,
        pauseRequests=[{"by": "ada", "reason": "move"}],
        maintenanceWindows=[{"name": "night", "schedule": "0 22 * * *", "duration": "1h"}],
    )
    late = {Guard.IN_PROGRESS, Guard.ALREADY_DONE, Guard.AWAITING_APPROVAL, Guard.POLICY_CHANGED}
    late |= {Guard.TARGET_CHANGED, Guard.TOO_LATE}
    assert [one.guard for one in found] == [guard for guard in Guard if guard not in late]


def test_of_several_that_hold_the_same_one_is_told_whatever_the_order():
    running = [past("Running", name=name, rule=name) for name in "ab"]
    done = [past("Rejected", name=name) for name in "ab"]
    for before in (running, done):
        assert roomed(*before, limits=COOL) == roomed(*reversed(before), limits=COOL) != ()


def test_of_two_that_began_together_the_first_goes_on():
    given = policy(limits=LIMITS | {"max": 1})
    first, second = (spec(given, target={"kind": "Pod", "name": name}) for name in ("core-0", "core-1"))
    running = sorted(
        (past("Running", name=own_name(one), target=one.target.id) for one in (first, second)),
        key=lambda one: one.name,
    )
    by_name = {own_name(one): one for one in (first, second)}
    held = [checked(by_name[one.name], given=given, before=tuple(running)) for one in running]
    assert held[0] == ()
    assert [one.guard for one in held[1]] == [Guard.LIMIT_REACHED, Guard.TOO_MANY_AT_ONCE]
