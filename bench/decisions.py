"""What deciding costs: every rule of every policy asked about every BackendHealth, beside a bare comparison."""

from __future__ import annotations

import gc
import time
from collections.abc import Callable, Sequence
from typing import Any

from backendhealth.core.observation import Finding
from backendhealth.core.probestate import ProbeState
from backendhealth.core.reasons import Reason
from backendhealth.core.remediation.deciding import decide
from backendhealth.core.remediation.situation import Past, Situation, World
from backendhealth.core.remediation.situations import situation_of
from backendhealth.core.resourcestate import initial_state
from backendhealth.core.spec.backendhealth import API_VERSION, KIND, BackendHealth
from backendhealth.core.spec.remediationpolicy import POLICY_KIND, RemediationPolicy
from backendhealth.core.spec.status import BackendHealthStatus, Diagnosis, RootCause
from backendhealth.core.statusof import status_of, timestamp
from backendhealth.core.verdict import Verdict
from bench.sut import BenchFailed

COMPONENTS = ("etcd", "rethinkdb", "redis", "elasticsearch", "core", "api", "drivers")
RESOURCES, RULES, NAMED, PAST = 1000, 20, 100, 20
"""How many BackendHealths, rules of a policy, BackendHealths that a policy names, Remediations in the past."""
_BEGAN, _NOW = 1_767_225_600.0, 1_767_226_200.0
_UID = "4f0c1f5e-0000-4000-8000-000000000000"
Measured = dict[str, list[float]]


def measured(rounds: int) -> Measured:
    """CPU seconds by round: of the floor, of deciding when all are unhealthy, in a storm, healthy; of reading."""
    fine, broken = _status(Reason.PROBE_SUCCEEDED), _status(Reason.CONNECTION_REFUSED)
    healthy, unhealthy = _fleet(fine), _fleet(broken)
    calm, stormy = _policies("100%"), _policies("50%")
    past, world = _past(), World(RESOURCES, RESOURCES)
    _proven(unhealthy[0], calm[0], stormy[0], past, world)
    ways: dict[str, Callable[[], None]] = {
        "floor": lambda: _bare(unhealthy, calm),
        "unhealthy": lambda: _decided(unhealthy, calm, past, world),
        "storm": lambda: _decided(unhealthy, stormy, past, world),
        "healthy": lambda: _decided(healthy, calm, past, world),
        "reading": lambda: _read(broken),
    }
    took: Measured = {name: [] for name in ways}
    for _ in range(rounds + 1):  # the first one makes the policies ready
        for name, way in ways.items():
            gc.collect()
            began = time.process_time()
            way()
            took[name].append(time.process_time() - began)
    return {name: each[1:] for name, each in took.items()}


def _bare(fleet: Sequence[Situation], policies: Sequence[RemediationPolicy]) -> None:
    """Look each rule's component up, and compare its verdict and its age; no words, no limits, no memory."""
    plain = [[(rule.when.component, 60.0) for rule in one.spec.remediation_rules] for one in policies]
    for number, situation in enumerate(fleet):
        answers = []
        for name, lasting in plain[number // NAMED]:
            found = situation.components.get(name)
            answers.append(
                found is not None
                and found.verdict is Verdict.UNHEALTHY
                and found.root
                and _NOW - found.since >= lasting
            )


def _decided(
    fleet: Sequence[Situation], policies: Sequence[RemediationPolicy], past: Sequence[Past], world: World
) -> None:
    for number, situation in enumerate(fleet):
        decide(policies[number // NAMED], _UID, situation, past, world, _NOW)


def _read(status: BackendHealthStatus) -> None:
    for number in range(RESOURCES):
        situation_of(f"default/bench-{number}", f"uid-{number}", status, None)


def _fleet(status: BackendHealthStatus) -> list[Situation]:
    return [situation_of(f"default/bench-{number}", f"uid-{number}", status, None) for number in range(RESOURCES)]


def _status(reason: Reason) -> BackendHealthStatus:
    """Of a resource whose components all are as `reason` says, each a root cause if it fails."""
    probes = [{"name": name, "tcp": {"host": name, "port": 1}} for name in COMPONENTS]
    resource = BackendHealth.model_validate(
        {"apiVersion": API_VERSION, "kind": KIND, "metadata": {"name": "bench"}, "spec": {"probes": probes}}
    )
    believed = {name: ProbeState(reason.verdict, Finding(reason, "as it is said"), _BEGAN) for name in COMPONENTS}
    status = status_of(initial_state(resource, believed, _BEGAN), None, _BEGAN)
    if reason.verdict is not Verdict.UNHEALTHY:
        return status
    causes = [
        RootCause(component=name, reason=reason, message="as it is said", since=timestamp(_BEGAN))
        for name in COMPONENTS
    ]
    incident = {"id": "0123456789ab", "since": timestamp(_BEGAN)}
    told = status.model_dump(by_alias=True) | {
        "incident": incident,
        "diagnosis": Diagnosis(root_causes=causes).model_dump(by_alias=True),
    }
    return BackendHealthStatus.model_validate(told)


def _policies(share: str) -> list[RemediationPolicy]:
    """Policies of every kind of rule; each names its part of the fleet."""
    return [
        RemediationPolicy.model_validate(
            {
                "apiVersion": API_VERSION,
                "kind": POLICY_KIND,
                "metadata": {"name": f"bench-{number}"},
                "spec": {
                    "backendHealths": [f"bench-{one}" for one in range(number * NAMED, (number + 1) * NAMED)],
                    "mode": "Enforce",
                    "serviceAccountName": "bench",
                    "limits": {"max": 100, "maxConcurrent": 100},
                    "stormBreaker": {"unhealthyOver": share},
                    "rules": [_rule(at) for at in range(RULES)],
                },
            }
        )
        for number in range(RESOURCES // NAMED)
    ]


def _rule(number: int) -> dict[str, Any]:
    component, other = (COMPONENTS[(number + add) % len(COMPONENTS)] for add in (0, 1))
    action = {"rolloutRestart": {"workload": {"kind": "Deployment", "name": component}}}
    rule: dict[str, Any] = {"name": f"rule-{number}", "when": {"component": component, "for": "1m"}, "action": action}
    if number % 2:
        rule["when"]["reasons"] = ["ConnectionRefused", "Timeout"]
    if number % 3 == 0:
        rule["unless"] = {"unhealthy": [other]}
    if number % 4 == 0:
        rule["escalation"] = [{"action": action, "after": "5m"}]
    return rule


def _past() -> tuple[Past, ...]:
    made = []
    for number in range(PAST):
        began = _BEGAN - 60 * number
        made.append(
            Past(
                name=f"rule-{number % RULES}-{number:016x}",
                policy=_UID,
                rule=f"rule-{number % RULES}",
                step=0,
                backend_health=f"uid-{number}",
                incident="ba9876543210",
                target=f"Workload/Deployment/{number}",
                phase="NotHelpful",
                created=began,
                began=began,
                ended=began + 30,
            )
        )
    return tuple(made)


def _proven(
    situation: Situation, calm: RemediationPolicy, stormy: RemediationPolicy, past: Sequence[Past], world: World
) -> None:
    """That it is decided about what is meant to be. Raises BenchFailed."""
    acting = [one.acts for one in decide(calm, _UID, situation, past, world, _NOW)]
    held = [bool(one.holds) for one in decide(stormy, _UID, situation, past, world, _NOW)]
    if not (acting.count(True) == 13 and len(held) == RULES and all(held)):
        raise BenchFailed("it is not decided as it should be")
