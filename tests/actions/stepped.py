"""`backendhealth operator`, with Leases that change hands in seconds, and stopped or killed at a step.

STOP_AT=running python -m tests.actions.stepped operator …; KILL_AT is the other variable. The step, one of
engine.remediation.fencing.STEPS, is that at which it happens for the first time; each step is told on standard output.
"""

from __future__ import annotations

import functools
import os
import signal
import sys

from backendhealth.cli.main import main
from backendhealth.engine.remediation.remediator import Remediator
from backendhealth.kube import app
from backendhealth.kube.leases import Leases
from tests.kube.replicas import FAST

_HAPPENS = {"STOP_AT": signal.SIGSTOP, "KILL_AT": signal.SIGKILL}


async def at(step: str) -> None:
    """Tell of it, and be stopped or killed."""
    print(f"step {step}", flush=True)
    for variable, number in _HAPPENS.items():
        if os.environ.get(variable) == step:
            del os.environ[variable]
            os.kill(os.getpid(), number)


if __name__ == "__main__":
    vars(app).update(Leases=functools.partial(Leases, timing=FAST), Remediator=functools.partial(Remediator, at=at))
    sys.exit(main())
