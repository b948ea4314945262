"""A module run with guards taken out: python -m tests.kube.unguarded storm,switch backendhealth.cli.main operator …."""

from __future__ import annotations

import runpy
import sys
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from backendhealth.actions.restart_pods import RestartPodsPerformer
from backendhealth.core.remediation import deciding, guards
from backendhealth.engine.remediation.carrying import Carrier
from backendhealth.engine.remediation.fencing import Fence
from backendhealth.engine.remediation.remediator import Remediator
from backendhealth.engine.remediation.reverting import Reverts
from backendhealth.engine.remediation.steady import SteadyClock
from tests.kube.operator import Operator
from tests.remediation.removing import off

GUARDS = {
    "switch": off(guards.switched_off, ("if why else None", "if False else None")),
    "lease": off(guards.not_served, ("None if case.world.serves else", "None if True else")),
    "paused": off(guards.paused, ("if not requests:", "if True:")),
    "window": off(guards.outside_window, ("if not windows:", "if True:")),
    "storm": off(guards.in_storm, ("return storm(", "return None and storm(")),
    "observed": off(guards.not_observed, ("if component.observed:", "if True:")),
    "clock": off(SteadyClock.trouble, ("if self._stepped is None:", "if True:")),
    "steady": off(SteadyClock.now, ("return anchor + at", "return self._wall()")),
    "recorded": off(deciding.unmatched, ("if not situation.recorded:", "if False:")),
    "fence": off(Fence.__call__, ("self._stop(*self._now(namespace, policy))", "self._now(namespace, policy)")),
    "left": off(
        Carrier._left_running,
        ("stored.uid in self._unbegun and stored.status.by == self._ports.identity", "True"),
    ),
    "uid": off(RestartPodsPerformer.perform, ('{"preconditions": {"uid": spec.target.uid}}', "{}")),
    "owner": off(RestartPodsPerformer.targets, ("_owner(pod) and ", "")),
    "cause": off(deciding.unmatched, ("if not component.root and not rule.symptoms:", "if False:")),
    "beside": off(guards.beside, ("if not found:", "if True:")),
    "recovery": off(guards.awaiting_recovery, ("if rule.after is None or", "if True or")),
    "toggle": off(Reverts.claim, ("if not key or", "if True or")),
    "planted": off(Remediator.run, ("await self._keep_asking()", "raise RuntimeError('planted')")),
}
"""By name; the last is no guard, but a fault of the operator's own."""


@contextmanager
def without(*names: str) -> Iterator[None]:
    """All operators that are begun meanwhile lack these guards."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Operator, "by", (__name__, ",".join(names)))
        yield


def main() -> None:
    """Turn them off, for good."""
    _, names, module, *_ = sys.argv
    for name in names.split(","):
        GUARDS[name].turn(pytest.MonkeyPatch())
    del sys.argv[:2]
    runpy.run_module(module, run_name="__main__", alter_sys=True)


if __name__ == "__main__":
    main()
