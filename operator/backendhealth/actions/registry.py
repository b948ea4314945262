"""Which performer carries out which kind of action."""

from __future__ import annotations

from backendhealth.actions.debug_logs import DebugLogsPerformer
from backendhealth.actions.drivers import ReloadDriverPerformer, RestartDriverPerformer
from backendhealth.actions.ports import Performer
from backendhealth.actions.restart_pods import RestartPodsPerformer
from backendhealth.actions.rollout_restart import RolloutRestartPerformer
from backendhealth.actions.signal import SignalPerformer


def performers() -> dict[str, Performer]:
    """By Action.kind."""
    return {
        "debugLogs": DebugLogsPerformer(),
        "signal": SignalPerformer(),
        "restartPods": RestartPodsPerformer(),
        "rolloutRestart": RolloutRestartPerformer(),
        "restartDriver": RestartDriverPerformer(),
        "reloadDriver": ReloadDriverPerformer(),
    }
