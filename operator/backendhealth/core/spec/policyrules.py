"""What must be right within a RemediationPolicy: rules that can act, do not undo each other and do not go in circles.

What compares rule with rule costs the API server too much, or needs a calendar: lint and the operator alone hold it.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping

from pydantic import ValidationError

from backendhealth.core.durations import seconds
from backendhealth.core.spec.base import Raw, Rule
from backendhealth.core.spec.circles import Found, Place, circles, detailed

_RESTARTS = ("restartPods", "rolloutRestart", "restartDriver", "reloadDriver")
_NAME_LABELS = ("app.kubernetes.io/name", "app.kubernetes.io/component", "app", "component")
_DRIVERS = "drivers"
_A_DAY = 1_767_225_600.0
"""2026-01-01: from which day on is looked for a time at which windows let act."""


def _not_longer(rule_id: str, short: str, long: str, defaults: tuple[str, str], message: str) -> Rule:
    """The rule that the duration `short` is not longer than the one at `long`."""

    def holds(raw: Raw) -> bool:
        return seconds(raw.get(short) or defaults[0]) <= seconds(raw.get(long) or defaults[1])

    return Rule(
        id=rule_id,
        message=message,
        cel=f"!has(self.{short}) || !has(self.{long}) || duration(self.{short}) <= duration(self.{long})",
        fields=(short, long),
        holds=holds,
        field=short,
    )


LIMIT_RULES = (
    _not_longer(
        "cooldown-within-maximum",
        "cooldown",
        "maxCooldown",
        ("10m", "6h"),
        "cooldown must not be longer than maxCooldown, which it grows to",
    ),
    Rule(
        id="concurrent-within-max",
        message="maxConcurrent must not be greater than max: so many are never done",
        cel="!has(self.maxConcurrent) || !has(self.max) || self.maxConcurrent <= self.max",
        fields=("maxConcurrent", "max"),
        holds=lambda raw: (raw.get("maxConcurrent") or 1) <= (raw.get("max") or 4),
        field="maxConcurrent",
    ),
)
AFTER_RULES = (
    _not_longer(
        "delay-within-recovery",
        "delay",
        "within",
        ("1m", "1h"),
        "delay must not be longer than within: the recovery would be too long ago before it is old enough",
    ),
)


def _everything(raw: Raw) -> bool:
    when = raw["when"]
    at_once = seconds(when.get("for") or "0s") == 0
    return bool(when.get("includeSymptoms")) and not when.get("reasons") and not raw.get("after") and at_once


def _unless_itself(raw: Raw) -> list[Place]:
    unless, own = raw.get("unless") or {}, raw["when"]["component"]
    return [
        (field, index)
        for field in ("unhealthy", "unknown")
        for index, name in enumerate(unless.get(field) or ())
        if name == own
    ]


def _waits_for_itself(raw: Raw) -> bool:
    return bool(raw.get("after")) and raw["after"]["recovery"] == raw["when"]["component"]


def _only_flapping(raw: Raw) -> bool:
    reasons = raw["when"].get("reasons") or ()
    return set(reasons) == {"Flapping"} and (raw.get("unless") or {}).get("flapping") is not False


POLICY_RULE_RULES = (
    Rule(
        id="matches-everything",
        message="this matches whatever is wrong, at once, whether it is the cause or not: set reasons, for, or after",
        cel="",  # `for` is a word of CEL's own
        fields=("when", "after"),
        holds=lambda raw: not _everything(raw),
        field="when",
    ),
    Rule(
        id="unless-itself",
        message="the rule is for this component being Unhealthy, so it would never act: remove it",
        cel=(
            "!has(self.unless) || (!has(self.unless.unhealthy) || !(self.when.component in self.unless.unhealthy))"
            " && (!has(self.unless.unknown) || !(self.when.component in self.unless.unknown))"
        ),
        fields=("when.component", "unless.unhealthy", "unless.unknown"),
        holds=lambda raw: not _unless_itself(raw),
        field="unless",
        where=_unless_itself,
    ),
    Rule(
        id="after-itself",
        message="the rule is for this component being Unhealthy, so it can't wait for its recovery: name another one",
        cel="!has(self.after) || self.after.recovery != self.when.component",
        fields=("after.recovery", "when.component"),
        holds=lambda raw: not _waits_for_itself(raw),
        field="after",
    ),
    Rule(
        id="flapping-held",
        message="what flaps is held back unless `unless.flapping` is false: set it, or name another reason",
        cel=(
            "!has(self.when.reasons) || self.when.reasons.size() == 0"
            " || self.when.reasons.exists(r, r != 'Flapping')"
            " || has(self.unless) && has(self.unless.flapping) && !self.unless.flapping"
        ),
        fields=("when.reasons", "unless.flapping"),
        holds=lambda raw: not _only_flapping(raw),
        field="when",
    ),
)


def actions_of(rule: Raw) -> Iterator[tuple[Place, Raw]]:
    """The action of a rule and those of its escalation, and where they stand."""
    yield ("action",), rule["action"]
    for index, step in enumerate(rule.get("escalation") or ()):
        yield ("escalation", index, "action"), step["action"]


def _all_actions(raw: Raw) -> Iterator[tuple[Place, str, Raw]]:
    """Every action of a policy: where, which kind, and what it does."""
    for index, rule in enumerate(raw["rules"]):
        for place, action in actions_of(rule):
            for kind, does in action.items():
                yield (index, *place, kind), kind, does


def _selector(does: Raw) -> str:
    return repr(_frozen(does.get("podSelector") or {}))


def _frozen(value: object) -> object:
    """The same for what means the same, in whatever order it is written."""
    if isinstance(value, Mapping):
        return sorted((str(key), repr(_frozen(one))) for key, one in value.items() if one)
    return sorted(repr(_frozen(one)) for one in value) if isinstance(value, list) else value


def _two_toggles(raw: Raw) -> list[Found]:
    toggled = {_selector(does) for _, kind, does in _all_actions(raw) if kind == "debugLogs"}
    return [
        ((*place, "signal"), "")
        for place, kind, does in _all_actions(raw)
        if kind == "signal" and does["signal"] == "SIGUSR1" and _selector(does) in toggled
    ]


def _contradicting(raw: Raw) -> list[Found]:
    """Rules whose first action restarts something else than an earlier rule's does, for the same diagnosis."""
    found: list[Found] = []
    earlier: list[Raw] = []
    for index, rule in enumerate(raw["rules"]):
        if not any(kind in _RESTARTS for kind in rule["action"]):
            continue
        other = next((one for one in earlier if _same_diagnosis(one, rule) and one["action"] != rule["action"]), None)
        if other is not None:
            found.append(((index, "when"), other["name"]))
        earlier.append(rule)
    return found


def _same_diagnosis(one: Raw, other: Raw) -> bool:
    """Whether both may be for the same finding at the same time; waiting for a recovery tells them apart."""
    mine, its = one["when"], other["when"]
    if mine["component"] != its["component"] or bool(one.get("after")) != bool(other.get("after")):
        return False
    reasons, others = set(mine.get("reasons") or ()), set(its.get("reasons") or ())
    return not reasons or not others or bool(reasons & others)


def _restarted(rule: Raw) -> Iterator[tuple[Place, str]]:
    """The components that a rule's actions restart, as far as names tell: of a workload, in a label, `drivers`."""
    for place, action in actions_of(rule):
        for kind, does in action.items():
            if kind in ("restartDriver", "reloadDriver"):
                yield (*place, kind), _DRIVERS
            elif kind == "rolloutRestart":
                yield (*place, kind), does["workload"]["name"]
            elif kind == "restartPods":
                labels = does["podSelector"].get("matchLabels") or {}
                yield from (((*place, kind), labels[label]) for label in _NAME_LABELS if label in labels)


def _loops(raw: Raw) -> list[Found]:
    """Circles of rules: one about A restarts B, one about B restarts A.

    A graph of the components that rules are about: an edge leads from a rule's component to each other component that
    its actions restart. What is restarted is known by its name only (see `_restarted`), so a circle that is told of is
    one, and one of other names is not seen: the limits and the growing cool-down are what holds that one. A rule that
    restarts its own component is no circle: it ends with the component's recovery.
    """
    edges: dict[str, dict[str, Place]] = {}
    for index, rule in enumerate(raw["rules"]):
        own = edges.setdefault(rule["when"]["component"], {})
        for place, name in _restarted(rule):
            if name != rule["when"]["component"]:
                own.setdefault(name, (index, *place))
    return circles(edges)


def _never_open(raw: Raw) -> bool:
    from backendhealth.core.remediation.windows import opening  # noqa: PLC0415 - only policies with windows pay for it
    from backendhealth.core.spec.remediationpolicy import MaintenanceWindow  # noqa: PLC0415 - it is made of these rules

    try:
        windows = [MaintenanceWindow.model_validate(one) for one in raw.get("maintenanceWindows") or ()]
    except ValidationError:  # told of by itself
        return False
    at = opening(windows, _A_DAY)
    return at is not None and math.isinf(at)


BETWEEN_RULES = (
    detailed(
        "two-toggles",
        "debugLogs sends SIGUSR1 to the same pods, and a second one turns the logs off again: use one of the two",
        ("rules",),
        "rules",
        _two_toggles,
    ),
    detailed(
        "contradicting-rules",
        "another rule restarts something else for the same diagnosis: tell them apart by reasons or after, or make one"
        " the escalation of the other: ",
        ("rules",),
        "rules",
        _contradicting,
    ),
    detailed(
        "restart-loop",
        "each of these is restarted because the one before fails, and so makes the next one fail: ",
        ("rules",),
        "rules",
        _loops,
    ),
)
"""What is wrong between rules, of one policy or of several that are for the same BackendHealth."""
SPEC_RULES = (
    *BETWEEN_RULES,
    Rule(
        id="windows-never-open",
        message="these windows leave no time to act within 400 days",
        cel="",
        fields=("maintenanceWindows",),
        holds=lambda raw: not _never_open(raw),
        field="maintenanceWindows",
    ),
)
