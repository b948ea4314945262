"""`backendhealth test` on policies: every field that a case may expect, and that each can fail."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tests.policies.support import DRIVER, RESTART, case, checked, died, policy, rule, verdict

Capture = pytest.CaptureFixture[str]
VERIFIED = rule(verify={"within": "5m"})
ESCALATING = rule(escalation=[{"after": "1m", "action": RESTART}])
LOOP = {"drivers": {"reason": "DriverCrashLooping", "subjects": {"driver/core-1/a": "DriverCrashLooping"}}}
WINDOW = [{"name": "night", "schedule": "0 13 * * *", "duration": "1h"}]

HOLD = [
    (policy(), case({"at": "2m", "actions": ["debug"], "phases": {"debug": "Succeeded"}})),
    (policy(VERIFIED), case({"at": "2m", "actions": ["debug"], "phases": {"debug": "Verifying"}})),
    (policy(VERIFIED), case({"at": "10m", "phases": {"debug": "NotHelpful"}})),
    (
        policy(VERIFIED),
        case({"at": "5m", "phases": {"debug": "Succeeded"}}, steps=[died(), died("3m", core="Healthy")]),
    ),
    (policy(mode="DryRun"), case({"at": "2m", "actions": ["debug"], "phases": {"debug": "DryRun"}})),
    (policy(ESCALATING), case({"at": "6m", "actions": ["debug"]}, {"at": "9m", "actions": ["debug", "debug/2"]})),
    (
        policy(ESCALATING),
        case(
            {"at": "3m", "actions": ["debug", "debug/2"]}, steps=[{"at": "1s", "effects": {"debug": "Failed"}}, died()]
        ),
    ),
    (policy(rule(when={"for": "2m"})), case({"at": "1m", "actions": [], "holds": {"debug": ["NotLongEnough"]}})),
    (
        policy(rule(unless={"unhealthy": ["redis"]}, when={"includeSymptoms": True, "for": "10s"})),
        case(
            {"at": "2m", "actions": [], "holds": {"debug": ["Unless"]}},
            steps=[died(core="NoCoreInstances", redis="Timeout")],
        ),
    ),
    (
        policy(rule("drivers", "drivers", DRIVER)),
        case({"at": "2m", "targets": {"drivers": ["a"]}}, steps=[died("30s", redis="Healthy", **LOOP)]),
    ),
    (
        policy(rule("drivers", "drivers", DRIVER)),
        case(
            {"at": "5m", "actions": [], "unmatched": {"drivers": "redis explains it"}},
            steps=[died("30s", redis="ConnectionRefused", drivers="DriverCrashLooping")],
        ),
    ),
    (policy(maintenanceWindows=WINDOW), case({"at": "2m", "actions": [], "until": {"debug": "1h"}})),
    (policy(maintenanceWindows=WINDOW), case({"at": "62m", "actions": ["debug"]})),
    (
        policy(limits={"max": 1, "maxConcurrent": 1}),
        case(
            {"at": "2m", "actions": [], "holds": {"debug": ["LimitReached"]}, "until": {"debug": "30m"}},
            history=[{"rule": "debug", "target": "other", "ago": "30m"}],
        ),
    ),
    (
        policy(),
        case(
            {"at": "2m", "actions": [], "holds": {"debug": ["Storm"]}},
            steps=[{"at": "1s", "others": {"unhealthy": 50, "total": 59}}, died()],
        ),
    ),
    (
        policy(),
        case(
            {"at": "2m", "actions": [], "holds": {"debug": ["SwitchedOff"]}},
            {"at": "4m", "actions": ["debug"]},
            steps=[{"at": "1s", "switchedOff": True}, died(), {"at": "3m", "switchedOff": False}],
        ),
    ),
    (
        policy(VERIFIED, mode="Approve"),
        case(
            {"at": "2m", "actions": ["debug"], "phases": {"debug": "AwaitingApproval"}},
            {"at": "4m", "phases": {"debug": "Verifying"}},
            steps=[died(), {"at": "3m", "approve": ["debug"]}],
        ),
    ),
    (
        policy(mode="Approve"),
        case({"at": "4m", "phases": {"debug": "Rejected"}}, steps=[died(), {"at": "3m", "reject": ["debug"]}]),
    ),
    (policy(mode="Approve", approvalTimeout="5m"), case({"at": "10m", "phases": {"debug": "Expired"}})),
    (policy(pauseRequests=[{"by": "ann", "reason": "change"}]), case({"at": "2m", "holds": {"debug": ["Paused"]}})),
]


@pytest.mark.parametrize(("acting", "one"), HOLD)
def test_what_holds(tmp_path: Path, capsys: Capture, acting: dict[str, Any], one: dict[str, Any]):
    code, told = verdict(tmp_path, capsys, acting, checked(one))
    assert (code, told) == (0, "1 case, none failed\n"), told


FAIL = [
    ({"at": "2m", "actions": []}, "- actions: nothing", "+ actions: debug"),
    ({"at": "2m", "phases": {"debug": "Verifying"}}, "- phases.debug: Verifying", "+ phases.debug: Succeeded"),
    ({"at": "10s", "phases": {"debug": "Pending"}}, "- phases.debug: Pending", "+ phases.debug: nothing"),
    ({"at": "2m", "targets": {"debug": ["x"]}}, "- targets.debug: x", "+ targets.debug: core"),
    ({"at": "2m", "holds": {"debug": ["Storm"]}}, "- holds.debug: Storm", "+ holds.debug: nothing"),
    ({"at": "10s", "until": {"debug": "1h"}}, "- until.debug: 1h", "+ until.debug: nothing"),
    (
        {"at": "10s", "unmatched": {"debug": "etcd"}},
        "- unmatched.debug: … etcd …",
        "+ unmatched.debug: core is Healthy",
    ),
]


@pytest.mark.parametrize(("expected", "minus", "plus"), FAIL)
def test_what_fails_and_how_it_is_told(
    tmp_path: Path, capsys: Capture, expected: dict[str, Any], minus: str, plus: str
):
    code, told = verdict(tmp_path, capsys, policy(), checked(case(expected)))
    assert code == 1
    assert minus in told
    assert plus in told
    assert "what was decided then:" in told


def test_never_is_for_all_times(tmp_path: Path, capsys: Capture):
    code, told = verdict(
        tmp_path, capsys, policy(), checked(case({"at": "10s"}, {"at": "9m"}, never={"actions": ["debug"]}))
    )
    assert code == 1
    assert "never.actions: never debug" in told


@pytest.mark.parametrize(
    ("spec", "told"),
    [
        ({"policy": "actin"}, "[unknown-policy] no RemediationPolicy of this name"),
        ({"backendHealth": "mine"}, "[unknown-resource]"),
        ({"profileRef": {"builtIn": "placeos"}}, "[unknown-profile]"),
        ({"cases": [case({"at": "1m", "actions": ["debg"]})]}, "actions[0]: [unknown-rule] the policy has no rule of"),
        ({"cases": [case({"at": "1m", "actions": ["debg"]})]}, '(did you mean "debug"?)'),
        ({"cases": [case({"at": "1m", "actions": ["debug/2"]})]}, "[unknown-step] the rule has 1 steps"),
        ({"cases": [case({"at": "1m", "holds": {"debug": ["Storms"]}})]}, "[unknown-guard] there is no guard of this"),
        ({"cases": [case({"at": "1m"}, steps=[died(core="NoCore")])]}, "[unknown-reason]"),
        ({"cases": [case({"at": "1m"}, steps=[died(cor="Timeout")])]}, "[unknown-component]"),
        ({"cases": [case({"at": "1m"}, history=[{"rule": "debug/3", "ago": "1m"}])]}, "has no such rule or step"),
        ({"cases": [case({"at": "1m"}, steps=[{"at": "1s", "approve": ["x"]}])]}, "approve[0]: [unknown-rule]"),
    ],
)
def test_names_that_there_are_not(tmp_path: Path, capsys: Capture, spec: dict[str, Any], told: str):
    code, printed = verdict(tmp_path, capsys, policy(), checked(case({"at": "1m"}), **spec))
    assert code == 2
    assert told in printed
